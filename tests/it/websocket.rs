//! What goes over a WebSocket: messages, heartbeats, close codes, and how long a client may be silent.

use futures_util::{SinkExt, future::join_all};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{
    Message,
    protocol::frame::{
        Frame,
        coding::{Data, OpCode},
    },
};

use crate::support::{
    EventStream, Server, Socket,
    frames::{PING, TEXT, masked},
    post_body,
    random::Random,
    raw::Raw,
};

/// Sends a ping and waits for its pong, which is the next message.
async fn assert_is_served(socket: &mut Socket) {
    socket.send(r#"{"type":"ping"}"#).await;
    let mut answer = socket.message().await;
    // One may come at any moment.
    while answer["type"] == "heartbeat" {
        answer = socket.message().await;
    }
    assert_eq!(answer, json!({"type": "pong"}));
}

fn fragment(text: &str, code: Data, last: bool) -> Message {
    Message::Frame(Frame::message(text.to_owned(), OpCode::Data(code), last))
}

#[tokio::test]
async fn hello_comes_first_with_all_its_fields() {
    let server = Server::start(&["--heartbeat", "7s", "--refetch-rate", "10", "--reconnect-rate", "100"]).await;
    let receipt = server.publish(post_body("US", 1)).await;
    let (_socket, hello) = Socket::open(&server, "").await;
    let fields: Vec<&str> = hello.as_object().unwrap().keys().map(String::as_str).collect();
    let all = ["type", "position", "recovered", "now", "heartbeat_ms", "spread_ms", "reconnect_window_ms"];
    assert_eq!(fields, all);
    assert_eq!(hello["position"], receipt["id"]);
    assert_eq!(hello["recovered"], Value::Null);
    assert_eq!(hello["heartbeat_ms"], 7000);
    // One client at 10 and at 100 a second.
    assert_eq!((&hello["spread_ms"], &hello["reconnect_window_ms"]), (&100.into(), &10.into()));
    let (now, posted) = (hello["now"].as_str().unwrap(), receipt["timestamp"].as_str().unwrap());
    assert!(now.len() >= 20 && now.ends_with('Z') && now[..19] >= posted[..19], "{now} after {posted}");
}

#[tokio::test]
async fn the_pace_in_heartbeats_follows_the_number_of_clients() {
    let server = Server::start(&["--heartbeat", "100ms", "--refetch-rate", "10", "--reconnect-rate", "100"]).await;
    let (mut first, hello) = Socket::open(&server, "").await;
    assert_eq!(hello["spread_ms"], 100);
    let _others = (EventStream::connect(&server, "").await, EventStream::connect(&server, "").await);
    loop {
        let heartbeat = first.message().await;
        if heartbeat["spread_ms"] == 300 {
            return assert_eq!(heartbeat["reconnect_window_ms"], 30);
        }
    }
}

#[tokio::test]
async fn only_the_asked_regions_come() {
    let server = Server::start(&[]).await;
    let ids = [("US", 1), ("GB", 2), ("us", 3), ("JP", 4)];
    let expected: [(&str, &[&str]); 5] = [
        ("", &["1", "2", "3", "4"]),
        ("?regions=", &["1", "2", "3", "4"]),
        ("?regions=US", &["1"]),
        ("?regions=JP%2CGB,,JP", &["2", "4"]),
        ("?regions=FR", &[]),
    ];
    let mut sockets = join_all(expected.map(|(query, _)| Socket::open(&server, query))).await;
    for (region, id) in ids {
        server.publish(post_body(region, id)).await;
    }
    for ((socket, _), (query, videos)) in sockets.iter_mut().zip(expected) {
        for video in videos {
            assert_eq!(socket.publication().await["videos"][0]["id"], *video, "{query}");
        }
        // Nothing else was on its way.
        assert_is_served(socket).await;
    }
}

#[tokio::test]
async fn a_publication_has_what_was_posted_and_its_receipt() {
    let server = Server::start(&[]).await;
    let (mut socket, _) = Socket::open(&server, "").await;
    let videos: Vec<Value> = (1..=7).map(|id| json!({"id": id, "title": "<b>T</b>", "views": 1.5})).collect();
    let receipt = server.publish(json!({"region": "US", "count": 9, "videos": videos}).to_string()).await;
    let publication = json!({
        "type": "new_trending", "id": receipt["id"], "region": "US", "count": 9, "videos": videos[..5],
        "timestamp": receipt["timestamp"],
    });
    assert_eq!(socket.message().await, publication);
}

#[tokio::test]
async fn a_heartbeat_comes_with_a_protocol_ping_right_after() {
    let server = Server::start(&["--heartbeat", "200ms"]).await;
    let receipt = server.publish(post_body("US", 1)).await;
    let mut raw = Raw::upgrade(&server, "").await;
    assert_eq!(raw.frame().await.expect("hello").0, TEXT);
    for _ in 0..2 {
        let (first, text) = raw.frame().await.expect("a heartbeat");
        let heartbeat: Value = serde_json::from_slice(&text).unwrap();
        let wanted = json!({
            "type": "heartbeat", "position": receipt["id"], "spread_ms": 1, "reconnect_window_ms": 0,
        });
        assert_eq!((first, heartbeat), (TEXT, wanted));
        assert_eq!(raw.frame().await.expect("a Ping").0, PING);
    }
}

#[tokio::test]
async fn the_position_of_a_heartbeat_moves_while_only_other_regions_publish() {
    let server = Server::start(&["--heartbeat", "200ms"]).await;
    let (mut socket, _) = Socket::open(&server, "?regions=JP").await;
    for id in 1..=3 {
        let receipt = server.publish(post_body("US", id)).await;
        loop {
            let message = socket.message().await;
            assert_eq!(message["type"], "heartbeat", "{message}");
            if message["position"] == receipt["id"] {
                break;
            }
        }
    }
}

#[tokio::test]
async fn text_that_means_nothing_is_ignored_and_counted() {
    let server = Server::start(&[]).await;
    let (mut socket, _) = Socket::open(&server, "").await;
    let longest = "x".repeat(4096);
    let junk = ["", "junk", "{", "null", "[]", r#"{"type":"pong"}"#, r#"{"type":7}"#, r#"{"ping":"type"}"#, &longest];
    for text in junk {
        socket.send(text).await;
        assert_is_served(&mut socket).await;
    }
    assert_eq!(server.metric("notifier_ignored_messages_total").await, junk.len() as f64);
    // A message in fragments is one message.
    socket.send(fragment(r#"{"type":"#, Data::Text, false)).await;
    socket.send(fragment(r#""ping"}"#, Data::Continue, true)).await;
    assert_eq!(socket.message().await["type"], "pong");
}

#[tokio::test]
async fn what_a_client_must_not_send_closes_with_its_code() {
    let server = Server::start(&["--heartbeat", "60s"]).await;
    let big = "x".repeat(3000);
    let cases: [(u16, Vec<Message>); 7] = [
        (1003, vec![Message::binary(vec![1])]),
        (1003, vec![Message::binary(vec![])]),
        (1009, vec![Message::text("x".repeat(4097))]),
        (1009, vec![Message::text("x".repeat(64 * 1024))]),
        (1009, vec![fragment(&big, Data::Text, false), fragment(&big, Data::Continue, true)]),
        (1008, vec![Message::text("junk"); 100]),
        (1008, vec![Message::Ping("".into()); 100]),
    ];
    let (mut bystander, _) = Socket::open(&server, "").await;
    for (code, messages) in cases {
        let (mut socket, _) = Socket::open(&server, "").await;
        let what = messages[0].clone();
        for message in messages {
            // Once the server has said goodbye it takes no more.
            let _ = socket.stream.feed(message).await;
        }
        let _ = socket.stream.flush().await;
        assert_eq!(socket.closed().await.0, code, "{what:?}");
    }
    assert_eq!(server.metric(r#"notifier_disconnected_total{code="1009"}"#).await, 3.0);
    assert_is_served(&mut bystander).await;
}

#[tokio::test]
async fn the_answers_to_the_servers_own_pings_are_no_flood() {
    let server = Server::start(&["--heartbeat", "200ms"]).await;
    let (mut socket, _) = Socket::open(&server, "").await;
    // Nearly all that a client may say at once, so that a few Pongs would be too many.
    for _ in 0..57 {
        socket.send("junk").await;
    }
    for _ in 0..9 {
        assert_eq!(socket.message().await["type"], "heartbeat");
    }
    assert_is_served(&mut socket).await;
}

#[tokio::test]
async fn frames_are_answered_in_order_wherever_the_network_cuts_them() {
    let mut random = Random::of_this_run();
    let server = Server::start(&[]).await;
    for _ in 0..20 {
        let mut raw = Raw::upgrade(&server, "").await;
        raw.frame().await.expect("hello");
        let (mut bytes, mut expected) = (Vec::new(), Vec::new());
        // Less than a flood: three frames each, of which the second comes amid the fragments of a message.
        for number in 0..15 {
            bytes.extend(masked(0x01, &vec![b'x'; random.below(4000) as usize]));
            expected.push(vec![number; random.below(126) as usize]);
            bytes.extend(masked(PING, &expected[expected.len() - 1]));
            bytes.extend(masked(0x80, b""));
        }
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let most = [1, 20, 5000, 40_000][random.below(4) as usize];
            let (piece, after) = rest.split_at((1 + random.below(most) as usize).min(rest.len()));
            raw.send(piece).await;
            // At times what follows comes when this has been read.
            if random.once_in(4) {
                raw.until_taken().await;
            }
            rest = after;
        }
        for payload in expected {
            let mut frame = raw.frame().await;
            // A heartbeat may come at any moment, and a Ping behind it.
            while matches!(frame, Some((TEXT | PING, _))) {
                frame = raw.frame().await;
            }
            assert_eq!(frame, Some((0x8a, payload)));
        }
    }
}
