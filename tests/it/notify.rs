//! `POST /notify`: what is refused, how it is told, and that it changes nothing.

use reqwest::{Body, Method, Response};
use serde_json::{Value, json};

use crate::support::{Server, Setup, Socket, post_body, server::TOKEN};

/// Posts a body with the token and more headers.
async fn post(server: &Server, body: impl Into<Body>, headers: &[(&str, &str)]) -> Response {
    let mut request = server.request(Method::POST, "/notify").bearer_auth(TOKEN).body(body);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.send().await.expect("the server answers")
}

/// Checks that an answer is problem details, and gives them.
async fn problem(response: Response, status: u16) -> Value {
    assert_eq!(response.status(), status);
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    let problem: Value = response.json().await.expect("JSON");
    assert_eq!(problem["status"], status);
    assert!(problem["title"].is_string() && problem["detail"].is_string(), "{problem}");
    problem
}

fn with_title(title: &str) -> Vec<u8> {
    json!({"videos": [{"id": 1, "title": title}]}).to_string().into_bytes()
}

fn with_url(url: &str) -> Vec<u8> {
    json!({"videos": [{"id": 1, "title": "t", "url": url}]}).to_string().into_bytes()
}

fn with_count(count: &str) -> Vec<u8> {
    format!(r#"{{"count":{count},"videos":[{{"id":1,"title":"t"}},{{"id":2,"title":"t"}}]}}"#).into_bytes()
}

#[tokio::test]
async fn what_is_no_notification_is_told_with_its_pointers_and_changes_nothing() {
    let server = Server::start(&["--regions", "US,GB,unknown"]).await;
    let (mut socket, _) = Socket::open(&server, "").await;
    let list = |video: &str, times: usize| format!(r#"{{"videos":[{}]}}"#, vec![video; times].join(",")).into_bytes();
    let unparsable: [Vec<u8>; 8] = [
        b"".into(),
        b"{".into(),
        b"{'region':'US'}".into(),
        b"{\"region\":\"US\"}}".into(),
        b"{\"region\":\"U\0S\"}".into(),
        b"{\"region\":\"\xff\"}".into(),
        format!("{{\"x\":{}{}}}", "[".repeat(5000), "]".repeat(5000)).into(),
        b"\xef\xbb\xbf{}".into(),
    ];
    for body in unparsable {
        let told = problem(post(&server, body, &[]).await, 400).await;
        assert_eq!(told["title"], "Invalid JSON");
        assert_eq!(told["errors"], Value::Null);
    }
    let wrong: [(Vec<u8>, &str); 22] = [
        (b"[]".into(), "#"),
        (b"\"US\"".into(), "#"),
        (br#"{"region":"FR"}"#.into(), "#/region"),
        (br#"{"region":"U S"}"#.into(), "#/region"),
        (br#"{"region":7}"#.into(), "#/region"),
        (br#"{"region":"US","region":"GB"}"#.into(), "#/region"),
        (br#"{"videos":null}"#.into(), "#/videos"),
        (br#"{"videos":{"0":{}}}"#.into(), "#/videos"),
        (list("1", 10_000), "#/videos/0"),
        (br#"{"videos":[{"title":"t"}]}"#.into(), "#/videos/0/id"),
        (br#"{"videos":[{"id":1,"title":"t"},{"id":[1],"title":"t"}]}"#.into(), "#/videos/1/id"),
        (with_count("1"), "#/count"),
        (with_count("-3"), "#/count"),
        (with_count("2.5"), "#/count"),
        (with_count("9007199254740992"), "#/count"),
        (with_title("a\u{0}b"), "#/videos/0/title"),
        (with_title("a\u{1b}b"), "#/videos/0/title"),
        (with_title("a\u{202e}b"), "#/videos/0/title"),
        (with_title("a\u{2069}b"), "#/videos/0/title"),
        (with_url("javascript:alert(1)"), "#/videos/0/url"),
        (with_url("//host/path"), "#/videos/0/url"),
        (with_title(&"x".repeat(9000)), "#/videos"),
    ];
    for (body, pointer) in wrong {
        let shown = String::from_utf8_lossy(&body[..body.len().min(80)]).into_owned();
        let told = problem(post(&server, body, &[]).await, 422).await;
        assert_eq!(told["errors"][0]["pointer"], pointer, "{shown}: {told}");
        assert!(told["errors"][0]["detail"].is_string());
    }

    // Had any of them been published, it would come first.
    assert_eq!(server.get("/notifications").await.json::<Value>().await.unwrap()["notifications"], json!([]));
    let receipt = server.publish(post_body("US", "good")).await;
    assert!(receipt["id"].as_str().unwrap().ends_with("-1"), "{receipt}");
    assert_eq!(socket.publication().await["id"], receipt["id"]);
}

#[tokio::test]
async fn a_body_over_64_kib_is_refused_announced_or_not() {
    let server = Server::start(&[]).await;
    let padded = |length: usize| {
        let body = post_body("US", 1);
        format!("{}{body}", " ".repeat(length - body.len()))
    };
    problem(post(&server, padded(64 * 1024 + 1), &[]).await, 413).await;
    let chunks = padded(64 * 1024 + 1).into_bytes();
    let chunks: Vec<Result<Vec<u8>, std::io::Error>> = chunks.chunks(10_000).map(|chunk| Ok(chunk.to_vec())).collect();
    problem(post(&server, Body::wrap_stream(futures_util::stream::iter(chunks)), &[]).await, 413).await;
    assert_eq!(post(&server, padded(64 * 1024), &[]).await.status(), 200);
}

#[tokio::test]
async fn only_a_token_opens_the_door() {
    let server = Setup::new(&[]).no_token().variable("NOTIFIER_TOKEN", "one,two").start().await;
    for header in [None, Some("Bearer three"), Some("Bearer"), Some("Basic one"), Some("Bearer one,two"), Some("one")] {
        let mut request = server.request(Method::POST, "/notify").body(post_body("US", 1));
        if let Some(header) = header {
            request = request.header("authorization", header);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.headers()["www-authenticate"], "Bearer", "{header:?}");
        problem(response, 401).await;
    }
    for token in ["one", "two"] {
        let request = server.request(Method::POST, "/notify").bearer_auth(token).body(post_body("US", token));
        assert_eq!(request.send().await.unwrap().status(), 200);
    }
}

#[tokio::test]
async fn a_receipt_says_what_was_published_whatever_the_content_type() {
    let server = Server::start(&[]).await;
    let (_all, _) = Socket::open(&server, "").await;
    let (_other, _) = Socket::open(&server, "?regions=GB").await;
    let videos: Vec<Value> = (0..9).map(|id| json!({"id": id, "title": "t"})).collect();
    for (content_type, count, expected) in
        [("text/plain", None, 9), ("application/x-www-form-urlencoded", Some(37), 37)]
    {
        let mut body = json!({"region": "US", "videos": videos});
        if let Some(count) = count {
            body["count"] = json!(count);
            body["videos"][0]["id"] = json!("other");
        }
        let response = post(&server, body.to_string(), &[("content-type", content_type)]).await;
        let receipt: Value = response.json().await.unwrap();
        assert_eq!(receipt["count"], expected, "{receipt}");
        assert_eq!((&receipt["region"], &receipt["deduplicated"]), (&json!("US"), &json!(false)));
        assert_eq!(receipt["subscribers"], 1);
        assert!(receipt["timestamp"].as_str().unwrap().ends_with('Z'));
    }
}

#[tokio::test]
async fn a_post_without_videos_disturbs_nobody() {
    let server = Server::start(&[]).await;
    let (mut socket, _) = Socket::open(&server, "").await;
    for body in ["{}", r#"{"region":"US","videos":[]}"#, r#"{"count":3}"#] {
        let receipt = server.publish(body).await;
        assert_eq!(receipt["id"], Value::Null, "{body}");
    }
    let first = server.publish(post_body("US", 1)).await;
    assert_eq!(socket.publication().await["id"], first["id"]);
    assert!(first["id"].as_str().unwrap().ends_with("-1"));
}

#[tokio::test]
async fn anonymous_posts_are_taken_where_it_is_said_but_not_from_browsers() {
    let server = Setup::new(&["--allow-anonymous-notify"]).start().await;
    let anonymous = |headers: &'static [(&'static str, &'static str)]| {
        let mut request = server.request(Method::POST, "/notify").body(post_body("US", 1));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        async { request.send().await.unwrap() }
    };
    assert_eq!(anonymous(&[]).await.status(), 200);
    problem(anonymous(&[("origin", "https://site.example")]).await, 403).await;
    problem(anonymous(&[("sec-fetch-site", "same-origin")]).await, 403).await;
    problem(anonymous(&[("authorization", "Bearer wrong")]).await, 401).await;
    assert_eq!(post(&server, post_body("US", 2), &[("origin", "https://site.example")]).await.status(), 200);
}
