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
    io::{AsyncReadExt, AsyncWriteExt},
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
    WrongTokens,
    RandomRequests,
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
    pub const ALL: [(Self, u64); 14] = [
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
        (Self::WrongTokens, 20),
        (Self::RandomRequests, 20),
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
            Self::SlowFrames => {
                shake_hands(&mut stream, None).await?;
                stream.write_all(&[0x81, 0xfe, 0x0f, 0xff]).await?;
                slowly(&mut stream, &[0; 4100]).await
            }
            Self::Silent => {
                shake_hands(&mut stream, None).await?;
                std::future::pending().await
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
        }
    }
}

/// Asks for a WebSocket, as whoever `random` chooses, and takes the answer.
async fn shake_hands(stream: &mut TcpStream, random: Option<&mut Random>) -> io::Result<()> {
    let whom = random.map_or(String::new(), |random| {
        format!("X-Forwarded-For: {}\r\n", Ipv4Addr::from_bits(random.next() as u32 | 0x8000_0000))
    });
    let head = format!(
        "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n{whom}\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    until_answered(stream).await
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
    let mut pick = |from: &[&str]| from[random.below(from.len() as u64) as usize].to_owned();
    let mut request = format!("{} {} HTTP/1.1\r\n", pick(&methods), pick(&paths));
    for _ in 0..4 {
        request += &format!("{}\r\n", pick(&headers));
    }
    request += "\r\nhello";
    request.into_bytes()
}
