//! How often an address may connect, be caught up, post, and guess; how much a client may say.

use reqwest::Method;
use tokio_tungstenite::tungstenite::Error;

use crate::support::{
    Answer, EventStream, Server, Setup, Socket,
    frames::{PING, masked},
    post_body,
    raw::Raw,
    server::AUTHORIZED,
};

const ONE: (&str, &str) = ("x-forwarded-for", "1.1.1.1");
const OTHER: (&str, &str) = ("x-forwarded-for", "2.2.2.2");

async fn events(server: &Server, query: &str, headers: &[(&str, &str)]) -> Answer {
    let request = server.request(Method::HEAD, &format!("/events{query}"));
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    Answer::of(request.send().await.expect("the server answers")).await
}

/// The rest of a second at least: what is refused again and again stays refused until then.
fn assert_told_when(answer: &Answer, at_most: u64) {
    assert_eq!(answer.status, 429, "{answer:?}");
    let seconds: u64 = answer.header("retry-after").parse().expect("seconds");
    assert!((1..=at_most).contains(&seconds), "{seconds}");
}

async fn refused(server: &Server, reason: &str) -> f64 {
    server.metric(&format!(r#"notifier_refused_total{{reason="{reason}"}}"#)).await
}

#[tokio::test]
async fn an_address_that_connects_too_often_waits_and_ends_nobody_and_delays_nobody_else() {
    // A burst of 10, or of two for each client.
    let server = Server::start(&["--handshake-rate-per-ip", "1", "--max-connections-per-ip", "3"]).await;
    let mut first = Socket::connect_with(&server, "", &[ONE]).await.unwrap();
    let mut answers = Vec::new();
    for _ in 0..30 {
        answers.push(events(&server, "", &[ONE]).await);
    }
    assert!(answers[..9].iter().all(|answer| answer.status == 200), "{answers:?}");
    let refusals: Vec<&Answer> = answers.iter().filter(|answer| answer.status == 429).collect();
    assert!(refusals.len() >= 10, "{answers:?}");
    refusals.iter().for_each(|answer| assert_told_when(answer, 1));
    match Socket::connect_with(&server, "", &[ONE]).await.err() {
        Some(Error::Http(response)) => assert_eq!(response.headers()["retry-after"], "1"),
        other => panic!("not an answer over HTTP: {other:?}"),
    }
    assert_eq!(refused(&server, "handshake_rate").await, refusals.len() as f64 + 1.0);
    assert_eq!(events(&server, "", &[OTHER]).await.status, 200);
    let receipt = server.publish(post_body("US", 1)).await;
    assert_eq!(first.publication().await["id"], receipt["id"]);
    // It gets in again when it has waited.
    while events(&server, "", &[ONE]).await.status != 200 {}
}

#[tokio::test]
async fn everybody_behind_one_address_may_come_back_at_once() {
    let server = Server::start(&["--handshake-rate-per-ip", "1", "--max-connections-per-ip", "50"]).await;
    for round in 0..2 {
        let mut clients = Vec::new();
        for _ in 0..50 {
            clients.push(Socket::open(&server, "").await);
        }
        drop(clients);
        server.until_metric(r#"notifier_connections{transport="websocket"}"#, |clients| clients == 0.0).await;
        assert_eq!(refused(&server, "handshake_rate").await, 0.0, "round {round}");
    }
}

#[tokio::test]
async fn a_network_of_ipv6_connects_as_one() {
    let server = Server::start(&["--handshake-rate-per-ip", "1", "--max-connections-per-ip", "1"]).await;
    let of_network = |host: u32| format!("2001:db8::{host:x}");
    let mut statuses = Vec::new();
    for host in 0..20 {
        statuses.push(events(&server, "", &[("x-forwarded-for", &of_network(host))]).await.status);
    }
    assert!(statuses.contains(&429), "{statuses:?}");
    assert_eq!(events(&server, "", &[("x-forwarded-for", "2001:db8:0:1::")]).await.status, 200);
}

#[tokio::test]
async fn who_asks_for_the_longest_replay_again_and_again_waits_and_then_misses_nothing() {
    // A burst of what one client may be caught up on, or of 100 for each.
    let flags = ["--replay-rate-per-ip", "10", "--max-connections-per-ip", "1", "--replay-max", "50"];
    let server = Server::start(&flags).await;
    let since = server.notifications("").await["position"].as_str().expect("a position").to_owned();
    for number in 0..40 {
        server.publish(post_body("US", number)).await;
    }
    let query = format!("?since={since}");
    let mut replayed = 0;
    let refusal = loop {
        match Socket::connect_with(&server, &query, &[]).await {
            Ok(mut socket) => {
                assert_eq!(socket.message().await["recovered"], true);
                replayed += 1;
                assert!(replayed < 20, "it is caught up as often as it likes");
                drop(socket);
                let websockets = r#"notifier_connections{transport="websocket"}"#;
                server.until_metric(websockets, |clients| clients == 0.0).await;
            }
            Err(Error::Http(response)) => break response,
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!(refusal.status(), 429);
    assert!(replayed >= 2, "{replayed}");
    assert!(refused(&server, "replay_rate").await >= 1.0);
    let resumed = server.metric(r#"notifier_resumed_total{recovered="true"}"#).await;
    assert_eq!(resumed, f64::from(replayed), "who was refused has not resumed");
    // Who missed nothing takes one of what is left; who comes anew takes nothing, and another address has its own.
    let (up_to_date, hello) = Socket::open(&server, "").await;
    drop(up_to_date);
    server.until_metric(r#"notifier_connections{transport="websocket"}"#, |clients| clients == 0.0).await;
    let (up_to_date, _) = Socket::open(&server, &format!("?since={}", hello["position"].as_str().unwrap())).await;
    drop(up_to_date);
    let mut other = Socket::connect_with(&server, &query, &[OTHER]).await.expect("another address is let in");
    assert_eq!(other.message().await["recovered"], true);
    // With the same position, once it has waited, all of it comes.
    let mut back = loop {
        if let Ok(socket) = Socket::connect_with(&server, &query, &[]).await {
            break socket;
        }
    };
    assert_eq!(back.message().await["recovered"], true);
    for number in 0..40 {
        assert_eq!(back.publication().await["videos"][0]["id"], number.to_string());
    }
}

#[tokio::test]
async fn who_asks_for_the_list_again_and_again_waits() {
    // A burst of 100.
    let flags = ["--replay-rate-per-ip", "10", "--max-connections-per-ip", "1", "--replay-max", "50"];
    let server = Server::start(&flags).await;
    for number in 0..20 {
        server.publish(post_body("US", number)).await;
    }
    let ask = async |query: &str, (name, value): (&str, &str)| {
        let request = server.request(Method::GET, &format!("/notifications{query}")).header(name, value);
        Answer::of(request.send().await.expect("the server answers")).await
    };
    // It counts by what it is sent.
    let mut lists = 0;
    let refusal = loop {
        let answer = ask("", ONE).await;
        if answer.status != 200 {
            break answer;
        }
        assert_eq!(answer.json()["notifications"].as_array().expect("a list").len(), 20);
        lists += 1;
        assert!(lists < 30, "it asks as often as it likes");
    };
    assert!((5..10).contains(&lists), "{lists}");
    refusal.problem(429);
    assert_told_when(&refusal, 2);
    assert!(refused(&server, "replay_rate").await >= 1.0);
    // And by one where there is nothing: to look for it is work, too.
    let mut empty = 0;
    while ask("?regions=JP", OTHER).await.status == 200 {
        empty += 1;
        assert!(empty < 300, "it asks as often as it likes");
    }
    assert!(empty >= 100, "{empty}");
    // Others are not meant, and it is answered once it has waited.
    assert_eq!(ask("?limit=1", ("x-forwarded-for", "3.3.3.3")).await.status, 200);
    while ask("?limit=1", ONE).await.status != 200 {}
}

#[tokio::test]
async fn who_asks_what_it_missed_pays_though_it_missed_nothing() {
    // A burst of 100.
    let flags = ["--replay-rate-per-ip", "1", "--max-connections-per-ip", "1", "--replay-max", "1"];
    let server = Server::start(&flags).await;
    let position = server.publish(post_body("US", 1)).await["id"].as_str().expect("a position").to_owned();
    let since = [format!("?since={position}"), format!("?since={position}&regions=JP"), "?since=junk".to_owned()];
    let mut answered = 0;
    while refused(&server, "replay_rate").await == 0.0 {
        // Refused as well while the last one is still leaving.
        let request = server.request(Method::GET, &format!("/events{}", since[answered % 3]));
        let response = request.header(ONE.0, ONE.1).send().await.expect("the server answers");
        answered += usize::from(response.status() == 200);
        assert!(answered < 200, "it asks as often as it likes");
    }
    assert!(answered >= 100, "{answered}");
    // Who comes anew asks for nothing.
    let sse = r#"notifier_connections{transport="sse"}"#;
    server.until_metric(sse, |clients| clients == 0.0).await;
    let request = server.request(Method::GET, "/events").header(ONE.0, ONE.1);
    assert_eq!(request.send().await.expect("the server answers").status(), 200);
}

#[tokio::test]
async fn an_address_that_posts_too_often_waits_and_no_stranger_uses_up_what_it_may() {
    let server = Server::start(&["--post-rate-per-ip", "1", "--wrong-token-rate-per-ip", "1000"]).await;
    for _ in 0..30 {
        server.post_with(&[("authorization", "Bearer wrong")], post_body("US", 1)).await.problem(401);
    }
    let mut answers = Vec::new();
    for _ in 0..30 {
        answers.push(server.post_with(&[AUTHORIZED], post_body("US", 1)).await);
    }
    assert!(answers[..10].iter().all(|answer| answer.status == 200), "{answers:?}");
    let refusal = answers.iter().find(|answer| answer.status == 429).expect("a refusal");
    assert_told_when(refusal, 1);
    assert_eq!(refusal.problem(429), "Too many requests");
    assert!(refused(&server, "post_rate").await >= 1.0);
    assert_eq!(server.post_with(&[AUTHORIZED, OTHER], post_body("US", 1)).await.status, 200);
    while server.post_with(&[AUTHORIZED], post_body("US", 1)).await.status != 200 {}
}

#[tokio::test]
async fn after_too_many_wrong_tokens_no_token_of_that_address_is_looked_at() {
    let server = Server::start(&["--wrong-token-rate-per-ip", "5"]).await;
    let wrong = ("authorization", "Bearer wrong");
    let metrics = async |headers: [(&str, &str); 2]| {
        let request = server.request(Method::GET, "/metrics");
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        Answer::of(request.send().await.expect("the server answers")).await
    };
    // Both routes count together: the token may be the same.
    for _ in 0..3 {
        server.post_with(&[ONE, wrong], post_body("US", 1)).await.problem(401);
    }
    for _ in 0..2 {
        metrics([ONE, wrong]).await.problem(401);
    }
    for authorization in [wrong, AUTHORIZED] {
        assert_told_when(&server.post_with(&[ONE, authorization], post_body("US", 1)).await, 12);
        assert_told_when(&metrics([ONE, authorization]).await, 12);
    }
    // Without one nothing is guessed, and others are not meant.
    server.post_with(&[ONE], post_body("US", 1)).await.problem(401);
    assert_eq!(server.post_with(&[OTHER, AUTHORIZED], post_body("US", 1)).await.status, 200);
    assert_eq!(refused(&server, "wrong_token_rate").await, 4.0);
}

#[tokio::test]
async fn a_stranger_behind_the_same_address_does_not_lock_the_poster_out() {
    let server = Server::start(&["--wrong-token-rate-per-ip", "5"]).await;
    server.publish(post_body("US", 1)).await;
    for number in 0..20 {
        let status = if number < 5 { 401 } else { 429 };
        server.post_with(&[("authorization", "Bearer wrong")], post_body("US", 2)).await.problem(status);
    }
    server.publish(post_body("US", 2)).await;
}

#[tokio::test]
async fn who_says_too_much_is_closed_with_1008_at_the_rate_that_was_set() {
    let server = Server::start(&["--message-rate", "2", "--heartbeat", "60s"]).await;
    let (mut bystander, _) = Socket::open(&server, "").await;
    for first in [PING, 0x8a, 0x81] {
        let mut raw = Raw::upgrade(&server, "").await;
        raw.frame().await.expect("hello");
        raw.send(masked(first, b"x").repeat(120)).await;
        raw.send(masked(PING, b"last")).await;
        raw.send(masked(0x81, b"x").repeat(60)).await;
        let close = loop {
            let (first, payload) = raw.frame().await.expect("a close frame");
            if first == 0x88 {
                break payload;
            }
        };
        assert_eq!(&close[..2], 1008_u16.to_be_bytes(), "{first:x}");
    }
    let closed = async || server.metric(r#"notifier_disconnected_total{code="1008"}"#).await;
    assert_eq!(closed().await, 3.0);
    // Over a stream, which has no words for it.
    let mut stream = Raw::connect(&server).await;
    stream.send("GET /events HTTP/1.1\r\nHost: a\r\n\r\n").await;
    stream.head().await;
    // One by one, since what comes together counts once.
    stream.0.set_nodelay(true).unwrap();
    for _ in 0..1000 {
        if closed().await > 3.0 {
            break;
        }
        // It may have been cut in between.
        let _ = stream.try_send(b"x").await;
    }
    assert_eq!(closed().await, 4.0);
    let receipt = server.publish(post_body("US", 1)).await;
    assert_eq!(bystander.publication().await["id"], receipt["id"]);
}

#[tokio::test]
async fn the_rates_can_be_set_by_variables() {
    let server = Setup::new(&[]).variable("NOTIFIER_POST_RATE_PER_IP", "1/s").start().await;
    let mut statuses = Vec::new();
    for _ in 0..30 {
        statuses.push(server.post_with(&[AUTHORIZED], post_body("US", 1)).await.status);
    }
    assert!(statuses.contains(&429), "{statuses:?}");
    let _stream = EventStream::connect(&server, "").await;
}
