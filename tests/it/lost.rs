//! A position that is lost in mid-stream: retention overtakes a client that does not read, and it alone is told.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::timeout;

use crate::support::{
    EventStream, Server, Socket,
    frames::{CLOSE, PING, TEXT},
    raw::Raw,
    server::PATIENCE,
};

/// In publications that are nearly as long as they may be, more than the kernels hold for a client at both ends; and
/// more than the server's broadcast holds, from which a client that is late could still read what is trimmed.
const POSTED: usize = 1024 + 200;

/// Keeps so little that whoever stalls is overtaken, and lets nobody be dropped for not reading.
const FLAGS: [&str; 8] =
    ["--history", "memory", "--history-max-count", "20", "--heartbeat", "60s", "--post-rate-per-ip", "10000"];

fn long_post(region: &str, id: usize) -> String {
    json!({"region": region, "videos": [{"id": id, "title": "x".repeat(7900)}]}).to_string()
}

/// Posts until whoever reads nothing has been overtaken; answers the last id.
async fn overtake(server: &Server) -> Value {
    let mut last = Value::Null;
    for id in 0..POSTED {
        last = server.publish(long_post("US", id)).await["id"].clone();
    }
    last
}

/// Checks that the videos are the first of those that were posted, some but not all.
fn assert_prefix(videos: &[u64]) {
    assert!(videos.iter().copied().eq(0..videos.len() as u64), "{videos:?}");
    assert!(videos.len() < POSTED - 20, "{} came", videos.len());
}

#[tokio::test]
async fn a_websocket_is_closed_with_4000_and_comes_back_to_a_gap() {
    let server = Server::start(&FLAGS).await;
    let (mut reading, _) = Socket::open(&server, "").await;
    let (mut of_other_region, _) = Socket::open(&server, "?regions=GB").await;
    let mut stalled = Raw::connect(&server).await;
    stalled.shake_hands("?regions=US").await;
    let read_all = async {
        for id in 0..POSTED {
            assert_eq!(reading.publication().await["videos"][0]["id"], id);
        }
    };
    let (last, ()) = tokio::join!(overtake(&server), read_all);

    let (mut videos, mut position) = (Vec::new(), String::new());
    let (code, reason) = loop {
        let (first, payload) = stalled.frame().await.expect("a close frame comes before the end");
        if first == CLOSE {
            break (u16::from_be_bytes([payload[0], payload[1]]), String::from_utf8(payload[2..].into()).unwrap());
        }
        // The first heartbeat comes at a random moment.
        if first == PING {
            continue;
        }
        assert_eq!(first, TEXT);
        let message: Value = serde_json::from_slice(&payload).unwrap();
        if message["type"] == "new_trending" {
            videos.push(message["videos"][0]["id"].as_u64().unwrap());
            position = message["id"].as_str().unwrap().to_owned();
        }
    };
    assert_eq!((code, reason.as_str()), (4000, "the position is lost"));
    assert_prefix(&videos);
    assert_eq!(server.metric(r#"notifier_disconnected_total{code="4000"}"#).await, 1.0);

    let (_back, hello) = Socket::open(&server, &format!("?regions=US&since={position}")).await;
    assert_eq!((&hello["recovered"], &hello["position"]), (&json!(false), &last));
    // Nobody else lost anything: not who had read it all, nor who had asked for none of it.
    let receipt = server.publish(long_post("GB", POSTED)).await;
    assert_eq!(reading.publication().await["id"], receipt["id"]);
    assert_eq!(of_other_region.publication().await["id"], receipt["id"]);
}

#[tokio::test]
async fn an_event_stream_just_ends_and_comes_back_to_a_gap() {
    let server = Server::start(&FLAGS).await;
    let mut stalled = Raw::connect(&server).await;
    stalled.send("GET /events HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    let head = stalled.head().await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    let last = overtake(&server).await;

    // Ended in good order, so that an `EventSource` comes back as after any end.
    let body = stalled.read_to_end().await;
    assert!(body.ends_with("\r\n0\r\n\r\n"), "the last chunk is there");
    let publications: Vec<Value> = body
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .map(|data| serde_json::from_str(data).expect("each event is whole"))
        .filter(|message: &Value| message["type"] == "new_trending")
        .collect();
    let videos: Vec<u64> = publications.iter().map(|it| it["videos"][0]["id"].as_u64().unwrap()).collect();
    assert_prefix(&videos);
    assert!(!body.contains("4000"), "no word that an EventSource would take for a message");

    let id = publications.last().expect("some came")["id"].as_str().unwrap();
    let request = server.request(reqwest::Method::GET, "/events").header("last-event-id", id);
    let hello = EventStream::read(request.send().await.unwrap()).event().await.unwrap();
    assert_eq!((&hello.data["recovered"], &hello.data["position"]), (&json!(false), &last));
}

#[tokio::test]
async fn who_is_up_to_date_loses_nothing_when_all_of_it_is_trimmed() {
    let server = Server::start(&["--history-max-age", "300ms", "--heartbeat", "60s"]).await;
    let (mut socket, _) = Socket::open(&server, "").await;
    let mut events = EventStream::connect(&server, "").await;
    let first = server.publish(long_post("US", 1)).await;
    assert_eq!(socket.publication().await["id"], first["id"]);
    assert_eq!(events.publication().await["id"], first["id"]);
    let emptied = async {
        while server.notifications("").await["notifications"] != json!([]) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, emptied).await.expect("all of it is trimmed");
    let next = server.publish(long_post("US", 2)).await;
    assert_eq!(socket.publication().await["id"], next["id"]);
    assert_eq!(events.publication().await["id"], next["id"]);
    // The position before it is still proven: what was trimmed had been sent.
    let query = format!("?since={}", first["id"].as_str().unwrap());
    let (mut back, hello) = Socket::open(&server, &query).await;
    assert_eq!(hello["recovered"], true);
    assert_eq!(back.publication().await["id"], next["id"]);
}
