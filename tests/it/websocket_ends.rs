//! Who gets no WebSocket, and how one ends: refusals after the handshake, broken frames, silence, a client's close.

use std::time::{Duration, Instant};

use futures_util::{StreamExt, future::join_all};
use serde_json::Value;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, frame::coding::CloseCode};

use crate::support::{
    Server, Socket,
    frames::{CLOSE, PING, TEXT, masked},
    post_body,
    raw::Raw,
};

#[tokio::test]
async fn an_origin_that_is_not_listed_is_told_so_by_4403() {
    let server = Server::start(&["--allowed-origins", "https://Example.com:443/,http://localhost:3000"]).await;
    for origin in ["https://example.com", "http://localhost:3000"] {
        let mut socket = Socket::connect_with(&server, "", &[("origin", origin)]).await.unwrap();
        assert_eq!(socket.message().await["type"], "hello", "{origin}");
    }
    let (_no_page, _) = Socket::open(&server, "").await;
    let others = ["null", "https://example.com.evil.net", "http://example.com", "https://localhost:3000", "https://"];
    for origin in others {
        let mut socket = Socket::connect_with(&server, "?regions=US", &[("origin", origin)]).await.unwrap();
        assert_eq!(socket.closed().await, (4403, "this origin is not allowed".into()), "{origin}");
        assert!(socket.stream.next().await.is_none(), "{origin}");
    }
    assert_eq!(server.metric(r#"notifier_refused_total{reason="origin"}"#).await, others.len() as f64);
}

#[tokio::test]
async fn without_a_list_any_origin_passes() {
    let server = Server::start(&[]).await;
    for origin in ["null", "https://anybody.example"] {
        let mut socket = Socket::connect_with(&server, "", &[("origin", origin)]).await.unwrap();
        assert_eq!(socket.message().await["type"], "hello", "{origin}");
    }
}

#[tokio::test]
async fn regions_that_cannot_be_read_close_with_4400() {
    let server = Server::start(&[]).await;
    let many = (0..65).map(|number| format!("r{number}")).collect::<Vec<_>>().join(",");
    for regions in ["U%20S", "US,G/B", "%ff", &"x".repeat(33), &many] {
        let mut socket = Socket::connect(&server, &format!("?regions={regions}")).await;
        assert_eq!(socket.closed().await.0, 4400, "{regions}");
        assert!(socket.stream.next().await.is_none(), "{regions}");
    }
}

#[tokio::test]
async fn plain_http_is_told_to_upgrade() {
    let server = Server::start(&[]).await;
    let response = server.get("/ws").await;
    assert_eq!(response.status(), 426);
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    assert_eq!(response.headers()["upgrade"], "websocket");
    let problem: Value = response.json().await.unwrap();
    assert_eq!((&problem["status"], &problem["title"]), (&426.into(), &"Upgrade required".into()));
}

#[tokio::test]
async fn broken_frames_end_the_connection_and_no_other() {
    let server = Server::start(&["--heartbeat", "60s"]).await;
    let (mut bystander, _) = Socket::open(&server, "").await;
    let ended = [
        ("a reserved opcode", masked(0x83, b"x"), 1002),
        ("a reserved control opcode", masked(0x8b, b""), 1002),
        ("a reserved bit", masked(0xc1, b"x"), 1002),
        ("not masked", vec![TEXT, 1, b'x'], 1002),
        ("a continuation of nothing", masked(0x80, b"x"), 1002),
        ("a Ping in fragments", masked(0x09, b""), 1002),
        ("a Ping that is too long", [&[PING, 0xfe, 0, 126, 0, 0, 0, 0], &[b'x'; 126][..]].concat(), 1002),
        ("text that is no UTF-8", masked(TEXT, &[0xff]), 1007),
        ("a length of 1 GiB", [&[TEXT, 0xff, 0, 0, 0, 0, 0x40, 0, 0, 0], &[0; 4][..]].concat(), 1009),
    ]
    .map(async |(what, bytes, code)| {
        let mut raw = Raw::upgrade(&server, "").await;
        assert_eq!(raw.frame().await.expect("hello").0, TEXT, "{what}");
        raw.send(&bytes).await;
        let (first, payload) = raw.frame().await.expect("a close frame");
        assert_eq!((first, u16::from_be_bytes([payload[0], payload[1]])), (CLOSE, code), "{what}");
        assert_eq!(raw.frame().await, None, "{what}");
    });
    join_all(ended).await;
    let receipt = server.publish(post_body("US", 1)).await;
    assert_eq!(bystander.publication().await["id"], receipt["id"]);
    server.until_metric(r#"notifier_connections{transport="websocket"}"#, |clients| clients == 1.0).await;
}

#[tokio::test]
async fn who_answers_no_ping_for_three_heartbeats_is_dropped() {
    let server = Server::start(&["--heartbeat", "200ms"]).await;
    let started = Instant::now();
    let mut silent = Raw::upgrade(&server, "").await;
    let mut frames = Vec::new();
    while let Some((first, _)) = silent.frame().await {
        frames.push(first);
        assert!(frames.len() < 20, "it is never dropped");
    }
    let took = started.elapsed();
    // Hello; then a text and a Ping with each heartbeat, of which three must have gone unanswered.
    assert!(frames.len() >= 7 && frames.iter().filter(|first| **first == PING).count() >= 3, "{frames:x?}");
    assert!(took >= Duration::from_millis(600) && took < Duration::from_secs(5), "{took:?}");
    assert_eq!(server.metric(r#"notifier_dropped_total{reason="silent"}"#).await, 1.0);
}

#[tokio::test]
async fn any_sign_of_life_keeps_a_client() {
    const PONG: u8 = 0x8a;
    let server = Server::start(&["--heartbeat", "150ms"]).await;
    let signs =
        [("a Pong", PONG, ""), ("a Ping", PING, ""), ("a ping", TEXT, r#"{"type":"ping"}"#), ("junk", TEXT, "")];
    let kept = signs.map(async |(what, first, payload)| {
        let mut raw = Raw::upgrade(&server, "").await;
        let mut pings = 0;
        while pings < 10 {
            let (got, _) = raw.frame().await.unwrap_or_else(|| panic!("{what}: dropped after {pings} heartbeats"));
            if got == PING {
                pings += 1;
                raw.send(&masked(first, payload.as_bytes())).await;
            }
        }
    });
    join_all(kept).await;
}

#[tokio::test]
async fn a_clients_close_is_answered_with_its_code() {
    let server = Server::start(&["--heartbeat", "60s"]).await;
    for code in [1000_u16, 1001, 4999] {
        let mut raw = Raw::upgrade(&server, "").await;
        assert_eq!(raw.frame().await.expect("hello").0, TEXT);
        raw.send(&masked(CLOSE, &[&code.to_be_bytes()[..], b"bye"].concat())).await;
        let (first, payload) = raw.frame().await.expect("an answer");
        assert_eq!((first, &payload[..2]), (CLOSE, &code.to_be_bytes()[..]));
        assert_eq!(raw.frame().await, None);
    }
    let (mut socket, _) = Socket::open(&server, "").await;
    socket.stream.close(Some(CloseFrame { code: CloseCode::Normal, reason: "".into() })).await.unwrap();
    assert_eq!(socket.closed().await.0, 1000);
    server.until_metric(r#"notifier_connections{transport="websocket"}"#, |clients| clients == 0.0).await;
}
