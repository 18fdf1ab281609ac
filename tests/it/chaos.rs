//! Many clients on a network that fails, and a server that is killed: nothing is missed, nothing comes twice.
//!
//! `CHAOS_SEED=... cargo test --release --test it -- --ignored --test-threads=1` repeats a run as far as the machine
//! does: the choices are the same, their interleaving is the system's.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::StreamExt;
use serde_json::Value;
use tokio::{
    net::TcpStream,
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{Message, protocol::WebSocketConfig},
};

use crate::support::{
    EventStream, Server,
    proxy::Proxy,
    random::Random,
    server::{PATIENCE, TOKEN, client_that_keeps_nothing},
};

const SOCKETS: usize = 1000;
const STREAMS: usize = 100;
const POSTS: u64 = 500;
const REGIONS: [&str; 8] = ["US", "GB", "JP", "DE", "FR", "BR", "IN", "KR"];

/// How long the clients may take to get everything once the network is calm.
const CATCH_UP: Duration = Duration::from_secs(40);

/// How long a client hears nothing before it takes its connection for lost: five heartbeats, longer than any stall.
///
/// A kernel whose process was killed gives a connection with a full window up without a word to its peer, so that
/// some are half open in each run with kills, and only the client can find that.
const SILENCE: Duration = Duration::from_secs(10);

// One address, from which clients are cut off and come back all the time.
const MANY_CLIENTS: [&str; 6] =
    ["--max-connections-per-ip", "5000", "--handshake-rate-per-ip", "5000", "--heartbeat", "2s"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes a minute"]
async fn with_long_retention_every_client_gets_exactly_what_is_its_own() {
    let random = Random::of_this_run();
    let server = Server::start(&MANY_CLIENTS).await;
    let outcome = run(server, random, 100, 0).await;
    outcome.check(None);
    assert!(outcome.cuts > SOCKETS as u64 && outcome.replayed > 1000.0, "too quiet: {}", outcome.figures());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes a minute"]
async fn with_short_retention_every_client_is_told_exactly_when_it_missed_something() {
    let limits = Limits { retention: 50, replay_max: 30 };
    let random = Random::of_this_run();
    let flags = [&MANY_CLIENTS[..], &["--history-max-count", "50", "--replay-max", "30"]].concat();
    let server = Server::start(&flags).await;
    // Long ones, so that the kernel does not hold what retention takes away.
    let outcome = run(server, random, 1000, 0).await;
    outcome.check(Some(limits));
    let lost = outcome.count(|it| matches!(it, Seen::Lost { .. }));
    let (gaps, resumes) =
        (outcome.count(|it| matches!(it, Seen::Gap { .. })), outcome.count(|it| *it == Seen::Resumed));
    assert!(lost > 0 && gaps > 100 && resumes > 100 && outcome.replayed > 1000.0, "too quiet: {}", outcome.figures());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes a minute"]
async fn with_a_server_that_is_killed_nothing_that_was_answered_is_missing_or_doubled() {
    let random = Random::of_this_run();
    let server = Server::start(&MANY_CLIENTS).await;
    let outcome = run(server, random, 100, 10).await;
    outcome.check(None);
    assert!(outcome.repeated > 0 && outcome.cuts > SOCKETS as u64, "too quiet: {}", outcome.figures());
}

/// What a server keeps, and how much it catches a client up on.
#[derive(Clone, Copy)]
struct Limits {
    retention: u64,
    replay_max: usize,
}

/// What all tasks of a run share.
struct World {
    proxy: Proxy,
    http: reqwest::Client,
    /// The epoch, and the offset before the first post.
    start: (String, u64),
    /// Posts that were begun: no history can have more.
    begun: AtomicU64,
    /// Connections that were given up because nothing came.
    silent: AtomicU64,
    /// The last offset, once all is posted, and when to give up: a story without an end is judged like any other.
    end: watch::Sender<Option<(u64, Instant)>>,
}

struct Outcome {
    /// Region and video by offset: what the posters were told.
    published: BTreeMap<u64, (&'static str, String)>,
    clients: Vec<Log>,
    cuts: u64,
    silent: u64,
    /// Posts that were not answered the first time, and those of them that were published all the same.
    repeated: usize,
    unanswered: usize,
    replayed: f64,
    took: Duration,
}

/// One client's story.
struct Log {
    regions: Vec<&'static str>,
    seen: Vec<Seen>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    /// The first hello: all after this offset is to come.
    Start(u64),
    /// Offset and video.
    Publication(u64, String),
    /// A position that was adopted: all up to here was sent before.
    Position(u64),
    /// `recovered: true`.
    Resumed,
    /// `recovered: false`, and the head that was given; no more than `known` publications existed then.
    Gap { head: u64, known: u64 },
    /// Close 4000.
    Lost { known: u64 },
}

/// Runs clients, posts of up to so many words, and kills to their end.
async fn run(mut server: Server, mut random: Random, words: u64, kills: u32) -> Outcome {
    let begin = Instant::now();
    let proxy = Proxy::start(&server.address, random.fork()).await;
    let page: Value = server.get("/notifications").await.json().await.unwrap();
    let (epoch, offset) = split(&page["position"]);
    let http = client_that_keeps_nothing();
    let (end, _) = watch::channel(None);
    let world = Arc::new(World {
        proxy,
        http,
        start: (epoch, offset),
        begun: AtomicU64::new(0),
        silent: AtomicU64::new(0),
        end,
    });

    let mut clients = JoinSet::new();
    for number in 0..SOCKETS + STREAMS {
        clients.spawn(Client::new(number, random.fork(), world.clone()).run());
    }
    let poster = tokio::spawn(post_all(server.url("/notify"), words, random.fork(), world.clone()));
    for _ in 0..kills {
        sleep(random.millis(500, 3500)).await;
        if random.once_in(2) {
            // While a post is under way: it may be durable and not yet answered.
            let begun = world.begun.load(Ordering::SeqCst);
            while world.begun.load(Ordering::SeqCst) == begun && !poster.is_finished() {
                sleep(Duration::from_millis(1)).await;
            }
            sleep(random.millis(0, 8)).await;
        }
        server.kill().await;
        sleep(random.millis(0, 500)).await;
        server.restart().await;
    }
    let posted = poster.await.expect("all is posted");
    let last = posted.last().expect("posts").offset;
    // A little longer, so that some are cut while they catch up on the last.
    sleep(random.millis(500, 1500)).await;
    world.proxy.calm();
    world.end.send_replace(Some((last, Instant::now() + CATCH_UP)));
    let all = async {
        let mut logs = Vec::new();
        while let Some(log) = clients.join_next().await {
            logs.push(log.expect("a client that does not panic"));
        }
        logs
    };
    let logs = timeout(CATCH_UP * 2, all).await.expect("every client ends");
    // Nobody is counted who is gone.
    server.until_metric("notifier_connections{transport=\"websocket\"}", |count| count == 0.0).await;
    server.until_metric("notifier_connections{transport=\"sse\"}", |count| count == 0.0).await;
    let replayed = server.metric("notifier_replayed_total").await;
    let (cuts, silent) = (world.proxy.cuts(), world.silent.load(Ordering::Relaxed));
    let repeated = posted.iter().filter(|it| it.repeated).count();
    let unanswered = posted.iter().filter(|it| it.deduplicated).count();
    let published = posted.into_iter().map(|it| (it.offset, (it.region, it.video))).collect();
    let outcome =
        Outcome { published, clients: logs, cuts, silent, repeated, unanswered, replayed, took: begin.elapsed() };
    println!("{}", outcome.figures());
    outcome
}

/// A post and what its poster was told.
struct Posted {
    offset: u64,
    region: &'static str,
    video: String,
    /// It was not answered the first time.
    repeated: bool,
    /// It had been published all the same.
    deduplicated: bool,
}

/// Posts until each is answered.
async fn post_all(url: String, words: u64, mut random: Random, world: Arc<World>) -> Vec<Posted> {
    let mut posted: Vec<Posted> = Vec::new();
    while (posted.len() as u64) < POSTS {
        let next = posted.len() as u64;
        // Mostly one by one, at times many at once as a fetch ends.
        let burst = if random.once_in(10) { 2 + random.below(18) } else { 1 }.min(POSTS - next);
        let mut posts = JoinSet::new();
        for number in next..next + burst {
            let region = REGIONS[random.below(8) as usize];
            let title = "title ".repeat(1 + random.below(words) as usize);
            posts.spawn(post(url.clone(), number, region, title, random.fork(), world.clone()));
        }
        posted.extend(posts.join_all().await);
        sleep(random.millis(20, 120)).await;
    }
    posted.sort_by_key(|it| it.offset);
    // Offsets have no holes in SQLite: one more would be a post that was published twice.
    let first = world.start.1 + 1;
    assert!(posted.iter().map(|it| it.offset).eq(first..first + POSTS), "a post was published twice, or not at all");
    posted
}

async fn post(
    url: String,
    number: u64,
    region: &'static str,
    title: String,
    mut random: Random,
    world: Arc<World>,
) -> Posted {
    let video = format!("video-{number}");
    let body = format!(r#"{{"region":"{region}","videos":[{{"id":"{video}","title":"{title}"}}]}}"#);
    world.begun.fetch_add(1, Ordering::SeqCst);
    for attempt in 1.. {
        let post = world.http.post(&url).bearer_auth(TOKEN).header("Idempotency-Key", &video).body(body.clone());
        let answer = async {
            let response = post.timeout(Duration::from_secs(5)).send().await.ok()?;
            let status = response.status();
            let answer: Value = response.json().await.ok()?;
            assert!(status == 200 || status == 503, "{answer}");
            (status == 200).then_some(answer)
        };
        if let Some(receipt) = answer.await {
            let (epoch, offset) = split(&receipt["id"]);
            assert_eq!(epoch, world.start.0);
            let (repeated, deduplicated) = (attempt > 1, receipt["deduplicated"] == true);
            assert!(repeated || !deduplicated, "{receipt}");
            return Posted { offset, region, video, repeated, deduplicated };
        }
        sleep(random.millis(20, 150)).await;
    }
    unreachable!("there is always another attempt")
}

struct Client {
    is_stream: bool,
    regions: Vec<&'static str>,
    random: Random,
    world: Arc<World>,
    since: Option<u64>,
    log: Vec<Seen>,
}

impl Client {
    fn new(number: usize, mut random: Random, world: Arc<World>) -> Self {
        let mut regions = REGIONS.to_vec();
        if !random.once_in(4) {
            let keep = 1 + random.below(4) as usize;
            while regions.len() > keep {
                regions.swap_remove(random.below(regions.len() as u64) as usize);
            }
        }
        // Some come late and are behind from the beginning.
        let (since, log) = if random.once_in(2) {
            (Some(world.start.1), vec![Seen::Start(world.start.1)])
        } else {
            (None, Vec::new())
        };
        Self { is_stream: number >= SOCKETS, regions, random, world, since, log }
    }

    async fn run(mut self) -> Log {
        let latest = if self.random.once_in(3) { 20_000 } else { 3_000 };
        sleep(self.random.millis(0, latest)).await;
        while !self.is_done() {
            let connected = timeout(PATIENCE, self.connect()).await;
            if let Some(mut stream) = connected.expect("an answer to a handshake, or an end, in time") {
                let asked = self.since;
                while !self.is_done()
                    && let Some(message) = timeout(SILENCE, stream.next()).await.unwrap_or_else(|_| {
                        self.world.silent.fetch_add(1, Ordering::Relaxed);
                        None
                    })
                {
                    self.take(message, asked);
                }
            }
            if !self.is_done() {
                sleep(self.random.millis(0, 400)).await;
            }
        }
        Log { regions: self.regions, seen: self.log }
    }

    fn is_done(&self) -> bool {
        self.world.end.borrow().is_some_and(|(end, deadline)| self.since >= Some(end) || Instant::now() > deadline)
    }

    async fn connect(&mut self) -> Option<Stream> {
        let epoch = &self.world.start.0;
        let position = self.since.map(|offset| format!("{epoch}-{offset}"));
        let mut query =
            if self.regions.len() == 8 { String::new() } else { format!("regions={}", self.regions.join(",")) };
        let address = &self.world.proxy.address;
        if self.is_stream {
            // As an EventSource does it: the address stays, and the header wins over what stands in it.
            let by_header = position.is_some() && self.random.once_in(2);
            let in_query = if by_header { Some(format!("{epoch}-{}", self.world.start.1)) } else { position.clone() };
            query += &in_query.map_or(String::new(), |since| format!("&since={since}"));
            let mut request = self.world.http.get(format!("http://{address}/events?{query}"));
            if let Some(position) = position.filter(|_| by_header) {
                request = request.header("Last-Event-ID", position);
            }
            let response = request.send().await.ok()?;
            assert_eq!(response.status(), 200);
            return Some(Stream::Events(EventStream::read(response)));
        }
        query += &position.map_or(String::new(), |since| format!("&since={since}"));
        let stream = TcpStream::connect(address).await.ok()?;
        let config = WebSocketConfig::default().read_buffer_size(2048);
        let url = format!("ws://{address}/ws?{query}");
        let (socket, _) = client_async_with_config(url, stream, Some(config)).await.ok()?;
        Some(Stream::Socket(Box::new(socket)))
    }

    /// Writes down what came, and adopts its position; `asked` is the `since` of this connection.
    fn take(&mut self, message: Incoming, asked: Option<u64>) {
        let known = self.world.start.1 + self.world.begun.load(Ordering::SeqCst);
        let message = match message {
            Incoming::Message(message) => message,
            Incoming::Lost => return self.log.push(Seen::Lost { known }),
        };
        let position = match message["type"].as_str() {
            Some("new_trending") => &message["id"],
            Some("hello" | "heartbeat") => &message["position"],
            _ => return,
        };
        let (epoch, offset) = split(position);
        assert_eq!(epoch, self.world.start.0, "the history is another one");
        match message["type"].as_str() {
            Some("new_trending") => {
                let video = message["videos"][0]["id"].as_str().expect("a video").to_owned();
                self.log.push(Seen::Publication(offset, video));
            }
            Some("hello") => match (asked, message["recovered"].as_bool()) {
                (None, None) => self.log.push(Seen::Start(offset)),
                (Some(asked), Some(true)) => {
                    assert_eq!(offset, asked, "hello is at another position than it was asked for");
                    self.log.push(Seen::Resumed);
                }
                (Some(_), Some(false)) => self.log.push(Seen::Gap { head: offset, known }),
                _ => panic!("asked for {asked:?}, told {message}"),
            },
            _ => self.log.push(Seen::Position(offset)),
        }
        self.since = Some(offset);
    }
}

enum Stream {
    Socket(Box<WebSocketStream<TcpStream>>),
    Events(EventStream),
}

enum Incoming {
    Message(Value),
    /// Close 4000.
    Lost,
}

impl Stream {
    /// The next message; none when the connection is gone, however.
    async fn next(&mut self) -> Option<Incoming> {
        match self {
            Self::Events(events) => Some(Incoming::Message(events.event().await?.data)),
            Self::Socket(socket) => loop {
                match socket.next().await?.ok()? {
                    Message::Text(text) => return Some(Incoming::Message(serde_json::from_str(&text).expect("JSON"))),
                    Message::Close(Some(frame)) if u16::from(frame.code) == 4000 => return Some(Incoming::Lost),
                    _ => {}
                }
            },
        }
    }
}

/// Epoch and offset.
fn split(position: &Value) -> (String, u64) {
    let (epoch, offset) = position.as_str().and_then(|text| text.split_once('-')).expect("a position");
    (epoch.to_owned(), offset.parse().expect("an offset"))
}

impl Outcome {
    fn count(&self, wanted: impl Fn(&Seen) -> bool) -> usize {
        self.clients.iter().flat_map(|log| &log.seen).filter(|seen| wanted(seen)).count()
    }

    fn figures(&self) -> String {
        format!(
            "{} clients, {} cuts, {} silent, {} resumes, {} gaps, {} closed with 4000, {} deliveries, {} of the last process replayed, {} posts repeated and {} of them published before, {:.0?}",
            self.clients.len(),
            self.cuts,
            self.silent,
            self.count(|it| *it == Seen::Resumed),
            self.count(|it| matches!(it, Seen::Gap { .. })),
            self.count(|it| matches!(it, Seen::Lost { .. })),
            self.count(|it| matches!(it, Seen::Publication(..))),
            self.replayed,
            self.repeated,
            self.unanswered,
            self.took,
        )
    }

    /// Compares each client's story with what was published; without limits there is nothing to miss.
    fn check(&self, limits: Option<Limits>) {
        assert_eq!(self.clients.len(), SOCKETS + STREAMS);
        assert!(self.silent * 100 < self.cuts, "a connection that stands has heartbeats: {}", self.figures());
        for (number, log) in self.clients.iter().enumerate() {
            if let Err((step, why)) = log.check(&self.published, limits) {
                let before = &log.seen[step.saturating_sub(8)..=step.min(log.seen.len() - 1)];
                panic!("client {number} of {:?}, step {step}: {why}; {before:?}", log.regions);
            }
        }
    }
}

impl Log {
    fn check(
        &self,
        published: &BTreeMap<u64, (&'static str, String)>,
        limits: Option<Limits>,
    ) -> Result<(), (usize, String)> {
        let regions: HashSet<&str> = self.regions.iter().copied().collect();
        let theirs: Vec<u64> =
            published.iter().filter(|(_, (region, _))| regions.contains(region)).map(|(offset, _)| *offset).collect();
        // Of theirs, those after the first and up to the last offset.
        let between = |after: u64, to: u64| {
            &theirs[theirs.partition_point(|it| *it <= after)
                ..theirs.partition_point(|it| *it <= to).max(theirs.partition_point(|it| *it <= after))]
        };
        let trimmed = |at: u64, known: u64| {
            limits.is_some_and(|limits| !between(at, known.saturating_sub(limits.retention)).is_empty())
        };
        let mut at = None;
        for (step, seen) in self.seen.iter().enumerate() {
            let fail = |why: &str| Err((step, why.to_owned()));
            let Some(now) = at else {
                match seen {
                    Seen::Start(offset) => at = Some(*offset),
                    other => return fail(&format!("begins with {other:?}")),
                }
                continue;
            };
            match seen {
                Seen::Start(_) => return fail("begins twice"),
                Seen::Resumed => {}
                Seen::Publication(offset, video) => {
                    if *offset <= now {
                        return fail("came twice, or late");
                    }
                    if published.get(offset).is_none_or(|(region, known)| known != video || !regions.contains(region)) {
                        return fail("is not its own");
                    }
                    if between(now, *offset) != [*offset] {
                        return fail("came before another that is missing");
                    }
                    at = Some(*offset);
                }
                Seen::Position(offset) => {
                    if *offset < now {
                        return fail("went back");
                    }
                    if !between(now, *offset).is_empty() {
                        return fail("was told that all up to here was sent");
                    }
                    at = Some(*offset);
                }
                Seen::Gap { head, known } => {
                    let over = limits.is_some_and(|limits| between(now, *head).len() > limits.replay_max);
                    if !over && !trimmed(now, *known) {
                        return fail("was told of a gap where there is none");
                    }
                    at = Some(*head);
                }
                Seen::Lost { known } => {
                    if !trimmed(now, *known) {
                        return fail("lost a position that is still good");
                    }
                }
            }
        }
        let end = *published.keys().last().expect("publications");
        match at {
            Some(at) if between(at, end).is_empty() => Ok(()),
            _ => Err((self.seen.len(), format!("ended at {at:?} before the end at {end}"))),
        }
    }
}
