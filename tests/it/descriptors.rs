//! Descriptors that run out: nobody who is in is put out, and who could not get in can once there is room.

use std::{
    fs,
    time::{Duration, Instant},
};

use tokio::time::sleep;

use crate::support::{Server, Setup, Socket, post_body, raw::Raw};

/// The hard limit on descriptors, of which the server keeps some for what is no client.
const DESCRIPTORS: usize = 200;

/// A server that is allowed so few, 20 clients, and a connection that is kept for the posts to come.
async fn start(max_connections: &str) -> (Server, Vec<Socket>) {
    let limit = format!("ulimit -n {DESCRIPTORS}");
    let server = Setup::new(&["--max-connections", max_connections]).shell(&limit).start().await;
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(Socket::open(&server, "").await.0);
    }
    publish(&server, &mut clients, "before").await;
    (server, clients)
}

/// All get it.
async fn publish(server: &Server, clients: &mut [Socket], id: &str) {
    let receipt = server.publish(post_body("US", id)).await;
    for client in clients {
        assert_eq!(client.publication().await["id"], receipt["id"]);
    }
}

#[tokio::test]
async fn when_descriptors_run_out_clients_stay_and_others_get_in_later() {
    // More than there are.
    let (mut server, mut clients) = start("1000").await;
    let mut more = Vec::new();
    // One by one, so that the connection that is kept is not crowded out by a burst of them.
    loop {
        let mut raw = Raw::connect(&server).await;
        raw.send("GET /events HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let is_out = tokio::select! {
            head = raw.head() => head.is_empty(),
            _ = server.logged("no connection can be accepted") => true,
        };
        more.push(raw);
        if is_out {
            break;
        }
    }
    // That was said for want of a descriptor, whether or not one waited for it.
    for _ in 0..5 {
        more.push(Raw::connect(&server).await);
    }
    // While none can be accepted, to try again costs next to nothing, and those who are in are served.
    let (began, before) = (Instant::now(), server.processor_time());
    for number in 0..10 {
        publish(&server, &mut clients, &format!("meanwhile {number}")).await;
        assert!(waiting(&server) > 0, "one was accepted");
        sleep(Duration::from_millis(200)).await;
    }
    let (took, spent) = (began.elapsed(), server.processor_time() - before);
    assert!(spent < took / 10, "{spent:?} of {took:?} went into accepts that fail");
    drop(more);
    clients.push(Socket::open(&server, "").await.0);
    publish(&server, &mut clients, "after").await;
}

/// How many connections wait to be accepted (proc_net_tcp(5): what a listening socket has to read).
fn waiting(server: &Server) -> u64 {
    const LISTENING: &str = "0A";
    let port = server.address.rsplit(':').next().and_then(|port| port.parse::<u16>().ok()).expect("a port");
    let table = fs::read_to_string("/proc/net/tcp").expect("the table of connections");
    let queue = table.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let is_it = fields[1].ends_with(&format!(":{port:04X}")) && fields[3] == LISTENING;
        is_it.then(|| fields[4].split_once(':').expect("two queues").1.to_owned())
    });
    u64::from_str_radix(&queue.expect("the server listens"), 16).expect("hex")
}

#[tokio::test]
async fn connections_that_ask_nothing_make_room_for_those_that_do() {
    let (server, mut clients) = start("100").await;
    let mut silent = Vec::new();
    for number in 0..3 * DESCRIPTORS {
        let mut raw = Raw::connect(&server).await;
        if number % 2 == 0 {
            // Some have begun, and could go on for 20 s.
            raw.send("GET /events HTTP/1.1\r\n").await;
        }
        silent.push(raw);
    }
    for _ in 0..20 {
        clients.push(Socket::open(&server, "").await.0);
    }
    publish(&server, &mut clients, "meanwhile").await;
    // Who came first went first, and nobody who is served.
    assert!(silent[0].ended().await.is_empty());
    let ended = server.metric(r#"notifier_refused_total{reason="no_request"}"#).await;
    assert!(ended > 2.0 * DESCRIPTORS as f64, "{ended}");
    assert_eq!(server.metric(r#"notifier_connections{transport="websocket"}"#).await, 40.0);
    // Who is left of them is served like anybody.
    let mut last = silent.pop().expect("the last of them");
    last.send("GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(last.head().await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn no_client_waits_for_the_table_of_descriptors_to_grow() {
    // More than the size that a process begins with, and than what the start itself opens.
    let server = Setup::new(&[]).shell("ulimit -n 1000").start().await;
    let status = fs::read_to_string(format!("/proc/{}/status", server.id())).expect("the server runs");
    let size = status.lines().find_map(|line| line.strip_prefix("FDSize:")).expect("the size of the table");
    assert!(size.trim().parse::<u32>().expect("a number") >= 1000, "{size}");
}
