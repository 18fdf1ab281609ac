//! Planned restarts under a service manager: it holds the socket, so that nobody is refused, and is told how far it is.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::StreamExt;
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};
use serde_json::Value;
use socket2::{Domain, Socket as RawSocket, Type};
use tokio::{
    net::{TcpStream, UnixDatagram},
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_tungstenite::{
    MaybeTlsStream, client_async_with_config,
    tungstenite::{Message, protocol::WebSocketConfig},
};

use crate::support::{
    Setup, Socket, post_body, process,
    server::{PATIENCE, TOKEN, command},
};

/// A socket as systemd makes it; the port is the system's choice.
fn held_socket() -> RawSocket {
    let socket = RawSocket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&"127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
    socket.listen(4096).unwrap();
    socket
}

fn address(socket: &RawSocket) -> String {
    socket.local_addr().unwrap().as_socket().unwrap().to_string()
}

#[tokio::test]
async fn a_connect_between_two_processes_waits_and_is_served() {
    let socket = held_socket();
    let address = address(&socket);
    let mut server = Setup::new(&[]).hand_over(socket).start().await;
    assert_eq!(server.address, address);
    let (_, hello) = Socket::open(&server, "").await;
    let receipt = server.publish(post_body("US", 1)).await;

    server.signal(Signal::TERM);
    assert_eq!(server.ended().await, Some(0));
    // Nobody is there, and yet it is not refused.
    let early = TcpStream::connect(&address).await.unwrap();
    server.restart().await;
    let since = hello["position"].as_str().unwrap();
    let url = format!("ws://{address}/ws?since={since}");
    let (stream, _) =
        timeout(PATIENCE, client_async_with_config(url, MaybeTlsStream::Plain(early), None)).await.unwrap().unwrap();
    let mut early = Socket { stream };
    assert_eq!(early.message().await["recovered"], true);
    assert_eq!(early.publication().await["id"], receipt["id"]);
}

#[tokio::test]
async fn a_unix_socket_that_was_handed_over_is_left_in_place() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("n.sock");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let manager = UnixDatagram::bind(folder.path().join("notify")).unwrap();
    let mut child = tokio::process::Command::new("sh");
    child.args(["-c", "exec 3<&0 0</dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec \"$@\"", "sh"]);
    child.arg(env!("CARGO_BIN_EXE_video-notifier")).arg("--data-dir").arg(folder.path().join("data"));
    child.env("NOTIFY_SOCKET", folder.path().join("notify")).stdin(std::os::fd::OwnedFd::from(listener));
    let mut child = child.kill_on_drop(true).spawn().unwrap();
    assert_eq!(told(&manager).await, "READY=1");
    let healthy = command().args(["healthcheck", "--listen"]).arg(format!("unix:{}", path.display())).status().await;
    assert!(healthy.unwrap().success());
    kill_process(Pid::from_raw(child.id().unwrap() as i32).unwrap(), Signal::TERM).unwrap();
    assert!(timeout(PATIENCE, child.wait()).await.unwrap().unwrap().success());
    assert!(path.exists());
}

#[tokio::test]
async fn what_is_no_listening_socket_is_a_clear_error() {
    let mut command = tokio::process::Command::new("sh");
    command.args(["-c", "exec 3</dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec \"$@\"", "sh"]);
    command.arg(env!("CARGO_BIN_EXE_video-notifier"));
    let line = process::refused(command).await;
    assert!(line.contains("LISTEN_FDS") && line.contains("fd 3 is not a socket"), "{line}");
}

#[tokio::test]
async fn the_service_manager_is_told_when_it_serves_lives_and_drains() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    let setup = Setup::new(&[]).variable("NOTIFY_SOCKET", path.to_str().unwrap()).variable("WATCHDOG_USEC", "100000");
    let mut server = setup.start().await;
    assert_eq!(told(&manager).await, "READY=1");
    assert_eq!(server.get("/readyz").await.status(), 200);
    for _ in 0..3 {
        assert_eq!(told(&manager).await, "WATCHDOG=1");
    }
    server.signal(Signal::TERM);
    while told(&manager).await != "STOPPING=1" {}
    assert_eq!(server.ended().await, Some(0));
}

/// The next that a service manager is told.
async fn told(manager: &UnixDatagram) -> String {
    let mut state = [0; 100];
    let length = timeout(PATIENCE, manager.recv(&mut state)).await.expect("it is told in time").unwrap();
    String::from_utf8_lossy(&state[..length]).into_owned()
}

const CLIENTS: usize = 10_000;

/// Handshakes per second that clients together are to make.
const RATE: usize = 2000;

/// How long nobody may serve: the default of `--drain`, after which the first process would have cut who was left. On a
/// machine of its own it is a second or two; here the clients, too, are slow to leave.
const LONGEST_GAP: Duration = Duration::from_secs(8);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes a minute"]
async fn ten_thousand_clients_miss_nothing_over_a_restart_and_come_back_at_the_rate() {
    raise_descriptors();
    let socket = held_socket();
    let address = address(&socket);
    let rate = format!("{RATE}/s");
    let setup = Setup::new(&["--max-connections-per-ip", "20000", "--reconnect-rate", &rate]).hand_over(socket);
    let mut server = setup.clone().start().await;
    let page = server.notifications("").await;
    let world = Arc::new(World { address, ..World::default() });

    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        clients.spawn(client(number, page["position"].as_str().unwrap().to_owned(), world.clone()));
    }
    world.until_handshakes(CLIENTS).await;
    // The window is measured anew each second, and only then counts them all.
    let window = (CLIENTS / RATE * 1000) as u64;
    let counted = async { while Socket::open(&server, "").await.1["reconnect_window_ms"].as_u64() < Some(window) {} };
    timeout(PATIENCE, counted).await.expect("all clients are counted");
    let poster = tokio::spawn(post(server.url("/notify"), world.clone()));
    world.until_posted(5).await;

    let restart = Instant::now();
    server.signal(Signal::TERM);
    // Started while the first still drains: it waits for the data directory.
    let successor = setup.start().await;
    let gap = restart.elapsed();
    assert_eq!(server.ended().await, Some(0));
    world.until_handshakes(2 * CLIENTS).await;
    world.posted_all.store(true, Ordering::SeqCst);
    let posted = poster.await.expect("all is posted");
    world.last.send_replace(posted.last().cloned());
    let all = timeout(2 * PATIENCE, clients.join_all()).await.expect("every client gets the last publication");
    drop(successor);

    let mut back: Vec<Duration> = world.handshakes.lock().unwrap()[CLIENTS..].iter().map(|at| *at - restart).collect();
    back.sort();
    let busiest =
        back.iter().map(|from| back.partition_point(|at| *at < *from + SECOND) - back.partition_point(|at| at < from));
    let busiest = busiest.max().unwrap();
    println!(
        "{CLIENTS} clients, {} posts, nobody served for {gap:?}, all back after {:?}, the busiest second had {busiest}",
        posted.len(),
        back[CLIENTS - 1]
    );
    let refusals = world.refusals.lock().unwrap();
    assert!(refusals.is_empty(), "attempts were not accepted: {refusals:?}");
    assert!(gap < LONGEST_GAP, "nobody served for {gap:?}");
    assert_eq!(world.untold.load(Ordering::SeqCst), 0, "connections ended without a word");
    assert_eq!(back.len(), CLIENTS, "some came back twice");
    for (number, heard) in all.into_iter().enumerate() {
        assert!(heard == posted, "client {number} heard {} of {}", heard.len(), posted.len());
    }
    // Those who came while nobody served are served at once, beside those of that second.
    let waiting = (RATE as f64 * gap.as_secs_f64()) as usize;
    assert!(busiest < RATE * 5 / 4 + waiting, "{busiest}");
    assert!(back[CLIENTS - 1] > Duration::from_millis(window * 8 / 10), "they came all at once");
}

/// The clients are in this process.
fn raise_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).expect("its own limit");
}

const SECOND: Duration = Duration::from_secs(1);

/// What all tasks share.
#[derive(Default)]
struct World {
    address: String,
    /// When each hello came.
    handshakes: Mutex<Vec<Instant>>,
    /// What became of connects, handshakes and posts that were not accepted, and of how many.
    refusals: Mutex<BTreeMap<String, usize>>,
    /// How many posts are answered.
    posted: watch::Sender<usize>,
    /// Connections that ended without `reconnect`.
    untold: AtomicUsize,
    posted_all: AtomicBool,
    /// The last publication, once all is posted.
    last: watch::Sender<Option<String>>,
}

impl World {
    async fn until_handshakes(&self, count: usize) {
        let wait = async {
            while self.handshakes.lock().unwrap().len() < count {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(3 * PATIENCE, wait).await.expect("all clients connect");
    }

    async fn until_posted(&self, count: usize) {
        let mut posted = self.posted.subscribe();
        let enough = posted.wait_for(|posted| *posted >= count);
        drop(timeout(PATIENCE, enough).await.expect("posts are answered").expect("the world lasts"));
    }

    fn refused(&self, why: String) {
        *self.refusals.lock().unwrap().entry(why).or_default() += 1;
    }
}

/// A client that comes back when it is told to; answers what it heard.
async fn client(number: usize, mut position: String, world: Arc<World>) -> Vec<String> {
    let mut heard = Vec::new();
    let mut last = world.last.subscribe();
    // The first time, too, at the rate.
    let mut pause = Duration::from_micros((number * 1_000_000 / RATE) as u64);
    loop {
        sleep(pause).await;
        let stream = match TcpStream::connect(&world.address).await {
            Ok(stream) => stream,
            Err(error) => {
                world.refused(format!("connect: {error}"));
                continue;
            }
        };
        let config = WebSocketConfig::default().read_buffer_size(1024);
        let url = format!("ws://{}/ws?since={position}", world.address);
        let mut stream = match client_async_with_config(url, stream, Some(config)).await {
            Ok((stream, _)) => stream,
            Err(error) => {
                world.refused(format!("handshake: {error}"));
                continue;
            }
        };
        let mut told = false;
        loop {
            let frame = tokio::select! {
                frame = stream.next() => frame,
                _ = last.wait_for(|last| last.is_some() && last.as_ref() == heard.last()) => return heard,
            };
            let Some(Ok(frame)) = frame else { break };
            let Message::Text(text) = frame else { continue };
            let message: Value = serde_json::from_str(&text).unwrap();
            match message["type"].as_str() {
                Some("hello") => {
                    assert_eq!(message["recovered"], true);
                    world.handshakes.lock().unwrap().push(Instant::now());
                }
                Some("heartbeat") => position = message["position"].as_str().unwrap().to_owned(),
                Some("new_trending") => {
                    position = message["id"].as_str().unwrap().to_owned();
                    heard.push(position.clone());
                }
                Some("reconnect") => {
                    told = true;
                    pause = Duration::from_millis(message["after_ms"].as_u64().unwrap());
                }
                _ => {}
            }
        }
        if !told {
            world.untold.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// Posts one after the other, each until it is answered; answers the ids.
async fn post(url: String, world: Arc<World>) -> Vec<String> {
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut posted = Vec::new();
    while !world.posted_all.load(Ordering::SeqCst) {
        let number = posted.len();
        let receipt = loop {
            let post = http.post(&url).bearer_auth(TOKEN).header("Idempotency-Key", format!("post-{number}"));
            let answer = post.body(post_body("US", number)).timeout(PATIENCE).send().await;
            match answer {
                Ok(response) if response.status() == 200 => break response.json::<Value>().await.unwrap(),
                Ok(response) => world.refused(format!("post: {}", response.status())),
                Err(error) => world.refused(format!("post: {error:?}")),
            }
            sleep(Duration::from_millis(50)).await;
        };
        posted.push(receipt["id"].as_str().unwrap().to_owned());
        world.posted.send_replace(posted.len());
        sleep(Duration::from_millis(150)).await;
    }
    posted
}
