//! The threads that carry the clients: a shard each, a core each, waiting in one place for sockets, publications and
//! time.

use std::{
    io::{self, IoSlice, Read, Write},
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    task::{Context, Poll, Wake},
    thread::{self, JoinHandle},
    time::Duration,
};

use mio::{Events, Interest, Registry, Token, event::Source};
use tokio::{
    runtime::Handle,
    sync::broadcast::{
        Receiver,
        error::{RecvError, TryRecvError},
    },
    time::Instant,
};

use super::shard::{Id, Opening, Shard};
use crate::{
    connection::Connections,
    history::{HistoryError, Page},
    hub::Event,
    panics::contain,
    subscription::{BATCH, StoreRead},
};

/// How many sockets are looked at between two looks at the broadcast.
const SOCKETS_AT_ONCE: usize = 1024;

/// How long a client waits before the store that did not answer is asked again.
const STORE_PAUSE: Duration = Duration::from_secs(1);

/// The token that wakes a thread; the others are clients, by their place in the shard.
const WAKE: Token = Token(usize::MAX);

/// All shards of the process.
pub struct Shards {
    mailboxes: Vec<Mailbox>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// Who gets the next client.
    next: AtomicUsize,
}

/// A client's socket, which never blocks.
pub enum Socket {
    Tcp(mio::net::TcpStream),
    Unix(mio::net::UnixStream),
}

/// How others reach a shard's thread.
#[derive(Clone)]
struct Mailbox {
    sender: mpsc::Sender<Letter>,
    waker: Arc<Bell>,
}

enum Letter {
    Open(Opening<Socket>),
    Page(Id, StoreRead, Result<Page, HistoryError>),
    Drain,
    Stop,
}

/// Ends the wait of a thread (an eventfd). Also what the broadcast is given to wake.
struct Bell(mio::Waker);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.ring();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ring();
    }
}

impl Bell {
    fn ring(&self) {
        // It can't fail but for a counter of 2^64 rings that nobody heard, and then one more says nothing new.
        let _ = self.0.wake();
    }
}

impl Mailbox {
    fn send(&self, letter: Letter) {
        // A thread that is gone has left its clients; the new one is dropped like them, and comes back.
        if self.sender.send(letter).is_ok() {
            self.waker.ring();
        }
    }
}

impl Shards {
    /// Starts `count` threads. Must be called within a runtime, which reads the store for them.
    ///
    /// # Errors
    /// When the system gives no threads or descriptors.
    pub fn start(connections: &Connections, count: usize) -> io::Result<Arc<Self>> {
        let (mut mailboxes, mut threads) = (Vec::new(), Vec::new());
        for number in 0..count.max(1) {
            let (mailbox, thread) = start(connections, number)?;
            mailboxes.push(mailbox);
            threads.push(thread);
        }
        let (all, shutdown) = (mailboxes.clone(), connections.shutdown.clone());
        tokio::spawn(async move {
            shutdown.started().await;
            all.iter().for_each(|mailbox| mailbox.send(Letter::Drain));
        });
        Ok(Arc::new(Self { mailboxes, threads: Mutex::new(threads), next: AtomicUsize::new(0) }))
    }

    /// Ends the threads; clients that are still there are cut. Returns when nothing of them is left.
    pub fn stop(&self) {
        self.mailboxes.iter().for_each(|mailbox| mailbox.send(Letter::Stop));
        for thread in std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner)) {
            let _ = thread.join();
        }
    }

    /// Hands a client to the thread whose turn it is.
    pub fn open(&self, opening: Opening<Socket>) {
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        self.mailboxes[next % self.mailboxes.len()].send(Letter::Open(opening));
    }
}

fn start(connections: &Connections, number: usize) -> io::Result<(Mailbox, JoinHandle<()>)> {
    let poll = mio::Poll::new()?;
    let waker = Arc::new(Bell(mio::Waker::new(poll.registry(), WAKE)?));
    let (sender, letters) = mpsc::channel();
    let mailbox = Mailbox { sender, waker };
    let mut thread = Thread {
        poll,
        letters,
        mailbox: mailbox.clone(),
        connections: connections.clone(),
        runtime: Handle::current(),
    };
    let thread = thread::Builder::new().name(format!("shard-{number}")).spawn(move || {
        // The last resort: what concerns one client, the shard catches itself. The other shards never notice.
        while contain("a shard with all its clients", || thread.run()).is_none() {}
    })?;
    Ok((mailbox, thread))
}

struct Thread {
    poll: mio::Poll,
    letters: mpsc::Receiver<Letter>,
    mailbox: Mailbox,
    connections: Connections,
    runtime: Handle,
}

impl Thread {
    /// Carries clients until it is stopped.
    fn run(&mut self) {
        // Received before any client starts, so that nothing is between.
        let mut receiver = self.connections.hub.receive();
        let mut shard = Shard::new(self.connections.clone());
        let mut events = Events::with_capacity(SOCKETS_AT_ONCE);
        let bell = self.mailbox.waker.clone().into();
        loop {
            for _ in 0..BATCH {
                match receiver.try_recv() {
                    Ok(event) => shard.take(event),
                    Err(TryRecvError::Lagged(_)) => shard.lagged(),
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Closed) => return,
                }
            }
            shard.offer();
            self.order_reads(&mut shard);
            let more = shard.read_on();
            let received = self.wait(
                &mut receiver,
                &mut events,
                &bell,
                if more { Some(Instant::now()) } else { shard.next_tick() },
            );
            for event in &events {
                let Some(id) = (event.token() != WAKE).then(|| shard.id(event.token().0)).flatten() else { continue };
                if event.is_writable() {
                    shard.writable(id);
                }
                let ends = event.is_read_closed() || event.is_error();
                if event.is_readable() || ends {
                    shard.readable(id, ends);
                }
            }
            match received {
                Some(Ok(event)) => shard.take(event),
                Some(Err(RecvError::Lagged(_))) => shard.lagged(),
                Some(Err(RecvError::Closed)) => return,
                None => {}
            }
            // After the sockets' events: a place that one of them frees must not get the next one's.
            loop {
                match self.letters.try_recv() {
                    Ok(Letter::Stop) | Err(mpsc::TryRecvError::Disconnected) => return,
                    Ok(letter) => self.take(letter, &mut shard),
                    Err(mpsc::TryRecvError::Empty) => break,
                }
            }
            shard.tick(Instant::now());
        }
    }

    /// Waits for a socket, a letter, a publication or a moment; answers a publication that came.
    fn wait(
        &mut self,
        receiver: &mut Receiver<Event>,
        events: &mut Events,
        bell: &std::task::Waker,
        until: Option<Instant>,
    ) -> Option<Result<Event, RecvError>> {
        // While it is pending and lives, it rings.
        let mut next = pin!(receiver.recv());
        let received = match next.as_mut().poll(&mut Context::from_waker(bell)) {
            Poll::Ready(received) => Some(received),
            Poll::Pending => None,
        };
        let timeout = match until {
            _ if received.is_some() => Some(Duration::ZERO),
            Some(until) => Some(until.saturating_duration_since(Instant::now())),
            None => None,
        };
        if let Err(error) = self.poll.poll(events, timeout)
            && error.kind() != io::ErrorKind::Interrupted
        {
            tracing::error!(%error, "sockets can't be waited for");
            thread::sleep(STORE_PAUSE);
        }
        received
    }

    fn take(&self, letter: Letter, shard: &mut Shard<Socket>) {
        match letter {
            Letter::Open(opening) => {
                let random = getrandom::u32().expect("the system gives randomness");
                let Some(id) = shard.open(opening, random) else { return };
                // Edges of both kinds: a socket at rest costs nothing, and nothing has to be changed when one blocks.
                let interest = Interest::READABLE | Interest::WRITABLE;
                if let Err(error) = self.poll.registry().register(shard.socket(id), Token(id.key), interest) {
                    tracing::error!(%error, "a client can't be waited for");
                    shard.close(id);
                }
            }
            Letter::Page(id, read, page) => shard.page(id, read, page),
            Letter::Drain => shard.drain(),
            Letter::Stop => unreachable!("it ends the thread"),
        }
    }

    /// Has the store read for those who need it, elsewhere: here nobody waits.
    fn order_reads(&self, shard: &mut Shard<Socket>) {
        for (id, read) in shard.reads() {
            let (hub, mailbox) = (self.connections.hub.clone(), self.mailbox.clone());
            self.runtime.spawn(async move {
                let page = hub.read(read.after).await;
                if let Err(HistoryError::Unavailable(_)) = page {
                    tokio::time::sleep(STORE_PAUSE).await;
                }
                mailbox.send(Letter::Page(id, read, page));
            });
        }
    }
}

impl Socket {
    fn source(&mut self) -> &mut dyn Source {
        match self {
            Self::Tcp(stream) => stream,
            Self::Unix(stream) => stream,
        }
    }
}

impl From<std::net::TcpStream> for Socket {
    fn from(stream: std::net::TcpStream) -> Self {
        Self::Tcp(mio::net::TcpStream::from_std(stream))
    }
}

impl From<std::os::unix::net::UnixStream> for Socket {
    fn from(stream: std::os::unix::net::UnixStream) -> Self {
        Self::Unix(mio::net::UnixStream::from_std(stream))
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
        }
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write_vectored(slices),
            Self::Unix(stream) => stream.write_vectored(slices),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Source for Socket {
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.source().register(registry, token, interests)
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.source().reregister(registry, token, interests)
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        self.source().deregister(registry)
    }
}
