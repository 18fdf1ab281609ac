//! What clients do that mean harm. Here beside the clients that a test counts for; in benches/load as a process of its
//! own, so that what it burns is not taken for the server's.

use std::{
    io,
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, Interest},
    net::TcpStream,
    task::JoinSet,
    time::sleep,
};

use super::random::Random;

/// How long those that are slow wait before each next byte.
const SLOWLY: Duration = Duration::from_millis(100);

#[derive(Debug, Clone, Copy)]
pub enum Attack {
    /// They connect, and say nothing.
    Wordless,
    SlowHeads,
    SlowBodies,
    /// They announce a body to a route that wants none, or to none, and never send it.
    MissingBodies,
    SlowFrames,
    /// They shake hands, and neither read nor say anything.
    Silent,
    Resets,
    PingFloods,
    EndlessFragments,
    BrokenFrames,
    /// They connect and leave.
    Knocks,
    /// They shake hands and leave, each time as somebody else.
    Churn,
    /// The same, all as one.
    ChurnOfOne,
    /// The same, each time with as many regions as may be asked for, which nobody else asks for.
    ChurnOfRegions,
    WrongTokens,
    RandomRequests,
    /// Requests that can be read as two.
    Smuggling,
    /// A WebSocket is asked for where there is none.
    Upgrades,
    /// What is answered from the history, over and over, each time as somebody else.
    Readiness,
    Pages,
}

/// Attackers at work, until this is dropped.
pub struct Attackers {
    strikes: Arc<AtomicU64>,
    _tasks: JoinSet<()>,
}

impl Attackers {
    /// How many connections they have begun.
    pub fn strikes(&self) -> u64 {
        self.strikes.load(Ordering::Relaxed)
    }
}

impl Attack {
    /// Each with how many attack at a time.
    pub const ALL: [(Self, u64); 20] = [
        (Self::Wordless, 5000),
        (Self::SlowHeads, 500),
        (Self::SlowBodies, 200),
        (Self::SlowFrames, 500),
        (Self::Silent, 500),
        (Self::Resets, 20),
        (Self::PingFloods, 20),
        (Self::EndlessFragments, 20),
        (Self::BrokenFrames, 20),
        (Self::Knocks, 20),
        (Self::Churn, 20),
        (Self::ChurnOfOne, 20),
        (Self::ChurnOfRegions, 200),
        (Self::WrongTokens, 20),
        (Self::RandomRequests, 20),
        (Self::Smuggling, 20),
        (Self::Upgrades, 20),
        (Self::Readiness, 20),
        (Self::Pages, 20),
        // More than there is room for. The last, since what was held meanwhile stays with the allocator, and hides what
        // others need.
        (Self::MissingBodies, 5000),
    ];

    /// Lets so many loose. Must be called within a runtime.
    pub fn start(self, attackers: u64, address: &str, random: &mut Random) -> Attackers {
        let strikes = Arc::new(AtomicU64::new(0));
        let mut tasks = JoinSet::new();
        for _ in 0..attackers {
            let (address, strikes, mut random) = (address.to_owned(), strikes.clone(), random.fork());
            tasks.spawn(async move {
                loop {
                    strikes.fetch_add(1, Ordering::Relaxed);
                    // However it ends: the server may refuse at any point.
                    let _ = self.strike(&address, &mut random).await;
                }
            });
        }
        Attackers { strikes, _tasks: tasks }
    }

    /// One connection's worth of it.
    async fn strike(self, address: &str, random: &mut Random) -> io::Result<()> {
        let mut stream = TcpStream::connect(address).await?;
        match self {
            Self::Wordless => until_end(&mut stream).await,
            Self::SlowHeads => {
                slowly(&mut stream, format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(10_000)).as_bytes()).await
            }
            Self::SlowBodies => {
                let head = "POST /notify HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer test-token\r\n\
                            Content-Length: 60000\r\n\r\n";
                stream.write_all(head.as_bytes()).await?;
                slowly(&mut stream, &[b' '; 60_000]).await
            }
            Self::MissingBodies => {
                let request = pick(random, &["POST /nothing", "GET /healthz", "GET /", "PUT /ws"]);
                let head = format!("{request} HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n");
                stream.write_all(head.as_bytes()).await?;
                until_end(&mut stream).await
            }
            Self::SlowFrames => {
                shake_hands(&mut stream, None).await?;
                stream.write_all(&[0x81, 0xfe, 0x0f, 0xff]).await?;
                slowly(&mut stream, &[0; 4100]).await
            }
            Self::Silent => {
                shake_hands(&mut stream, None).await?;
                // Looks, but takes nothing.
                while !stream.ready(Interest::READABLE).await?.is_read_closed() {
                    sleep(SLOWLY).await;
                }
                Ok(())
            }
            Self::Resets => {
                shake_hands(&mut stream, Some(random)).await?;
                stream.set_zero_linger()
            }
            Self::PingFloods => {
                shake_hands(&mut stream, Some(random)).await?;
                without_end(&mut stream, &[&[0x89, 0xfd, 0, 0, 0, 0][..], &[b'x'; 125]].concat()).await
            }
            Self::EndlessFragments => {
                shake_hands(&mut stream, Some(random)).await?;
                stream.write_all(&[0x01, 0x80, 0, 0, 0, 0]).await?;
                without_end(&mut stream, &[0x00, 0x80, 0, 0, 0, 0]).await
            }
            Self::BrokenFrames => {
                shake_hands(&mut stream, Some(random)).await?;
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
                stream.write_all(frames[random.below(6) as usize]).await?;
                until_end(&mut stream).await
            }
            Self::Knocks => Ok(()),
            Self::Churn => shake_hands(&mut stream, Some(random)).await,
            Self::ChurnOfOne => shake_hands(&mut stream, None).await,
            Self::ChurnOfRegions => {
                let path = format!("/ws?regions={}", regions_of_its_own(random));
                ask_for_socket(&mut stream, &path, Some(random)).await?;
                until_answered(&mut stream).await
            }
            Self::WrongTokens => {
                let head = format!(
                    "POST /notify HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.1.1.1\r\nAuthorization: Bearer {}\r\n\
                     Content-Length: 0\r\n\r\n",
                    random.next()
                );
                stream.write_all(head.as_bytes()).await?;
                until_answered(&mut stream).await
            }
            Self::RandomRequests => {
                stream.write_all(&random_request(random)).await?;
                stream.shutdown().await?;
                until_end(&mut stream).await
            }
            Self::Smuggling => {
                let shapes = smuggled();
                stream.write_all(shapes[random.below(shapes.len() as u64) as usize].as_bytes()).await?;
                stream.shutdown().await?;
                until_end(&mut stream).await
            }
            Self::Upgrades => {
                let path = pick(random, &[&NO_CLIENTS[..], &["/events"]].concat());
                ask_for_socket(&mut stream, path, Some(random)).await?;
                until_answered(&mut stream).await
            }
            Self::Readiness => over_and_over(&mut stream, "/readyz", random).await,
            Self::Pages => {
                let names: Vec<String> = (0..63).map(|number| format!("r{number}")).collect();
                let path = format!("/notifications?limit=100&regions=US,{}", names.join(","));
                over_and_over(&mut stream, &path, random).await
            }
        }
    }
}

/// Routes that are no client's, and one that is none.
pub const NO_CLIENTS: [&str; 8] =
    ["/", "/notify", "/metrics", "/healthz", "/readyz", "/notifications", "/notifier.js", "/nothing"];

/// As many and as long as may be asked for at a time, which nobody else asks for.
pub fn regions_of_its_own(random: &mut Random) -> String {
    let names: Vec<String> = (0..64).map(|_| format!("{:032x}", random.next())).collect();
    names.join(",")
}

/// Requests that end in two places, as who reads them says: behind the first, another is hidden, which posts.
pub fn smuggled() -> Vec<String> {
    let hidden = hidden_post();
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
    shapes.map(|shape| format!("POST /healthz HTTP/1.1\r\nHost: a\r\n{shape}")).into()
}

/// A post that all would hear of.
pub fn hidden_post() -> String {
    let body = r#"{"region":"US","videos":[{"id":"hidden","title":"Hidden"}]}"#;
    format!(
        "POST /notify HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer test-token\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Asks for a WebSocket at `/ws`, as whoever `random` chooses, and takes the answer.
async fn shake_hands(stream: &mut TcpStream, random: Option<&mut Random>) -> io::Result<()> {
    ask_for_socket(stream, "/ws", random).await?;
    until_answered(stream).await
}

async fn ask_for_socket(stream: &mut TcpStream, path: &str, random: Option<&mut Random>) -> io::Result<()> {
    let whom = random.map_or(String::new(), somebody);
    let head = format!(
        "GET {path} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n{whom}\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await
}

/// Asks again whenever something of an answer has come, each time as somebody else.
async fn over_and_over(stream: &mut TcpStream, path: &str, random: &mut Random) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\n{}\r\n", somebody(random));
        stream.write_all(request.as_bytes()).await?;
        if stream.read(&mut buffer).await? == 0 {
            return Ok(());
        }
    }
}

/// A header that says so to a server that trusts the attackers' address.
fn somebody(random: &mut Random) -> String {
    format!("X-Forwarded-For: {}\r\n", Ipv4Addr::from_bits(random.next() as u32 | 0x8000_0000))
}

async fn slowly(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<()> {
    for byte in bytes {
        stream.write_all(&[*byte]).await?;
        sleep(SLOWLY).await;
    }
    Ok(())
}

/// Until the server has enough of it.
async fn without_end(stream: &mut TcpStream, frame: &[u8]) -> io::Result<()> {
    let many = frame.repeat(100);
    loop {
        stream.write_all(&many).await?;
    }
}

async fn until_answered(stream: &mut TcpStream) -> io::Result<()> {
    let mut answer = Vec::new();
    while !answer.windows(4).any(|end| end == b"\r\n\r\n") && stream.read_buf(&mut answer).await? > 0 {}
    Ok(())
}

async fn until_end(stream: &mut TcpStream) -> io::Result<()> {
    let mut buffer = [0; 4096];
    while stream.read(&mut buffer).await? > 0 {}
    Ok(())
}

/// Something like a request.
pub fn random_request(random: &mut Random) -> Vec<u8> {
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
    let mut request = format!("{} {} HTTP/1.1\r\n", pick(random, &methods), pick(random, &paths));
    for _ in 0..4 {
        request += &format!("{}\r\n", pick(random, &headers));
    }
    request += "\r\nhello";
    request.into_bytes()
}

fn pick<'a>(random: &mut Random, from: &[&'a str]) -> &'a str {
    from[random.below(from.len() as u64) as usize]
}
