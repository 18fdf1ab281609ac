//! Deduplication: a post that is repeated is answered with the first receipt and published once.

use reqwest::Method;
use serde_json::Value;

use crate::support::{Server, post_body, server::TOKEN};

async fn keyed(server: &Server, key: &str, body: String) -> (u16, Value) {
    let request = server.request(Method::POST, "/notify").bearer_auth(TOKEN).header("idempotency-key", key);
    let response = request.body(body).send().await.expect("the server answers");
    (response.status().as_u16(), response.json().await.expect("JSON"))
}

/// Checks that a receipt repeats another.
fn assert_repeats(receipt: &Value, first: &Value) {
    assert_eq!(receipt["deduplicated"], true, "{receipt}");
    for field in ["id", "region", "count", "timestamp", "subscribers"] {
        assert_eq!(receipt[field], first[field], "{field}");
    }
}

async fn published(server: &Server) -> usize {
    let recent: Value = server.get("/notifications?limit=100").await.json().await.expect("JSON");
    recent["notifications"].as_array().expect("a list").len()
}

#[tokio::test]
async fn the_same_list_is_published_once_within_the_window_and_after_a_kill_too() {
    let mut server = Server::start(&[]).await;
    let first = server.publish(post_body("US", 1)).await;
    // Other fields don't count: the region and the ids do.
    let other_title = r#"{"region":"US","count":5,"videos":[{"id":"1","title":"Another title"}]}"#;
    assert_repeats(&server.publish(other_title).await, &first);
    server.kill().await;
    server.restart().await;
    assert_repeats(&server.publish(post_body("US", 1)).await, &first);
    for other in [post_body("GB", 1), post_body("US", 2)] {
        assert_eq!(server.publish(other).await["deduplicated"], false);
    }
    assert_eq!(published(&server).await, 3);
    assert_eq!(server.metric("notifier_deduplicated_total").await, 1.0);
}

#[tokio::test]
async fn after_the_window_the_same_list_is_news_again() {
    let server = Server::start(&["--dedup-window", "1ms"]).await;
    let first = server.publish(post_body("US", 1)).await;
    let again = loop {
        // The window is over within some posts at the latest; each takes longer than a millisecond or not.
        let receipt = server.publish(post_body("US", 1)).await;
        if receipt["deduplicated"] == false {
            break receipt;
        }
        assert_eq!(receipt["id"], first["id"]);
    };
    assert_ne!(again["id"], first["id"]);
}

#[tokio::test]
async fn a_key_repeats_its_receipt_publishes_what_is_known_and_means_one_thing_only() {
    let mut server = Server::start(&[]).await;
    let first = server.publish(post_body("US", 1)).await;
    // A new key publishes even where the list is known.
    let (status, with_key) = keyed(&server, "a", post_body("US", 1)).await;
    assert_eq!((status, &with_key["deduplicated"]), (200, &false.into()));
    assert_ne!(with_key["id"], first["id"]);
    server.kill().await;
    server.restart().await;
    assert_repeats(&keyed(&server, "a", post_body("US", 1)).await.1, &with_key);

    let (status, problem) = keyed(&server, "a", post_body("US", 2)).await;
    assert_eq!((status, &problem["status"]), (422, &422.into()), "{problem}");
    // A post without a key is compared with keyed ones too.
    let (_, second) = keyed(&server, "b", post_body("GB", 7)).await;
    assert_repeats(&server.publish(post_body("GB", 7)).await, &second);
    assert_eq!(published(&server).await, 3);
}

#[tokio::test]
async fn a_key_is_remembered_longer_than_its_publication() {
    let server = Server::start(&["--history-max-count", "1"]).await;
    let (_, first) = keyed(&server, "a", post_body("US", 1)).await;
    for id in 2..5 {
        server.publish(post_body("US", id)).await;
    }
    assert_repeats(&keyed(&server, "a", post_body("US", 1)).await.1, &first);
    assert_eq!(published(&server).await, 1);
}

#[tokio::test]
async fn a_key_that_is_none_is_refused() {
    let server = Server::start(&[]).await;
    for key in ["", " ", "a b", &"x".repeat(256)] {
        let (status, problem) = keyed(&server, key, post_body("US", 1)).await;
        assert_eq!((status, &problem["errors"][0]["pointer"]), (422, &"#".into()), "{key:?}");
    }
    assert_eq!(published(&server).await, 0);
    assert_eq!(keyed(&server, &"x".repeat(255), post_body("US", 1)).await.0, 200);
}
