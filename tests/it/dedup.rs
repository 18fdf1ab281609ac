//! Deduplication: a post that is repeated is answered with the first receipt and published once.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::Value;

use crate::support::{
    Answer, Server, Socket, Witness, post_body,
    server::{AUTHORIZED, PATIENCE},
};

/// Posts with a key.
async fn keyed(server: &Server, key: &str, body: impl Into<reqwest::Body>) -> Answer {
    server.post_with(&[AUTHORIZED, ("idempotency-key", key)], body).await
}

/// The first receipt as it is given again.
fn again(receipt: &Value) -> Value {
    let mut again = receipt.clone();
    again["deduplicated"] = true.into();
    again
}

#[tokio::test]
async fn an_equal_post_without_a_key_is_answered_with_the_first_receipt_and_published_once() {
    let server = Server::start(&[]).await;
    let (mut client, _) = Socket::open(&server, "").await;
    let post = |ids: &[&str], title: &str, region: &str| {
        let videos: Vec<String> = ids.iter().map(|id| format!(r#"{{"id":{id},"title":"{title}"}}"#)).collect();
        format!(r#"{{"region":"{region}","videos":[{}]}}"#, videos.join(","))
    };
    let first = server.publish(post(&["1", "2", "3", "4", "5", "6"], "t", "US")).await;
    assert_eq!(client.publication().await["id"], first["id"]);
    // The receipt is the first one to the letter, its number of subscribers too.
    let (_other, _) = Socket::open(&server, "").await;
    assert_eq!(server.publish(post(&["1", "2", "3", "4", "5", "6"], "t", "US")).await, again(&first));
    // Titles are no part of what makes posts equal; the region, each id, its type and the order are, past the fifth too.
    assert_eq!(server.publish(post(&["1", "2", "3", "4", "5", "6"], "new title", "US")).await, again(&first));
    for (ids, region) in [
        (&["1", "2", "3", "4", "5", "6"][..], "GB"),
        (&["1", "2", "3", "4", "5"], "US"),
        (&["1", "2", "3", "4", "5", "7"], "US"),
        (&["2", "1", "3", "4", "5", "6"], "US"),
        (&["\"1\"", "2", "3", "4", "5", "6"], "US"),
    ] {
        let receipt = server.publish(post(ids, "t", region)).await;
        assert_eq!(receipt["deduplicated"], false, "{ids:?} {region}");
        assert_eq!(client.publication().await["id"], receipt["id"], "nothing came between");
    }
}

#[tokio::test]
async fn a_key_decides_whether_a_post_is_new() {
    let server = Server::start(&[]).await;
    let witness = Witness::of(&server).await;
    let (one, other) = (post_body("US", "one"), post_body("US", "other"));
    let first = keyed(&server, "run-1", one.clone()).await.json();
    assert_eq!(first["deduplicated"], false);
    let list = server.notifications("").await;

    assert_eq!(keyed(&server, "run-1", one.clone()).await.json(), again(&first));
    assert_eq!(server.publish(one.clone()).await, again(&first), "a post without a key is compared with keyed ones");
    let reused = keyed(&server, "run-1", other.clone()).await;
    assert_eq!((reused.problem(422).as_str(), reused.pointers().len()), ("Idempotency key reused", 0));
    assert_eq!(server.notifications("").await, list);

    let second = keyed(&server, "run-2", one.clone()).await.json();
    assert_eq!(second["deduplicated"], false, "a new key publishes what is known");
    assert_ne!(second["id"], first["id"]);
    assert_eq!(keyed(&server, "run-2", one.clone()).await.json(), again(&second));
    assert_eq!(keyed(&server, "run-1", one.clone()).await.json(), again(&first));
    // Keys are compared byte by byte.
    let third = keyed(&server, "RUN-1", other).await.json();
    assert_eq!(third["deduplicated"], false);

    let mut client = witness.client;
    for receipt in [first, second, third] {
        assert_eq!(client.publication().await["id"], receipt["id"]);
    }
}

#[tokio::test]
async fn a_key_that_is_none_is_422_and_publishes_nothing() {
    let server = Server::start(&[]).await;
    let witness = Witness::of(&server).await;
    let long = "x".repeat(256);
    for keys in [&[""][..], &[" "], &["a b"], &["\u{e9}"], &[&long], &["one", "two"], &["one", "one"]] {
        let headers: Vec<_> = keys.iter().map(|key| ("idempotency-key", *key)).chain([AUTHORIZED]).collect();
        let answer = server.post_with(&headers, post_body("US", 1)).await;
        answer.problem(422);
        assert_eq!(answer.pointers(), ["#"], "{keys:?}");
        witness.nothing_changed(&format!("{keys:?}")).await;
    }
    witness.nothing_happened().await;
    assert_eq!(keyed(&server, &"x".repeat(255), post_body("US", 1)).await.status, 200);
}

#[tokio::test]
async fn the_window_ends_for_posts_without_a_key_and_not_for_keys() {
    for backend in ["sqlite", "memory"] {
        let server = Server::start(&["--history", backend, "--dedup-window", "300ms"]).await;
        let start = std::time::Instant::now();
        let first = keyed(&server, "run-1", post_body("US", 1)).await.json();
        // Asking again does not prolong the window.
        let second = loop {
            let asked = start.elapsed();
            let receipt = server.publish(post_body("US", 1)).await;
            if receipt["deduplicated"] == false {
                break receipt;
            }
            assert_eq!(receipt, again(&first), "{backend}");
            assert!(asked < PATIENCE);
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        assert!(start.elapsed() >= Duration::from_millis(300), "{backend}");
        assert_ne!(second["id"], first["id"]);
        assert_eq!(keyed(&server, "run-1", post_body("US", 1)).await.json(), again(&first), "{backend}");
        assert_eq!(keyed(&server, "run-1", post_body("US", 2)).await.problem(422), "Idempotency key reused");
    }
}

#[tokio::test]
async fn what_was_answered_is_known_after_a_kill() {
    let mut server = Server::start(&[]).await;
    let with_key = keyed(&server, "run-1", post_body("US", 1)).await.json();
    let without = server.publish(post_body("US", 2)).await;
    server.kill().await;
    server.restart().await;

    assert_eq!(keyed(&server, "run-1", post_body("US", 1)).await.json(), again(&with_key));
    assert_eq!(server.publish(post_body("US", 1)).await, again(&with_key));
    assert_eq!(server.publish(post_body("US", 2)).await, again(&without));
    assert_eq!(keyed(&server, "run-1", post_body("US", 2)).await.problem(422), "Idempotency key reused");
    let ids: Vec<Value> =
        server.notifications("").await["notifications"].as_array().unwrap().iter().map(|it| it["id"].clone()).collect();
    assert_eq!(ids, [without["id"].clone(), with_key["id"].clone()]);
}

#[tokio::test]
async fn equal_posts_at_the_same_moment_are_published_once() {
    let server = Server::start(&[]).await;
    let receipts = join_all((0..32).map(|_| server.publish(post_body("US", 1)))).await;
    let first = receipts.iter().find(|receipt| receipt["deduplicated"] == false).expect("one was the first");
    assert_eq!(receipts.iter().filter(|receipt| **receipt == again(first)).count(), 31);
    assert_eq!(server.notifications("").await["notifications"].as_array().unwrap().len(), 1);
}
