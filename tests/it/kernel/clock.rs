//! The wall clock is stepped both ways under a server that works: only its time stamps may show it.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde_json::{Value, json};
use tempfile::TempDir;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::{sync::watch, task::JoinHandle, time::timeout};

use crate::{
    faults::Messages,
    support::{
        Server, Setup, Socket, post_body,
        server::{AUTHORIZED, PATIENCE},
    },
};

const DAY: i64 = 24 * 60 * 60;

/// How far a time stamp may be from where the test expects it, in seconds.
const NEAR: i64 = 120;

/// The wall clock of a server, which the test sets; what measures durations stays the kernel's.
struct Clock(TempDir);

impl Clock {
    fn new() -> Self {
        let clock = Self(tempfile::tempdir().unwrap());
        clock.set(0);
        clock
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("clock")
    }

    /// So many seconds before or after the true time. In one step: a reader never finds half of it.
    fn set(&self, seconds: i64) {
        let draft = self.0.path().join("draft");
        fs::write(&draft, format!("{seconds:+}\n")).unwrap();
        fs::rename(draft, self.file()).unwrap();
    }

    fn setup(&self, flags: &[&str]) -> Setup {
        Setup::in_folder(Arc::new(tempfile::tempdir().unwrap()), flags)
            .variable("LD_PRELOAD", &library().to_string_lossy())
            .variable("FAKETIME_TIMESTAMP_FILE", &self.file().to_string_lossy())
            .variable("FAKETIME_NO_CACHE", "1")
            .variable("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .variable("DONT_FAKE_MONOTONIC", "1")
            .variable("NO_FAKE_STAT", "1")
    }
}

/// Debian has it in a folder of each architecture.
fn library() -> PathBuf {
    let folders = fs::read_dir("/usr/lib").unwrap().map(|folder| folder.unwrap().path());
    let mut libraries = folders.map(|folder| folder.join("faketime/libfaketimeMT.so.1"));
    libraries.find(|library| Path::exists(library)).expect("faketime is installed")
}

/// How far the server's clock is from the true time, in seconds.
fn ahead(stamp: &Value) -> i64 {
    let stamp = OffsetDateTime::parse(stamp.as_str().expect("a time stamp"), &Rfc3339).expect("RFC 3339");
    (stamp - OffsetDateTime::now_utc()).whole_seconds()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs faketime"]
async fn a_clock_that_steps_a_day_ahead_and_two_back_loses_and_doubles_nothing() {
    let clock = Clock::new();
    // Keeps for less than the clock is stepped by.
    let mut server = clock.setup(&["--history-max-age", "1h", "--wrong-token-rate-per-ip", "1/m"]).start().await;
    let start = text(&server.notifications("").await["position"]);
    let mut clients = [Messages::of_socket(&server).await, Messages::of_events(&server).await];
    let keyed = async |server: &Server| {
        server.post_with(&[AUTHORIZED, ("idempotency-key", "a-key")], post_body("US", "keyed")).await.json()
    };
    let first = [keyed(&server).await, server.publish(post_body("US", "plain")).await];

    let poster = Poster::start(&server);
    for offset in [0, DAY, -DAY] {
        clock.set(offset);
        let (_, hello) = Socket::open(&server, "").await;
        assert!((ahead(&hello["now"]) - offset).abs() < NEAR, "{hello}");
        poster.goes_on().await;
        assert!((ahead(&server.notifications("").await["notifications"][0]["timestamp"]) - offset).abs() < NEAR);
        // Windows did not end, nor does a pause that somebody is asked to make last for days.
        for (receipt, first) in
            [keyed(&server).await, server.publish(post_body("US", "plain")).await].iter().zip(&first)
        {
            assert_eq!((&receipt["id"], &receipt["deduplicated"]), (&first["id"], &json!(true)), "at {offset}");
        }
        let wrong = async || server.post_with(&[("authorization", "Bearer wrong")], "").await;
        let mut refusal = wrong().await;
        while refusal.status == 401 {
            refusal = wrong().await;
        }
        assert_eq!(refusal.status, 429);
        let pause: u64 = refusal.header("retry-after").parse().expect("seconds");
        assert!((1..=60).contains(&pause), "{pause} at {offset}");
    }
    let posted: Vec<Value> =
        first.into_iter().chain(poster.stop().await).map(|receipt| receipt["id"].clone()).collect();
    let (epoch, _) = start.split_once('-').unwrap();
    let all: Vec<Value> = (1..=posted.len()).map(|offset| format!("{epoch}-{offset}").into()).collect();
    assert_eq!(posted, all, "positions only go forward, and none is used twice");
    for client in &mut clients {
        for id in &all {
            assert_eq!(client.next("new_trending").await["id"], *id);
        }
    }

    // And a start under a clock that is behind what the history has seen.
    server.restart().await;
    let (mut back, hello) = Socket::open(&server, &format!("?since={start}")).await;
    assert_eq!(hello["recovered"], true);
    for id in &all {
        assert_eq!(back.publication().await["id"], *id);
    }
    assert_eq!(keyed(&server).await["id"], all[0]);
    assert_eq!(server.publish(post_body("US", "plain")).await["id"], all[1]);
    server.publish(post_body("US", "last")).await;
    assert_eq!(back.publication().await["id"], format!("{epoch}-{}", all.len() + 1));
}

#[tokio::test]
#[ignore = "needs faketime"]
async fn age_is_what_has_passed_and_not_what_the_clock_says() {
    let clock = Clock::new();
    let server = clock.setup(&["--history-max-age", "2s"]).start().await;
    server.publish(post_body("US", 1)).await;
    clock.set(-DAY);
    let emptied = async {
        while server.notifications("").await["notifications"] != json!([]) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, emptied).await.expect("what is too old goes, whatever the clock says");
}

#[tokio::test]
#[ignore = "needs faketime"]
async fn a_start_under_a_clock_that_is_ahead_forgets_what_that_makes_old_and_says_so() {
    let clock = Clock::new();
    let mut server = clock.setup(&["--history-max-age", "1h"]).start().await;
    let start = text(&server.notifications("").await["position"]);
    let first = server.publish(post_body("US", 1)).await;
    // How long a server did not run, only the clock can tell.
    clock.set(DAY);
    server.restart().await;
    let second = server.publish(post_body("US", 2)).await;
    let (_, hello) = Socket::open(&server, &format!("?since={start}")).await;
    assert_eq!((&hello["recovered"], &hello["position"]), (&json!(false), &second["id"]));
    let (mut up_to_date, hello) = Socket::open(&server, &format!("?since={}", text(&first["id"]))).await;
    assert_eq!(hello["recovered"], true);
    assert_eq!(up_to_date.publication().await["id"], second["id"]);

    // Put right, it costs nothing more.
    clock.set(0);
    server.restart().await;
    let (mut back, hello) = Socket::open(&server, &format!("?since={}", text(&first["id"]))).await;
    assert_eq!(hello["recovered"], true);
    let third = server.publish(post_body("US", 3)).await;
    for receipt in [second, third] {
        assert_eq!(back.publication().await["id"], receipt["id"]);
    }
}

/// Posts one after the other until it is told to stop; each must be accepted.
struct Poster {
    stop: watch::Sender<bool>,
    posted: watch::Receiver<usize>,
    receipts: JoinHandle<Vec<Value>>,
}

impl Poster {
    fn start(server: &Server) -> Self {
        let (stop, stopped) = watch::channel(false);
        let (count, posted) = watch::channel(0);
        let (url, http) = (server.url("/notify"), server.http.clone());
        let receipts = tokio::spawn(async move {
            let mut receipts: Vec<Value> = Vec::new();
            while !*stopped.borrow() {
                let post = http.post(&url).header(AUTHORIZED.0, AUTHORIZED.1).body(post_body("US", receipts.len()));
                let response = post.send().await.expect("the server answers");
                assert_eq!(response.status(), 200);
                receipts.push(response.json().await.expect("JSON"));
                count.send_replace(receipts.len());
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            receipts
        });
        Self { stop, posted, receipts }
    }

    /// Waits until twenty more are posted.
    async fn goes_on(&self) {
        let mut posted = self.posted.clone();
        let enough = *posted.borrow() + 20;
        timeout(PATIENCE, posted.wait_for(|count| *count >= enough)).await.expect("posts go on").expect("a poster");
    }

    async fn stop(self) -> Vec<Value> {
        self.stop.send_replace(true);
        self.receipts.await.expect("a poster that does not panic")
    }
}

fn text(value: &Value) -> String {
    value.as_str().expect("text").to_owned()
}
