//! The routes beside the transports: recent publications, the client's files, health, metrics, and what is none.

use reqwest::{Method, header};
use serde_json::Value;

use crate::support::{Server, Socket, post_body, server::TOKEN};

async fn recent(server: &Server, query: &str) -> (Vec<String>, String) {
    let answer: Value = server.get(&format!("/notifications{query}")).await.json().await.expect("JSON");
    let list = answer["notifications"].as_array().expect("a list");
    let ids = list.iter().map(|it| it["videos"][0]["id"].as_str().expect("an id").to_owned()).collect();
    (ids, answer["position"].as_str().expect("a position").to_owned())
}

#[tokio::test]
async fn recent_publications_come_newest_first_by_region_and_page() {
    let server = Server::start(&[]).await;
    let mut receipts = Vec::new();
    for id in 1..=120 {
        receipts.push(server.publish(post_body(if id % 2 == 0 { "US" } else { "GB" }, id)).await);
    }
    let names = |ids: &[u32]| ids.iter().map(u32::to_string).collect::<Vec<_>>();
    assert_eq!(recent(&server, "").await.0, names(&(101..=120).rev().collect::<Vec<_>>()));
    assert_eq!(recent(&server, "?regions=GB&limit=2").await.0, names(&[119, 117]));
    assert_eq!(recent(&server, "?regions=FR").await.0, names(&[]));
    let before = receipts[9]["id"].as_str().unwrap();
    assert_eq!(recent(&server, &format!("?before={before}&limit=3")).await.0, names(&[9, 8, 7]));
    for (limit, length) in [("1000", 100), ("0", 1), ("-1", 20), ("many", 20), ("", 20), ("100", 100)] {
        assert_eq!(recent(&server, &format!("?limit={limit}")).await.0.len(), length, "{limit}");
    }
    for unreadable in ["x", "", "k3f9x2ab-1", "%ff"] {
        assert_eq!(recent(&server, &format!("?before={unreadable}&limit=1")).await.0, names(&[120]), "{unreadable}");
    }
    assert_eq!(server.get("/notifications?regions=U%20S").await.status(), 400);
}

#[tokio::test]
async fn a_subscription_goes_on_where_the_list_ends() {
    let server = Server::start(&[]).await;
    server.publish(post_body("US", 1)).await;
    let (ids, position) = recent(&server, "").await;
    assert_eq!(ids, ["1"]);
    server.publish(post_body("US", 2)).await;
    let (mut socket, hello) = Socket::open(&server, &format!("?since={position}")).await;
    assert_eq!(hello["recovered"], true);
    assert_eq!(socket.publication().await["videos"][0]["id"], "2");
}

#[tokio::test]
async fn the_clients_files_are_compressed_cached_for_a_short_time_and_free_for_all_origins() {
    let server = Server::start(&[]).await;
    for (path, content_type) in
        [("/notifier.js", "text/javascript"), ("/notifier.esm.js", "text/javascript"), ("/notifier.d.ts", "text/plain")]
    {
        let get = |name: header::HeaderName, value: String| {
            let request = server.request(Method::GET, path).header(header::ORIGIN, "https://site.example");
            async { request.header(name, value).send().await.expect("an answer") }
        };
        let response = get(header::ACCEPT_ENCODING, "gzip, br".into()).await;
        let headers = response.headers().clone();
        assert!(headers["content-type"].to_str().unwrap().starts_with(content_type), "{path}");
        assert_eq!(headers["content-encoding"], "br");
        assert_eq!(headers["access-control-allow-origin"], "https://site.example");
        assert!(!headers.contains_key("access-control-allow-credentials"));
        let vary: Vec<_> = headers.get_all("vary").iter().map(|it| it.to_str().unwrap().to_lowercase()).collect();
        assert!(vary.concat().contains("origin") && vary.concat().contains("accept-encoding"), "{vary:?}");
        assert_eq!(headers["cache-control"], "public, max-age=300");
        let brotli = response.bytes().await.unwrap().len();
        let plain = get(header::ACCEPT_ENCODING, "identity".into()).await.bytes().await.unwrap().len();
        assert!(brotli < plain);
        let tag = headers["etag"].to_str().unwrap().to_owned();
        let known = server.request(Method::GET, path).header("accept-encoding", "br").header("if-none-match", tag);
        assert_eq!(known.send().await.unwrap().status(), 304);
    }
}

#[tokio::test]
async fn files_and_lists_are_closed_to_origins_that_are_not_listed() {
    let server = Server::start(&["--allowed-origins", "https://site.example"]).await;
    let from = |path: &'static str, origin: &'static str| {
        let request = server.request(Method::GET, path).header(header::ORIGIN, origin);
        async { request.send().await.expect("an answer") }
    };
    assert_eq!(from("/notifications", "https://site.example").await.status(), 200);
    let refused = from("/notifications", "https://other.example").await;
    assert_eq!(refused.status(), 403);
    let script = from("/notifier.js", "https://other.example").await;
    assert!(!script.headers().contains_key("access-control-allow-origin"));
    assert_eq!(server.get("/notifications").await.status(), 200);
}

#[tokio::test]
async fn the_page_has_a_policy_that_names_what_it_has_inline() {
    let server = Server::start(&[]).await;
    let response = server.get("/").await;
    let policy = response.headers()["content-security-policy"].to_str().unwrap().to_owned();
    for part in ["default-src 'none'", "script-src 'self' 'sha256-", "style-src 'sha256-", "require-trusted-types-for"]
    {
        assert!(policy.contains(part), "{policy}");
    }
    assert!(response.text().await.unwrap().contains("/notifier.js"));
}

#[tokio::test]
async fn it_tells_that_it_is_alive_and_ready() {
    let server = Server::start(&[]).await;
    for path in ["/healthz", "/readyz"] {
        assert_eq!(server.get(path).await.status(), 200, "{path}");
    }
    assert_eq!(server.request(Method::HEAD, "/healthz").send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn what_is_not_there_is_told_as_a_problem() {
    let server = Server::start(&[]).await;
    let cases = [
        (Method::GET, "/nothing", 404, None),
        (Method::GET, "/notify/", 404, None),
        (Method::GET, "/notify", 405, Some("POST")),
        (Method::DELETE, "/notifications", 405, Some("GET")),
        (Method::POST, "/healthz", 405, Some("GET")),
    ];
    for (method, path, status, allow) in cases {
        let response = server.request(method, path).send().await.unwrap();
        assert_eq!(response.status(), status, "{path}");
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        let allowed = response.headers().get("allow").map(|allow| allow.to_str().unwrap().to_owned());
        assert!(
            allow.is_none_or(|allow| allowed.as_ref().is_some_and(|all| all.contains(allow))),
            "{path}: {allowed:?}"
        );
    }
}

#[tokio::test]
async fn metrics_are_for_the_token_and_say_what_happened() {
    let server = Server::start(&["--metrics-token", "metrics"]).await;
    for token in [None, Some(TOKEN), Some("wrong")] {
        let mut request = server.request(Method::GET, "/metrics");
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        assert_eq!(request.send().await.unwrap().status(), 401, "{token:?}");
    }
    let (mut one, _) = Socket::open(&server, "").await;
    let (mut other, _) = Socket::open(&server, "?regions=US&since=nonsense-1").await;
    server.publish(post_body("US", 1)).await;
    server.publish(post_body("US", 1)).await;
    server.publish(post_body("GB", 1)).await;
    one.publication().await;
    let since = one.publication().await["id"].as_str().unwrap().to_owned();
    other.publication().await;
    server.get("/nothing").await;
    drop(other);
    let (_third, _) = Socket::open(&server, &format!("?since={}", since.replace("-2", "-1"))).await;

    let sample = async |name: &str| {
        let request = server.request(Method::GET, "/metrics").bearer_auth("metrics");
        let text = request.send().await.unwrap().text().await.unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).unwrap_or("0").to_owned();
        line.parse::<f64>().unwrap()
    };
    let expected = [
        (r#"notifier_publications_total{region="US"}"#, 1.0),
        (r#"notifier_publications_total{region="GB"}"#, 1.0),
        ("notifier_deliveries_total", 4.0),
        ("notifier_replayed_total", 1.0),
        ("notifier_deduplicated_total", 1.0),
        (r#"notifier_resumed_total{recovered="true"}"#, 1.0),
        (r#"notifier_resumed_total{recovered="false"}"#, 1.0),
        (r#"notifier_refused_total{reason="not_found"}"#, 1.0),
        (r#"notifier_refused_total{reason="unauthorized"}"#, 3.0),
        (r#"notifier_connections{transport="websocket"}"#, 2.0),
        (r#"notifier_connections{transport="sse"}"#, 0.0),
        ("notifier_append_seconds_count", 3.0),
        ("notifier_fan_out_seconds_count", 2.0),
    ];
    for (name, value) in expected {
        // A client that leaves is noticed a moment later, and a delivery counts once the next is asked for.
        let reached = async {
            while sample(name).await != value {
                tokio::task::yield_now().await;
            }
        };
        let last = tokio::time::timeout(std::time::Duration::from_secs(10), reached).await;
        assert!(last.is_ok(), "{name} is {} and not {value}", sample(name).await);
    }
}
