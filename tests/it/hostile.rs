//! Clients that mean harm: while they try, a thousand others get every notification, and the server's memory is bounded.
//! How late they get it is measured by `benches/run hostile`, where the attackers have a process of their own.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use reqwest::Method;
use tokio::{
    io::AsyncWriteExt,
    sync::{Mutex, mpsc},
    task::JoinSet,
    time::{MissedTickBehavior, interval, timeout},
};

use crate::support::{
    Answer, Server, Socket,
    attacks::{Attack, random_request},
    post_body,
    random::Random,
    raw::Raw,
    server::PATIENCE,
};

const CLIENTS: usize = 1000;

/// Notifications in each phase, and how many a second.
const POSTS: usize = 20;
const RATE: u32 = 10;

/// What any attack may cost: far more than it does, far less than one that is kept would.
const MEMORY_BOUND: u64 = 64 * 1024 * 1024;

/// How many connections an attack that comes and goes has to make in its phase at least.
const THOUSANDS: u64 = 3000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes a minute"]
async fn whoever_attacks_a_thousand_others_get_every_notification_and_memory_is_bounded() {
    let mut random = Random::of_this_run();
    let server = Server::start(&["--max-connections-per-ip", "5000", "--heartbeat", "60s"]).await;
    let mut crowd = Crowd::gather(&server).await;
    let before = server.memory("Pss");
    let calm = crowd.hear(&server).await;
    for (attack, attackers) in Attack::ALL {
        let began = Instant::now();
        let attacking = attack.start(attackers, &server.address, &mut random);
        let mut attacked = crowd.hear(&server).await;
        let least = match attack {
            Attack::Knocks | Attack::Churn | Attack::ChurnOfOne | Attack::Resets => THOUSANDS,
            _ => attackers,
        };
        while attacking.strikes() < least {
            assert!(began.elapsed() < PATIENCE, "{attack:?}: {} connections", attacking.strikes());
            attacked = attacked.max(crowd.hear(&server).await);
        }
        let (strikes, took) = (attacking.strikes(), began.elapsed().as_secs_f64());
        let grown = server.memory("Pss").saturating_sub(before);
        drop(attacking);
        let ratio = attacked.as_secs_f64() / calm.as_secs_f64();
        println!(
            "{attack:?}: {strikes} connections, {:.0} a second, p99 {attacked:.1?}, {ratio:.1} x of calm; {} KiB more",
            strikes as f64 / took,
            grown / 1024
        );
        assert!(grown <= MEMORY_BOUND, "{attack:?}: {grown} bytes");
    }
    // Nobody was ended, and who is gone is not counted.
    server.until_metric(r#"notifier_connections{transport="websocket"}"#, |count| count == CLIENTS as f64).await;
    assert_eq!(server.get("/readyz").await.status(), 200);
}

/// Those who mean no harm.
struct Crowd {
    /// Who has heard what, and how long after its post was begun.
    heard: mpsc::UnboundedReceiver<(usize, String, Duration)>,
    posted: Arc<Mutex<Instant>>,
    posts: u64,
    _clients: JoinSet<()>,
}

impl Crowd {
    async fn gather(server: &Server) -> Self {
        let (sender, heard) = mpsc::unbounded_channel();
        let posted = Arc::new(Mutex::new(Instant::now()));
        let mut clients = JoinSet::new();
        for number in 0..CLIENTS {
            let (mut socket, _) = Socket::open(server, "").await;
            let (sender, posted) = (sender.clone(), posted.clone());
            clients.spawn(async move {
                loop {
                    // As patient as it takes: an attack is over sooner than a timeout of a frame.
                    let publication = socket.publication().await;
                    let took = posted.lock().await.elapsed();
                    let video = publication["videos"][0]["id"].as_str().expect("an id").to_owned();
                    if sender.send((number, video, took)).is_err() {
                        return;
                    }
                }
            });
        }
        Self { heard, posted, posts: 0, _clients: clients }
    }

    /// Posts, and waits each time until all have heard of it once; answers the 99th percentile of the latencies.
    async fn hear(&mut self, server: &Server) -> Duration {
        let mut latencies = Vec::new();
        let mut ticks = interval(Duration::from_secs(1) / RATE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for _ in 0..POSTS {
            ticks.tick().await;
            self.posts += 1;
            *self.posted.lock().await = Instant::now();
            server.publish(post_body("US", self.posts)).await;
            let mut whom = HashSet::new();
            while whom.len() < CLIENTS {
                let heard = timeout(PATIENCE, self.heard.recv()).await;
                let (number, video, took) = heard.expect("all hear of it in time").expect("the clients live");
                assert_eq!(video, self.posts.to_string(), "{number} heard of another");
                assert!(whom.insert(number), "{number} heard of {video} twice");
                latencies.push(took);
            }
        }
        latencies.sort();
        latencies[latencies.len() * 99 / 100]
    }
}

#[tokio::test]
async fn requests_at_random_are_answered_or_ended_and_never_break_the_server() {
    let server = Server::start(&[]).await;
    let mut random = Random::of_this_run();
    for _ in 0..300 {
        let mut raw = Raw::connect(&server).await;
        let request = random_request(&mut random);
        raw.send(&request).await;
        // Nothing more comes, so that a body that is too short ends too.
        raw.0.shutdown().await.expect("it can be said");
        let answer = String::from_utf8_lossy(&raw.ended().await).into_owned();
        let status = answer.get(9..12).and_then(|status| status.parse::<u16>().ok());
        let context = || format!("{:?}: {answer:?}", String::from_utf8_lossy(&request));
        assert!(status.is_none_or(|status| status < 500 && status != 101), "{}", context());
    }
    assert_eq!(server.metric(r#"notifier_refused_total{reason="internal"}"#).await, 0.0);
    server.publish(post_body("US", 1)).await;
}

#[tokio::test]
async fn no_route_but_one_can_be_upgraded() {
    let server = Server::start(&[]).await;
    let paths = ["/", "/notify", "/metrics", "/healthz", "/readyz", "/notifications", "/notifier.js", "/nothing"];
    let asked = paths.map(async |path| {
        for method in [Method::GET, Method::POST] {
            let request = server.request(method.clone(), path).header("connection", "upgrade");
            let request = request.header("upgrade", "websocket").header("sec-websocket-version", "13");
            let request = request.header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
            let answer = Answer::of(request.send().await.expect("an answer")).await;
            assert_ne!(answer.status, 101, "{method} {path}");
            assert!(answer.status < 500 && answer.header("upgrade").is_empty(), "{method} {path}: {answer:?}");
        }
    });
    join_all(asked).await;
    // Nor by another method, or to another protocol.
    for (method, upgrade) in [("POST", "websocket"), ("GET", "h2c"), ("HEAD", "websocket")] {
        let mut raw = Raw::connect(&server).await;
        raw.send(format!(
            "{method} /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: {upgrade}\r\nContent-Length: 0\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        ))
        .await;
        let answer = raw.head().await;
        assert!(answer.starts_with("HTTP/1.1 4"), "{method} {upgrade}: {answer}");
    }
}

#[tokio::test]
async fn a_request_whose_end_can_be_read_in_two_ways_hides_no_other() {
    let server = Server::start(&[]).await;
    let hidden = "POST /notify HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer test-token\r\nContent-Length: 2\r\n\r\n{}";
    let length = hidden.len();
    let shapes = [
        // What the front reads by its length, and we would by its chunks; and the other way round.
        format!("Content-Length: {}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{hidden}", length + 5),
        format!("Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n{length:x}\r\n{hidden}\r\n0\r\n\r\n"),
        format!("Content-Length: 0\r\nContent-Length: {length}\r\n\r\n{hidden}"),
        format!("Content-Length: {length}, 0\r\n\r\n{hidden}"),
        format!("Content-Length: +{length}\r\n\r\n{hidden}"),
        format!("Content-Length: 0x{length:x}\r\n\r\n{hidden}"),
        format!("Content-Length : {length}\r\n\r\n{hidden}"),
        format!("Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n{hidden}"),
        format!("Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n{hidden}"),
        format!("Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n{hidden}"),
        format!("Transfer-Encoding:\u{b}chunked\r\n\r\n0\r\n\r\n{hidden}"),
        format!("X: y\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n{hidden}"),
        format!("Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n{hidden}"),
        format!("Transfer-Encoding: chunked\r\n\r\n-1\r\n{hidden}"),
    ];
    let ask = async |shape: &str| {
        let mut raw = Raw::connect(&server).await;
        let _ = raw.try_send(format!("POST /healthz HTTP/1.1\r\nHost: a\r\n{shape}").as_bytes()).await;
        let _ = raw.0.shutdown().await;
        String::from_utf8_lossy(&raw.ended().await).into_owned()
    };
    // Nothing is hidden behind one that ends beyond doubt.
    for shape in ["Content-Length: 0\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"] {
        // Not by `ask`: a client that has closed its end is owed no second answer.
        let mut raw = Raw::connect(&server).await;
        raw.send(format!("POST /healthz HTTP/1.1\r\nHost: a\r\n{shape}{hidden}")).await;
        for status in ["405", "200"] {
            let head = raw.head().await;
            raw.body(&head).await;
            assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{shape:?}: {head}");
        }
    }
    for shape in shapes {
        let answer = ask(&shape).await;
        assert!(answer.matches("HTTP/1.1 ").count() <= 1, "{shape:?} was read as two: {answer}");
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{shape:?}: {answer}");
    }
}
