//! Panics of ours, in a handler and where the hub follows the history: who was served at that moment is told to try
//! again, and nobody else notices. (One in a connection: `transport/shard.rs`, and the simulation.)
//!
//! The server runs in this process, over real sockets and a history that panics when it is told to.

use std::{
    ffi::OsString,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures_util::{StreamExt, stream::BoxStream};
use tokio::task::JoinHandle;
use tokio_tungstenite::connect_async;
use video_notifier::{
    app::App,
    config::{CommandLine, Listen},
    history::{Append, AppendError, Head, History, HistoryError, Page, Retention, Tailed, memory::MemoryHistory},
    position::Position,
    publication::Receipt,
    server::Listener,
    shutdown::Shutdown,
};

use crate::support::{Answer, Socket, post_body, server::AUTHORIZED};

#[tokio::test]
async fn a_panic_in_a_handler_is_a_500_for_whoever_asked_and_nothing_to_all_others() {
    let server = InProcess::start().await;
    let mut client = server.listen().await;
    assert_eq!(server.post(1).await.status, 200);
    server.history.break_appends.store(true, Ordering::SeqCst);
    for _ in 0..3 {
        assert_eq!(server.post(2).await.problem(500), "Internal error");
    }
    assert_eq!(server.get("/healthz").await.status, 200);
    server.history.break_appends.store(false, Ordering::SeqCst);
    assert_eq!(server.post(2).await.status, 200);
    for id in ["1", "2"] {
        assert_eq!(client.publication().await["videos"][0]["id"], id);
    }
    server.end().await;
}

#[tokio::test]
async fn a_hub_that_panics_follows_on_from_where_it_was() {
    let server = InProcess::start().await;
    let mut client = server.listen().await;
    assert_eq!(server.post(1).await.status, 200);
    for id in 2..=4 {
        server.history.break_tail.store(true, Ordering::SeqCst);
        assert_eq!(server.post(id).await.status, 200, "it is in the history");
    }
    for id in 1..=4 {
        assert_eq!(client.publication().await["videos"][0]["id"], id.to_string());
    }
    assert!(!server.history.break_tail.load(Ordering::SeqCst), "the hub met it");
    server.end().await;
}

/// A server within the test's process.
struct InProcess {
    address: String,
    history: Breakable,
    shutdown: Shutdown,
    running: JoinHandle<()>,
}

impl InProcess {
    async fn start() -> Self {
        let flags = ["video-notifier", "--history", "memory", "--token", "test-token"].map(OsString::from);
        let config = CommandLine::read(flags).expect("good flags").config;
        let hour = Duration::from_secs(3600);
        let history = Breakable {
            inner: MemoryHistory::new(Retention { max_count: 100, max_age: hour, dedup_window: hour }),
            break_appends: Arc::default(),
            break_tail: Arc::default(),
        };
        let app = App::over(Arc::new(history.clone()), &config, 1000).await.expect("a server");
        let listener = Listener::bind(&Listen::Tcp("127.0.0.1:0".parse().unwrap())).expect("a port");
        let address = listener.address().to_string();
        let shutdown = app.shutdown.clone();
        Self { address, history, shutdown, running: tokio::spawn(app.run(vec![listener])) }
    }

    async fn listen(&self) -> Socket {
        let (stream, _) = connect_async(format!("ws://{}/ws", self.address)).await.expect("the handshake succeeds");
        Socket { stream }
    }

    async fn get(&self, path: &str) -> Answer {
        let request = client().get(format!("http://{}{path}", self.address));
        Answer::of(request.send().await.expect("the server answers")).await
    }

    async fn post(&self, id: u32) -> Answer {
        let post = client().post(format!("http://{}/notify", self.address)).header(AUTHORIZED.0, AUTHORIZED.1);
        Answer::of(post.body(post_body("US", id)).send().await.expect("the server answers")).await
    }

    async fn end(self) {
        self.shutdown.start();
        self.running.await.expect("it ends in good order");
    }
}

fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().expect("a client")
}

/// A history with faults that are none of errors.
#[derive(Clone)]
struct Breakable {
    inner: MemoryHistory,
    break_appends: Arc<AtomicBool>,
    /// At the next that it tells, once.
    break_tail: Arc<AtomicBool>,
}

#[async_trait]
impl History for Breakable {
    async fn append(&self, append: Append) -> Result<Receipt, AppendError> {
        assert!(!self.break_appends.load(Ordering::SeqCst), "a fault that a test has planted");
        self.inner.append(append).await
    }

    async fn head(&self) -> Result<Head, HistoryError> {
        self.inner.head().await
    }

    async fn read(&self, after: Position, limit: usize) -> Result<Page, HistoryError> {
        self.inner.read(after, limit).await
    }

    fn tail(&self, after: Position) -> BoxStream<'static, Result<Tailed, HistoryError>> {
        let break_tail = self.break_tail.clone();
        let told = self.inner.tail(after).inspect(move |_| {
            assert!(!break_tail.swap(false, Ordering::SeqCst), "a fault that a test has planted");
        });
        Box::pin(told)
    }
}
