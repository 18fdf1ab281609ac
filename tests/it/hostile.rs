//! Clients that mean harm: while they try, a thousand others get every notification, and the server's memory is bounded.

use std::{
    collections::HashSet,
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use reqwest::Method;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{Mutex, mpsc},
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep, timeout},
};

use crate::support::{Answer, Server, Socket, frames::masked, post_body, random::Random, raw::Raw, server::PATIENCE};

const CLIENTS: usize = 1000;

/// Notifications in each phase, and how many a second.
const POSTS: usize = 20;
const RATE: u32 = 10;

/// What any attack may cost: far more than it does, far less than one that is kept would.
const MEMORY_BOUND: u64 = 64 * 1024 * 1024;

/// How long those that are slow wait before each next byte.
const SLOWLY: Duration = Duration::from_millis(100);

#[derive(Debug, Clone, Copy)]
enum Attack {
    SlowHeads,
    SlowBodies,
    SlowFrames,
    /// They shake hands, and neither read nor say anything.
    Silent,
    Resets,
    PingFloods,
    EndlessFragments,
    BrokenFrames,
    /// They come and go, each time as somebody else.
    Churn,
    /// The same, all as one.
    ChurnOfOne,
    WrongTokens,
    RandomRequests,
}

impl Attack {
    const ALL: [(Self, u64); 12] = [
        (Self::SlowHeads, 500),
        (Self::SlowBodies, 200),
        (Self::SlowFrames, 500),
        (Self::Silent, 500),
        (Self::Resets, 20),
        (Self::PingFloods, 20),
        (Self::EndlessFragments, 20),
        (Self::BrokenFrames, 20),
        (Self::Churn, 20),
        (Self::ChurnOfOne, 20),
        (Self::WrongTokens, 20),
        (Self::RandomRequests, 20),
    ];

    /// One connection's worth of it.
    async fn strike(self, address: &str, random: &mut Random) -> io::Result<()> {
        let mut raw = Raw(TcpStream::connect(address).await?);
        match self {
            Self::SlowHeads => {
                slowly(&mut raw, format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(10_000)).as_bytes()).await
            }
            Self::SlowBodies => {
                let head = "POST /notify HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer test-token\r\n\
                            Content-Length: 60000\r\n\r\n";
                raw.0.write_all(head.as_bytes()).await?;
                slowly(&mut raw, &[b' '; 60_000]).await
            }
            Self::SlowFrames => {
                shake_hands(&mut raw, None).await?;
                raw.0.write_all(&[0x81, 0xfe, 0x0f, 0xff]).await?;
                slowly(&mut raw, &[0; 4100]).await
            }
            Self::Silent => {
                shake_hands(&mut raw, None).await?;
                std::future::pending().await
            }
            Self::Resets => {
                shake_hands(&mut raw, Some(random)).await?;
                socket2::SockRef::from(&raw.0).set_linger(Some(Duration::ZERO))
            }
            Self::PingFloods => {
                shake_hands(&mut raw, Some(random)).await?;
                without_end(&mut raw, &masked(0x89, &[b'x'; 125])).await
            }
            Self::EndlessFragments => {
                shake_hands(&mut raw, Some(random)).await?;
                raw.0.write_all(&masked(0x01, b"")).await?;
                without_end(&mut raw, &masked(0x00, b"")).await
            }
            Self::BrokenFrames => {
                shake_hands(&mut raw, Some(random)).await?;
                let frames: [&[u8]; 6] = [
                    // Longer than anything; longer than may be; a length in a longer form than it needs.
                    &[0x81, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
                    &[0x82, 0xff, 0, 0, 0, 0, 0, 0x10, 0, 0],
                    &[0x81, 0xfe, 0, 1, 0, 0, 0, 0, b'x'],
                    // No text; not masked; reserved.
                    &[0x81, 0x82, 0, 0, 0, 0, 0xc0, 0x80],
                    &[0x81, 0x01, b'x'],
                    &[0xff, 0x80, 0, 0, 0, 0],
                ];
                raw.0.write_all(frames[random.below(6) as usize]).await?;
                until_end(&mut raw).await
            }
            Self::Churn => shake_hands(&mut raw, Some(random)).await,
            Self::ChurnOfOne => shake_hands(&mut raw, None).await,
            Self::WrongTokens => {
                let head = format!(
                    "POST /notify HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.1.1.1\r\nAuthorization: Bearer {}\r\n\
                     Content-Length: 0\r\n\r\n",
                    random.next()
                );
                raw.0.write_all(head.as_bytes()).await?;
                raw.head().await;
                Ok(())
            }
            Self::RandomRequests => {
                raw.0.write_all(&random_request(random)).await?;
                raw.0.shutdown().await?;
                until_end(&mut raw).await
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes a minute"]
async fn whoever_attacks_a_thousand_others_get_every_notification_and_memory_is_bounded() {
    let mut random = Random::of_this_run();
    let server = Server::start(&["--max-connections-per-ip", "5000", "--heartbeat", "60s"]).await;
    let mut crowd = Crowd::gather(&server).await;
    let before = server.memory("Pss");
    let calm = crowd.hear(&server).await;
    for (attack, attackers) in Attack::ALL {
        let strikes = Arc::new(AtomicU64::new(0));
        let mut attacking = JoinSet::new();
        for _ in 0..attackers {
            let (address, strikes, mut random) = (server.address.clone(), strikes.clone(), random.fork());
            attacking.spawn(async move {
                loop {
                    strikes.fetch_add(1, Ordering::Relaxed);
                    // However it ends: the server may refuse at any point.
                    let _ = attack.strike(&address, &mut random).await;
                }
            });
        }
        let attacked = crowd.hear(&server).await;
        let grown = server.memory("Pss").saturating_sub(before);
        attacking.shutdown().await;
        let ratio = attacked.as_secs_f64() / calm.as_secs_f64();
        let strikes = strikes.load(Ordering::Relaxed);
        println!(
            "{attack:?}: {strikes} connections, p99 {attacked:.1?}, {ratio:.1} x of calm; {} KiB more",
            grown / 1024
        );
        assert!(strikes >= attackers, "{attack:?}");
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

/// Asks for a WebSocket, as whoever `random` chooses, and takes the answer.
async fn shake_hands(raw: &mut Raw, random: Option<&mut Random>) -> io::Result<()> {
    let whom = random.map_or(String::new(), |random| {
        format!("X-Forwarded-For: {}\r\n", std::net::Ipv4Addr::from_bits(random.next() as u32 | 0x8000_0000))
    });
    let head = format!(
        "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n{whom}\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    raw.0.write_all(head.as_bytes()).await?;
    raw.head().await;
    Ok(())
}

async fn slowly(raw: &mut Raw, bytes: &[u8]) -> io::Result<()> {
    for byte in bytes {
        raw.0.write_all(&[*byte]).await?;
        sleep(SLOWLY).await;
    }
    Ok(())
}

/// Until the server has enough of it.
async fn without_end(raw: &mut Raw, frame: &[u8]) -> io::Result<()> {
    let many = frame.repeat(100);
    loop {
        raw.0.write_all(&many).await?;
    }
}

async fn until_end(raw: &mut Raw) -> io::Result<()> {
    let mut buffer = [0; 4096];
    while raw.0.read(&mut buffer).await? > 0 {}
    Ok(())
}

/// Something like a request.
fn random_request(random: &mut Random) -> Vec<u8> {
    let methods = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "CONNECT", "TRACE", "PRI", "get", "\u{1}", "X-Y"];
    let paths =
        ["/", "/ws", "/events", "/notify", "/metrics", "*", "//", "/%00", "/..//", "http://a/ws", "a:443", "/é", "/?"];
    let headers = [
        "Host: a",
        "Host:",
        "Upgrade: websocket",
        "Connection: upgrade",
        "Content-Length: 5",
        "Content-Length: -1",
        "Transfer-Encoding: chunked",
        "Expect: 100-continue",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: x",
        "X-Forwarded-For: ,,é,",
        "Forwarded: for=\"",
        "Authorization: Bearer",
        ": x",
        "x",
        "Range: bytes=0-",
    ];
    let mut pick = |from: &[&str]| from[random.below(from.len() as u64) as usize].to_owned();
    let mut request = format!("{} {} HTTP/1.1\r\n", pick(&methods), pick(&paths));
    for _ in 0..4 {
        request += &format!("{}\r\n", pick(&headers));
    }
    request += "\r\nhello";
    request.into_bytes()
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
