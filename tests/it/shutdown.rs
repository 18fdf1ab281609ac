//! The end of the process: what each client is told, what is still finished, and how long it may take.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use reqwest::Method;
use rustix::process::Signal;
use serde_json::Value;
use tokio::{net::TcpStream, time::timeout};

use crate::support::{
    EventStream, Server, Socket, long_post, post_body,
    process::contents,
    raw::Raw,
    server::{PATIENCE, TOKEN},
};

/// How long the end of a process may take on a busy machine, beside what it waits for.
const SLACK: Duration = Duration::from_secs(3);

/// A post of which the server has the first half of the body and waits for the rest.
async fn half_a_post(server: &Server, body: &str) -> Raw {
    let length = body.len();
    let mut post = Raw::connect(server).await;
    post.send(format!(
        "POST /notify HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: {length}\r\n\
         Expect: 100-continue\r\n\r\n"
    ))
    .await;
    assert_eq!(post.read_until("\r\n\r\n").await, "HTTP/1.1 100 Continue\r\n\r\n");
    post.send(&body[..length / 2]).await;
    post
}

/// Waits until nobody listens any more.
async fn until_refused(server: &Server) {
    let refused = async {
        while TcpStream::connect(&server.address).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, refused).await.expect("the listener is closed");
}

/// SQLite removes what stands beside the database when the last connection closes in good order.
fn assert_closed(data_dir: &Path) {
    let files: Vec<_> = contents(data_dir).into_keys().collect();
    assert_eq!(files, [data_dir.join("history.db")]);
}

#[tokio::test]
async fn a_request_on_a_connection_that_was_kept_is_answered_until_the_answer_says_that_it_is_the_last() {
    let mut server = Server::start(&[]).await;
    let mut kept = Raw::connect(&server).await;
    let mut answers = 0;
    loop {
        kept.send("HEAD /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await;
        let head = kept.read_until("\r\n\r\n").await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        if head.contains("connection: close") {
            break;
        }
        answers += 1;
        if answers == 1 {
            server.signal(Signal::TERM);
        }
    }
    assert_eq!(kept.read_to_end().await, "");
    assert_eq!(server.ended().await, Some(0));
}

#[tokio::test]
async fn sigterm_tells_every_client_when_to_come_back() {
    every_client_is_told_when_to_come_back(Signal::TERM).await;
}

#[tokio::test]
async fn sigint_tells_every_client_when_to_come_back() {
    every_client_is_told_when_to_come_back(Signal::INT).await;
}

async fn every_client_is_told_when_to_come_back(signal: Signal) {
    const SOCKETS: u64 = 12;

    let sockets_folder = tempfile::tempdir().unwrap();
    let unix = sockets_folder.path().join("n.sock");
    let listen = format!("unix:{}", unix.display());
    let flags = ["--listen", &listen, "--reconnect-rate", "1/s", "--handshake-rate-per-ip", "100000/s"];
    let mut server = Server::start(&flags).await;
    let mut sockets = Vec::new();
    for _ in 0..SOCKETS {
        sockets.push(Socket::open(&server, "").await.0);
    }
    let mut events = EventStream::connect(&server, "").await;
    let mut raw_events = Raw::connect(&server).await;
    raw_events.send("GET /events HTTP/1.1\r\nHost: x\r\n\r\n").await;
    server.publish(post_body("US", 1)).await;
    // The window is measured anew each second, and only then counts them all.
    let longest = (SOCKETS + 2) * 1000;
    let counted = async {
        loop {
            let (_, hello) = Socket::open(&server, "").await;
            if hello["reconnect_window_ms"].as_u64() >= Some(longest) {
                break;
            }
        }
    };
    timeout(PATIENCE, counted).await.expect("all clients are counted");
    // Those that only looked may be counted too.
    let longest = longest * 2;

    let start = Instant::now();
    server.signal(signal);
    let mut pauses = Vec::new();
    for mut socket in sockets {
        let reconnect = loop {
            let message = socket.message().await;
            match message["type"].as_str() {
                Some("new_trending" | "heartbeat") => {}
                _ => break message,
            }
        };
        assert_eq!(reconnect["type"], "reconnect");
        pauses.push(reconnect["after_ms"].as_u64().expect("milliseconds"));
        assert_eq!(socket.closed().await.0, 1012);
    }
    let last = loop {
        let event = events.event().await.expect("a stream is told before it ends");
        if event.data["type"] == "reconnect" {
            break event;
        }
    };
    assert_eq!((last.retry, last.id), (last.data["after_ms"].as_u64(), None));
    pauses.extend(last.retry);
    assert_eq!(events.event().await, None);
    // The last chunk: the stream was not cut, it ended.
    assert!(raw_events.read_to_end().await.ends_with("\r\n0\r\n\r\n"));

    assert!(pauses.iter().all(|pause| *pause <= longest), "{pauses:?}");
    assert!(pauses.iter().max().unwrap() - pauses.iter().min().unwrap() > longest / 20, "not spread: {pauses:?}");
    assert_eq!(server.ended().await, Some(0));
    // All were gone long before the drain time of 8 s; nothing waited for it.
    assert!(start.elapsed() < SLACK, "{:?}", start.elapsed());
    assert!(!unix.exists());
    assert_closed(server.data_dir());
}

#[tokio::test]
async fn a_post_that_is_half_sent_is_finished_and_durable() {
    let mut server = Server::start(&[]).await;
    let body = post_body("US", 1);
    let mut post = half_a_post(&server, &body).await;
    let mut probe = Raw::connect(&server).await;
    probe.send("GET /readyz HTTP/1.1\r\nHost: x\r\n").await;
    probe.until_taken().await;
    let mut idle = Raw::connect(&server).await;
    idle.send("GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(idle.read_until("ready\n").await.starts_with("HTTP/1.1 200"));

    server.signal(Signal::TERM);
    server.logged("draining").await;
    // At once, since it has two seconds for it.
    probe.send("\r\n").await;
    until_refused(&server).await;
    // A connection that waits for nothing is closed.
    assert_eq!(idle.read_to_end().await, "");
    let answer = probe.read_to_end().await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.to_lowercase().contains("\r\nretry-after: "), "{answer}");

    post.send(&body[body.len() / 2..]).await;
    let answer = post.read_to_end().await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let receipt: Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
    assert_eq!(server.ended().await, Some(0));
    assert_closed(server.data_dir());

    server.restart().await;
    let recent: Value = server.get("/notifications").await.json().await.unwrap();
    assert_eq!(recent["notifications"].as_array().unwrap().len(), 1);
    assert_eq!(recent["notifications"][0]["id"], receipt["id"]);
}

#[tokio::test]
async fn a_client_that_draining_found_in_its_handshake_is_turned_away() {
    let mut server = Server::start(&[]).await;
    let mut streams = Vec::new();
    for head in [
        "GET /events HTTP/1.1\r\nHost: x\r\n".to_owned(),
        "GET /ws HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            .to_owned(),
    ] {
        let mut stream = Raw::connect(&server).await;
        stream.send(head).await;
        streams.push(stream);
    }
    for stream in &streams {
        stream.until_taken().await;
    }
    server.signal(Signal::TERM);
    server.logged("draining").await;
    until_refused(&server).await;
    for mut stream in streams {
        stream.send("\r\n").await;
        let answer = stream.read_to_end().await;
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    }
    assert_eq!(server.ended().await, Some(0));
}

#[tokio::test]
async fn a_post_that_is_never_finished_is_cut_after_the_drain_time() {
    let mut server = Server::start(&["--drain", "1s"]).await;
    let post = half_a_post(&server, &post_body("US", 1)).await;
    let start = Instant::now();
    server.signal(Signal::TERM);
    assert_eq!(server.ended().await, Some(0));
    let took = start.elapsed();
    assert!(took >= Duration::from_secs(1), "the post was not waited for: {took:?}");
    assert!(took < Duration::from_secs(1) + SLACK, "{took:?}");
    assert_closed(server.data_dir());
    drop(post);

    server.restart().await;
    let recent: Value = server.get("/notifications").await.json().await.unwrap();
    assert_eq!(recent["notifications"].as_array().unwrap().len(), 0);
}

#[tokio::test]
async fn a_client_that_never_reads_holds_the_end_for_two_seconds_at_most() {
    let mut server = Server::start(&["--drain", "10m"]).await;
    let mut stalled = Vec::new();
    for head in [
        "GET /events HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /ws HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    ] {
        let mut stream = Raw::connect_small(&server.address).unwrap();
        stream.send(head).await;
        stalled.push(stream);
    }
    server.until_metric("notifier_connections{transport=\"sse\"}", |count| count == 1.0).await;
    server.until_metric("notifier_connections{transport=\"websocket\"}", |count| count == 1.0).await;
    let (mut socket, _) = Socket::open(&server, "").await;
    // More than the kernel takes for those who do not read.
    const POSTS: u32 = 60;
    for id in 0..POSTS {
        server.publish(post_body("US", id).replace("Video", &"long ".repeat(1200))).await;
    }
    for _ in 0..POSTS {
        socket.publication().await;
    }
    assert!(server.metric("notifier_deliveries_total").await < f64::from(3 * POSTS), "nobody is stalled");

    let start = Instant::now();
    server.signal(Signal::TERM);
    assert_eq!(socket.closed().await.0, 1012);
    assert!(start.elapsed() < SLACK.min(Duration::from_secs(2)), "a client that reads waited for those that do not");
    assert_eq!(server.ended().await, Some(0));
    let took = start.elapsed();
    assert!(took < Duration::from_secs(2) + SLACK, "{took:?}");
    assert_closed(server.data_dir());
    drop(stalled);
}

#[tokio::test]
async fn strangers_do_not_hold_the_end_up() {
    let mut server = Server::start(&["--drain", "10m"]).await;
    for id in 0..100 {
        server.publish(long_post(id)).await;
    }
    const HALF: &str = "GET /healthz HTTP/1.1\r\nHost: x\r\n";
    // One that never ends its first request, one that never ends its next, and one that does not take its answer.
    let mut first = Raw::connect(&server).await;
    first.send(HALF).await;
    let mut next = Raw::connect(&server).await;
    next.send(format!("HEAD /healthz HTTP/1.1\r\nHost: x\r\n\r\n{HALF}")).await;
    next.head().await;
    let mut slow = Raw::connect_small(&server.address).unwrap();
    slow.send("GET /notifications?limit=100 HTTP/1.1\r\nHost: x\r\n\r\n").await;
    slow.head().await;
    for stranger in [&first, &next] {
        stranger.until_taken().await;
    }
    server.signal(Signal::TERM);
    assert_eq!(server.ended().await, Some(0));
    assert_closed(server.data_dir());
}

#[tokio::test]
async fn posts_that_were_answered_while_it_ended_are_all_there() {
    let mut server = Server::start(&[]).await;
    let (mut socket, hello) = Socket::open(&server, "").await;
    let url = server.url("/notify");
    let http = server.http.clone();
    // One post after the other until the server is gone.
    let poster = tokio::spawn(async move {
        let mut answered = Vec::new();
        for id in 0.. {
            let post = http.request(Method::POST, &url).bearer_auth(TOKEN).body(post_body("US", id));
            let Ok(response) = post.send().await else { break };
            if response.status() == 200 {
                let Ok(receipt) = response.json::<Value>().await else { break };
                answered.push(receipt["id"].as_str().unwrap().to_owned());
            }
        }
        answered
    });
    for _ in 0..20 {
        socket.publication().await;
    }
    server.signal(Signal::TERM);
    assert_eq!(server.ended().await, Some(0));
    let answered = timeout(PATIENCE, poster).await.expect("the poster ends").unwrap();
    server.restart().await;

    let since = hello["position"].as_str().unwrap();
    let (mut socket, hello) = Socket::open(&server, &format!("?since={since}")).await;
    assert_eq!(hello["recovered"], true);
    for id in answered {
        assert_eq!(socket.publication().await["id"], id);
    }
}
