//! The log: whoever reads it has all of it, and whoever does not holds nobody up.

use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use rustix::process::Signal;
use serde_json::Value;
use tokio::time::timeout;

use crate::support::{Server, Setup, Socket, post_body, server::PATIENCE};

/// How long the end may take on a busy machine where nothing has to be waited for but a log, which gets a second.
const SLACK: Duration = Duration::from_secs(4);

/// As many posts as lines find no room any more, in the pipe (64 KiB) and before it (4,096): each is one.
const POSTS: u32 = 6000;

/// Has the server log more than fits while nobody reads.
async fn unread(server: &Server) {
    server.read_log(false);
    let posts = stream::iter(0..POSTS).for_each_concurrent(16, async |id| {
        timeout(PATIENCE, server.publish(post_body("US", id))).await.expect("a post is answered");
    });
    posts.await;
}

fn setup() -> Setup {
    Setup::new(&["--history", "memory", "--post-rate-per-ip", "10000"])
}

#[tokio::test]
async fn a_log_that_nobody_reads_holds_up_no_post_no_client_and_not_the_end() {
    // Into the same pipe goes what is said on stdout.
    let mut server = setup().shell("exec 1>&2").start().await;
    let (mut client, _) = Socket::open(&server, "").await;
    unread(&server).await;
    for _ in 0..POSTS {
        client.publication().await;
    }
    let health = timeout(PATIENCE, server.get("/healthz")).await.expect("an answer");
    assert_eq!(health.status(), 200);
    let start = Instant::now();
    server.signal(Signal::TERM);
    assert_eq!(client.closed().await.0, 1012);
    assert_eq!(server.ended().await, Some(0));
    assert!(start.elapsed() < SLACK, "{:?}", start.elapsed());
}

#[tokio::test]
async fn lines_that_found_no_room_are_missing_where_the_log_says_so() {
    let mut server = setup().start().await;
    unread(&server).await;
    server.read_log(true);
    let note: Value = serde_json::from_str(&server.logged("lines are missing").await).expect("a JSON line");
    server.publish(post_body("US", "last")).await;
    server.signal(Signal::TERM);
    assert_eq!(server.ended().await, Some(0));
    let missing = note["lines"].as_u64().expect("a number");
    assert!((1..u64::from(POSTS)).contains(&missing), "{note}");
    let rest = server.rest_of_log().await;
    assert_eq!(rest.matches(r#""message":"published""#).count(), 1, "the hole is where all else was written: {rest}");
}

#[tokio::test]
async fn a_log_that_is_read_has_the_last_lines_too() {
    let mut server = Server::start(&[]).await;
    server.publish(post_body("US", 1)).await;
    server.signal(Signal::TERM);
    assert_eq!(server.ended().await, Some(0));
    let log = server.rest_of_log().await;
    let messages = log.lines().map(|line| serde_json::from_str::<Value>(line).expect("a JSON line")["message"].clone());
    assert_eq!(messages.collect::<Vec<_>>(), ["published", "draining", "ended"]);
}

#[tokio::test]
async fn sigterm_ends_it_even_where_nobody_can_read_its_log_any_more() {
    let mut server = Server::start(&[]).await;
    server.close_log();
    server.publish(post_body("US", 1)).await;
    server.rest_of_log().await;
    server.signal(Signal::TERM);
    assert_eq!(server.ended().await, Some(0));
}
