//! The contract of `POST /notify`: what is taken, what is refused and how, and what posters are told.

use std::{ffi::OsString, io::ErrorKind, time::Duration};

use futures_util::{StreamExt, stream};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::{
    net::TcpStream,
    task::yield_now,
    time::{advance, pause, resume},
};
use video_notifier::{
    app::App,
    config::{CommandLine, Listen},
    server::Listener,
};

use crate::support::{Answer, Server, Socket, Witness, post_body, raw::Raw, server::AUTHORIZED};

const MAX_BODY: usize = 64 * 1024;

/// Posts each body with the token, and checks status, title and pointers, and that nothing changed.
async fn refused(
    server: &Server,
    cases: impl IntoIterator<Item = (Vec<u8>, u16, &'static str, &'static [&'static str])>,
) {
    let witness = Witness::of(server).await;
    for (body, status, title, pointers) in cases {
        let shown = String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned();
        let answer = server.post_with(&[AUTHORIZED], body).await;
        assert_eq!(answer.problem(status), title, "{shown}");
        assert_eq!(answer.pointers(), pointers, "{shown}");
        witness.nothing_changed(&shown).await;
    }
    witness.nothing_happened().await;
}

/// A post of one video of which something is not as usual.
fn video(field: &str, value: Value) -> String {
    let mut video = json!({"id": 1, "title": "t"});
    video[field] = value;
    json!({"videos": [video]}).to_string()
}

#[tokio::test]
async fn what_does_not_parse_is_400_and_changes_nothing() {
    let server = Server::start(&[]).await;
    let deep = |open: &str, close: &str| {
        format!(r#"{{"videos":[{{"id":1,"title":"t","x":{}1{}}}]}}"#, open.repeat(5000), close.repeat(5000))
    };
    let bodies: [Vec<u8>; 16] = [
        b"".into(),
        b" ".into(),
        b"{".into(),
        b"region=US".into(),
        br#"{"region":"US",}"#.into(),
        br#"{'region':'US'}"#.into(),
        br#"{"videos":[]} x"#.into(),
        br#"{"videos":[]}{"videos":[]}"#.into(),
        br#"{"count":NaN}"#.into(),
        br#"{"count":037}"#.into(),
        "\u{feff}{}".into(),
        b"{\"region\":\"U\0S\"}".into(),
        b"{\"videos\":[{\"id\":1,\"title\":\"\xff\xfe\"}]}".into(),
        br#"{"videos":[{"id":1,"title":"\ud800"}]}"#.into(),
        deep("[", "]").into(),
        deep(r#"{"a":"#, "}").into(),
    ];
    refused(&server, bodies.map(|body| (body, 400, "Invalid JSON", &[] as &[_]))).await;
}

#[tokio::test]
async fn every_wrong_field_is_422_with_its_pointer_and_changes_nothing() {
    let server = Server::start(&[]).await;
    let count = |count: &str| {
        format!(r#"{{"region":"US","count":{count},"videos":[{{"id":1,"title":"t"}},{{"id":2,"title":"t"}}]}}"#)
    };
    let mut cases: Vec<(String, &'static [&'static str])> = vec![
        ("[]".into(), &["#"]),
        ("null".into(), &["#"]),
        ("3".into(), &["#"]),
        (r#""US""#.into(), &["#"]),
        (r#"{"videos":null}"#.into(), &["#/videos"]),
        (r#"{"videos":{}}"#.into(), &["#/videos"]),
        (r#"{"videos":"a1"}"#.into(), &["#/videos"]),
        (r#"{"videos":[null]}"#.into(), &["#/videos/0"]),
        (r#"{"videos":[{"id":1,"title":"t"},"a1"]}"#.into(), &["#/videos/1"]),
        (r#"{"videos":[{"id":1,"title":"t"},{"id":2}]}"#.into(), &["#/videos/1/title"]),
        (r#"{"videos":[{"title":"t"}]}"#.into(), &["#/videos/0/id"]),
        (
            r#"{"region":7,"count":"x","videos":[{}]}"#.into(),
            &["#/region", "#/videos/0/id", "#/videos/0/title", "#/count"],
        ),
        (r#"{"region":"US","region":"GB","videos":[{"id":1,"title":"t"}]}"#.into(), &["#/region"]),
        (r#"{"videos":[{"id":1,"id":2,"title":"t"}]}"#.into(), &["#/videos/0/id"]),
        (r#"{"videos":[{"id":1,"title":"t","a/b":{"~":1,"~":1}}]}"#.into(), &["#/videos/0/a~1b/~0"]),
        (video("title", "x".repeat(9000).into()), &["#/videos"]),
        (video("more", json!({"deep": ["x".repeat(9000)]})), &["#/videos"]),
    ];
    for region in [json!(null), json!(""), json!("U S"), json!("x".repeat(33)), json!("Ü"), json!("<b>"), json!(["US"])]
    {
        cases.push((json!({"region": region, "videos": [{"id": 1, "title": "t"}]}).to_string(), &["#/region"]));
    }
    for value in ["1", "-1", "2.5", "9007199254740992", "18446744073709551616", "1e300", "null", r#""2""#, "true"] {
        cases.push((count(value), &["#/count"]));
    }
    for id in [json!(null), json!(true), json!(["a"]), json!({}), json!("a\0"), json!("a\u{202e}b")] {
        cases.push((video("id", id), &["#/videos/0/id"]));
    }
    let controls = ('\0'..='\x1f').chain('\u{202a}'..='\u{202e}').chain('\u{2066}'..='\u{2069}');
    for title in controls.map(|letter| json!(format!("a{letter}b"))).chain([json!(null), json!(1), json!(["t"])]) {
        cases.push((video("title", title), &["#/videos/0/title"]));
    }
    for url in [
        "javascript:alert(1)",
        "JavaScript:alert(1)",
        " javascript:alert(1)",
        "java\tscript:alert(1)",
        "data:text/html,x",
        "ftp://host/x",
        "mailto:a@b",
        "//host/x",
        r"/\host/x",
        r"\\host/x",
        "/\t/host",
        "https:host",
        "https://",
        "watch/1",
        "?v=1",
        "#top",
        "",
    ] {
        cases.push((video("thumb", url.into()), &["#/videos/0/thumb"]));
        cases.push((video("url", url.into()), &["#/videos/0/url"]));
    }
    for url in [json!(1), json!(["https://host/"]), json!({})] {
        cases.push((video("url", url), &["#/videos/0/url"]));
    }
    let cases = cases.into_iter().map(|(body, pointers)| (body.into_bytes(), 422, "Invalid notification", pointers));
    refused(&server, cases).await;
}

#[tokio::test]
async fn ten_thousand_broken_videos_get_an_answer_that_one_can_read() {
    let server = Server::start(&[]).await;
    let witness = Witness::of(&server).await;
    let answer = server.post_with(&[AUTHORIZED], format!(r#"{{"videos":[{}]}}"#, vec!["{}"; 10_000].join(","))).await;
    answer.problem(422);
    assert!((1..=100).contains(&answer.pointers().len()) && answer.body.len() < MAX_BODY);
    witness.nothing_happened().await;
}

#[tokio::test]
async fn ten_thousand_good_videos_are_too_many_bytes() {
    let server = Server::start(&[]).await;
    let videos: Vec<String> = (0..10_000).map(|id| format!(r#"{{"id":{id},"title":"t"}}"#)).collect();
    let body = format!(r#"{{"videos":[{}]}}"#, videos.join(","));
    refused(&server, [(body.into_bytes(), 413, "Body too large", &[] as &[_])]).await;
}

#[tokio::test]
async fn a_body_of_64_kib_is_taken_and_one_byte_more_is_not() {
    let server = Server::start(&[]).await;
    let padded = |length: usize| {
        let mut body = post_body("US", length);
        body.extend(std::iter::repeat_n(' ', length - body.len()));
        body
    };
    let chunked = |length: usize| {
        let chunks: Vec<_> = padded(length).into_bytes().chunks(1000).map(<[u8]>::to_vec).collect();
        reqwest::Body::wrap_stream(stream::iter(chunks).map(Ok::<_, std::io::Error>))
    };
    assert_eq!(server.publish(padded(MAX_BODY)).await["deduplicated"], false);
    assert_eq!(server.publish(chunked(MAX_BODY)).await["deduplicated"], true);

    let witness = Witness::of(&server).await;
    for length in [MAX_BODY + 1, 2 * MAX_BODY, 16 * MAX_BODY] {
        for (how, body) in [("announced", padded(length).into()), ("chunked", chunked(length))] {
            let answer = server.post_with(&[AUTHORIZED], body).await;
            assert_eq!(answer.problem(413), "Body too large", "{length} {how}");
            witness.nothing_changed(how).await;
        }
    }
    witness.nothing_happened().await;
}

#[tokio::test]
async fn an_announced_body_that_is_too_large_is_refused_before_it_is_sent() {
    let server = Server::start(&[]).await;
    for (expect, length) in [("", MAX_BODY + 1), ("Expect: 100-continue\r\n", 10 * MAX_BODY)] {
        let mut raw = Raw::connect(&server).await;
        let head = format!(
            "POST /notify HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer test-token\r\nContent-Length: {length}\r\n{expect}\r\n"
        );
        raw.send(head.as_bytes()).await;
        let answer = raw.head().await;
        assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    }
}

#[tokio::test]
async fn a_body_that_is_not_there_after_ten_seconds_is_408() {
    // Within this process, whose clock the test moves.
    let flags = ["video-notifier", "--history", "memory", "--token", "test-token"].map(OsString::from);
    let app = App::open(&CommandLine::read(flags).expect("good flags").config, 1000).await.expect("a server");
    let listener = Listener::bind(&Listen::Tcp("127.0.0.1:0".parse().unwrap())).expect("a port");
    let (metrics, shutdown) = (app.hub.metrics.clone(), app.shutdown.clone());
    let mut client = Raw(TcpStream::connect(listener.address().to_string()).await.expect("the server listens"));
    let running = tokio::spawn(app.run(vec![listener]));

    let (name, value) = AUTHORIZED;
    let head = format!("POST /notify HTTP/1.1\r\nHost: a\r\n{name}: {value}\r\nExpect: 100-continue\r\n");
    client.send(format!("{head}Content-Length: 100\r\n\r\n")).await;
    // Said once somebody reads the body: from here on its time runs.
    assert!(client.read_until("\r\n\r\n").await.starts_with("HTTP/1.1 100 "));
    pause();
    advance(Duration::from_millis(9_900)).await;
    // That something comes at times helps nobody.
    client.send(r#"{"region":"#).await;
    for _ in 0..100 {
        yield_now().await;
    }
    assert_eq!(client.0.try_read(&mut [0]).map_err(|error| error.kind()), Err(ErrorKind::WouldBlock));
    advance(Duration::from_millis(200)).await;
    resume();

    let head = client.head().await;
    assert!(head.starts_with("HTTP/1.1 408 ") && head.contains("application/problem+json"), "{head}");
    let problem: Value = serde_json::from_slice(&client.body(&head).await).expect("JSON");
    assert_eq!((&problem["title"], &problem["status"]), (&json!("Body too slow"), &json!(408)));
    assert!(metrics.to_text().contains("notifier_refused_total{reason=\"too_slow\"} 1\n"));
    drop(client);
    shutdown.start();
    running.await.expect("it ends in good order");
}

#[tokio::test]
async fn a_connection_either_takes_the_next_post_or_says_that_it_closes() {
    let server = Server::start(&[]).await;
    let token = "Authorization: Bearer test-token\r\n";
    let cases = [
        ("/notify", token, post_body("US", 1), 200),
        ("/notify", token, "{".into(), 400),
        ("/notify", token, "[]".into(), 422),
        ("/notify", "", post_body("US", 1), 401),
        ("/notify", "", " ".repeat(MAX_BODY), 401),
        ("/notify", "", " ".repeat(100 * MAX_BODY), 401),
        ("/notify", token, " ".repeat(MAX_BODY + 1), 413),
        ("/notify", token, " ".repeat(100 * MAX_BODY), 413),
        ("/events", token, post_body("US", 1), 405),
        ("/nothing", token, post_body("US", 1), 404),
    ];
    for (path, headers, body, status) in cases {
        let length = body.len();
        let announced = (format!("Content-Length: {length}"), body.clone());
        let chunked = ("Transfer-Encoding: chunked".to_owned(), format!("{length:x}\r\n{body}\r\n0\r\n\r\n"));
        for (how, sent) in [announced, chunked] {
            let mut raw = Raw::connect(&server).await;
            let head = format!("POST {path} HTTP/1.1\r\nHost: x\r\n{headers}{how}\r\n\r\n");
            raw.send(head.as_bytes()).await;
            // Where the answer comes before all is sent, the connection may end too.
            let sent = raw.try_send(sent.as_bytes()).await;
            let answer = raw.head().await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{path} {how}: {answer}");
            let closes = answer.to_ascii_lowercase().contains("connection: close\r\n");
            assert_eq!(closes, length > 16 * MAX_BODY, "{path} {how}: {answer}");
            if closes {
                continue;
            }
            sent.unwrap();
            raw.body(&answer).await;
            let next = format!("POST /notify HTTP/1.1\r\nHost: x\r\n{token}Content-Length: 2\r\n\r\n{{}}");
            raw.send(next.as_bytes()).await;
            let answer = raw.head().await;
            assert!(answer.starts_with("HTTP/1.1 200 "), "{path} {how}: {answer}");
        }
    }
}

#[tokio::test]
async fn only_a_token_of_the_server_may_post() {
    let server = Server::start(&["--token", "second,third"]).await;
    let witness = Witness::of(&server).await;
    let wrong = [
        None,
        Some(""),
        Some("Bearer"),
        Some("Bearer "),
        Some("Bearer wrong"),
        Some("Bearer test-toke"),
        Some("Bearer test-token2"),
        Some("Bearer TEST-TOKEN"),
        Some("Bearer second,third"),
        Some("Basic test-token"),
        Some("test-token"),
    ];
    for token in wrong {
        let headers: Vec<_> = token.map(|token| ("authorization", token)).into_iter().collect();
        let answer = server.post_with(&headers, post_body("US", 1)).await;
        assert_eq!(answer.problem(401), "Token required", "{token:?}");
        assert_eq!(answer.header("www-authenticate"), "Bearer");
        witness.nothing_changed(token.unwrap_or("no token")).await;
    }
    witness.nothing_happened().await;

    for token in ["Bearer test-token", "Bearer second", "bearer third"] {
        let answer = server.post_with(&[("authorization", token)], post_body("US", token.replace(' ', "-"))).await;
        assert_eq!((answer.status, &answer.json()["deduplicated"]), (200, &json!(false)), "{token}");
    }
}

#[tokio::test]
async fn a_region_outside_the_allow_list_is_422() {
    let server = Server::start(&["--regions", "US,GB"]).await;
    let absent = r#"{"videos":[{"id":1,"title":"t"}]}"#.to_owned();
    let cases = [post_body("UK", 1), post_body("us", 1), post_body("unknown", 1), absent];
    let cases = cases.map(|body| (body.into_bytes(), 422, "Invalid notification", &["#/region"] as &[_]));
    refused(&server, cases).await;
    for region in ["US", "GB"] {
        assert_eq!(server.publish(post_body(region, 1)).await["region"], region);
    }
}

#[tokio::test]
async fn the_receipt_says_what_was_published() {
    let server = Server::start(&[]).await;
    let (mut client, hello) = Socket::open(&server, "?regions=US").await;
    let videos: Vec<Value> = (1..=7).map(|id| json!({"id": id, "title": format!("Video {id}"), "views": 9})).collect();
    let receipt = server.publish(json!({"region": "US", "count": 37, "videos": videos}).to_string()).await;

    let fields: Vec<&str> = receipt.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(fields, ["id", "region", "count", "timestamp", "deduplicated", "subscribers"]);
    let epoch = hello["position"].as_str().unwrap().split('-').next().unwrap();
    assert_eq!(receipt["id"], format!("{epoch}-1"));
    assert_eq!((&receipt["region"], &receipt["count"]), (&json!("US"), &json!(37)));
    assert_eq!((&receipt["deduplicated"], &receipt["subscribers"]), (&json!(false), &json!(1)));
    let timestamp = receipt["timestamp"].as_str().unwrap();
    let parsed = time::OffsetDateTime::parse(timestamp, &time::format_description::well_known::Rfc3339).unwrap();
    assert!(timestamp.ends_with('Z') && (time::OffsetDateTime::now_utc() - parsed).abs() < time::Duration::MINUTE);

    let published = client.publication().await;
    let fields: Vec<&str> = published.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(fields, ["type", "id", "region", "count", "videos", "timestamp"]);
    for field in ["id", "region", "count", "timestamp"] {
        assert_eq!(published[field], receipt[field]);
    }
    assert_eq!(published["videos"], json!(&videos[..5]));
}

#[tokio::test]
async fn what_is_unusual_but_right_is_published_as_it_was_posted() {
    let server = Server::start(&[]).await;
    let (mut client, _) = Socket::open(&server, "").await;
    let videos = [
        json!({"id": "a-1", "title": "", "thumb": "https://host/t.jpg", "url": "/watch/a1"}),
        json!({"id": 1.5, "title": "<b>&amp;\" \u{2028}\u{1f600}", "url": "HTTP://host:8080/p?q#f"}),
        json!({"id": -7, "title": "\u{200f}\u{5e9}\u{5dc}\u{5d5}\u{5dd}\u{200e}", "url": "/"}),
        json!({"id": "b", "title": "t", "more": {"nested": [null, true, {"": []}]}}),
    ];
    for (id, video) in videos.into_iter().enumerate() {
        let receipt = server.publish(json!({"region": format!("r_{id}-"), "videos": [video]}).to_string()).await;
        let published = client.publication().await;
        assert_eq!((&published["id"], &published["videos"]), (&receipt["id"], &json!([video])));
    }
    for (body, region, count) in [
        (r#"{"videos":[{"id":1,"title":"t"}]}"#, "unknown", 1_u64),
        (r#"{"region":"max","count":9007199254740991,"videos":[{"id":1,"title":"t"}]}"#, "max", 9_007_199_254_740_991),
        (r#"{"region":"two","videos":[{"id":1,"title":"t"},{"id":2,"title":"t"}]}"#, "two", 2),
    ] {
        let receipt = server.publish(body).await;
        assert_eq!((&receipt["region"], &receipt["count"]), (&json!(region), &json!(count)), "{body}");
        let published = client.publication().await;
        assert_eq!((&published["region"], &published["count"]), (&json!(region), &json!(count)), "{body}");
    }
}

#[tokio::test]
async fn a_post_without_videos_has_no_id_and_disturbs_nobody() {
    let server = Server::start(&[]).await;
    let witness = Witness::of(&server).await;
    for (body, region, count) in [
        ("{}", "unknown", 0),
        (r#"{"region":"US"}"#, "US", 0),
        (r#"{"region":"US","videos":[]}"#, "US", 0),
        (r#"{"region":"US","count":3,"videos":[]}"#, "US", 3),
    ] {
        let receipt = server.publish(body).await;
        assert!(receipt.as_object().unwrap().contains_key("id") && receipt["id"].is_null(), "{body}: {receipt}");
        assert_eq!((&receipt["region"], &receipt["count"]), (&json!(region), &json!(count)), "{body}");
        assert_eq!((&receipt["deduplicated"], &receipt["subscribers"]), (&json!(false), &json!(1)), "{body}");
        assert!(receipt["timestamp"].is_string(), "{body}");
        witness.nothing_changed(body).await;
    }
    witness.nothing_happened().await;
}

#[tokio::test]
async fn any_content_type_is_taken() {
    let server = Server::start(&[]).await;
    let types = ["", "application/json", "text/plain;charset=utf-8", "application/x-www-form-urlencoded", "nonsense"];
    for (id, content_type) in types.into_iter().enumerate() {
        let mut headers = vec![AUTHORIZED];
        headers.extend((!content_type.is_empty()).then_some(("content-type", content_type)));
        let answer = server.post_with(&headers, post_body("US", id)).await;
        assert_eq!((answer.status, answer.header("content-type").as_str()), (200, "application/json"));
        assert_eq!(answer.json()["deduplicated"], false, "{content_type}");
    }
}

#[tokio::test]
async fn subscribers_are_the_clients_that_asked_for_the_region() {
    let server = Server::start(&[]).await;
    assert_eq!(server.publish(post_body("US", 0)).await["subscribers"], 0);
    let (all, _) = Socket::open(&server, "").await;
    let (_us, _) = Socket::open(&server, "?regions=US").await;
    let (_both, _) = Socket::open(&server, "?regions=US,GB").await;
    let (_us_again, _) = Socket::open(&server, "?regions=US,US").await;
    for (region, subscribers) in [("US", 4), ("GB", 2), ("JP", 1)] {
        assert_eq!(server.publish(post_body(region, 1)).await["subscribers"], subscribers, "{region}");
    }
    drop(all);
    server.until_metric(r#"notifier_connections{transport="websocket"}"#, |connections| connections == 3.0).await;
    for (region, subscribers) in [("US", 3), ("GB", 1), ("JP", 0)] {
        assert_eq!(server.publish(post_body(region, 2)).await["subscribers"], subscribers, "{region}");
    }
}

#[tokio::test]
async fn origins_do_not_apply_where_the_token_does() {
    let server = Server::start(&["--allowed-origins", "https://site.example"]).await;
    let headers = [AUTHORIZED, ("origin", "https://other.example"), ("sec-fetch-site", "cross-site")];
    assert_eq!(server.post_with(&headers, post_body("US", 1)).await.status, 200);
}

#[tokio::test]
async fn anonymous_posts_are_taken_where_allowed_but_from_no_page() {
    let server = Server::start(&["--allow-anonymous-notify"]).await;
    assert_eq!(server.post_with(&[], post_body("US", 1)).await.status, 200);
    assert_eq!(server.post_with(&[AUTHORIZED], post_body("US", 2)).await.status, 200);
    let page = [AUTHORIZED, ("origin", "https://site.example"), ("sec-fetch-site", "same-origin")];
    assert_eq!(server.post_with(&page, post_body("US", 3)).await.status, 200);

    let witness = Witness::of(&server).await;
    let cases: [(&[(&str, &str)], u16); 7] = [
        (&[("origin", "https://site.example")], 403),
        (&[("origin", "null")], 403),
        (&[("sec-fetch-site", "same-origin")], 403),
        (&[("sec-fetch-site", "none")], 403),
        (&[("authorization", "Bearer wrong")], 401),
        (&[("authorization", "")], 401),
        (&[("authorization", "Bearer wrong"), ("origin", "https://site.example")], 401),
    ];
    for (headers, status) in cases {
        server.post_with(headers, post_body("US", 4)).await.problem(status);
        witness.nothing_changed(&format!("{headers:?}")).await;
    }
    witness.nothing_happened().await;
}

#[tokio::test]
async fn only_a_post_notifies() {
    let server = Server::start(&[]).await;
    let witness = Witness::of(&server).await;
    for method in [Method::GET, Method::HEAD, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS] {
        let request = server.request(method.clone(), "/notify").bearer_auth("test-token").body(post_body("US", 1));
        let answer = Answer::of(request.send().await.unwrap()).await;
        assert_eq!((answer.status, answer.header("allow").as_str()), (405, "POST"), "{method}");
    }
    witness.nothing_happened().await;
}
