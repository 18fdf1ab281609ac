//! `kill -9` at each step that a history takes on the disk: its creation, appends, trims, and the cleaning up of its log.
//!
//! A step is a system call that changes a file. For each kind of them the server is killed before its first, before its
//! second, and so on, until there is none left to be hit.

use std::{fs, path::Path, process::Stdio, sync::Arc};

use futures_util::{StreamExt, future::join_all};
use reqwest::Method;
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
    task::JoinHandle,
    time::timeout,
};
use tokio_tungstenite::tungstenite::Message;

use crate::support::{
    Server, Setup, Socket,
    server::{PATIENCE, TOKEN, command},
    strace::Strace,
};

/// What changes a file, or tells others that one has changed. `?`: not every architecture has all of them.
const STEPS: [&str; 7] = ["pwrite64", "fsync", "fdatasync", "ftruncate", "?unlink", "?rename", "write"];

/// How many runs go on at a time.
const AT_ONCE: u32 = 4;

/// Few enough are kept that each post trims, and enough for all that a run posts.
const FLAGS: [&str; 2] = ["--history-max-count", "6"];

/// What a run posts: the log is cleaned up by one of them and begun again by the next.
const POSTS: u64 = 4;

/// SQLite cleans the log up once it is so long (`wal_autocheckpoint`), in pages.
const LOG_PAGES: u64 = 1000;

/// A page and its header in the log, in bytes.
const LOG_FRAME: u64 = 4096 + 24;

#[tokio::test]
#[ignore = "needs strace"]
async fn a_kill_at_any_step_of_a_post_loses_and_doubles_nothing() {
    let template = Template::create().await;
    let mut hits = Vec::new();
    for step in STEPS {
        let run = async |when| template.run(step, when).await;
        hits.push((step, count_hits(run).await));
    }
    println!("killed before: {hits:?}");
    let hit = |step| hits.iter().any(|(name, hits)| *name == step && *hits > 0);
    assert!(hit("pwrite64") && (hit("fsync") || hit("fdatasync")), "nothing was hit: {hits:?}");
}

#[tokio::test]
#[ignore = "needs strace"]
async fn a_kill_at_any_step_of_the_first_start_leaves_what_can_be_started_again() {
    let mut hits = Vec::new();
    for step in STEPS {
        hits.push((step, count_hits(async |when| start_once(step, when).await).await));
    }
    println!("killed before: {hits:?}");
    assert!(hits.iter().any(|(name, hits)| *name == "pwrite64" && *hits > 10), "nothing was hit: {hits:?}");
}

/// Runs for each of 1, 2, 3 ... until one is not hit; answers how many were.
async fn count_hits(run: impl AsyncFn(u32) -> bool) -> u32 {
    for first in (1..).step_by(AT_ONCE as usize) {
        let hits = join_all((first..first + AT_ONCE).map(|when| run(when))).await;
        if let Some(missed) = hits.iter().position(|hit| !hit) {
            return first - 1 + missed as u32;
        }
    }
    unreachable!("there is always another")
}

/// A history that a kill left just before its log is cleaned up.
struct Template {
    files: TempDir,
    epoch: String,
    head: u64,
}

impl Template {
    async fn create() -> Self {
        let mut server = Server::start(&[&FLAGS[..], &["--post-rate-per-ip", "1000"]].concat()).await;
        let log = server.data_dir().join("history.db-wal");
        let mut last = Value::Null;
        for id in 0.. {
            // Two posts before the end: each writes up to a dozen pages.
            if fs::metadata(&log).expect("a log").len() > (LOG_PAGES - 16) * LOG_FRAME {
                break;
            }
            last = server.publish(body(&format!("before-{id}"))).await["id"].clone();
        }
        server.kill().await;
        let files = tempfile::tempdir().unwrap();
        copy(server.data_dir(), files.path());
        let (epoch, head) = split(&last);
        Self { files, epoch, head }
    }

    /// Posts until the thread that writes is killed before its step number `when`, and checks what is left. Whether it
    /// was killed: else all was posted, and the server ended in good order.
    async fn run(&self, step: &str, when: u32) -> bool {
        let what = format!("{step} {when}");
        let folder = Arc::new(tempfile::tempdir().unwrap());
        copy(self.files.path(), folder.path());
        let mut server = Setup::in_folder(folder, &FLAGS).start().await;
        let log = server.data_dir().join("history.db-wal");
        let salt = || fs::read(&log).expect("a log")[16..24].to_owned();
        let before = salt();
        let client = listen(&server).await;
        let strace = Strace::thread(&server, "history", &format!("{step}:signal=KILL:when={when}"));
        let mut receipts = Vec::new();
        for id in 1..=POSTS {
            let Some(receipt) = post(&server, id).await else { break };
            receipts.push(receipt);
        }
        if receipts.len() as u64 == POSTS {
            assert_ne!(salt(), before, "{what}: the log was not cleaned up");
            server.signal(Signal::TERM);
        }
        let killed = server.ended().await.is_none();
        drop(strace);
        let heard = client.await.expect("a client that does not panic");
        server.restart().await;
        self.check(&server, &receipts, &heard, &what).await;
        killed
    }

    async fn check(&self, server: &Server, receipts: &[Value], heard: &[Value], what: &str) {
        // Whatever was answered is there; the one post that was not, at most once.
        let there = self.published(server, what).await;
        assert!((receipts.len()..=receipts.len() + 1).contains(&there.len()), "{what}: {receipts:?}, {there:?}");
        for (receipt, publication) in receipts.iter().zip(&there) {
            assert_eq!(receipt["id"], publication["id"], "{what}");
        }
        // Nobody has heard what is not there.
        assert!(heard.len() <= there.len(), "{what}: {heard:?}, {there:?}");
        assert_eq!(heard, &there[..heard.len()], "{what}");

        let since = heard.last().map_or(format!("{}-{}", self.epoch, self.head), |last| text(&last["id"]));
        let (mut client, hello) = Socket::open(server, &format!("?since={since}")).await;
        assert_eq!(hello["recovered"], true, "{what}");
        let mut after = heard.to_vec();
        for id in 1..=POSTS {
            let receipt = post(server, id).await.expect("an answer");
            let known = there.get(id as usize - 1);
            assert_eq!(receipt["deduplicated"], known.is_some(), "{what}: {receipt}");
            assert!(known.is_none_or(|known| known["id"] == receipt["id"]), "{what}: {receipt}");
        }
        while after.len() < POSTS as usize {
            after.push(client.publication().await);
        }
        assert_eq!(after, self.published(server, what).await, "{what}");
    }

    /// What came after the template, oldest first: nothing but a run's first posts, each whole, without a hole.
    async fn published(&self, server: &Server, what: &str) -> Vec<Value> {
        let page = server.notifications("?limit=100").await;
        let mut all = page["notifications"].as_array().expect("a list").clone();
        all.reverse();
        assert_eq!(all.len(), 6, "{what}: {page}");
        let new = all.split_off(all.iter().position(|it| split(&it["id"]).1 > self.head).unwrap_or(all.len()));
        for (publication, id) in new.iter().zip(1..) {
            assert_eq!(publication["id"], format!("{}-{}", self.epoch, self.head + id), "{what}");
            let videos: Value = serde_json::from_str::<Value>(&body(&id.to_string())).unwrap()["videos"].clone();
            assert_eq!((&publication["region"], &publication["videos"]), (&json!("US"), &videos), "{what}");
        }
        new
    }
}

/// Starts a server that is killed before its step number `when`, then one that is not. Whether the first was hit.
async fn start_once(step: &str, when: u32) -> bool {
    let folder = Arc::new(tempfile::tempdir().unwrap());
    // The thread that starts also makes the history and the token; strace follows no other.
    let mut strace = Command::new("strace");
    strace.args(["-D", "-qqq", "-o", "/dev/null", &format!("--trace={step}")]);
    strace.arg(format!("--inject={step}:signal=KILL:when={when}"));
    strace.arg(command().as_std().get_program()).args(["--listen", "127.0.0.1:0", "--data-dir"]).arg(folder.path());
    let mut child = strace.stderr(Stdio::piped()).kill_on_drop(true).spawn().expect("strace is installed");
    let mut log = BufReader::new(child.stderr.take().expect("it is piped")).lines();
    let first = timeout(PATIENCE, log.next_line()).await.expect("a line or an end in time").expect("text");
    let killed = first.is_none();
    assert!(first.is_none_or(|line| line.contains("listening on")), "{step} {when}");
    child.kill().await.expect("it can be killed");

    let mut server = Setup::in_folder(folder, &[]).no_token().start().await;
    let token = fs::read_to_string(server.data_dir().join("notify.token")).unwrap();
    let receipt = post_with(&server, token.trim(), 1).await.expect("an answer");
    assert_eq!(split(&receipt["id"]).1, 1, "{step} {when}");
    server.kill().await;
    server.restart().await;
    let page = server.notifications("").await;
    assert_eq!((&page["position"], &page["notifications"][0]["id"]), (&receipt["id"], &receipt["id"]), "{step} {when}");
    killed
}

fn body(id: &str) -> String {
    json!({"region": "US", "videos": [{"id": id, "title": "Title ".repeat(20)}]}).to_string()
}

/// The receipt; none where the server is gone before it answers.
async fn post(server: &Server, id: u64) -> Option<Value> {
    post_with(server, TOKEN, id).await
}

/// With a key or, for each second one, without.
async fn post_with(server: &Server, token: &str, id: u64) -> Option<Value> {
    let mut post = server.request(Method::POST, "/notify").bearer_auth(token).body(body(&id.to_string()));
    if id.is_multiple_of(2) {
        post = post.header("Idempotency-Key", format!("key-{id}"));
    }
    let response = post.timeout(PATIENCE).send().await.ok()?;
    assert_eq!(response.status(), 200);
    response.json().await.ok()
}

/// All publications that a client gets until the server is gone.
async fn listen(server: &Server) -> JoinHandle<Vec<Value>> {
    let (mut socket, _) = Socket::open(server, "").await;
    tokio::spawn(async move {
        let mut heard = Vec::new();
        while let Some(Ok(message)) = socket.stream.next().await {
            let Message::Text(text) = message else { continue };
            let message: Value = serde_json::from_str(&text).expect("JSON");
            if message["type"] == "new_trending" {
                heard.push(message);
            }
        }
        heard
    })
}

/// A history's files, without what only a running process needs.
fn copy(from: &Path, to: &Path) {
    for name in ["history.db", "history.db-wal"] {
        fs::copy(from.join(name), to.join(name)).expect("it can be copied");
    }
}

/// Epoch and offset.
fn split(position: &Value) -> (String, u64) {
    let (epoch, offset) = position.as_str().and_then(|text| text.split_once('-')).expect("a position");
    (epoch.to_owned(), offset.parse().expect("an offset"))
}

fn text(value: &Value) -> String {
    value.as_str().expect("text").to_owned()
}
