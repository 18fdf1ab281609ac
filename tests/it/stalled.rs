//! A thousand clients that stop reading: what they cost, that nobody else notices, and that they miss nothing.

use std::{
    process::Command,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use futures_util::StreamExt;
use tokio::{
    io::AsyncReadExt,
    task::JoinSet,
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_tungstenite::{
    client_async_with_config,
    tungstenite::{Message, protocol::WebSocketConfig},
};

use crate::support::{Server, Socket, raw::Raw};

const SOCKETS: usize = 900;
const STREAMS: usize = 100;
const STALLED: usize = SOCKETS + STREAMS;
const WATCHERS: usize = 50;

/// Posts per second.
const RATE: u32 = 20;
const CALM_POSTS: u32 = 10 * RATE;
const STALLED_POSTS: u32 = 60 * RATE;
/// After so many, the buffers of those who do not read are full, and nothing more happens for them.
const FILLING_POSTS: u32 = 15 * RATE;

const KIB: u64 = 1024;

/// The most that the kernel may hold for one client, and that the process may.
const KERNEL_BOUND: u64 = 64 * KIB;
const USER_BOUND: u64 = 32 * KIB;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes more than a minute"]
async fn a_thousand_clients_that_stop_reading_cost_little_disturb_nobody_and_miss_nothing() {
    let server = Server::start(&["--max-connections-per-ip", "5000"]).await;
    let poster = Poster::new();
    let mut watchers = JoinSet::new();
    for _ in 0..WATCHERS {
        let (socket, _) = Socket::open(&server, "").await;
        watchers.spawn(watch(socket, poster.sent.clone()));
    }
    poster.post(&server, CALM_POSTS, |_| {}).await;

    let before = server.memory("Pss");
    let mut stalled = Vec::new();
    for number in 0..STALLED {
        stalled.push(Stalled::connect(&server, number >= SOCKETS).await);
    }
    let connected = server.memory("Pss");
    let mut samples = Vec::new();
    let sample = |number: u32| {
        if number.is_multiple_of(5 * RATE) {
            samples.push((server.memory("Pss"), kernel_memory(&server)));
        }
    };
    poster.post(&server, STALLED_POSTS, sample).await;
    assert_eq!(server.metric("notifier_connections{transport=\"websocket\"}").await, (SOCKETS + WATCHERS) as f64);
    assert_eq!(server.metric("notifier_connections{transport=\"sse\"}").await, STREAMS as f64);
    let delivered = server.metric("notifier_deliveries_total").await;
    let to_watchers = f64::from(CALM_POSTS + STALLED_POSTS) * WATCHERS as f64;
    let in_kernel = (delivered - to_watchers) / STALLED as f64;
    assert!(in_kernel < f64::from(FILLING_POSTS), "nobody was stalled: each took {in_kernel}");

    let begin = Instant::now();
    let mut readers = JoinSet::new();
    for client in stalled {
        readers.spawn(client.read_all());
    }
    let all = async {
        let mut last = Vec::new();
        while let Some(offsets) = readers.join_next().await {
            let offsets = offsets.expect("a client that does not panic");
            assert_eq!(offsets.len(), STALLED_POSTS as usize);
            assert!(offsets.is_sorted_by(|one, other| one + 1 == *other), "{offsets:?}");
            last.push(offsets[0]);
        }
        assert!(last.iter().all(|first| *first == last[0]));
        last.len()
    };
    assert_eq!(timeout(Duration::from_secs(40), all).await.expect("they catch up in time"), STALLED);
    let caught_up = begin.elapsed();

    let mut latencies = vec![Vec::new(); (CALM_POSTS + STALLED_POSTS) as usize];
    while let Some(watched) = watchers.join_next().await {
        let (_, watched) = watched.expect("a watcher that does not panic");
        for (number, latency) in watched.into_iter().enumerate() {
            latencies[number].push(latency);
        }
    }
    let calm = percentiles(&latencies[..CALM_POSTS as usize]);
    let busy = percentiles(&latencies[(CALM_POSTS + FILLING_POSTS) as usize..]);

    let user = samples.iter().map(|(user, _)| user.saturating_sub(before)).max().unwrap() / STALLED as u64;
    let most = samples.iter().map(|(_, kernel)| kernel.most).max().unwrap();
    let mean = samples.iter().map(|(_, kernel)| kernel.sum).max().unwrap() / (STALLED + WATCHERS) as u64;
    println!(
        "a stalled client: {user} bytes of the process ({} when it had only connected), \
         {mean} of the kernel on average and {most} at most, {in_kernel:.0} publications taken",
        connected.saturating_sub(before) / STALLED as u64
    );
    println!("p50 and p99 of {WATCHERS} others: calm {calm:?}, then {busy:?}; caught up in {caught_up:.1?}");
    assert!(most <= KERNEL_BOUND, "{most}");
    assert!(user <= USER_BOUND, "{user}");
    // What is bounded does not grow with the posts.
    let full = (FILLING_POSTS / (5 * RATE)) as usize;
    let grown = samples.last().unwrap().0.saturating_sub(samples[full].0);
    assert!(grown <= 8 * KIB * KIB, "grew by {grown}");
    // Generous, for machines that do other things; a client that waited for those that stall would wait seconds.
    assert!(busy.1 <= calm.1 * 5 + Duration::from_millis(100), "calm {calm:?}, then {busy:?}");
}

/// Posts at a steady rate, and remembers when.
struct Poster {
    sent: Arc<Mutex<Vec<Instant>>>,
    title: String,
}

impl Poster {
    fn new() -> Self {
        Self { sent: Arc::default(), title: "title ".repeat(40) }
    }

    /// So many posts; `each` is called before every one.
    async fn post(&self, server: &Server, count: u32, mut each: impl FnMut(u32)) {
        let mut ticks = interval(Duration::from_secs(1) / RATE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for number in 0..count {
            ticks.tick().await;
            each(number);
            let id = {
                let mut sent = self.sent.lock().unwrap();
                sent.push(Instant::now());
                sent.len() - 1
            };
            let body = format!(r#"{{"region":"US","videos":[{{"id":"{id}","title":"{}"}}]}}"#, self.title);
            server.publish(body).await;
        }
    }
}

/// How long after its post each publication came; with the socket, which stays open.
async fn watch(mut socket: Socket, sent: Arc<Mutex<Vec<Instant>>>) -> (Socket, Vec<Duration>) {
    let mut latencies = Vec::new();
    while latencies.len() < (CALM_POSTS + STALLED_POSTS) as usize {
        let publication = socket.publication().await;
        let number: usize = publication["videos"][0]["id"].as_str().unwrap().parse().unwrap();
        assert_eq!(number, latencies.len());
        latencies.push(sent.lock().unwrap()[number].elapsed());
    }
    (socket, latencies)
}

fn percentiles(latencies: &[Vec<Duration>]) -> (Duration, Duration) {
    let mut all: Vec<Duration> = latencies.iter().flatten().copied().collect();
    all.sort();
    (all[all.len() / 2], all[all.len() * 99 / 100])
}

/// A client that has taken hello and reads nothing more.
enum Stalled {
    Socket(Box<tokio_tungstenite::WebSocketStream<tokio::net::TcpStream>>),
    Stream(Raw),
}

impl Stalled {
    async fn connect(server: &Server, is_stream: bool) -> Self {
        let mut raw = Raw::connect_small(&server.address).expect("a connection");
        if is_stream {
            raw.send("GET /events HTTP/1.1\r\nHost: x\r\n\r\n").await;
            raw.read_until("\n\n").await;
            return Self::Stream(raw);
        }
        let config = WebSocketConfig::default().read_buffer_size(4096);
        let url = format!("ws://{}/ws", server.address);
        let (mut socket, _) = client_async_with_config(url, raw.0, Some(config)).await.expect("a handshake");
        let hello = socket.next().await.expect("a message").expect("a good message");
        assert!(hello.to_text().unwrap().contains("\"hello\""));
        Self::Socket(Box::new(socket))
    }

    /// Reads all that was posted in the meantime; answers the offsets.
    async fn read_all(self) -> Vec<u64> {
        let mut offsets = Vec::new();
        match self {
            Self::Socket(mut socket) => {
                widen(socket.get_ref());
                while offsets.len() < STALLED_POSTS as usize {
                    match socket.next().await.expect("the connection goes on").expect("a good frame") {
                        Message::Text(text) => offsets.extend(offsets_in(&text)),
                        Message::Ping(_) => {}
                        other => panic!("{other:?}"),
                    }
                }
            }
            Self::Stream(mut raw) => {
                widen(&raw.0);
                let (mut text, mut buffer) = (String::new(), [0; 8192]);
                while offsets.len() < STALLED_POSTS as usize {
                    let count = raw.0.read(&mut buffer).await.expect("the connection goes on");
                    assert!(count > 0, "the stream ended");
                    text += std::str::from_utf8(&buffer[..count]).expect("ASCII");
                    let whole = text.rfind("\n\n").map_or(0, |end| end + 2);
                    offsets.extend(offsets_in(&text[..whole]));
                    text.drain(..whole);
                }
            }
        }
        offsets
    }
}

/// As much as a client that reads has.
fn widen(stream: &tokio::net::TcpStream) {
    socket2::SockRef::from(stream).set_recv_buffer_size(64 * 1024).expect("a buffer");
}

/// Of the publications in it.
fn offsets_in(text: &str) -> impl Iterator<Item = u64> {
    text.split(r#"{"type":"new_trending","id":""#).skip(1).map(|rest| {
        let (position, _) = rest.split_once('"').expect("an id");
        position.split_once('-').expect("a position").1.parse().expect("an offset")
    })
}

#[derive(Clone, Copy)]
struct KernelMemory {
    sum: u64,
    most: u64,
}

/// What the kernel holds for the connections at the server's end, in bytes (ss(8), `skmem`).
fn kernel_memory(server: &Server) -> KernelMemory {
    let port = server.address.rsplit(':').next().expect("a port");
    let output = Command::new("ss").args(["-tmnH", "state", "established", &format!("( sport = :{port} )")]).output();
    let text = String::from_utf8(output.expect("ss runs: it is in iproute2").stdout).expect("text");
    let sizes: Vec<u64> = text.lines().filter_map(|line| Some(held(line.split_once("skmem:(")?.1))).collect();
    assert!(sizes.len() >= STALLED, "ss shows {} of the connections", sizes.len());
    KernelMemory { sum: sizes.iter().sum(), most: sizes.into_iter().max().unwrap_or(0) }
}

/// Of `r0,rb2304,t0,tb32768,f0,w0,o0,bl0,d0)`: received, queued for sending, and set aside.
fn held(skmem: &str) -> u64 {
    let fields = skmem.split(')').next().expect("fields").split(',');
    let number = |field: &str, name: &str| field.strip_prefix(name).and_then(|number| number.parse::<u64>().ok());
    fields.map(|field| ["r", "f", "w", "o", "bl"].iter().find_map(|name| number(field, name)).unwrap_or(0)).sum()
}

#[test]
fn what_the_kernel_holds_is_read_from_what_ss_prints() {
    assert_eq!(held("r1,rb2304,t4,tb32768,f8,w16,o32,bl64,d128)"), 1 + 8 + 16 + 32 + 64);
}
