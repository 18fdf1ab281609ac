//! Days in minutes: clients come, go, vanish and stall while posts go on. What the server holds must not grow by it.
//!
//! Two minutes unless `SOAK_MINUTES` says otherwise (`tests/soak 240` for a night).

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::StreamExt;
use serde_json::Value;
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_tungstenite::tungstenite::Message;

use crate::support::{
    EventStream, Server, Socket, post_body,
    random::Random,
    raw::Raw,
    server::{PATIENCE, client_that_keeps_nothing},
};

const SOCKETS: usize = 400;
const STREAMS: usize = 50;
/// Clients that come and go at a time.
const CHURNERS: usize = 50;
/// So long they do; then all of them leave, and what is left is looked at.
const ROUND: Duration = Duration::from_secs(10);
const POST_EVERY: Duration = Duration::from_millis(50);

/// As little as fills in the rounds that are not compared.
const FLAGS: [&str; 8] =
    ["--max-connections-per-ip", "5000", "--history-max-count", "300", "--dedup-window", "5s", "--heartbeat", "5s"];

/// The least that can be compared. The first third of all fills what is kept on purpose: the history, the broadcast, the
/// database's cache of pages, pools of the allocator and of the runtime.
const ROUNDS: usize = 9;

/// What the allocator may keep more at one time than at another.
const MEMORY_SLACK_KIB: u64 = 2048;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes"]
async fn a_long_time_of_comings_and_goings_leaves_nothing_behind() {
    let minutes: u64 = std::env::var("SOAK_MINUTES").map_or(2, |text| text.parse().expect("SOAK_MINUTES is a number"));
    let end = Instant::now() + Duration::from_secs(60 * minutes);
    let mut random = Random::of_this_run();
    let mut server = Server::start(&FLAGS).await;
    // Connections that the requests below keep for the next one are descriptors of the server too, a few by chance.
    server.http = client_that_keeps_nothing();
    let server = Arc::new(server);
    let received = Arc::new(AtomicU64::new(0));
    let mut standing = JoinSet::new();
    for _ in 0..SOCKETS {
        let (mut socket, _) = Socket::open(&server, "").await;
        let received = received.clone();
        standing.spawn(async move {
            let mut next = Contiguous::default();
            loop {
                next.take(&socket.publication().await);
                received.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    for _ in 0..STREAMS {
        let mut stream = EventStream::connect(&server, "").await;
        let received = received.clone();
        standing.spawn(async move {
            let mut next = Contiguous::default();
            loop {
                next.take(&stream.publication().await);
                received.fetch_add(1, Ordering::Relaxed);
            }
        });
    }

    let (mut held, mut posted, mut visits) = (Vec::new(), 0, 0);
    while Instant::now() < end || held.len() < ROUNDS {
        let (posts, more) = round(&server, &mut random, posted).await;
        posted += posts;
        visits += more;
        let all = posted * (SOCKETS + STREAMS) as u64;
        until(|| received.load(Ordering::Relaxed) == all, "every client gets everything").await;
        for (transport, count) in [("websocket", SOCKETS), ("sse", STREAMS)] {
            let name = format!("notifier_connections{{transport=\"{transport}\"}}");
            server.until_metric(&name, |clients| clients == count as f64).await;
        }
        held.push(Held::settled(&server).await);
    }
    assert!(standing.try_join_next().is_none(), "a client that stays was ended, or got something out of order");

    println!("{posted} posts, {visits} visits: {held:?}");
    let rest = &held[held.len() / 3..];
    let (early, late) = rest.split_at(rest.len() / 2);
    for (what, of, slack) in [
        ("KiB of memory", (|it: &Held| it.memory_kib) as fn(&Held) -> u64, MEMORY_SLACK_KIB),
        ("descriptors", |it| it.descriptors, 0),
        ("threads", |it| it.threads, 0),
    ] {
        let least = |rounds: &[Held]| rounds.iter().map(of).min().expect("rounds");
        assert!(least(late) <= least(early) + slack, "{what} grow: {} and later {}", least(early), least(late));
    }
}

/// What the process holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Held {
    memory_kib: u64,
    descriptors: u64,
    threads: u64,
}

impl Held {
    fn now(server: &Server) -> Self {
        let folder = format!("/proc/{}", server.id());
        let count = |name: &str| fs::read_dir(format!("{folder}/{name}")).expect("the server runs").count() as u64;
        let memory_kib = server.memory("Pss_Anon") / 1024;
        Self { memory_kib, descriptors: count("fd"), threads: count("task") }
    }

    /// Once descriptors and threads no longer change: those of a store's read or of a request end a moment later.
    async fn settled(server: &Server) -> Self {
        let mut last = Self::now(server);
        let settle = async {
            loop {
                sleep(Duration::from_millis(300)).await;
                let now = Self::now(server);
                if (now.descriptors, now.threads) == (last.descriptors, last.threads) {
                    return now;
                }
                last = now;
            }
        };
        timeout(2 * PATIENCE, settle).await.expect("it comes to rest")
    }
}

/// Checks that publications come one after the other, with none between.
#[derive(Default)]
struct Contiguous(Option<u64>);

impl Contiguous {
    fn take(&mut self, publication: &Value) {
        let id = publication["id"].as_str().expect("an id");
        let offset = id.split_once('-').expect("a position").1.parse().expect("an offset");
        assert!(self.0.is_none_or(|last| offset == last + 1), "{offset} after {:?}", self.0);
        self.0 = Some(offset);
    }
}

/// Posts while others come and go; answers how many posts and visits there were.
async fn round(server: &Arc<Server>, random: &mut Random, first: u64) -> (u64, u64) {
    let over = Arc::new(AtomicBool::new(false));
    let mut churners = JoinSet::new();
    for _ in 0..CHURNERS {
        let (server, mut random, over) = (server.clone(), random.fork(), over.clone());
        churners.spawn(async move {
            let mut visits = 0;
            while !over.load(Ordering::Relaxed) {
                visit(&server, &mut random).await;
                visits += 1;
            }
            visits
        });
    }
    let began = Instant::now();
    let mut posts = 0;
    while began.elapsed() < ROUND {
        server.publish(post_body("US", first + posts)).await;
        posts += 1;
        sleep(POST_EVERY).await;
    }
    over.store(true, Ordering::Relaxed);
    let visits = timeout(2 * PATIENCE, churners.join_all()).await.expect("all leave").iter().sum();
    (posts, visits)
}

/// One client's life: how it comes, how long it stays, and how it goes is chance.
async fn visit(server: &Server, random: &mut Random) {
    let page = server.notifications("?limit=1").await;
    let since = page["position"].as_str().expect("a position").to_owned();
    let stay = random.millis(0, 300);
    match random.below(6) {
        // Resumes, listens and says goodbye.
        0 | 1 => {
            sleep(stay).await;
            let (mut socket, _) = Socket::open(server, &format!("?since={since}")).await;
            let _ = timeout(stay, async { while socket.stream.next().await.is_some() {} }).await;
            let _ = socket.stream.close(None).await;
        }
        // Vanishes, with what it was sent unread: the kernel resets the connection.
        2 => {
            let (socket, _) = Socket::open(server, "?regions=US").await;
            sleep(stay).await;
            drop(socket);
        }
        3 => {
            let mut stream = EventStream::connect(server, &format!("?since={since}")).await;
            let _ = timeout(stay, stream.publication()).await;
        }
        // Stops in the middle of its request, or says what nobody may.
        4 => {
            let mut raw = Raw::connect(server).await;
            raw.send("GET /ws HTTP/1.1\r\nHost: x\r\n").await;
            sleep(stay).await;
        }
        _ => {
            let (mut socket, _) = Socket::open(server, "").await;
            socket.send(Message::Binary(vec![0; 100].into())).await;
            let _ = socket.closed().await;
        }
    }
}

async fn until(done: impl Fn() -> bool, what: &str) {
    let wait = async {
        while !done() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(2 * PATIENCE, wait).await.unwrap_or_else(|_| panic!("not in time: {what}"));
}
