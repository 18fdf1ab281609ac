//! Server-sent events: the form of the stream, who may read it, and that it says what a WebSocket says.

use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::support::{EventStream, Server, Socket, client::Event, post_body, raw::Raw};

/// A request of a page of this origin.
async fn of_page(server: &Server, method: Method, path: &str, origin: &str) -> Response {
    let preflight = method == Method::OPTIONS;
    let mut request = server.request(method, path).header("origin", origin);
    if preflight {
        request = request.header("access-control-request-method", "GET");
        request = request.header("access-control-request-headers", "last-event-id");
    }
    request.send().await.unwrap()
}

async fn resumed(server: &Server, query: &str, last_event_id: &[u8]) -> (EventStream, Event) {
    let request = server.request(Method::GET, &format!("/events{query}")).header("last-event-id", last_event_id);
    let mut events = EventStream::read(request.send().await.unwrap());
    let hello = events.event().await.unwrap();
    assert_eq!(hello.data["type"], "hello");
    (events, hello)
}

#[tokio::test]
async fn the_headers_keep_everybody_from_storing_or_holding_back_the_stream() {
    let server = Server::start(&[]).await;
    let response = server.get("/events").await;
    assert_eq!(response.status(), 200);
    for (name, value) in
        [("content-type", "text/event-stream"), ("cache-control", "no-store"), ("x-accel-buffering", "no")]
    {
        assert_eq!(response.headers()[name], value);
    }
    assert!(!response.headers().contains_key("content-encoding"));
}

#[tokio::test]
async fn every_message_with_a_position_has_it_as_id_and_hello_says_when_to_come_back() {
    let server = Server::start(&["--heartbeat", "150ms", "--reconnect-rate", "1"]).await;
    let mut events = EventStream::connect(&server, "?regions=US").await;
    // `Event` takes `id`, `retry` and `data` alone, so there is no `event` field either.
    let hello = events.event().await.unwrap();
    assert_eq!(hello.data["type"], "hello");
    assert_eq!((hello.data["recovered"].clone(), &hello.data["heartbeat_ms"]), (Value::Null, &json!(150)));
    assert_eq!(hello.data["position"], hello.id.unwrap());
    // A second, and a part of the second over which one client at one a second is spread.
    assert!((1000..=2000).contains(&hello.retry.unwrap()), "{:?}", hello.retry);

    server.publish(post_body("GB", 1)).await;
    let receipt = server.publish(post_body("US", 2)).await;
    let mut seen = Vec::new();
    while seen != ["new_trending", "heartbeat"] {
        let event = events.event().await.unwrap();
        let kind = event.data["type"].as_str().unwrap().to_owned();
        let position = if kind == "heartbeat" { &event.data["position"] } else { &event.data["id"] };
        assert_eq!((position, event.retry), (&json!(event.id.as_deref().unwrap()), None), "{kind}");
        if kind == "new_trending" || !seen.is_empty() {
            assert_eq!(*position, receipt["id"]);
            seen.push(kind);
        }
    }
}

#[tokio::test]
async fn the_last_event_id_wins_over_since() {
    let server = Server::start(&[]).await;
    let (_, hello) = Socket::open(&server, "").await;
    let start = hello["position"].as_str().unwrap().to_owned();
    let mut at = vec![start];
    for id in 1..=3 {
        at.push(server.publish(post_body("US", id)).await["id"].as_str().unwrap().to_owned());
    }
    let since = format!("?since={}", at[0]);
    let cases: [(&str, &[u8], Value, &str, &str); 7] = [
        (&since, at[2].as_bytes(), json!(true), &at[2], "3"),
        ("", at[1].as_bytes(), json!(true), &at[1], "2"),
        ("?since=junk", at[0].as_bytes(), json!(true), &at[0], "1"),
        (&since, b"", json!(true), &at[0], "1"),
        (&since, b"junk", json!(false), &at[3], "next"),
        (&since, b"\xff\xfe", json!(false), &at[3], "next"),
        ("", b"", Value::Null, &at[3], "next"),
    ];
    let mut streams = Vec::new();
    for (query, last_event_id, recovered, position, first) in cases {
        let (events, hello) = resumed(&server, query, last_event_id).await;
        let what = format!("{query} {last_event_id:?}");
        assert_eq!((&hello.data["recovered"], &hello.data["position"]), (&recovered, &json!(position)), "{what}");
        streams.push((events, first, what));
    }
    server.publish(post_body("US", "next")).await;
    for (mut events, first, what) in streams {
        assert_eq!(events.publication().await["videos"][0]["id"], first, "{what}");
    }
}

#[tokio::test]
async fn pages_of_other_origins_may_read_without_credentials() {
    let server = Server::start(&["--allowed-origins", "https://a.example,https://b.example"]).await;
    for path in ["/events", "/notifications", "/notifier.js", "/notifier.esm.js"] {
        for method in [Method::GET, Method::OPTIONS] {
            let preflight = method == Method::OPTIONS;
            let what = format!("{method} {path}");
            let response = of_page(&server, method, path, "https://b.example").await;
            assert_eq!(response.status(), 200, "{what}");
            let headers = response.headers();
            assert_eq!(headers["access-control-allow-origin"], "https://b.example", "{what}");
            assert!(!headers.contains_key("access-control-allow-credentials"), "{what}");
            let vary =
                headers.get_all("vary").iter().any(|vary| vary.to_str().unwrap().to_lowercase().contains("origin"));
            assert!(vary, "{what}");
            if preflight {
                assert_eq!(headers["access-control-allow-methods"], "GET", "{what}");
                assert_eq!(headers["access-control-allow-headers"], "last-event-id", "{what}");
            }
        }
        let stranger = of_page(&server, Method::OPTIONS, path, "https://c.example").await;
        assert!(!stranger.headers().contains_key("access-control-allow-origin"), "{path}");
        let same_site = server.get(path).await;
        assert_eq!(same_site.status(), 200, "{path}");
        assert!(same_site.headers().contains_key("vary"), "{path}: else a cache mixes the two");
    }
}

#[tokio::test]
async fn an_origin_that_is_not_listed_gets_no_stream() {
    let server = Server::start(&["--allowed-origins", "https://a.example"]).await;
    for origin in ["null", "http://a.example", "https://a.example.evil.net"] {
        let response = of_page(&server, Method::GET, "/events", origin).await;
        assert_eq!(response.status(), 403, "{origin}");
        assert!(!response.headers().contains_key("access-control-allow-origin"), "{origin}");
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        assert_eq!(response.json::<Value>().await.unwrap()["status"], 403);
    }
}

#[tokio::test]
async fn regions_that_cannot_be_read_are_refused_with_400() {
    let server = Server::start(&[]).await;
    for regions in ["U%20S", "US,G/B", "%ff", &"x".repeat(33)] {
        let response = server.get(&format!("/events?regions={regions}")).await;
        assert_eq!(response.status(), 400, "{regions}");
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        let problem: Value = response.json().await.unwrap();
        assert_eq!((&problem["title"], &problem["status"]), (&json!("Invalid regions"), &json!(400)), "{regions}");
    }
    server.until_metric(r#"notifier_connections{transport="sse"}"#, |clients| clients == 0.0).await;
}

#[tokio::test]
async fn both_transports_carry_the_same_bytes() {
    let server = Server::start(&[]).await;
    let (mut socket, _) = Socket::open(&server, "?regions=US").await;
    let mut response = server.get("/events?regions=US").await;
    let mut stream = Vec::new();
    let odd = json!({"id": 7, "title": "\u{fe0f}\u{2028}\"</script>\\ \u{1f600}", "z": {"b": [1, null], "a": 1e2}});
    server.publish(json!({"region": "US", "videos": [odd]}).to_string()).await;
    server.publish(post_body("US", 2)).await;
    for _ in 0..2 {
        let text = socket.frame().await.into_text().unwrap();
        assert!(text.contains("new_trending"), "{text}");
        let id = serde_json::from_str::<Value>(&text).unwrap()["id"].as_str().unwrap().to_owned();
        let event = format!("id: {id}\ndata: {text}\n\n");
        while !stream.windows(event.len()).any(|window| window == event.as_bytes()) {
            let chunk = tokio::time::timeout(crate::support::server::PATIENCE, response.chunk()).await;
            stream.extend(chunk.expect("the same event in time").unwrap().expect("the stream goes on"));
        }
    }
}

#[tokio::test]
async fn a_method_that_no_route_takes_is_told_which_do() {
    let server = Server::start(&[]).await;
    for (method, path) in [(Method::POST, "/events"), (Method::DELETE, "/notifier.js"), (Method::POST, "/ws")] {
        let response = server.request(method, path).send().await.unwrap();
        assert_eq!(response.status(), 405, "{path}");
        assert!(response.headers()["allow"].to_str().unwrap().contains("GET"), "{path}");
        assert_eq!(response.headers()["content-type"], "application/problem+json", "{path}");
    }
}

#[tokio::test]
async fn a_proxy_that_speaks_http_1_0_gets_the_stream_without_chunks() {
    let server = Server::start(&[]).await;
    let mut raw = Raw::connect(&server).await;
    raw.send("GET /events HTTP/1.0\r\nHost: x\r\n\r\n").await;
    let head = raw.head().await.to_ascii_lowercase();
    assert!(head.contains(" 200 ") && !head.contains("transfer-encoding"), "{head}");
    // An event ends with an empty line; chunks would end their lines with more than that.
    let hello = raw.read_until("\n\n").await;
    assert!(hello.starts_with("id: ") && hello.contains("\ndata: {\"type\":\"hello\","), "{hello}");
}
