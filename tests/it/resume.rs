//! Coming back with a position: when `recovered` says what, and that exactly the rest follows.

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::support::{Server, Socket, post_body};

/// A short heartbeat tells soon that all was sent.
const HEARTBEAT: [&str; 2] = ["--heartbeat", "200ms"];

/// Posts one publication of each region, the first with video 1; answers all positions, that of the empty history first.
async fn history(server: &Server, regions: &[&str]) -> Vec<String> {
    let (_socket, hello) = Socket::open(server, "").await;
    let mut positions = vec![hello["position"].as_str().unwrap().to_owned()];
    for (index, region) in regions.iter().enumerate() {
        let receipt = server.publish(post_body(region, index + 1)).await;
        positions.push(receipt["id"].as_str().unwrap().to_owned());
    }
    positions
}

/// What a client gets that connects with `query`: hello, and the videos up to the heartbeat that stands at `head`.
async fn resume(server: &Server, query: &str, head: &str) -> (Value, Vec<usize>) {
    let (mut socket, hello) = Socket::open(server, query).await;
    let mut videos = Vec::new();
    loop {
        let message = socket.message().await;
        if message["type"] == "new_trending" {
            videos.push(message["videos"][0]["id"].as_str().unwrap().parse().unwrap());
        } else if message["position"] == head {
            return (hello, videos);
        }
    }
}

async fn assert_recovered(server: &Server, query: &str, since: &str, head: &str, videos: &[usize]) {
    let (hello, got) = resume(server, query, head).await;
    assert_eq!((&hello["recovered"], &hello["position"]), (&json!(true), &json!(since)), "{query}");
    assert_eq!(got, videos, "{query}");
}

/// `recovered` is false or null: nothing old follows, and the client starts at the head.
async fn assert_fresh(server: &Server, query: &str, recovered: Value, head: &str) {
    let (hello, got) = resume(server, query, head).await;
    assert_eq!((&hello["recovered"], &hello["position"]), (&recovered, &json!(head)), "{query}");
    assert!(got.is_empty(), "{query}: {got:?}");
}

#[tokio::test]
async fn without_a_position_nothing_is_recovered_nor_missed() {
    let server = Server::start(&HEARTBEAT).await;
    let positions = history(&server, &["US", "GB"]).await;
    for query in ["", "?regions=US", "?since=", "?since", "?since=&regions=GB"] {
        assert_fresh(&server, query, Value::Null, &positions[2]).await;
    }
}

#[tokio::test]
async fn a_position_that_proves_nothing_is_not_recovered() {
    let server = Server::start(&HEARTBEAT).await;
    let positions = history(&server, &["US", "GB"]).await;
    let head = &positions[2];
    let epoch = head.split_once('-').unwrap().0;
    let other = if epoch == "zzzzzzzz" { "yyyyyyyy" } else { "zzzzzzzz" };
    let unproven = [
        ("another epoch", format!("{other}-0")),
        ("another epoch", format!("{other}-1")),
        ("above the head", format!("{epoch}-99")),
        ("above the head", format!("{epoch}-9223372036854775807")),
        ("too large", format!("{epoch}-9223372036854775808")),
        ("no offset", epoch.to_owned()),
        ("no offset", format!("{epoch}-")),
        ("a sign", format!("{epoch}--1")),
        ("white space", format!("{}%20", positions[1])),
        ("junk", "1".to_owned()),
        ("junk", "%00%ff%zz%".to_owned()),
        ("long junk", "9".repeat(4000)),
    ];
    join_all(unproven.iter().map(async |(why, since)| {
        let query = format!("?since={since}");
        let (hello, got) = resume(&server, &query, head).await;
        assert_eq!((&hello["recovered"], &hello["position"]), (&json!(false), &json!(head)), "{why}: {since}");
        assert!(got.is_empty(), "{why}: {got:?}");
    }))
    .await;
    assert_eq!(server.metric(r#"notifier_resumed_total{recovered="false"}"#).await, unproven.len() as f64);
}

#[tokio::test]
async fn of_two_positions_the_first_counts_and_neither_refuses() {
    let server = Server::start(&HEARTBEAT).await;
    let [start, first, head] = &history(&server, &["US", "GB"]).await[..] else { panic!() };
    assert_recovered(&server, &format!("?since={first}&since=junk"), first, head, &[2]).await;
    assert_recovered(&server, &format!("?since={start}&since={head}"), start, head, &[1, 2]).await;
    assert_fresh(&server, &format!("?since=%zz&since={first}"), json!(false), head).await;
    // Whatever stands elsewhere in the query.
    assert_recovered(&server, &format!("?%ff=%&=&&x&since={first}"), first, head, &[2]).await;
}

#[tokio::test]
async fn a_memory_history_is_another_one_after_a_restart() {
    let mut server = Server::start(&["--history", "memory", HEARTBEAT[0], HEARTBEAT[1]]).await;
    let before = history(&server, &["US"]).await;
    assert_recovered(&server, &format!("?since={}", before[0]), &before[0], &before[1], &[1]).await;
    server.kill().await;
    server.restart().await;
    let after = history(&server, &["US"]).await;
    assert_ne!(before[0], after[0]);
    for since in &before {
        assert_fresh(&server, &format!("?since={since}"), json!(false), &after[1]).await;
    }
}

#[tokio::test]
async fn what_retention_trimmed_is_a_gap_for_its_regions_only() {
    for kind in ["memory", "sqlite"] {
        let flags = ["--history", kind, "--history-max-count", "5", HEARTBEAT[0], HEARTBEAT[1]];
        let mut server = Server::start(&flags).await;
        let at = history(&server, &["US", "US", "US", "GB", "GB", "GB", "GB", "GB"]).await;
        for restarted in [false, true] {
            if restarted && kind == "memory" {
                continue;
            }
            if restarted {
                server.restart().await;
            }
            let (server, at) = (&server, &at);
            let gaps = [("", 0), ("", 2), ("US", 0), ("US", 2), ("US,GB", 2), ("JP,US", 1)];
            join_all(gaps.map(async |(regions, since)| {
                let query = format!("?regions={regions}&since={}", at[since]);
                assert_fresh(server, &query, json!(false), &at[8]).await;
            }))
            .await;
            let recovered: [(&str, usize, &[usize]); 7] = [
                ("", 3, &[4, 5, 6, 7, 8]),
                ("US,GB", 3, &[4, 5, 6, 7, 8]),
                ("US", 3, &[]),
                ("GB", 0, &[4, 5, 6, 7, 8]),
                ("GB", 6, &[7, 8]),
                ("JP", 0, &[]),
                ("", 8, &[]),
            ];
            join_all(recovered.map(async |(regions, since, videos)| {
                let query = format!("?regions={regions}&since={}", at[since]);
                assert_recovered(server, &query, &at[since], &at[8], videos).await;
            }))
            .await;
        }
    }
}

#[tokio::test]
async fn more_than_the_most_that_is_replayed_is_a_gap() {
    let server = Server::start(&["--replay-max", "3", HEARTBEAT[0], HEARTBEAT[1]]).await;
    let at = history(&server, &["US", "GB", "US", "GB", "US", "GB"]).await;
    assert_fresh(&server, &format!("?since={}", at[2]), json!(false), &at[6]).await;
    assert_recovered(&server, &format!("?since={}", at[3]), &at[3], &at[6], &[4, 5, 6]).await;
    // Only what would follow counts.
    assert_recovered(&server, &format!("?regions=US&since={}", at[0]), &at[0], &at[6], &[1, 3, 5]).await;
}

#[tokio::test]
async fn from_every_position_exactly_the_rest_follows_in_order() {
    let server = Server::start(&HEARTBEAT).await;
    let posted: Vec<&str> = ["US", "GB", "US", "JP", "GB", "FR"].into_iter().cycle().take(30).collect();
    let at = &history(&server, &posted).await;
    let (server, posted) = (&server, &posted);
    let queries = ["", "US", "GB,JP", "DE"].into_iter().flat_map(|regions| (0..=30).map(move |since| (regions, since)));
    join_all(queries.map(async |(regions, since)| {
        let asked = |video: &usize| regions.is_empty() || regions.split(',').any(|region| region == posted[video - 1]);
        let rest: Vec<usize> = (since + 1..=30).filter(asked).collect();
        let query = format!("?regions={regions}&since={}", at[since]);
        assert_recovered(server, &query, &at[since], &at[30], &rest).await;
    }))
    .await;
}

#[tokio::test]
async fn who_comes_back_amid_a_burst_gets_each_publication_once() {
    let server = Server::start(&[]).await;
    let start = history(&server, &[]).await.remove(0);
    let posts = async {
        for id in 1..=150 {
            server.publish(post_body("US", id)).await;
        }
    };
    let query = format!("?since={start}");
    let clients = join_all((0..20).map(async |client| {
        server.until_metric(r#"notifier_publications_total{region="US"}"#, |seen| seen >= f64::from(client * 7)).await;
        let (mut socket, _) = Socket::open(&server, &query).await;
        for id in 1..=150 {
            assert_eq!(socket.publication().await["videos"][0]["id"], id.to_string(), "client {client}");
        }
    }));
    tokio::join!(posts, clients);
}
