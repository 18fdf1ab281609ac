//! A disk that is slow, that fails to keep, or that can't be read.

use std::{cell::Cell, collections::BTreeSet, fs, sync::Arc, time::Duration};

use futures_util::future::join_all;
use reqwest::Method;
use rustix::process::Signal;
use serde_json::Value;
use tokio::time::timeout;

use crate::{
    faults::{Messages, survives},
    support::{
        Answer, Server, Setup, Socket, post_body,
        server::{AUTHORIZED, PATIENCE, TOKEN, client_that_keeps_nothing},
        strace::Strace,
    },
};

const FLAGS: [&str; 2] = ["--heartbeat", "200ms"];

/// The thread of the server that writes its history.
const WRITER: &str = "history";

/// By which of them SQLite makes a file durable depends on how it was built.
const SYNCS: &str = "fsync,fdatasync";

#[tokio::test]
#[ignore = "needs strace"]
async fn a_slow_sync_delays_posts_and_nobody_else() {
    let server = Server::start(&FLAGS).await;
    let start = server.notifications("").await["position"].as_str().unwrap().to_owned();
    let mut client = Messages::of_socket(&server).await;
    let first = server.publish(post_body("US", 1)).await;
    assert_eq!(client.publication().await, "1");

    let strace = Strace::thread(&server, WRITER, &format!("{SYNCS}:delay_enter=5000000"));
    let hasty = server.request(Method::POST, "/notify").bearer_auth(TOKEN).header("Idempotency-Key", "hasty");
    let hasty = hasty.body(post_body("US", 2)).timeout(Duration::from_millis(500)).send().await;
    assert!(hasty.is_err_and(|error| error.is_timeout()), "answered before it is durable");
    let post = server.request(Method::POST, "/notify").bearer_auth(TOKEN).body(post_body("US", 3)).send();
    let post = tokio::spawn(post);
    // Heartbeats go on, and tell no position that is not durable.
    for _ in 0..3 {
        assert_eq!(client.next("heartbeat").await["position"], first["id"]);
    }
    for route in ["/healthz", "/readyz"] {
        assert_eq!(server.get(route).await.status(), 200, "{route}");
    }
    assert_eq!(server.notifications("").await["position"], first["id"]);
    let (other, hello) = Socket::open(&server, &format!("?since={start}")).await;
    assert_eq!(hello["recovered"], true);
    let mut other = Messages::of(other);
    assert_eq!(other.next("new_trending").await["id"], first["id"]);
    assert!(!post.is_finished(), "all of this took longer than the disk");

    let receipt: Value = post.await.unwrap().expect("an answer").json().await.unwrap();
    drop(strace);
    assert_eq!(receipt["deduplicated"], false);
    // Whoever gave up posts again with the key: it is published once.
    let again = server.post_with(&[AUTHORIZED, ("idempotency-key", "hasty")], post_body("US", 2)).await;
    assert_eq!(again.json()["deduplicated"], true);
    server.publish(post_body("US", 4)).await;
    for client in [&mut client, &mut other] {
        for id in ["2", "3", "4"] {
            assert_eq!(client.publication().await, id);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs strace"]
async fn posts_that_can_not_wait_for_a_slow_disk_are_refused_and_those_that_wait_are_kept() {
    /// More than may wait.
    const POSTS: usize = 1400;

    let server = Server::start(&["--post-rate-per-ip", "10000", "--history-max-count", "2000"]).await;
    let mut client = Messages::of_socket(&server).await;
    let strace = Strace::thread(&server, WRITER, &format!("{SYNCS}:delay_enter=500000"));
    let post = async |id| {
        let answer = server.post_with(&[AUTHORIZED], post_body("US", id)).await;
        if answer.status == 503 {
            answer.problem(503);
            let pause: u32 = answer.header("retry-after").parse().expect("seconds");
            assert!((1..=60).contains(&pause), "{pause}");
        }
        (id, answer)
    };
    let answers: Vec<(usize, Answer)> = join_all((0..POSTS).map(post)).await;
    drop(strace);
    let accepted: BTreeSet<String> =
        answers.iter().filter(|(_, answer)| answer.status == 200).map(|(id, _)| id.to_string()).collect();
    let refused = answers.iter().filter(|(_, answer)| answer.status == 503).count();
    println!("{} accepted, {refused} refused", accepted.len());
    assert!(accepted.len() + refused == POSTS && refused > 0 && accepted.len() > 1000);
    let mut heard = BTreeSet::new();
    for _ in 0..accepted.len() {
        assert!(heard.insert(client.publication().await.as_str().unwrap().to_owned()), "nothing comes twice");
    }
    assert_eq!(heard, accepted);
    server.publish(post_body("US", "last")).await;
    assert_eq!(client.publication().await, "last");
}

#[tokio::test]
#[ignore = "needs strace"]
async fn a_sync_that_fails_refuses_posts_until_syncs_succeed() {
    let server = Server::start(&FLAGS).await;
    let strace = Cell::new(None);
    let fail = |server: &Server| strace.set(Some(Strace::thread(server, WRITER, &format!("{SYNCS}:error=EIO"))));
    survives(server, fail, |_| drop(strace.take())).await;
}

#[tokio::test]
#[ignore = "needs strace"]
async fn a_post_that_could_not_be_synced_is_published_once_whatever_the_log_kept_of_it() {
    let mut server = Server::start(&FLAGS).await;
    server.publish(post_body("US", 1)).await;
    let strace = Strace::thread(&server, WRITER, &format!("{SYNCS}:error=EIO"));
    let mut client = Messages::of_socket(&server).await;
    let post =
        async |server: &Server| server.post_with(&[AUTHORIZED, ("idempotency-key", "key-2")], post_body("US", 2)).await;
    assert_eq!(post(&server).await.status, 503);
    // It was not published, so nobody heard of it.
    client.beats(3).await;
    server.kill().await;
    drop(strace);
    server.restart().await;
    assert_eq!(post(&server).await.status, 200);
    let page = server.notifications("").await;
    let ids: Vec<&Value> = page["notifications"].as_array().unwrap().iter().map(|it| &it["videos"][0]["id"]).collect();
    assert_eq!(ids, ["2", "1"]);
}

#[tokio::test]
#[ignore = "needs strace"]
async fn a_history_that_can_not_be_read_is_followed_on_once_it_can() {
    let mut server = Server::start(&FLAGS).await;
    let mut clients = [Messages::of_socket(&server).await, Messages::of_events(&server).await];
    server.publish(post_body("US", 1)).await;
    for client in &mut clients {
        assert_eq!(client.publication().await, "1");
    }

    let strace = Strace::process(&server, "pread64:error=EIO");
    // The writer knows all that it needs, so posts are durable, and nobody hears of them yet.
    for id in 2..=3 {
        server.publish(post_body("US", id)).await;
    }
    server.logged("the history can't be followed").await;
    assert_eq!(server.get("/healthz").await.status(), 200);
    assert_eq!(server.get("/readyz").await.status(), 503);
    for client in &mut clients {
        client.beats(3).await;
    }
    drop(strace);
    server.publish(post_body("US", 4)).await;
    for client in &mut clients {
        for id in 2..=4 {
            assert_eq!(client.publication().await, id.to_string());
        }
    }
    assert_eq!(server.get("/readyz").await.status(), 200);
}

#[tokio::test]
#[ignore = "needs strace"]
async fn a_successor_begins_once_a_slow_disk_has_the_history_closed() {
    let data = Arc::new(tempfile::tempdir().unwrap());
    let mut first = Setup::in_folder(data.clone(), &["--drain", "100ms"]).start().await;
    first.publish(post_body("US", 1)).await;
    let log = first.data_dir().join("history.db-wal");
    let length = || fs::metadata(&log).expect("a log").len();
    let before = length();

    // For longer than a locked database is waited for.
    let strace = Strace::thread(&first, WRITER, &format!("{SYNCS}:delay_enter=2000000"));
    let post = tokio::spawn(first.request(Method::POST, "/notify").bearer_auth(TOKEN).body(post_body("US", 2)).send());
    let is_written = async {
        while length() == before {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(PATIENCE, is_written).await.expect("the post gets as far as its sync");
    first.signal(Signal::TERM);
    let second = Setup::in_folder(data, &[]).start().await;
    assert_eq!(first.ended().await, Some(0));
    drop(strace);
    assert!(post.await.unwrap().is_err(), "the end did not wait for the disk");
    // It was not answered, but all the same it is whole.
    let receipt = second.publish(post_body("US", 2)).await;
    assert_eq!(receipt["deduplicated"], true);
    second.publish(post_body("US", 3)).await;
}

/// How many of a server's descriptors are of its history.
fn descriptors(server: &Server) -> usize {
    let all = fs::read_dir(format!("/proc/{}/fd", server.id())).expect("the server runs");
    let files = all.flatten().filter_map(|descriptor| fs::read_link(descriptor.path()).ok());
    files.filter(|file| file.starts_with(server.data_dir()) && !file.is_dir()).count()
}

#[tokio::test]
#[ignore = "needs strace"]
async fn however_many_ask_whether_it_is_ready_and_however_slow_reads_are_one_reader_is_opened() {
    let server = Server::start(&FLAGS).await;
    server.publish(post_body("US", 1)).await;
    let before = descriptors(&server);
    let strace = Strace::process(&server, "pread64:delay_enter=300000");
    let http = client_that_keeps_nothing();
    // Most of them do not wait for the answer.
    let ask = async || http.get(server.url("/readyz")).timeout(Duration::from_millis(500)).send().await;
    for _ in 0..3 {
        join_all((0..60).map(|_| ask())).await;
        // The file and its log.
        assert!(descriptors(&server) <= before + 2, "{before} before, {}", descriptors(&server));
    }
    drop(strace);
    assert_eq!(server.get("/readyz").await.status(), 200);
    assert!(descriptors(&server) <= before + 2, "{before} before, {}", descriptors(&server));
}
