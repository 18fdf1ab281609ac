//! A network that fails: a TCP proxy that cuts and stalls connections as a seed says.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use socket2::SockRef;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::watch,
    time::{Instant, sleep_until, timeout},
};

use super::random::Random;

/// See the module's documentation.
pub struct Proxy {
    pub address: String,
    calm: watch::Sender<bool>,
    cuts: Arc<AtomicU64>,
}

/// What happens to one connection.
struct Fate {
    /// It is cut after so many bytes to the client, wherever in a message that is, or at a time.
    bytes: usize,
    end: Instant,
    /// How: by a reset, which destroys what the client has not read, or by an end in the middle.
    reset: bool,
    /// After so many bytes, nothing goes to the client for a while.
    stall: Option<(usize, Duration)>,
}

impl Fate {
    fn draw(random: &mut Random) -> Self {
        let bytes = if random.once_in(3) { 200 + random.below(8_000) as usize } else { usize::MAX };
        let stall = random.once_in(4).then(|| (random.below(4_000) as usize, random.millis(200, 5_000)));
        Self { bytes, end: Instant::now() + random.millis(100, 12_000), reset: random.once_in(2), stall }
    }

    fn never() -> Self {
        Self { bytes: usize::MAX, end: Instant::now() + Duration::from_secs(86_400), reset: false, stall: None }
    }
}

impl Proxy {
    pub async fn start(target: &str, mut random: Random) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let (calm, is_calm) = watch::channel(false);
        let cuts = Arc::new(AtomicU64::new(0));
        let (target, counter) = (target.to_owned(), cuts.clone());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, target.clone(), random.fork(), is_calm.clone(), counter.clone()));
            }
        });
        Self { address, calm, cuts }
    }

    /// From now on all goes well, also for the connections there are.
    pub fn calm(&self) {
        self.calm.send_replace(true);
    }

    /// How many connections were cut.
    pub fn cuts(&self) -> u64 {
        self.cuts.load(Ordering::Relaxed)
    }
}

async fn carry(
    mut client: TcpStream,
    target: String,
    mut random: Random,
    mut calm: watch::Receiver<bool>,
    cuts: Arc<AtomicU64>,
) {
    let Ok(mut server) = connect(&target).await else { return };
    let mut fate = if *calm.borrow_and_update() { Fate::never() } else { Fate::draw(&mut random) };
    let mut sent = 0;
    let (mut up, mut down) = ([0; 2048], [0; 2048]);
    let cut = loop {
        if let Some((_, pause)) = fate.stall.take_if(|(after, _)| *after <= sent)
            && timeout(pause, calm.wait_for(|calm| *calm)).await.is_ok()
        {
            fate = Fate::never();
        }
        tokio::select! {
            changed = calm.changed() => {
                if changed.is_err() {
                    break false;
                }
                fate = Fate::never();
            }
            () = sleep_until(fate.end) => break true,
            read = client.read(&mut up) => match read {
                Ok(count @ 1..) if server.write_all(&up[..count]).await.is_ok() => {}
                _ => break false,
            },
            read = server.read(&mut down) => match read {
                Ok(count @ 1..) => {
                    let passed = count.min(fate.bytes - sent);
                    if client.write_all(&down[..passed]).await.is_err() {
                        break false;
                    }
                    sent += passed;
                    if sent == fate.bytes {
                        break true;
                    }
                }
                _ => break false,
            },
        }
    };
    if cut {
        cuts.fetch_add(1, Ordering::Relaxed);
        if fate.reset {
            for stream in [&client, &server] {
                let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
            }
        }
    }
}

/// With a small receive buffer, so that a stall here is felt over there; a smaller one would make loopback, whose
/// segments are large, trickle by window probes for ever.
async fn connect(target: &str) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(16 * 1024)?;
    socket.connect(target.parse().expect("an address")).await
}
