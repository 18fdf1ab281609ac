//! Faults of the disk: posts are refused for the while, clients stay, and all goes on once the fault is gone.

use std::{fs, io::Write, path::Path, process::Command, sync::Arc, time::Duration};

use reqwest::{Method, Response};
use rusqlite::Connection;
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde_json::Value;
use tokio::{sync::mpsc, time::timeout};

use crate::support::{
    EventStream, Mount, Server, Setup, Socket, post_body,
    process::contents,
    server::{PATIENCE, TOKEN},
    skip,
};

const FLAGS: [&str; 2] = ["--heartbeat", "200ms"];

async fn post(server: &Server, id: u32) -> Response {
    let post =
        server.request(Method::POST, "/notify").bearer_auth(TOKEN).header("Idempotency-Key", format!("key-{id}"));
    // Large enough that a disk is soon full.
    let body = post_body("US", id).replace("Video", &"Video ".repeat(600));
    post.body(body).send().await.expect("the server answers")
}

/// What a client gets, read as it comes: one that does not read is not there for its heartbeats.
pub struct Messages(mpsc::UnboundedReceiver<Value>);

impl Messages {
    pub async fn of_socket(server: &Server) -> Self {
        Self::of(Socket::open(server, "").await.0)
    }

    pub fn of(mut socket: Socket) -> Self {
        Self::forward(async move |sender| while sender.send(socket.message().await).is_ok() {})
    }

    pub async fn of_events(server: &Server) -> Self {
        let mut events = EventStream::connect(server, "").await;
        Self::forward(async move |sender| {
            while let Some(event) = events.event().await
                && sender.send(event.data).is_ok()
            {}
        })
    }

    fn forward<F>(read: impl FnOnce(mpsc::UnboundedSender<Value>) -> F) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (sender, receiver) = mpsc::unbounded_channel();
        tokio::spawn(read(sender));
        Self(receiver)
    }

    pub async fn next(&mut self, kind: &str) -> Value {
        loop {
            let message = timeout(PATIENCE, self.0.recv()).await.expect("a message in time");
            let message = message.expect("the client stays connected");
            if message["type"] == kind {
                return message;
            }
        }
    }

    pub async fn publication(&mut self) -> Value {
        self.next("new_trending").await["videos"][0]["id"].clone()
    }

    /// Heartbeats from now on.
    pub async fn beats(&mut self, count: usize) {
        while self.0.try_recv().is_ok_and(|message| message["type"] != "new_trending") {}
        for _ in 0..count {
            self.next("heartbeat").await;
        }
    }
}

/// Ids of what the server has, oldest first.
async fn published(server: &Server) -> Vec<String> {
    let page: Value = server.get("/notifications?limit=100").await.json().await.expect("JSON");
    let notifications = page["notifications"].as_array().expect("a list").iter().rev();
    notifications.map(|it| it["videos"][0]["id"].as_str().expect("an id").to_owned()).collect()
}

/// The scenario that all faults share: clients are connected, posts are made, the fault comes and goes.
pub async fn survives(mut server: Server, fault: impl FnOnce(&Server), mend: impl FnOnce(&Server)) {
    /// No fault lets so many posts pass.
    const MOST: u32 = 60;

    let mut clients = [Messages::of_socket(&server).await, Messages::of_events(&server).await];
    let mut accepted = Vec::new();
    for id in 1..=3 {
        assert_eq!(post(&server, id).await.status(), 200);
        accepted.push(id.to_string());
    }

    fault(&server);
    let mut refused = 4;
    let refusal = loop {
        let response = post(&server, refused).await;
        if response.status() != 200 {
            break response;
        }
        accepted.push(refused.to_string());
        refused += 1;
        assert!(refused < MOST, "the fault does not show");
    };
    assert_eq!(refusal.status(), 503);
    let pause = refusal.headers()["retry-after"].to_str().unwrap().parse::<u32>().expect("seconds");
    assert!(pause > 0);
    assert_eq!(refusal.headers()["content-type"], "application/problem+json");
    // Asking again does not make it true.
    assert_eq!(post(&server, refused).await.status(), 503);
    assert_eq!(server.get("/healthz").await.status(), 200);

    for client in &mut clients {
        for id in &accepted {
            assert_eq!(client.publication().await, *id);
        }
        client.beats(3).await;
    }

    mend(&server);
    let works = async {
        loop {
            let response = post(&server, refused).await;
            match response.status().as_u16() {
                200 => break response,
                503 => tokio::time::sleep(Duration::from_millis(20)).await,
                other => panic!("{other}"),
            }
        }
    };
    let receipt = timeout(PATIENCE, works).await.expect("posting works again").json::<Value>().await.unwrap();
    assert_eq!(receipt["deduplicated"], false, "what was refused had been published");
    accepted.push(refused.to_string());
    assert_eq!(post(&server, refused + 1).await.status(), 200);
    accepted.push((refused + 1).to_string());
    for client in &mut clients {
        for id in &accepted[accepted.len() - 2..] {
            assert_eq!(client.publication().await, *id);
        }
    }
    assert_eq!(published(&server).await, accepted);
    server.kill().await;
    server.restart().await;
    assert_eq!(published(&server).await, accepted);
}

#[tokio::test]
async fn a_full_disk_refuses_posts_until_there_is_room() {
    let data = Arc::new(tempfile::tempdir().unwrap());
    let Some(mount) = Mount::memory(data.path(), 400) else { return };
    let server = Setup::in_folder(data.clone(), &FLAGS).start().await;
    let filler = data.path().join("filler");
    let fill = |_: &Server| {
        let mut file = fs::File::create(&filler).unwrap();
        while file.write_all(&[0; 4096]).is_ok() {}
    };
    survives(server, fill, |_| fs::remove_file(&filler).unwrap()).await;
    drop(mount);
}

#[tokio::test]
async fn a_write_that_fails_refuses_posts_until_writes_succeed() {
    // Files may not grow, which is an error like any other where the signal is ignored.
    let server = Setup::new(&FLAGS).shell("trap '' XFSZ").start().await;
    let limit = |server: &Server, current| {
        let process = Pid::from_raw(server.id() as i32);
        prlimit(process, Resource::Fsize, Rlimit { current, maximum: None }).expect("a limit");
    };
    survives(server, |server| limit(server, Some(1)), |server| limit(server, None)).await;
}

#[tokio::test]
async fn a_read_only_history_refuses_posts_until_it_can_be_written() {
    let server = Server::start(&FLAGS).await;
    let set = |server: &Server, flag: &str| {
        let files = ["history.db", "history.db-wal"].map(|name| server.data_dir().join(name));
        Command::new("chattr").arg(flag).args(files).output().is_ok_and(|output| output.status.success())
    };
    // As a file system that went read-only does, this fails the writes of files that are open.
    if !(set(&server, "+i") && set(&server, "-i")) {
        return skip("chattr (root, on ext4 or the like)");
    }
    survives(server, |server| assert!(set(server, "+i")), |server| assert!(set(server, "-i"))).await;
}

#[tokio::test]
async fn a_locked_history_refuses_posts_until_it_is_free() {
    let server = Server::start(&FLAGS).await;
    let other = Connection::open(server.data_dir().join("history.db")).unwrap();
    let lock = |_: &Server| other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    survives(server, lock, |_| other.execute_batch("ROLLBACK").unwrap()).await;
}

#[tokio::test]
async fn a_history_that_is_moved_away_refuses_posts_until_it_is_back() {
    let server = Server::start(&FLAGS).await;
    let aside = tempfile::tempdir_in(server.data_dir().parent().unwrap()).unwrap();
    let carry = |from: &Path, to: &Path| {
        for path in contents(from).into_keys() {
            fs::rename(&path, to.join(path.file_name().unwrap())).unwrap();
        }
    };
    // Whoever asks is told, so that somebody looks after it.
    assert_eq!(server.get("/readyz").await.status(), 200);
    carry(server.data_dir(), aside.path());
    assert_eq!(server.get("/readyz").await.status(), 503);
    carry(aside.path(), server.data_dir());
    assert_eq!(server.get("/readyz").await.status(), 200);
    let away = |server: &Server| carry(server.data_dir(), aside.path());
    survives(server, away, |server| carry(aside.path(), server.data_dir())).await;
}

#[tokio::test]
async fn a_history_that_is_deleted_is_not_replaced_by_another() {
    let mut server = Server::start(&FLAGS).await;
    let (mut socket, hello) = Socket::open(&server, "").await;
    assert_eq!(post(&server, 1).await.status(), 200);
    let id = socket.publication().await["id"].as_str().unwrap().to_owned();
    for path in contents(server.data_dir()).into_keys() {
        fs::remove_file(path).unwrap();
    }
    for _ in 0..3 {
        assert_eq!(post(&server, 2).await.status(), 503, "durable in a file that is gone");
    }
    assert_eq!(socket.message().await["type"], "heartbeat");
    // It does not heal by itself: whoever restarts what is not ready has to know.
    assert_eq!(server.get("/readyz").await.status(), 503);
    assert_eq!(server.get("/healthz").await.status(), 200);
    assert!(contents(server.data_dir()).is_empty());

    // The next start draws another epoch, so nobody takes the old positions for its own.
    server.kill().await;
    server.restart().await;
    let (_, fresh) = Socket::open(&server, &format!("?since={id}")).await;
    assert_eq!(fresh["recovered"], false);
    let epoch = |position: &Value| position.as_str().unwrap().split_once('-').unwrap().0.to_owned();
    assert_ne!(epoch(&fresh["position"]), epoch(&hello["position"]));
    assert_eq!(server.get("/readyz").await.status(), 200);
}
