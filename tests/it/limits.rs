//! How many clients get in, by whose address they count, and what one connection may hold and for how long.

use std::net::Ipv4Addr;

use std::time::Duration;

use futures_util::StreamExt;
use reqwest::{Method, Response};
use serde_json::Value;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::Error;

use crate::support::{EventStream, Server, Socket, post_body, raw::Raw, server::PATIENCE};

type Headers<'a> = &'a [(&'static str, &'a str)];

async fn events(server: &Server, headers: Headers<'_>) -> Response {
    let request = server.request(Method::GET, "/events");
    headers.iter().fold(request, |request, (name, value)| request.header(*name, *value)).send().await.unwrap()
}

/// Both transports refuse with this status, and say when to come back.
async fn assert_refused(server: &Server, headers: Headers<'_>, status: u16) {
    let response = events(server, headers).await;
    assert_eq!(response.status(), status, "{headers:?}");
    assert_eq!(response.headers()["retry-after"], "5");
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    assert_eq!(response.json::<Value>().await.unwrap()["title"], "Too many connections");
    match Socket::connect_with(server, "", headers).await.err() {
        Some(Error::Http(response)) => {
            assert_eq!(response.status(), status, "{headers:?}");
            assert_eq!(response.headers()["retry-after"], "5");
        }
        other => panic!("{headers:?}: not an answer over HTTP: {other:?}"),
    }
}

/// Tries until there is room.
async fn until_admitted(server: &Server, headers: Headers<'_>) -> Socket {
    let attempts = async {
        loop {
            if let Ok(socket) = Socket::connect_with(server, "", headers).await {
                return socket;
            }
        }
    };
    timeout(PATIENCE, attempts).await.expect("a permit is given back")
}

#[tokio::test]
async fn a_full_server_refuses_with_503_and_ends_nobody() {
    let server = Server::start(&["--max-connections", "2"]).await;
    let (mut socket, _) = Socket::open(&server, "").await;
    let mut stream = EventStream::connect(&server, "").await;
    for _ in 0..3 {
        assert_refused(&server, &[], 503).await;
    }
    assert_eq!(server.metric(r#"notifier_refused_total{reason="full"}"#).await, 6.0);
    // Only clients of the feed count, and those who are in stay.
    assert_eq!(server.get("/notifications").await.status(), 200);
    let receipt = server.publish(post_body("US", 1)).await;
    assert_eq!(receipt["subscribers"], 2);
    assert_eq!(socket.publication().await["id"], receipt["id"]);
    assert_eq!(stream.publication().await["id"], receipt["id"]);
}

#[tokio::test]
async fn whoever_leaves_makes_room_however_it_leaves() {
    let server = Server::start(&["--max-connections", "1", "--allowed-origins", "https://a.example"]).await;
    drop(Socket::open(&server, "").await);
    let mut closed = until_admitted(&server, &[]).await;
    closed.stream.close(None).await.unwrap();
    while closed.stream.next().await.is_some() {}
    // Refused after the handshake: by origin, by regions.
    let mut refused = until_admitted(&server, &[("origin", "https://b.example")]).await;
    assert_eq!(refused.closed().await.0, 4403);
    while refused.stream.next().await.is_some() {}
    drop(until_admitted(&server, &[]).await);
    let stream = async {
        loop {
            let response = events(&server, &[]).await;
            if response.status() == 200 {
                return response;
            }
        }
    };
    drop(timeout(PATIENCE, stream).await.expect("room for a stream"));
    // A stream that was never allowed takes no room.
    assert_eq!(events(&server, &[("origin", "https://b.example")]).await.status(), 403);
    let _socket = until_admitted(&server, &[]).await;
    assert_refused(&server, &[], 503).await;
}

#[tokio::test]
async fn an_address_that_is_full_gets_429_while_others_get_in() {
    let server = Server::start(&["--max-connections-per-ip", "2"]).await;
    let one: Headers = &[("x-forwarded-for", "1.1.1.1")];
    let _socket = Socket::connect_with(&server, "", one).await.unwrap();
    let stream = events(&server, one).await;
    assert_eq!(stream.status(), 200);
    // The address is the right-most that no trusted proxy has; what stands left of it is the client's own word.
    let same: [Headers; 7] = [
        one,
        &[("x-forwarded-for", "9.9.9.9, 1.1.1.1")],
        &[("x-forwarded-for", "9.9.9.9"), ("x-forwarded-for", "1.1.1.1")],
        &[("x-forwarded-for", "9.9.9.9, 1.1.1.1, 10.1.2.3, 127.0.0.1")],
        &[("x-forwarded-for", "1.1.1.1:4711")],
        &[("forwarded", "for=9.9.9.9, for=1.1.1.1;proto=https")],
        &[("x-forwarded-for", "1.1.1.1"), ("forwarded", "for=9.9.9.9")],
    ];
    for headers in same {
        assert_refused(&server, headers, 429).await;
    }
    let others: [Headers; 4] = [
        &[],
        &[("x-forwarded-for", "2.2.2.2")],
        // Naming another's address costs that one nothing and is no way in or out.
        &[("x-forwarded-for", "1.1.1.1, 3.3.3.3")],
        &[("forwarded", "for=\"[2001:db8::1]:443\"")],
    ];
    let mut kept = Vec::new();
    for headers in others {
        kept.push(Socket::connect_with(&server, "", headers).await.unwrap_or_else(|_| panic!("{headers:?}")));
    }
    drop(stream);
    let _next = until_admitted(&server, one).await;
    assert_refused(&server, one, 429).await;
}

#[tokio::test]
async fn an_ipv6_user_counts_by_its_network() {
    let server = Server::start(&["--max-connections-per-ip", "1"]).await;
    let _socket = Socket::connect_with(&server, "", &[("x-forwarded-for", "2001:db8:0:1::1")]).await.unwrap();
    assert_refused(&server, &[("x-forwarded-for", "2001:db8:0:1:ffff::2")], 429).await;
    let _neighbour = Socket::connect_with(&server, "", &[("x-forwarded-for", "2001:db8:0:2::1")]).await.unwrap();
}

#[tokio::test]
async fn a_peer_that_is_no_trusted_proxy_counts_itself() {
    let server = Server::start(&["--max-connections-per-ip", "1", "--trusted-proxies", "203.0.113.0/24"]).await;
    let _socket = Socket::connect_with(&server, "", &[("x-forwarded-for", "1.1.1.1")]).await.unwrap();
    for headers in [&[("x-forwarded-for", "2.2.2.2")][..], &[("forwarded", "for=3.3.3.3")], &[]] {
        assert_refused(&server, headers, 429).await;
    }
}

#[tokio::test]
async fn an_address_may_only_have_so_many_connections_that_are_no_clients() {
    let server = Server::start(&["--max-connections-per-ip", "3", "--trusted-proxies", "203.0.113.0/24"]).await;
    let (mut client, _) = Socket::open(&server, "").await;
    let address = Ipv4Addr::new(127, 0, 0, 9);
    // However few clients it may have, this many.
    let mut silent = Vec::new();
    for _ in 0..16 {
        silent.push(Raw::connect_from(&server, address).await);
    }
    for _ in 0..3 {
        assert!(Raw::connect_from(&server, address).await.ended().await.is_empty());
    }
    // Another address is not concerned.
    assert_eq!(server.get("/healthz").await.status(), 200);
    drop(silent);
    let next = async {
        loop {
            let mut next = Raw::connect_from(&server, address).await;
            if next.try_send(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").await.is_ok() && !next.head().await.is_empty()
            {
                return;
            }
        }
    };
    timeout(PATIENCE, next).await.expect("there is room again");
    assert!(server.metric(r#"notifier_refused_total{reason="pending_address_full"}"#).await >= 3.0);
    let receipt = server.publish(post_body("US", 1)).await;
    assert_eq!(client.publication().await["id"], receipt["id"]);
}

#[tokio::test]
async fn the_head_of_a_request_may_have_16_kib() {
    let server = Server::start(&[]).await;
    for (length, status) in [(15 * 1024, "200"), (17 * 1024, "431"), (1024 * 1024, "431")] {
        let mut raw = Raw::connect(&server).await;
        let head = format!("GET /healthz HTTP/1.1\r\nHost: a\r\nX-Long: {}\r\n\r\n", "x".repeat(length));
        // It may be refused before all of it is sent.
        let _ = raw.try_send(head.as_bytes()).await;
        let answer = raw.head().await;
        assert!(
            answer.is_empty() && length > 100_000 || answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{answer}"
        );
    }
    assert_eq!(server.get("/healthz").await.status(), 200);
}

#[tokio::test]
async fn a_body_that_comes_byte_by_byte_costs_no_more_than_one_that_comes_at_once() {
    const POSTERS: usize = 50;
    const BYTES: usize = 500;
    const BOUND: u64 = 8 * 1024 * 1024;
    let server = Server::start(&[]).await;
    let mut posters = Vec::new();
    for _ in 0..POSTERS {
        let mut raw = Raw::connect(&server).await;
        raw.0.set_nodelay(true).expect("an option");
        raw.send(
            "POST /notify HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer test-token\r\nContent-Length: 60000\r\n\r\n",
        )
        .await;
        posters.push(raw);
    }
    let before = server.memory("Pss");
    for _ in 0..BYTES {
        for poster in &mut posters {
            poster.send(" ").await;
        }
        // So that the next ones are read by themselves.
        sleep(Duration::from_millis(1)).await;
    }
    let grown = server.memory("Pss").saturating_sub(before);
    assert!(grown <= BOUND, "{grown} bytes for {} that were sent", POSTERS * BYTES);
}
