//! Clients that mean harm: while they try, a thousand others get every notification, and the server's memory is bounded.
//! How late they get it is bounded here as a matter of course, not of speed: that is measured by `benches/run hostile`,
//! where the attackers have a process of their own.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::Value;
use tokio::{
    io::AsyncWriteExt,
    sync::{Mutex, mpsc},
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep, timeout},
};

use crate::support::{
    Answer, EventStream, Server, Socket,
    attacks::{Attack, NO_CLIENTS, hidden_post, random_request, regions_of_its_own, smuggled},
    post_body,
    random::Random,
    raw::Raw,
    server::PATIENCE,
};

const CLIENTS: usize = 1000;

/// How many of them are connected by WebSocket; the others have streams.
const SOCKETS: usize = 900;

/// Notifications in each phase, and how many a second.
const POSTS: usize = 20;
const RATE: u32 = 10;

/// What any attack may cost. Most is what it costs to have 4,096 connections that are no clients, each with a request
/// begun: 80 MiB.
const MEMORY_BOUND: u64 = 128 * 1024 * 1024;

/// How late anybody may hear of anything, attackers or not.
const LATEST: Duration = Duration::from_secs(5);

/// How often memory is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

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
        let least = match attack {
            Attack::Knocks | Attack::Churn | Attack::ChurnOfOne | Attack::ChurnOfRegions | Attack::Resets => THOUSANDS,
            _ => attackers,
        };
        let phase = async {
            let mut attacked = crowd.hear(&server).await;
            while attacking.strikes() < least {
                assert!(began.elapsed() < PATIENCE, "{attack:?}: {} connections", attacking.strikes());
                attacked = attacked.max(crowd.hear(&server).await);
            }
            attacked
        };
        let (attacked, most) = with_memory(&server, phase).await;
        let (strikes, took) = (attacking.strikes(), began.elapsed().as_secs_f64());
        drop(attacking);
        // Nobody else was ended, and who is gone is not counted.
        for (transport, count) in [("websocket", SOCKETS), ("sse", CLIENTS - SOCKETS)] {
            let name = format!("notifier_connections{{transport=\"{transport}\"}}");
            server.until_metric(&name, |clients| clients == count as f64).await;
        }
        let [grown, left] = [most, server.memory("Pss")].map(|memory| memory.saturating_sub(before));
        let ratio = attacked.as_secs_f64() / calm.as_secs_f64();
        println!(
            "{attack:?}: {strikes} connections, {:.0} a second, p99 {attacked:.1?}, {ratio:.1} x of calm; \
             {} KiB more at most, {} later",
            strikes as f64 / took,
            grown / 1024,
            left / 1024
        );
        assert!(grown <= MEMORY_BOUND, "{attack:?}: {grown} bytes");
    }
    assert_eq!(server.get("/readyz").await.status(), 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes a minute"]
async fn slow_attackers_are_ended_by_limits_of_time_and_a_thousand_others_get_every_notification() {
    /// Longer than the time that a head may take, which is the longest of the limits.
    const ATTACK: Duration = Duration::from_secs(24);
    let mut random = Random::of_this_run();
    let server = Server::start(&["--max-connections-per-ip", "5000", "--heartbeat", "3s"]).await;
    let mut crowd = Crowd::gather(&server).await;
    let before = server.memory("Pss");
    let attacks = [Attack::SlowHeads, Attack::SlowBodies, Attack::SlowFrames, Attack::Silent].map(|attack| {
        const EACH: u64 = 300;
        (attack, EACH, attack.start(EACH, &server.address, &mut random))
    });
    let began = Instant::now();
    // Each attacker begins anew when it was ended.
    let is_ended = || attacks.iter().all(|(_, attackers, attacking)| attacking.strikes() >= 2 * attackers);
    let strikes = || attacks.each_ref().map(|(attack, _, attacking)| (*attack, attacking.strikes()));
    let phase = async {
        let mut attacked = Duration::ZERO;
        while began.elapsed() < ATTACK || !is_ended() {
            assert!(began.elapsed() < 2 * ATTACK, "they are not ended: {:?}", strikes());
            attacked = attacked.max(crowd.hear(&server).await);
        }
        attacked
    };
    let (attacked, most) = with_memory(&server, phase).await;
    let grown = most.saturating_sub(before);
    println!("{:?} in {:.0?}, p99 {attacked:.1?}; {} KiB more at most", strikes(), began.elapsed(), grown / 1024);
    assert!(grown <= MEMORY_BOUND, "{grown} bytes");
    drop(attacks);
    server.until_metric(r#"notifier_connections{transport="websocket"}"#, |count| count == SOCKETS as f64).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes ten seconds"]
async fn who_asks_for_regions_of_its_own_costs_a_bounded_amount_and_leaves_nothing_behind() {
    const WAVES: usize = 20;
    /// Of a client that is there. Its 64 names come to 2 KiB.
    const CLIENT_BOUND: u64 = 8 * 1024;
    /// What the allocator may keep more after one wave than after another: up to 2 MiB were seen in 60 waves, which
    /// came and went. If the names were kept, these waves would leave 40 MiB.
    const SLACK: u64 = 6 * 1024 * 1024;
    let mut random = Random::of_this_run();
    let server = Server::start(&["--max-connections-per-ip", "5000", "--handshake-rate-per-ip", "1000000"]).await;
    let before = server.memory("Pss");
    let (mut there, mut gone) = (Vec::new(), Vec::new());
    for _ in 0..WAVES {
        let mut clients = Vec::new();
        for _ in 0..CLIENTS {
            clients.push(Raw::upgrade(&server, &format!("?regions={}", regions_of_its_own(&mut random))).await);
        }
        there.push(server.memory("Pss").saturating_sub(before));
        drop(clients);
        server.until_metric(r#"notifier_connections{transport="websocket"}"#, |count| count == 0.0).await;
        gone.push(server.memory("Pss").saturating_sub(before));
    }
    println!("bytes while they are there: {there:?}, and later: {gone:?}");
    assert!(there[0] <= CLIENTS as u64 * CLIENT_BOUND, "{there:?}");
    assert!(there[WAVES - 1] <= there[0] + SLACK, "{there:?}");
    assert!(gone[WAVES - 1] <= gone[0] + SLACK, "{gone:?}");
}

/// Waits for something, and answers with it the most that the server's memory was meanwhile.
async fn with_memory<T>(server: &Server, phase: impl Future<Output = T>) -> (T, u64) {
    let most = AtomicU64::new(server.memory("Pss"));
    let looking = async {
        loop {
            sleep(LOOK_EVERY).await;
            most.fetch_max(server.memory("Pss"), Ordering::Relaxed);
        }
    };
    let outcome = tokio::select! {
        outcome = phase => outcome,
        () = looking => unreachable!("it goes on"),
    };
    (outcome, most.into_inner())
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
        let told = |number| {
            let (sender, posted) = (sender.clone(), posted.clone());
            async move |publication: Value| {
                let took = posted.lock().await.elapsed();
                let video = publication["videos"][0]["id"].as_str().expect("an id").to_owned();
                sender.send((number, video, took)).is_ok()
            }
        };
        // As patient as it takes: an attack is over sooner than a timeout of a message.
        for number in 0..SOCKETS {
            let (mut socket, _) = Socket::open(server, "").await;
            let told = told(number);
            clients.spawn(async move { while told(socket.publication().await).await {} });
        }
        for number in SOCKETS..CLIENTS {
            let mut stream = EventStream::connect(server, "").await;
            let told = told(number);
            clients.spawn(async move { while told(stream.publication().await).await {} });
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
                assert!(took <= LATEST, "{number} heard of {video} after {took:?}");
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
    let asked = NO_CLIENTS.map(async |path| {
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
    let ask = async |request: &str| {
        let mut raw = Raw::connect(&server).await;
        let _ = raw.try_send(request.as_bytes()).await;
        let _ = raw.0.shutdown().await;
        String::from_utf8_lossy(&raw.ended().await).into_owned()
    };
    // Nothing is hidden behind one that ends beyond doubt.
    for shape in ["Content-Length: 0\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"] {
        // Not by `ask`: a client that has closed its end is owed no second answer.
        let mut raw = Raw::connect(&server).await;
        raw.send(format!("POST /healthz HTTP/1.1\r\nHost: a\r\n{shape}{}", hidden_post())).await;
        for status in ["405", "200"] {
            let head = raw.head().await;
            raw.body(&head).await;
            assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{shape:?}: {head}");
        }
    }
    for request in smuggled() {
        let answer = ask(&request).await;
        assert!(answer.matches("HTTP/1.1 ").count() <= 1, "{request:?} was read as two: {answer}");
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{request:?}: {answer}");
    }
}
