//! The contract of the other routes: the list, the client's files, the page, health, metrics, and what is not there.

use std::{collections::BTreeSet, io::Read};

use reqwest::{
    Method,
    header::{ACCEPT_ENCODING, AUTHORIZATION, IF_NONE_MATCH, ORIGIN},
};
use serde_json::{Value, json};

use crate::support::{Answer, EventStream, Server, Socket, post_body};

const SITE: &str = "https://site.example";
const OTHER: &str = "https://other.example";

/// Sends a request with these headers and no other.
async fn ask(server: &Server, method: Method, path: &str, headers: &[(&str, &str)]) -> Answer {
    let request = server.request(method, path);
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    Answer::of(request.send().await.expect("the server answers")).await
}

async fn get(server: &Server, path: &str) -> Answer {
    ask(server, Method::GET, path, &[]).await
}

/// The ids of the videos in a list of publications, each of which has one.
fn videos(list: &Value) -> Vec<u64> {
    let notifications = list["notifications"].as_array().expect("a list");
    notifications.iter().map(|it| it["videos"][0]["id"].as_str().unwrap().parse().unwrap()).collect()
}

#[tokio::test]
async fn an_empty_list_has_a_position_to_start_from() {
    let server = Server::start(&[]).await;
    let list = server.notifications("").await;
    assert_eq!(list["notifications"], json!([]));
    let (mut client, hello) = Socket::open(&server, &format!("?since={}", list["position"].as_str().unwrap())).await;
    assert_eq!((&hello["recovered"], &hello["position"]), (&json!(true), &list["position"]));
    let receipt = server.publish(post_body("US", 1)).await;
    assert_eq!(client.publication().await["id"], receipt["id"]);
}

#[tokio::test]
async fn the_list_is_what_clients_got_newest_first() {
    let server = Server::start(&[]).await;
    let (mut client, _) = Socket::open(&server, "").await;
    let mut sent = Vec::new();
    for (id, region) in ["US", "GB", "US", "JP"].into_iter().enumerate() {
        server.publish(post_body(region, id)).await;
        sent.insert(0, client.publication().await);
    }
    let answer = get(&server, "/notifications").await;
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(answer.header("cache-control"), "no-store");
    assert_eq!(answer.json(), json!({"notifications": sent, "position": sent[0]["id"]}));

    for (query, expected) in [
        ("?regions=US", &[2, 0][..]),
        ("?regions=US,GB", &[2, 1, 0]),
        ("?regions=us", &[]),
        ("?regions=FR", &[]),
        ("?regions=", &[3, 2, 1, 0]),
        ("?regions=US&limit=1", &[2]),
        ("?regions=JP%2CGB&limit=1", &[3]),
    ] {
        let list = server.notifications(query).await;
        assert_eq!(videos(&list), expected, "{query}");
        assert_eq!(list["position"], sent[0]["id"], "{query}: the position is the whole log's");
    }
}

#[tokio::test]
async fn a_limit_is_kept_and_one_that_makes_no_sense_is_none() {
    let server = Server::start(&["--history", "memory"]).await;
    for id in 0..105 {
        server.publish(post_body("US", id)).await;
    }
    let newest = |count: usize| (0..105_u64).rev().take(count).collect::<Vec<_>>();
    for (query, count) in [
        ("", 20),
        ("?limit=", 20),
        ("?limit=x", 20),
        ("?limit=-1", 20),
        ("?limit=0", 1),
        ("?limit=1", 1),
        ("?limit=99", 99),
        ("?limit=100", 100),
        ("?limit=101", 100),
        ("?limit=4294967296", 100),
    ] {
        assert_eq!(videos(&server.notifications(query).await), newest(count), "{query}");
    }
}

#[tokio::test]
async fn before_pages_through_the_whole_log_with_nothing_missed_or_doubled() {
    let server = Server::start(&["--history", "memory"]).await;
    for id in 0..50 {
        server.publish(post_body(if id % 3 == 0 { "GB" } else { "US" }, id)).await;
    }
    for (regions, expected) in
        [("", (0..50).rev().collect::<Vec<u64>>()), ("US", (0..50).rev().filter(|id| id % 3 != 0).collect())]
    {
        let mut seen = Vec::new();
        let mut before = String::new();
        loop {
            let list = server.notifications(&format!("?regions={regions}&limit=7&before={before}")).await;
            let Some(last) = list["notifications"].as_array().unwrap().last() else { break };
            before = last["id"].as_str().unwrap().to_owned();
            seen.extend(videos(&list));
            assert!(seen.len() <= expected.len(), "{regions:?}: {seen:?}");
        }
        assert_eq!(seen, expected, "{regions:?}");
    }
}

#[tokio::test]
async fn a_before_that_can_not_be_read_is_ignored() {
    let server = Server::start(&[]).await;
    for id in 0..3 {
        server.publish(post_body("US", id)).await;
    }
    let list = server.notifications("").await;
    let epoch = list["position"].as_str().unwrap().split('-').next().unwrap().to_owned();
    for before in ["", "x", "3", "-", "%ff", "%00", "aaaaaaaa-1", &format!("{epoch}-01"), &format!("{epoch}-")] {
        assert_eq!(server.notifications(&format!("?before={before}")).await, list, "{before:?}");
    }
    assert_eq!(server.notifications(&format!("?before={epoch}-9000")).await, list);
    assert_eq!(videos(&server.notifications(&format!("?before={epoch}-2")).await), [0]);
    assert_eq!(videos(&server.notifications(&format!("?before={epoch}-0")).await), [0_u64; 0]);
}

#[tokio::test]
async fn the_position_of_a_list_is_a_since_with_nothing_missed_or_doubled() {
    let server = Server::start(&[]).await;
    let last = 40;
    let post = async {
        for id in 0..=last {
            server.publish(post_body("US", id)).await;
        }
    };
    let load_pages = async {
        let mut loaded = 0;
        loop {
            let list = server.notifications("?limit=100").await;
            let mut seen: Vec<u64> = videos(&list).into_iter().rev().collect();
            let since = format!("?since={}", list["position"].as_str().unwrap());
            let (mut client, hello) = Socket::open(&server, &since).await;
            assert_eq!(hello["recovered"], true);
            if seen.last() == Some(&last) {
                return loaded;
            }
            while seen.last() != Some(&last) {
                let publication = client.publication().await;
                seen.push(publication["videos"][0]["id"].as_str().unwrap().parse().unwrap());
            }
            assert_eq!(seen, (0..=last).collect::<Vec<_>>());
            loaded += 1;
        }
    };
    let ((), loaded) = tokio::join!(post, load_pages);
    assert!(loaded >= 1, "a page was loaded while posts came in");
}

#[tokio::test]
async fn regions_that_can_not_be_read_are_400() {
    let server = Server::start(&[]).await;
    let many: Vec<String> = (0..65).map(|number| format!("r{number}")).collect();
    for regions in ["U%20S", "US,G%00B", "%ff", "<b>", &"x".repeat(33), &many.join(",")] {
        let answer = get(&server, &format!("/notifications?regions={regions}")).await;
        assert_eq!(answer.problem(400), "Invalid regions", "{regions}");
    }
}

#[tokio::test]
async fn a_list_of_origins_closes_the_feed_to_other_pages() {
    let server = Server::start(&["--allowed-origins", &format!("{SITE},https://second.example")]).await;
    for (path, refused) in [("/notifications", 403), ("/notifier.js", 200), ("/notifier.esm.js", 200)] {
        let allowed = ask(&server, Method::GET, path, &[("origin", SITE)]).await;
        assert_eq!((allowed.status, allowed.header("access-control-allow-origin").as_str()), (200, SITE), "{path}");
        let other = ask(&server, Method::GET, path, &[("origin", OTHER)]).await;
        assert_eq!((other.status, other.header("access-control-allow-origin").as_str()), (refused, ""), "{path}");
        let none = get(&server, path).await;
        assert_eq!((none.status, none.header("access-control-allow-origin").as_str()), (200, ""), "{path}");
        for answer in [allowed, other, none] {
            // A cache that kept the answer to one origin must not give it to another, nor to nobody's.
            let vary = answer.header("vary").to_ascii_lowercase();
            assert!(vary.split(',').any(|name| name.trim() == "origin"), "{path}: {vary}");
            assert_eq!(answer.header("access-control-allow-credentials"), "", "{path}");
        }
    }
    let other = ask(&server, Method::GET, "/notifications", &[("origin", OTHER)]).await;
    assert_eq!(other.problem(403), "Forbidden");
}

#[tokio::test]
async fn without_a_list_every_page_may_read_the_feed() {
    let server = Server::start(&[]).await;
    for path in ["/notifications", "/notifier.js", "/notifier.esm.js", "/notifier.d.ts"] {
        for origin in [OTHER, "null"] {
            let answer = ask(&server, Method::GET, path, &[("origin", origin)]).await;
            let allowed = answer.header("access-control-allow-origin");
            assert!(answer.status == 200 && (allowed == origin || allowed == "*"), "{path}: {answer:?}");
            assert_eq!(answer.header("access-control-allow-credentials"), "", "{path}");
        }
    }
}

#[tokio::test]
async fn what_is_not_the_feed_tells_other_pages_nothing() {
    let server = Server::start(&[]).await;
    for path in ["/", "/metrics", "/healthz", "/readyz", "/nothing"] {
        let answer = ask(&server, Method::GET, path, &[("origin", OTHER)]).await;
        assert_eq!(answer.header("access-control-allow-origin"), "", "{path}");
    }
}

const FILES: [(&str, &str, &str); 4] = [
    ("/notifier.js", "text/javascript; charset=utf-8", "static/notifier.js"),
    ("/notifier.esm.js", "text/javascript; charset=utf-8", "static/notifier.esm.js"),
    ("/notifier.d.ts", "text/plain; charset=utf-8", "static/notifier.d.ts"),
    ("/", "text/html; charset=utf-8", "static/index.html"),
];

#[tokio::test]
async fn the_client_files_come_in_the_encoding_that_is_asked_for() {
    let server = Server::start(&[]).await;
    for (path, content_type, source) in FILES {
        let source = std::fs::read(source).unwrap();
        let mut tags = BTreeSet::new();
        for (accepted, encoding) in [
            (None, ""),
            (Some("identity"), ""),
            (Some("gzip"), "gzip"),
            (Some("gzip, deflate, br, zstd"), "br"),
            (Some("br;q=0, gzip;q=0.1"), "gzip"),
        ] {
            let headers: Vec<_> = accepted.map(|accepted| (ACCEPT_ENCODING.as_str(), accepted)).into_iter().collect();
            let answer = ask(&server, Method::GET, path, &headers).await;
            assert_eq!((answer.status, answer.header("content-encoding").as_str()), (200, encoding), "{path}");
            assert_eq!(answer.header("content-type"), content_type, "{path}");
            assert_eq!(answer.header("content-length"), answer.body.len().to_string(), "{path}");
            assert_eq!(decoded(&answer), source, "{path} {encoding}");
            assert!(encoding.is_empty() || answer.body.len() < source.len(), "{path} {encoding}");
            assert!(answer.header("vary").contains("Accept-Encoding"), "{path}");
            assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
            // Long enough for a visit, short enough for a fix.
            let life = answer.header("cache-control").split("max-age=").nth(1).map(|life| life.parse::<u32>().unwrap());
            assert!(life.is_some_and(|life| (1..=3600).contains(&life)), "{path}");
            tags.insert(answer.header("etag"));
        }
        assert_eq!(tags.len(), 3, "{path}: each encoding has a tag of its own (RFC 9110 §8.8.3.3): {tags:?}");
    }
}

fn decoded(answer: &Answer) -> Vec<u8> {
    let mut content = Vec::new();
    match answer.header("content-encoding").as_str() {
        "gzip" => flate2::read::GzDecoder::new(&answer.body[..]).read_to_end(&mut content).expect("gzip"),
        "br" => brotli::Decompressor::new(&answer.body[..], 4096).read_to_end(&mut content).expect("brotli"),
        "" => answer.body.as_slice().read_to_end(&mut content).expect("memory"),
        other => panic!("{other}"),
    };
    content
}

#[tokio::test]
async fn a_client_file_that_is_known_is_not_sent_again() {
    let server = Server::start(&[]).await;
    for (path, ..) in FILES {
        for encoding in ["identity", "gzip", "br"] {
            let encoding = (ACCEPT_ENCODING.as_str(), encoding);
            let first = ask(&server, Method::GET, path, &[encoding]).await;
            let tag = first.header("etag");
            assert!(tag.len() > 2 && tag.starts_with('"') && tag.ends_with('"'), "{path}: {tag}");
            let known = ask(&server, Method::GET, path, &[encoding, (IF_NONE_MATCH.as_str(), &tag)]).await;
            assert_eq!((known.status, known.body.len()), (304, 0), "{path}");
            for header in ["etag", "cache-control", "vary"] {
                assert_eq!(known.header(header), first.header(header), "{path} (RFC 9110 §15.4.5)");
            }
            let stale = ask(&server, Method::GET, path, &[encoding, (IF_NONE_MATCH.as_str(), "\"stale\"")]).await;
            assert_eq!((stale.status, stale.body), (200, first.body), "{path}");
        }
    }
}

#[tokio::test]
async fn the_page_may_run_what_is_its_own_and_nothing_else() {
    let server = Server::start(&[]).await;
    let answer = get(&server, "/").await;
    let policy = answer.header("content-security-policy");
    let directive = |name: &str| {
        let words =
            policy.split(';').map(str::trim).find_map(|directive| directive.strip_prefix(name)?.strip_prefix(' '));
        words.map(|words| words.split(' ').map(str::to_owned).collect::<Vec<_>>())
    };
    for name in ["default-src", "base-uri", "form-action", "frame-ancestors"] {
        assert_eq!(directive(name), Some(vec!["'none'".to_owned()]), "{name}");
    }
    for name in ["script-src", "style-src"] {
        let sources = directive(name).expect(name);
        assert!(sources.iter().all(|source| source == "'self'" || source.starts_with("'sha256-")), "{sources:?}");
        assert!(sources.iter().any(|source| source.starts_with("'sha256-")), "{sources:?}");
    }
    assert_eq!(directive("require-trusted-types-for"), Some(vec!["'script'".to_owned()]));
    let page = String::from_utf8(answer.body).unwrap();
    assert!(page.contains("notifier.js") && page.contains("/notify"), "it shows how to embed and to post");
}

#[tokio::test]
async fn health_is_told_to_everybody() {
    let server = Server::start(&[]).await;
    for path in ["/healthz", "/readyz"] {
        let answer = get(&server, path).await;
        assert_eq!(answer.status, 200, "{path}");
    }
}

#[tokio::test]
async fn the_metrics_are_for_whoever_has_the_token() {
    let server = Server::start(&[]).await;
    for token in [None, Some("Bearer wrong"), Some("")] {
        let headers: Vec<_> = token.map(|token| (AUTHORIZATION.as_str(), token)).into_iter().collect();
        assert_eq!(ask(&server, Method::GET, "/metrics", &headers).await.problem(401), "Token required", "{token:?}");
    }
    let answer = ask(&server, Method::GET, "/metrics", &[(AUTHORIZATION.as_str(), "Bearer test-token")]).await;
    assert_eq!(answer.status, 200);
    assert!(answer.header("content-type").starts_with("application/openmetrics-text"), "{answer:?}");
    let text = String::from_utf8(answer.body).unwrap();
    assert!(text.ends_with("# EOF\n"), "{text}");
    assert!(!text.contains("test-token"), "{text}");
}

#[tokio::test]
async fn a_metrics_token_of_its_own_opens_the_metrics_alone() {
    let server = Server::start(&["--metrics-token", "scraper"]).await;
    for (token, status) in [("Bearer scraper", 200), ("Bearer test-token", 401)] {
        assert_eq!(ask(&server, Method::GET, "/metrics", &[(AUTHORIZATION.as_str(), token)]).await.status, status);
    }
    server.post_with(&[("authorization", "Bearer scraper")], post_body("US", 1)).await.problem(401);
    server.publish(post_body("US", 1)).await;
}

#[tokio::test]
async fn the_metrics_agree_with_what_happened() {
    let server = Server::start(&["--metrics-token", "test-token", "--allowed-origins", SITE]).await;
    let websockets = r#"notifier_connections{transport="websocket"}"#;
    let streams = r#"notifier_connections{transport="sse"}"#;
    assert_eq!((server.metric(websockets).await, server.metric(streams).await), (0.0, 0.0));

    let (mut all, hello) = Socket::open(&server, "").await;
    let (gb, _) = Socket::open(&server, "?regions=GB").await;
    let mut events = EventStream::connect(&server, "?regions=US").await;
    server.until_metric(websockets, |value| value == 2.0).await;
    server.until_metric(streams, |value| value == 1.0).await;

    for (region, id) in [("US", 1), ("US", 2), ("GB", 1), ("US", 1), ("GB", 1), ("GB", 1)] {
        server.publish(post_body(region, id)).await;
    }
    for _ in 0..2 {
        events.publication().await;
    }
    for _ in 0..3 {
        all.publication().await;
    }
    for (sample, value) in [
        (r#"notifier_publications_total{region="US"}"#, 2.0),
        (r#"notifier_publications_total{region="GB"}"#, 1.0),
        (r#"notifier_publications_total{region="JP"}"#, 0.0),
        ("notifier_deduplicated_total", 3.0),
        ("notifier_append_seconds_count", 6.0),
        // Each publication for each client of its region.
        ("notifier_deliveries_total", 2.0 + 2.0 + 2.0),
        ("notifier_fan_out_seconds_count", 3.0),
        ("notifier_replayed_total", 0.0),
    ] {
        server.until_metric(sample, |now| now == value).await;
    }

    let since = hello["position"].as_str().unwrap();
    let (mut back, hello) = Socket::open(&server, &format!("?regions=US&since={since}")).await;
    assert_eq!(hello["recovered"], true);
    for _ in 0..2 {
        back.publication().await;
    }
    let (_lost, hello) = Socket::open(&server, "?since=aaaaaaaa-1").await;
    assert_eq!(hello["recovered"], false);
    all.send("what?").await;
    for (sample, value) in [
        (r#"notifier_resumed_total{recovered="true"}"#, 1.0),
        (r#"notifier_resumed_total{recovered="false"}"#, 1.0),
        ("notifier_replayed_total", 2.0),
        ("notifier_deliveries_total", 8.0),
        ("notifier_ignored_messages_total", 1.0),
    ] {
        server.until_metric(sample, |now| now == value).await;
    }

    drop((all, gb, events));
    server.until_metric(websockets, |value| value == 2.0).await;
    server.until_metric(streams, |value| value == 0.0).await;
}

#[tokio::test]
async fn what_is_refused_is_counted_by_its_reason() {
    let server = Server::start(&["--allowed-origins", SITE]).await;
    let token = ("authorization", "Bearer test-token");
    server.post_with(&[], post_body("US", 1)).await.problem(401);
    server.post_with(&[token], "{").await.problem(400);
    server.post_with(&[token], "[]").await.problem(422);
    server.post_with(&[token], "[]").await.problem(422);
    server.post_with(&[token], " ".repeat(70_000)).await.problem(413);
    for (body, status) in [(post_body("US", 1), 200), (post_body("US", 2), 422)] {
        assert_eq!(server.post_with(&[token, ("idempotency-key", "one")], body).await.status, status);
    }
    get(&server, "/events?regions=U%20S").await.problem(400);
    ask(&server, Method::GET, "/events", &[(ORIGIN.as_str(), OTHER)]).await.problem(403);
    get(&server, "/nothing").await.problem(404);
    get(&server, "/ws").await.problem(426);
    let mut other = Socket::connect_with(&server, "", &[("origin", OTHER)]).await.unwrap();
    assert_eq!(other.closed().await.0, 4403);
    for (reason, times) in [
        ("unauthorized", 1.0),
        ("invalid_json", 1.0),
        ("invalid_fields", 2.0),
        ("too_large", 1.0),
        ("key_reused", 1.0),
        ("invalid_regions", 1.0),
        ("forbidden", 1.0),
        ("origin", 1.0),
        ("not_found", 1.0),
        ("upgrade_required", 1.0),
    ] {
        let sample = format!(r#"notifier_refused_total{{reason="{reason}"}}"#);
        assert_eq!(server.metric(&sample).await, times, "{reason}");
    }
}

#[tokio::test]
async fn what_is_not_there_is_404_and_a_wrong_method_405() {
    let server = Server::start(&[]).await;
    for path in
        ["/nothing", "/notify/", "/ws/x", "/notifier.css", "/static/notifier.js", "/..%2fetc%2fpasswd", "/Notify"]
    {
        assert_eq!(get(&server, path).await.problem(404), "Not found", "{path}");
    }
    let read = ["/ws", "/events", "/notifications", "/notifier.js", "/notifier.esm.js", "/notifier.d.ts", "/"];
    for path in read.into_iter().chain(["/healthz", "/readyz", "/metrics"]) {
        for method in [Method::POST, Method::PUT, Method::DELETE, Method::PATCH] {
            let answer = ask(&server, method.clone(), path, &[]).await;
            assert_eq!(answer.problem(405), "Method not allowed", "{method} {path}");
            assert_eq!(answer.header("allow"), "GET,HEAD", "{method} {path}");
        }
    }
    let answer = get(&server, "/notify").await;
    assert_eq!((answer.problem(405).as_str(), answer.header("allow").as_str()), ("Method not allowed", "POST"));
}

#[tokio::test]
async fn head_answers_as_get_does_without_the_body() {
    let server = Server::start(&[]).await;
    server.publish(post_body("US", 1)).await;
    let paths = ["/notifications", "/notifier.js", "/notifier.esm.js", "/notifier.d.ts", "/", "/healthz", "/readyz"];
    for path in paths {
        let whole = get(&server, path).await;
        let head = ask(&server, Method::HEAD, path, &[]).await;
        assert_eq!((head.status, head.body.len()), (200, 0), "{path}");
        for header in ["content-type", "content-length", "etag", "cache-control", "vary"] {
            assert_eq!(head.header(header), whole.header(header), "{path} {header}");
        }
    }
    // A stream has no end to wait for, and what is closed stays closed.
    let events = ask(&server, Method::HEAD, "/events", &[]).await;
    assert_eq!((events.status, events.header("content-type").as_str()), (200, "text/event-stream"));
    server.until_metric(r#"notifier_connections{transport="sse"}"#, |connections| connections == 0.0).await;
    assert_eq!(ask(&server, Method::HEAD, "/metrics", &[]).await.status, 401);
    assert_eq!(ask(&server, Method::HEAD, "/nothing", &[]).await.status, 404);
}
