//! Clients that stall: who does not read is dropped and disturbs nobody; who does not speak is not waited for.

use std::time::{Duration, Instant};

use futures_util::future::{join_all, select};
use rustix::process::Signal;

use crate::support::{
    EventStream, Server, Socket,
    frames::{PING, masked},
    long_post, post_body,
    raw::Raw,
};

#[tokio::test]
async fn a_client_that_reads_nothing_is_dropped_after_three_heartbeats() {
    const POSTS: usize = 60;
    const HEARTBEAT: Duration = Duration::from_millis(300);
    let server = Server::start(&["--heartbeat", "300ms"]).await;
    let (mut socket, mut stream) = (Socket::open(&server, "").await.0, EventStream::connect(&server, "").await);
    let mut stalled_stream = Raw::connect_small(&server.address).unwrap();
    stalled_stream.send(b"GET /events HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(stalled_stream.head().await.starts_with("HTTP/1.1 200 "));
    let mut stalled_socket = Raw::connect_small(&server.address).unwrap();
    stalled_socket.shake_hands("").await;
    server.until_metric(r#"notifier_connections{transport="sse"}"#, |clients| clients == 2.0).await;

    // Those who read get everything at once, whatever the others do.
    let started = Instant::now();
    for id in 1..=POSTS {
        let receipt = server.publish(long_post(id)).await;
        assert_eq!(socket.publication().await["id"], receipt["id"]);
        assert_eq!(stream.publication().await["id"], receipt["id"]);
    }
    let posted = Instant::now();
    let reading = async {
        loop {
            select(Box::pin(socket.message()), Box::pin(stream.event())).await;
        }
    };
    // That it still speaks does not help one that takes nothing.
    let mut every = tokio::time::interval(Duration::from_millis(200));
    let speaking = async {
        while stalled_socket.try_send(&masked(PING, b"")).await.is_ok() {
            // Less than a flood.
            every.tick().await;
        }
        std::future::pending::<()>().await;
    };
    let dropped = async {
        for transport in ["sse", "websocket"] {
            let connections = format!(r#"notifier_connections{{transport="{transport}"}}"#);
            server.until_metric(&connections, |clients| clients == 1.0).await;
        }
    };
    tokio::select! {
        () = dropped => {}
        () = speaking => {}
        () = reading => {}
    }
    assert!(started.elapsed() >= 3 * HEARTBEAT, "{:?}", started.elapsed());
    assert!(posted.elapsed() < 10 * HEARTBEAT, "{:?}", posted.elapsed());
    assert_eq!(server.metric(r#"notifier_dropped_total{reason="stalled"}"#).await, 2.0);
    // What the kernel still held came before the end, and it was far from all.
    let got = stalled_stream.ended().await.len();
    assert!(got < POSTS * 7 * 1024 / 2, "{got}");
}

#[tokio::test]
async fn a_client_that_falls_behind_and_reads_on_misses_nothing() {
    const POSTS: usize = 100;
    let server = Server::start(&[]).await;
    let mut slow = Raw::connect_small(&server.address).unwrap();
    slow.shake_hands("").await;
    server.until_metric(r#"notifier_connections{transport="websocket"}"#, |clients| clients == 1.0).await;
    for id in 1..=POSTS {
        server.publish(long_post(id)).await;
    }
    assert!(server.metric("notifier_deliveries_total").await < POSTS as f64, "it had not fallen behind");
    let mut ids = Vec::new();
    while ids.len() < POSTS {
        let (_, payload) = slow.frame().await.expect("it stays");
        let Ok(message) = serde_json::from_slice::<serde_json::Value>(&payload) else { continue };
        if message["type"] == "new_trending" {
            ids.push(message["videos"][0]["id"].as_u64().unwrap() as usize);
        }
    }
    assert!(ids.into_iter().eq(1..=POSTS));
}

#[tokio::test]
async fn a_list_that_nobody_takes_is_not_held_for_them() {
    const ASKING: u64 = 200;
    const WHOLE: u64 = 100 * 7 * 1024;
    let server = Server::start(&["--history", "memory", "--replay-rate-per-ip", "1000000"]).await;
    for id in 0..100 {
        server.publish(long_post(id)).await;
    }
    let before = server.memory("Pss");
    let mut lists = Vec::new();
    for _ in 0..ASKING {
        let mut raw = Raw::connect_small(&server.address).expect("a connection");
        raw.send("GET /notifications?limit=100 HTTP/1.0\r\n\r\n").await;
        let head = raw.head().await;
        assert!(head.starts_with("HTTP/1.0 200 "), "{head}");
        lists.push(raw);
    }
    let held = server.memory("Pss").saturating_sub(before) / ASKING;
    println!("{held} bytes are held for each");
    assert!(held < WHOLE / 4, "{held} bytes of {WHOLE}");
    let list = lists.pop().expect("one of them").read_to_end().await;
    assert_eq!(list.matches("new_trending").count(), 100, "{} bytes", list.len());
}

#[tokio::test]
async fn a_server_that_stood_still_drops_nobody_for_its_own_silence() {
    let server = Server::start(&["--heartbeat", "100ms"]).await;
    let mut sockets = join_all((0..20).map(|_| Socket::open(&server, ""))).await;
    for (socket, _) in &mut sockets {
        assert_eq!(socket.message().await["type"], "heartbeat");
    }
    // As when its container is paused or its machine swaps.
    server.signal(Signal::STOP);
    tokio::time::sleep(Duration::from_millis(600)).await;
    server.signal(Signal::CONT);
    let receipt = server.publish(post_body("US", 1)).await;
    let all = sockets.iter_mut().map(async |(socket, _)| assert_eq!(socket.publication().await["id"], receipt["id"]));
    join_all(all).await;
}

#[tokio::test]
#[ignore = "takes 20 seconds"]
async fn a_connection_that_sends_no_whole_head_is_closed() {
    let server = Server::start(&["--heartbeat", "1s"]).await;
    let (mut socket, mut stream) = (Socket::open(&server, "").await.0, EventStream::connect(&server, "").await);
    let starts = ["", "GET /healthz HTTP/1.1\r\nHost:", "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"];
    let closed = join_all(starts.map(async |start| {
        let started = Instant::now();
        let mut raw = Raw::connect(&server).await;
        raw.send(start).await;
        let answer = raw.ended().await;
        let took = started.elapsed();
        assert!(took > Duration::from_secs(15) && took < Duration::from_secs(30), "{start:?}: {took:?}");
        let answered = String::from_utf8_lossy(&answer).starts_with("HTTP/1.1 200 ");
        assert_eq!(answered, start.ends_with("\r\n\r\n"), "{start:?}");
    }));
    let reading = async {
        loop {
            futures_util::future::join(socket.message(), stream.event()).await.1.expect("the stream goes on");
        }
    };
    tokio::select! {
        _ = closed => {}
        () = reading => {}
    }
    // The timeout is the head's, so that clients who are in stay.
    let receipt = server.publish(post_body("US", 1)).await;
    assert_eq!(socket.publication().await["id"], receipt["id"]);
    assert_eq!(stream.publication().await["id"], receipt["id"]);
}
