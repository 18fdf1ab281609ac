//! From listening sockets to the router: accepts connections and bounds what each may hold and for how long.

use std::{
    convert::Infallible,
    fs,
    future::poll_fn,
    io,
    net::{IpAddr, SocketAddr},
    os::unix::fs::FileTypeExt,
    path::{Path, PathBuf},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes, HttpBody},
    extract::Request,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use http_body_util::BodyExt;
use hyper::{
    body::{Frame, Incoming, SizeHint},
    server::conn::http1,
    service::service_fn,
    upgrade::OnUpgrade,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    task::yield_now,
    time::{Sleep, sleep},
};
use tower::Service;

use crate::{
    config::Listen,
    limits::Refusal,
    pending::{Pending, PendingConnection, Wait},
    rejection::Rejection,
    shutdown::Shutdown,
    transport::{
        Peer, shards,
        takeover::{Carried, Takeover},
    },
};

/// What the kernel holds for one connection at most, in each direction, in bytes (it doubles the number for its own
/// bookkeeping): a client that stops reading costs 64 KiB, not megabytes.
const SOCKET_BUFFER: usize = 16 * 1024;

/// How much may wait in the kernel unsent before a socket stops taking more. What waits there is out of our hands.
const NOTSENT_LOWAT: u32 = 16 * 1024;

const BACKLOG: i32 = 4096;

/// How long a client may take to send the head of a request, the first as well as the next one.
const HEAD_TIMEOUT: Duration = Duration::from_secs(20);

/// The longest head of a request, in bytes.
const MAX_HEAD: usize = 16 * 1024;

/// How much of a body that was refused is still read, and for how long, so that its connection can be used again.
const MAX_DRAINED: usize = 1024 * 1024;
const DRAIN_PATIENCE: Duration = Duration::from_secs(1);

/// How long a connection without a request outlives the start of the end: far above any proxy's distance.
const LINGER: Duration = Duration::from_millis(250);

/// How long a client may go on from then that is slow: with the head of a request, with its answer, or with a body that
/// nobody wants.
const SLOW_LINGER: Duration = Duration::from_secs(2);

/// How many are accepted before other tasks have their turn: in a flood of connects, posts and the hub would
/// otherwise wait for hundreds of strangers each time.
const ACCEPTS_IN_A_ROW: usize = 16;

/// How long all others have instead where each newcomer takes the place of one that has not asked yet.
const CROWDED_PAUSE: Duration = Duration::from_millis(1);

/// How long to wait after the system refused to accept, most often for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A socket that listens.
pub enum Listener {
    Tcp(TcpListener),
    /// With the path to remove at the end, where the file is of our making.
    Unix(UnixListener, Option<PathBuf>),
}

impl Listener {
    /// Binds an address. Must be called within a runtime.
    ///
    /// # Errors
    /// When the address is in use or can't be had.
    pub fn bind(listen: &Listen) -> io::Result<Self> {
        match listen {
            Listen::Tcp(address) => bind_tcp(*address).map(Self::Tcp),
            Listen::Unix(path) => bind_unix(path).map(|listener| Self::Unix(listener, Some(path.clone()))),
        }
    }

    /// Serves a socket that another process has bound. Must be called within a runtime.
    ///
    /// # Errors
    /// When the system refuses what a socket of ours has.
    pub fn adopt(socket: Socket) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        if socket.local_addr()?.is_unix() {
            socket.set_send_buffer_size(SOCKET_BUFFER)?;
            return UnixListener::from_std(socket.into()).map(|listener| Self::Unix(listener, None));
        }
        set_tcp_options(&socket)?;
        TcpListener::from_std(socket.into()).map(Self::Tcp)
    }

    /// Where it listens, with the port that the system chose for port 0.
    pub fn address(&self) -> Listen {
        match self {
            Self::Tcp(listener) => Listen::Tcp(listener.local_addr().expect("a bound socket has an address")),
            Self::Unix(listener, _) => {
                let address = listener.local_addr().expect("a bound socket has an address");
                Listen::Unix(address.as_pathname().unwrap_or(Path::new("")).to_owned())
            }
        }
    }

    async fn accept(&self) -> io::Result<(Stream, Peer)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                Ok((Stream::Tcp(stream), Peer(Some(canonical(address)))))
            }
            Self::Unix(listener, _) => {
                let (stream, _) = listener.accept().await?;
                Ok((Stream::Unix(stream), Peer(None)))
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Self::Unix(_, Some(path)) = self {
            let _ = fs::remove_file(path);
        }
    }
}

fn canonical(address: SocketAddr) -> IpAddr {
    address.ip().to_canonical()
}

fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    set_tcp_options(&socket)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// The options are set on the listener; Linux hands them on to each socket that it accepts.
fn set_tcp_options(socket: &Socket) -> io::Result<()> {
    socket.set_send_buffer_size(SOCKET_BUFFER)?;
    socket.set_recv_buffer_size(SOCKET_BUFFER)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_notsent_lowat(NOTSENT_LOWAT)
}

fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    if is_socket {
        // Left by a process that was killed, unless somebody answers.
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        fs::remove_file(path)?;
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
    socket.set_send_buffer_size(SOCKET_BUFFER)?;
    socket.bind(&SockAddr::unix(path)?)?;
    socket.listen(BACKLOG)?;
    UnixListener::from_std(socket.into())
}

/// What serves every connection, whatever listener it came by.
pub struct Server {
    pub router: Router,
    pub pending: Arc<Pending>,
    pub shutdown: Shutdown,
    /// How long a client may take nothing.
    pub write_timeout: Duration,
}

impl Server {
    /// Accepts until the shutdown starts, then closes the listener. Clients that are connected live on in tasks that
    /// `shutdown` waits for.
    pub async fn accept(self: Arc<Self>, listener: Listener) {
        if let Listener::Tcp(listener) = &listener {
            // Data that nobody acknowledges for so long was sent to a client that is gone. Accepted sockets inherit it.
            let _ = socket2::SockRef::from(listener).set_tcp_user_timeout(Some(self.write_timeout));
        }
        for number in 1_usize.. {
            if number.is_multiple_of(ACCEPTS_IN_A_ROW) {
                if self.pending.is_crowded() { sleep(CROWDED_PAUSE).await } else { yield_now().await }
            }
            let accepted = tokio::select! {
                biased;
                () = self.shutdown.started() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    // Who is refused is closed without a word, which is all that a flood should cost.
                    if let Ok(pending) = self.pending.admit(peer.0) {
                        self.shutdown.spawn(self.clone().serve(stream, peer, pending));
                    }
                }
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    tracing::error!(%error, "no connection can be accepted");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Waits for the first bytes of a request, then for its end. Only what is about to be read gets buffers: of a
    /// thousand clients that come at once, few hold any at the same time.
    async fn serve(self: Arc<Self>, stream: Stream, peer: Peer, pending: PendingConnection) {
        let begun = tokio::select! {
            begun = tokio::time::timeout(HEAD_TIMEOUT, stream.has_begun()) => begun,
            () = pending.crowded_out() => return,
            () = self.lingered() => return,
        };
        if matches!(begun, Ok(Ok(true))) {
            Box::pin(self.talk(stream, peer, pending)).await;
        }
    }

    /// Returns a while after the end has begun: a request that was on its way then is still answered. A proxy can't
    /// know whether one that is lost on a connection it kept was acted on, and answers 502.
    async fn lingered(&self) {
        self.shutdown.started().await;
        sleep(LINGER).await;
    }

    /// Answers requests until the connection ends or a transport takes it over.
    async fn talk(&self, stream: Stream, peer: Peer, pending: PendingConnection) {
        let line = Arc::new(Line { pending, state: Mutex::default() });
        let io =
            TimedIo { stream: Some(stream), write_timeout: self.write_timeout, deadline: None, line: line.clone() };
        let service = service_fn(|request| {
            let response = self.answer(request, peer, line.clone());
            async { Ok::<_, Infallible>(response.await) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_buf_size(MAX_HEAD)
            .serve_connection(TokioIo::new(io), service)
            .with_upgrades();
        // Until the end, or until a stream's head is written: what follows it is not this connection's any more.
        let result = {
            let mut connection = std::pin::pin!(connection);
            tokio::select! {
                result = poll_fn(|context| line.poll(connection.as_mut(), context)) => result,
                () = line.pending.crowded_out() => return,
                () = self.lingered() => {
                    connection.as_mut().graceful_shutdown();
                    tokio::select! {
                        // First: what has come by now is read, and answered where it is a whole request.
                        biased;
                        result = poll_fn(|context| line.poll(connection.as_mut(), context)) => result,
                        () = outstayed(&line.pending) => return,
                    }
                }
            }
        };
        if let Err(error) = result {
            tracing::debug!(%error, "a connection broke");
            return;
        }
        line.hand_over().await;
    }

    /// Asks the router, then sees to it that the connection is fit for the next request or says that it ends: a proxy
    /// that keeps connections would otherwise lose the next post on it.
    async fn answer(&self, mut request: Request<Incoming>, peer: Peer, line: Arc<Line>) -> Response {
        if !line.pending.go_on() {
            // It has made room for another one, and is about to be cut: nothing may come of what it asks.
            return last(Rejection::from(Refusal::Full).into_response());
        }
        request.extensions_mut().insert(peer);
        let upgrade = request.extensions_mut().remove::<OnUpgrade>();
        // Who waits for a word before sending a body has been given another one.
        let waits = request.headers().contains_key(header::EXPECT);
        let unread = Unread::default();
        let request = request.map(|body| Body::new(WatchedBody { body: Some(body), unread: unread.clone() }));
        let mut response = self.router.clone().call(request).await.unwrap_or_else(|never| match never {});
        if let Some(takeover) = response.extensions_mut().remove::<Takeover>() {
            let mut state = line.state();
            state.takeover = Some(takeover);
            state.upgrade = upgrade.filter(|_| response.status() == StatusCode::SWITCHING_PROTOCOLS);
        }
        let rest = unread.lock().unwrap_or_else(PoisonError::into_inner).take();
        let is_unfit = match rest {
            Some(_) if waits => true,
            Some(rest) => {
                // The answer is known; what comes, or does not, is up to the client.
                line.pending.wait(Wait::Progress);
                let is_drained = is_drained(rest).await;
                line.pending.go_on();
                !is_drained
            }
            None => false,
        };
        line.state().is_answered = true;
        let is_last = self.shutdown.is_draining() && response.status() != StatusCode::SWITCHING_PROTOCOLS;
        if is_unfit || is_last { last(response) } else { response }
    }
}

/// Returns once a connection has waited for its client for long enough, in the end of the process. A request that is
/// worked on, with a post's body that comes slowly, has the time that the end has.
async fn outstayed(pending: &PendingConnection) {
    sleep(SLOW_LINGER).await;
    while !pending.is_waiting() {
        sleep(LINGER).await;
    }
}

/// An answer after which the connection ends.
fn last(mut response: Response) -> Response {
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// Errors that Linux reports for a connection that broke before it was accepted (accept(2)).
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

/// Reads what is left of a body and throws it away; whether that was all of it. Without this the answer could be lost
/// too: closing a socket with bytes unread resets it.
async fn is_drained(mut body: Incoming) -> bool {
    let mut left = MAX_DRAINED;
    let drain = async {
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else { return false };
            let length = frame.data_ref().map_or(0, Bytes::len);
            let Some(less) = left.checked_sub(length) else { return false };
            left = less;
        }
        true
    };
    tokio::time::timeout(DRAIN_PATIENCE, drain).await.unwrap_or(false)
}

/// Where a body is left that nobody read to its end.
type Unread = Arc<Mutex<Option<Incoming>>>;

/// A body that is left in `unread` when it is dropped before its end.
struct WatchedBody {
    /// None once it has ended.
    body: Option<Incoming>,
    unread: Unread,
}

impl HttpBody for WatchedBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(body).poll_frame(context));
        if frame.is_none() {
            self.body = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(SizeHint::default, HttpBody::size_hint)
    }
}

impl Drop for WatchedBody {
    fn drop(&mut self) {
        if let Some(body) = self.body.take().filter(|body| !body.is_end_stream()) {
            *self.unread.lock().unwrap_or_else(PoisonError::into_inner) = Some(body);
        }
    }
}

/// What the two ends of one connection share: hyper, which owns the socket, and the task that may have to take it away.
struct Line {
    pending: PendingConnection,
    state: Mutex<LineState>,
}

#[derive(Default)]
struct LineState {
    takeover: Option<Takeover>,
    upgrade: Option<OnUpgrade>,
    /// Whether hyper has the answer, and has yet to write the last of it.
    is_answered: bool,
    /// What hyper has written since the takeover was asked for: the head of the answer. Whoever takes over sends it, in
    /// one write with what follows.
    head: Vec<u8>,
    /// What hyper has let go of.
    stream: Option<Stream>,
}

impl Line {
    fn state(&self) -> MutexGuard<'_, LineState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Drives the connection; ready, too, as soon as the head of a response is encoded whose body comes from elsewhere.
    fn poll<F: Future<Output = hyper::Result<()>>>(
        &self,
        connection: Pin<&mut F>,
        context: &mut Context<'_>,
    ) -> Poll<hyper::Result<()>> {
        let polled = connection.poll(context);
        let state = self.state();
        let is_encoded = state.takeover.as_ref().is_some_and(Takeover::head_is_encoded);
        if polled.is_pending() && is_encoded && !state.head.is_empty() {
            return Poll::Ready(Ok(()));
        }
        polled
    }

    /// All that hyper had to write is with the kernel: an answer with it, if there was one.
    fn written(&self) {
        if std::mem::take(&mut self.state().is_answered) {
            self.pending.wait(Wait::NextRequest);
        }
    }

    /// Gives the socket to the transport that asked for it, if one did.
    async fn hand_over(&self) {
        let (takeover, upgrade) = {
            let mut state = self.state();
            (state.takeover.take(), state.upgrade.take())
        };
        let Some(takeover) = takeover else { return };
        let mut early = Bytes::new();
        if let Some(upgrade) = upgrade {
            let Ok(upgraded) = upgrade.await else { return };
            let Ok(parts) = upgraded.downcast::<TokioIo<TimedIo>>() else { return };
            // Copied, mostly from nothing, so that hyper's whole buffer does not wait with it.
            early = Bytes::copy_from_slice(&parts.read_buf);
            // Dropped here, it leaves its stream below.
            drop(parts.io);
        }
        let (stream, head) = {
            let mut state = self.state();
            (state.stream.take(), std::mem::take(&mut state.head))
        };
        match stream.map(Stream::into_socket) {
            Some(Ok(socket)) => takeover.carry(Carried { socket, head: head.into(), early }),
            Some(Err(error)) => tracing::debug!(%error, "a connection broke as it was handed over"),
            None => {}
        }
    }
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    fn pin(&mut self) -> Pin<&mut dyn Io> {
        match self {
            Self::Tcp(stream) => Pin::new(stream),
            Self::Unix(stream) => Pin::new(stream),
        }
    }

    /// Returns once there is something to read, or the end, and whether it may be the first.
    async fn has_begun(&self) -> io::Result<bool> {
        match self {
            // Not `readable`, which also returns where there is nothing: too often to rely on.
            Self::Tcp(stream) => stream.peek(&mut [0]).await.map(|length| length > 0),
            Self::Unix(stream) => stream.readable().await.map(|()| true),
        }
    }

    /// Takes it from the runtime.
    fn into_socket(self) -> io::Result<shards::Socket> {
        Ok(match self {
            Self::Tcp(stream) => stream.into_std()?.into(),
            Self::Unix(stream) => stream.into_std()?.into(),
        })
    }
}

trait Io: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Io for T {}

/// A stream whose writes fail when none makes progress for a while, whatever is sent over it.
struct TimedIo {
    /// None once it is dropped.
    stream: Option<Stream>,
    write_timeout: Duration,
    /// Set while a write waits.
    deadline: Option<Pin<Box<Sleep>>>,
    line: Arc<Line>,
}

impl TimedIo {
    fn stream(&mut self) -> Pin<&mut dyn Io> {
        self.stream.as_mut().expect("it is there until the drop").pin()
    }

    /// Keeps what is written for whoever takes over; whether somebody does.
    fn keep(&self, slices: &[io::IoSlice<'_>]) -> bool {
        let mut state = self.line.state();
        let is_taken = state.takeover.is_some();
        if is_taken {
            slices.iter().for_each(|slice| state.head.extend_from_slice(slice));
        }
        is_taken
    }

    fn timed<T>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            if self.deadline.take().is_some() {
                self.line.pending.go_on();
            }
            return written;
        }
        let deadline = self.deadline.get_or_insert_with(|| {
            self.line.pending.wait(Wait::Progress);
            Box::pin(sleep(self.write_timeout))
        });
        ready!(deadline.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl Drop for TimedIo {
    fn drop(&mut self) {
        self.line.state().stream = self.stream.take();
    }
}

impl AsyncRead for TimedIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.stream().poll_read(context, buffer)
    }
}

impl AsyncWrite for TimedIo {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.keep(&[io::IoSlice::new(bytes)]) {
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = self.stream().poll_write(context, bytes);
        self.timed(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.keep(slices) {
            return Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()));
        }
        let written = self.stream().poll_write_vectored(context, slices);
        self.timed(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.stream().poll_flush(context))?;
        self.line.written();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_shutdown(context)
    }
}
