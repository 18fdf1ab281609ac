//! Days in minutes: clients come, go, vanish and stall, strangers write what nobody may, the disk fails now and then and
//! the process stands still, while posts go on. What the server holds must not grow by it, nor what it does at rest.
//!
//! Two minutes unless `SOAK_MINUTES` says otherwise (`tests/soak 240` for a night).

use std::{
    fs,
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::StreamExt;
use rusqlite::Connection;
use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit};
use serde_json::Value;
use tokio::{
    io::AsyncWriteExt,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_tungstenite::tungstenite::Message;

use crate::support::{
    EventStream, Server, Setup, Socket,
    attacks::random_request,
    random::Random,
    raw::Raw,
    server::{PATIENCE, client_that_keeps_nothing},
};

const SOCKETS: usize = 400;
const STREAMS: usize = 50;
/// Clients that come and go at a time.
const CHURNERS: usize = 50;
/// Clients of each round that stop reading once they are in, of each transport.
const STALLED: usize = 15;
/// So long they do; then all of them leave, and what is left is looked at.
const ROUND: Duration = Duration::from_secs(10);
const POST_EVERY: Duration = Duration::from_millis(50);
/// One of so many is long, so that who does not read is soon full.
const LONG_POST_EVERY: u64 = 5;

/// As many publications as are kept. They are posted before anything is measured.
const HISTORY: &str = "300";

/// Nobody is kept out, though all have one address.
const FLAGS: [&str; 12] = [
    "--max-connections-per-ip",
    "5000",
    "--handshake-rate-per-ip",
    "5000",
    "--replay-rate-per-ip",
    "1000000",
    "--history-max-count",
    HISTORY,
    "--dedup-window",
    "5s",
    "--heartbeat",
    "2s",
];

/// The least that can be compared. The first third of all fills what is kept on purpose: the broadcast, the database's
/// caches of pages, pools of the allocator and of the runtime.
const ROUNDS: usize = 9;

/// What the allocator may keep more at one time than at another, however long it all takes.
const MEMORY_SLACK_KIB: u64 = 1024;

/// So long the server is watched when nothing happens but heartbeats: longer than the runtime keeps threads that have
/// nothing to do.
const REST: Duration = Duration::from_secs(12);
const REST_SLACK: Duration = Duration::from_millis(100);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes"]
async fn a_long_time_of_comings_and_goings_leaves_nothing_behind() {
    let minutes: u64 = std::env::var("SOAK_MINUTES").map_or(2, |text| text.parse().expect("SOAK_MINUTES is a number"));
    let end = Instant::now() + Duration::from_secs(60 * minutes);
    let mut random = Random::of_this_run();
    // Where a file may not grow, that is an error like any other.
    let mut server = Setup::new(&FLAGS).shell("trap '' XFSZ").start().await;
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

    let (mut total, mut held, mut rest) = (Done::default(), Vec::new(), Vec::new());
    while total.posts < HISTORY.parse().expect("a number") {
        post(&server, total.posts, &AtomicU64::new(0)).await;
        total.posts += 1;
    }
    while Instant::now() < end || held.len() < ROUNDS {
        let trouble = Trouble::ALL[held.len() % Trouble::ALL.len()];
        let stalled = stalled(&server).await;
        total += round(&server, &mut random, trouble, total.posts).await;
        let all = total.posts * (SOCKETS + STREAMS) as u64;
        until(|| received.load(Ordering::Relaxed) == all, "every client gets everything").await;
        // Those that stall are there still; that they are not counted is the server's doing.
        for (transport, count) in [("websocket", SOCKETS), ("sse", STREAMS)] {
            let name = format!("notifier_connections{{transport=\"{transport}\"}}");
            server.until_metric(&name, |clients| clients == count as f64).await;
        }
        drop(stalled);
        held.push((Held::settled(&server).await, total.visits));
        if held.len() == ROUNDS / 3 {
            rest.push(Rest::watch(&server).await);
        }
    }
    rest.push(Rest::watch(&server).await);
    println!("{total:?}; {rest:.0?} at rest; {held:?}");
    assert!(standing.try_join_next().is_none(), "a client that stays was ended, or got something out of order");
    assert!(total.refused > 0, "no fault of the disk has shown");

    let compared = &held[held.len() / 3..];
    let (early, late) = compared.split_at(compared.len() / 2);
    for (what, of, slack) in [
        ("KiB of memory", (|it: &Held| it.memory_kib) as fn(&Held) -> u64, MEMORY_SLACK_KIB),
        ("descriptors", |it| it.descriptors, 0),
    ] {
        let least = |rounds: &[(Held, u64)]| rounds.iter().map(|(held, _)| of(held)).min().expect("rounds");
        assert!(least(late) <= least(early) + slack, "{what} grow: {} and later {}", least(early), least(late));
    }
    let [early, late] = rest[..] else { panic!("looked at twice") };
    assert!(late.threads <= early.threads, "threads grow: {early:?}, and later {late:?}");
    // A timer that a client leaves behind is nothing that could be counted from here, but it goes off.
    let most = 2 * early.spent + REST_SLACK;
    assert!(late.spent <= most, "at rest it does more and more: {early:?}, and later {late:?}");
}

/// What happened.
#[derive(Debug, Clone, Copy, Default)]
struct Done {
    posts: u64,
    /// Posts that were answered with 503, and made again.
    refused: u64,
    visits: u64,
}

impl std::ops::AddAssign for Done {
    fn add_assign(&mut self, more: Self) {
        *self = Self {
            posts: self.posts + more.posts,
            refused: self.refused + more.refused,
            visits: self.visits + more.visits,
        };
    }
}

/// What goes wrong once in a round, for as long as it takes to show.
#[derive(Debug, Clone, Copy)]
enum Trouble {
    /// The history's files can't grow.
    FullDisk,
    /// Somebody else has the history locked.
    Lock,
    /// The process stands still, as when its container is paused.
    Pause,
}

impl Trouble {
    const ALL: [Self; 3] = [Self::FullDisk, Self::Lock, Self::Pause];

    /// Comes, shows in `refused` posts if it concerns the disk, and goes.
    async fn pass(self, server: &Server, refused: &AtomicU64) {
        let before = refused.load(Ordering::Relaxed);
        let shows = || until(|| refused.load(Ordering::Relaxed) > before, "a post is refused");
        match self {
            Self::FullDisk => {
                let limit = |current| {
                    let process = Pid::from_raw(server.id() as i32);
                    prlimit(process, Resource::Fsize, Rlimit { current, maximum: None }).expect("a limit");
                };
                limit(Some(1));
                shows().await;
                limit(None);
            }
            Self::Lock => {
                let other = Connection::open(server.data_dir().join("history.db")).expect("the history");
                other.execute_batch("BEGIN EXCLUSIVE").expect("a lock");
                shows().await;
                other.execute_batch("ROLLBACK").expect("no lock");
            }
            Self::Pause => {
                server.signal(Signal::STOP);
                sleep(Duration::from_secs(1)).await;
                server.signal(Signal::CONT);
            }
        }
    }
}

/// Clients that take nothing more once they are in; the server is to drop them.
async fn stalled(server: &Server) -> Vec<Raw> {
    let mut stalled = Vec::new();
    for _ in 0..STALLED {
        let mut socket = Raw::connect_small(&server.address).expect("a connection");
        socket.shake_hands("").await;
        let mut stream = Raw::connect_small(&server.address).expect("a connection");
        stream.send("GET /events HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert!(stream.head().await.starts_with("HTTP/1.1 200 "));
        stalled.extend([socket, stream]);
    }
    stalled
}

/// What the server needs while nothing happens.
#[derive(Debug, Clone, Copy)]
struct Rest {
    /// The processor's time, of [`REST`].
    spent: Duration,
    threads: u64,
}

impl Rest {
    async fn watch(server: &Server) -> Self {
        let before = server.processor_time();
        sleep(REST).await;
        Self { spent: server.processor_time() - before, threads: Held::now(server).threads }
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

/// Posts while others come and go and something goes wrong; `first` is the first post's id.
async fn round(server: &Arc<Server>, random: &mut Random, trouble: Trouble, first: u64) -> Done {
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
    let refused = AtomicU64::new(0);
    let posting = async {
        let began = Instant::now();
        let mut posts = 0;
        while began.elapsed() < ROUND {
            post(server, first + posts, &refused).await;
            posts += 1;
            sleep(POST_EVERY).await;
        }
        posts
    };
    let troubling = async {
        sleep(random.millis(1000, 5000)).await;
        trouble.pass(server, &refused).await;
    };
    let (posts, ()) = futures_util::join!(posting, troubling);
    over.store(true, Ordering::Relaxed);
    let visits = timeout(2 * PATIENCE, churners.join_all()).await.expect("all leave").iter().sum();
    Done { posts, refused: refused.into_inner(), visits }
}

/// Posts, again for as long as it is refused.
async fn post(server: &Server, id: u64, refused: &AtomicU64) {
    let title = if id.is_multiple_of(LONG_POST_EVERY) { "long ".repeat(1400) } else { "short".to_owned() };
    let body = format!(r#"{{"region":"US","videos":[{{"id":"{id}","title":"{title}"}}]}}"#);
    loop {
        match server.post(body.clone()).await {
            (200, _) => return,
            (503, _) => refused.fetch_add(1, Ordering::Relaxed),
            (other, answer) => panic!("{other}: {answer}"),
        };
        sleep(POST_EVERY).await;
    }
}

/// One client's life: how it comes, how long it stays, and how it goes is chance.
async fn visit(server: &Server, random: &mut Random) {
    let page = server.notifications("?limit=1").await;
    let since = page["position"].as_str().expect("a position").to_owned();
    let stay = random.millis(0, 300);
    match random.below(9) {
        // Resumes, listens and says goodbye.
        0 | 1 => {
            sleep(stay).await;
            let (mut socket, _) = Socket::open(server, &format!("?since={since}")).await;
            let _ = timeout(stay, async { while socket.stream.next().await.is_some() {} }).await;
            let _ = socket.stream.close(None).await;
        }
        // Leaves with what it was sent unread.
        2 => {
            let (socket, _) = Socket::open(server, "?regions=US").await;
            sleep(stay).await;
            drop(socket);
        }
        3 => {
            let mut stream = EventStream::connect(server, &format!("?since={since}")).await;
            let _ = timeout(stay, stream.publication()).await;
        }
        // Vanishes: all that its end sends is a reset.
        4 => {
            let mut raw = Raw::connect(server).await;
            if random.once_in(2) {
                raw.shake_hands(&format!("?since={since}")).await;
            } else {
                raw.send("GET /events HTTP/1.1\r\nHost: a\r\n\r\n").await;
            }
            sleep(stay).await;
            raw.0.set_zero_linger().expect("an option");
        }
        // Stops in the middle of its request.
        5 => {
            let mut raw = Raw::connect(server).await;
            raw.send("GET /ws HTTP/1.1\r\nHost: x\r\n").await;
            sleep(stay).await;
        }
        // Says what nobody may.
        6 => {
            let (mut socket, _) = Socket::open(server, "").await;
            socket.send(Message::Binary(vec![0; 100].into())).await;
            let _ = socket.closed().await;
        }
        // Guesses, as one of those who guess too often too.
        7 => {
            let whom = Ipv4Addr::new(198, 51, 100, random.below(256) as u8).to_string();
            let guess = format!("Bearer {}", random.next());
            let headers = [("x-forwarded-for", &*whom), ("authorization", &*guess)];
            let answer = server.post_with(&headers, "{}").await;
            assert!(matches!(answer.status, 401 | 429), "{answer:?}");
        }
        // Writes what is no request, or one that makes no sense.
        _ => {
            let mut raw = Raw::connect(server).await;
            // It may be refused before all of it is sent.
            let _ = raw.try_send(&random_request(random)).await;
            let _ = raw.0.shutdown().await;
            raw.ended().await;
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
