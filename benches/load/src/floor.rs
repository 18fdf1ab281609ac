//! The least that one process can spend on this protocol: epoll, a bare handshake, and one send of an encoded frame to
//! each socket. What a server costs is told as a ratio to it.
//!
//!     floor PORT [HEARTBEAT_SECONDS]
//!
//! Not a server to use: it believes every request, forgets what it has sent, sends everything to everybody, and drops a
//! client whose socket is full. It takes the same posts and sends messages of the same length as the server, so that
//! the same load drives both.

use std::{
    env,
    net::{Ipv4Addr, SocketAddrV4},
    os::fd::{AsRawFd, OwnedFd},
    time::{Duration, Instant},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use rustix::{
    buffer::spare_capacity,
    event::{Timespec, epoll},
    io::Errno,
    net::{self, AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, sockopt},
};

fn main() {
    let mut words = env::args().skip(1);
    let port = words.next().and_then(|port| port.parse().ok()).expect("floor PORT [HEARTBEAT_SECONDS]");
    let heartbeat = words.next().map(|seconds| Duration::from_secs_f64(seconds.parse().expect("seconds")));
    Floor::listen(port, heartbeat).expect("the port is free").run();
}

struct Floor {
    epoll: OwnedFd,
    listener: OwnedFd,
    /// What each descriptor of a connection is, by its number.
    stages: Vec<Stage>,
    /// Those that are sent WebSocket frames.
    sockets: Vec<OwnedFd>,
    /// Those that are sent chunks of server-sent events.
    streams: Vec<OwnedFd>,
    published: u64,
    /// How often heartbeats are sent, and when next.
    heartbeat: Option<(Duration, Instant)>,
}

enum Stage {
    Free,
    /// Its request, as far as it has arrived.
    Asking(OwnedFd, Vec<u8>),
    /// Its place in `sockets`.
    Socket(u32),
    /// Its place in `streams`.
    Stream(u32),
}

/// What is sent, encoded once for each transport.
struct Message {
    frame: Vec<u8>,
    chunk: Vec<u8>,
}

const LISTENER: u64 = u64::MAX;

impl Floor {
    fn listen(port: u16, heartbeat: Option<Duration>) -> rustix::io::Result<Self> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let listener = net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
        sockopt::set_socket_reuseaddr(&listener, true)?;
        // Handed on to each socket that is accepted.
        sockopt::set_tcp_nodelay(&listener, true)?;
        net::bind(&listener, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, port))?;
        net::listen(&listener, i32::from(u16::MAX))?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &listener, epoll::EventData::new_u64(LISTENER), epoll::EventFlags::IN)?;
        Ok(Self {
            epoll,
            listener,
            stages: Vec::new(),
            sockets: Vec::new(),
            streams: Vec::new(),
            published: 0,
            heartbeat: heartbeat.map(|every| (every, Instant::now() + every)),
        })
    }

    fn run(mut self) {
        let mut events = Vec::with_capacity(1024);
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let timeout = self.heartbeat.map(|(_, next)| {
                Timespec::try_from(next.saturating_duration_since(Instant::now())).expect("a heartbeat is short")
            });
            events.clear();
            match epoll::wait(&self.epoll, spare_capacity(&mut events), timeout.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => panic!("epoll: {error}"),
            }
            for event in &events {
                match event.data.u64() {
                    LISTENER => self.accept(),
                    number => self.read(number as usize, &mut buffer),
                }
            }
            self.beat();
        }
    }

    fn accept(&mut self) {
        while let Ok(socket) = net::accept_with(&self.listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
            let number = socket.as_raw_fd() as usize;
            let events = epoll::EventFlags::IN | epoll::EventFlags::RDHUP | epoll::EventFlags::ET;
            if epoll::add(&self.epoll, &socket, epoll::EventData::new_u64(number as u64), events).is_err() {
                continue;
            }
            if self.stages.len() <= number {
                self.stages.resize_with(number + 1, || Stage::Free);
            }
            self.stages[number] = Stage::Asking(socket, Vec::new());
        }
    }

    fn read(&mut self, number: usize, buffer: &mut [u8]) {
        let socket = match &self.stages[number] {
            Stage::Free => return,
            Stage::Asking(socket, _) => socket,
            Stage::Socket(place) => &self.sockets[*place as usize],
            Stage::Stream(place) => &self.streams[*place as usize],
        };
        match net::recv(socket, &mut *buffer, RecvFlags::empty()) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            Ok((0, _)) | Err(_) => self.close(number),
            Ok((length, _)) => {
                // What a client that listens says means nothing here; a Pong is read and that is all.
                if let Stage::Asking(_, request) = &mut self.stages[number] {
                    request.extend_from_slice(&buffer[..length]);
                    self.answer(number);
                }
            }
        }
    }

    /// Answers a request that has arrived whole.
    fn answer(&mut self, number: usize) {
        let Stage::Asking(socket, request) = &mut self.stages[number] else { return };
        let Some(end) = find(request, b"\r\n\r\n").map(|at| at + 4) else { return };
        let (head, body) = request.split_at(end);
        if let Some(key) = header(head, b"sec-websocket-key: ") {
            send(socket, &[upgraded(key), frame(&hello())].concat());
            let Stage::Asking(socket, _) = std::mem::replace(&mut self.stages[number], Stage::Free) else { return };
            self.stages[number] = Stage::Socket(self.sockets.len() as u32);
            self.sockets.push(socket);
        } else if head.starts_with(b"GET /events") {
            send(socket, &[STREAM_OPENS, &chunk(&event(&hello(), self.published))].concat());
            let Stage::Asking(socket, _) = std::mem::replace(&mut self.stages[number], Stage::Free) else { return };
            self.stages[number] = Stage::Stream(self.streams.len() as u32);
            self.streams.push(socket);
        } else {
            let length =
                header(head, b"content-length: ").and_then(|text| std::str::from_utf8(text).ok()?.parse().ok());
            if body.len() < length.unwrap_or(0) {
                return;
            }
            self.published += 1;
            let message = Message::publication(body, self.published);
            request.clear();
            let receipt = format!("{{\"id\":\"floor000-{}\"}}", self.published);
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", receipt.len());
            send(socket, (head + &receipt).as_bytes());
            self.broadcast(&message);
        }
    }

    fn beat(&mut self) {
        if let Some((every, next)) = self.heartbeat
            && Instant::now() >= next
        {
            self.heartbeat = Some((every, next + every));
            self.broadcast(&Message::heartbeat(self.published));
        }
    }

    /// One send to each; who does not take it whole is dropped.
    fn broadcast(&mut self, message: &Message) {
        let takes = |socket: &OwnedFd, bytes: &[u8]| send(socket, bytes) == bytes.len();
        let mut failed = Vec::new();
        failed.extend(self.sockets.iter().filter(|socket| !takes(socket, &message.frame)).map(AsRawFd::as_raw_fd));
        failed.extend(self.streams.iter().filter(|socket| !takes(socket, &message.chunk)).map(AsRawFd::as_raw_fd));
        failed.into_iter().for_each(|number| self.close(number as usize));
    }

    fn close(&mut self, number: usize) {
        let stage = std::mem::replace(&mut self.stages[number], Stage::Free);
        let (listeners, place) = match stage {
            Stage::Free | Stage::Asking(..) => return,
            Stage::Socket(place) => (&mut self.sockets, place),
            Stage::Stream(place) => (&mut self.streams, place),
        };
        listeners.swap_remove(place as usize);
        // The last has moved to the place that became free.
        if let Some(moved) = listeners.get(place as usize)
            && let Stage::Socket(moved_to) | Stage::Stream(moved_to) = &mut self.stages[moved.as_raw_fd() as usize]
        {
            *moved_to = place;
        }
    }
}

impl Message {
    /// What the server makes of a post: the posted fields between an id and a time.
    fn publication(body: &[u8], offset: u64) -> Self {
        let fields = body.strip_prefix(b"{").and_then(|rest| rest.strip_suffix(b"}")).unwrap_or_default();
        let start = format!("{{\"type\":\"new_trending\",\"id\":\"floor000-{offset}\",\"count\":1,");
        let json = [start.as_bytes(), fields, b",\"timestamp\":\"2026-01-01T00:00:00.000Z\"}"].concat();
        Self { frame: frame(&json), chunk: chunk(&event(&json, offset)) }
    }

    /// A heartbeat; over WebSocket with a Ping.
    fn heartbeat(offset: u64) -> Self {
        let json = format!(
            "{{\"type\":\"heartbeat\",\"position\":\"floor000-{offset}\",\"spread_ms\":0,\"reconnect_window_ms\":0}}"
        );
        let ping: &[u8] = &[0x89, 0];
        Self { frame: [&frame(json.as_bytes()), ping].concat(), chunk: chunk(&event(json.as_bytes(), offset)) }
    }
}

fn hello() -> Vec<u8> {
    b"{\"type\":\"hello\",\"position\":\"floor000-0\",\"recovered\":null,\"now\":\"2026-01-01T00:00:00.000Z\",\
      \"heartbeat_ms\":1000,\"spread_ms\":0,\"reconnect_window_ms\":0}"
        .into()
}

const STREAM_OPENS: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\n\
      Transfer-Encoding: chunked\r\n\r\n";

/// The answer that turns a request into a WebSocket (RFC 6455 §4.2.2).
fn upgraded(key: &[u8]) -> Vec<u8> {
    let mut hash = sha1_smol::Sha1::from(key);
    hash.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let accept = BASE64_STANDARD.encode(hash.digest().bytes());
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    )
    .into()
}

/// A text frame.
fn frame(json: &[u8]) -> Vec<u8> {
    let length = json.len() as u16;
    let head: &[u8] = match length {
        0..126 => &[0x81, length as u8],
        _ => &[0x81, 126, (length >> 8) as u8, length as u8],
    };
    [head, json].concat()
}

fn event(json: &[u8], offset: u64) -> Vec<u8> {
    [format!("id: floor000-{offset}\ndata: ").as_bytes(), json, b"\n\n"].concat()
}

/// A chunk of an HTTP body (RFC 9112 §7.1).
fn chunk(event: &[u8]) -> Vec<u8> {
    [format!("{:X}\r\n", event.len()).as_bytes(), event, b"\r\n"].concat()
}

/// How many of the bytes the socket took.
fn send(socket: &OwnedFd, bytes: &[u8]) -> usize {
    net::send(socket, bytes, SendFlags::NOSIGNAL).unwrap_or(0)
}

/// The value of the header whose name is given in lower case, with colon and space.
fn header<'a>(head: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let start = head.windows(name.len()).position(|window| window.eq_ignore_ascii_case(name))? + name.len();
    let length = find(&head[start..], b"\r")?;
    Some(&head[start..start + length])
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}
