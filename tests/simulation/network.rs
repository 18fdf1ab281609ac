//! Sockets of the simulation's own: they take as much as the seed says, and are cut when it says.

use std::{
    collections::VecDeque,
    io::{self, ErrorKind, IoSlice, Read, Write},
    panic::resume_unwind,
    sync::{Arc, Mutex, MutexGuard},
};

use tokio::sync::Notify;
use video_notifier::{position::Position, protocol::Wire};

use crate::random::Random;

/// One connection. The server's end is a [`Socket`], the client's a [`Link`].
#[derive(Default)]
struct Pipe {
    to_client: VecDeque<u8>,
    to_server: VecDeque<u8>,
    /// How much may be on its way to the client.
    capacity: usize,
    /// The server was told that there is no room, and not yet that there is again.
    wants_room: bool,
    is_cut: bool,
    /// The server panicked while it served this client.
    is_broken: bool,
}

#[derive(Clone)]
struct Shared(Arc<(Mutex<Pipe>, Notify)>);

impl Shared {
    fn pipe(&self) -> MutexGuard<'_, Pipe> {
        self.0.0.lock().expect("no end panics while it holds the pipe")
    }

    fn changed(&self) -> &Notify {
        &self.0.1
    }
}

pub struct Socket {
    shared: Shared,
    random: Random,
}

/// The client's end.
pub struct Link {
    shared: Shared,
    wire: Wire,
    random: Random,
    /// Taken from the network and no whole message yet.
    buffer: Vec<u8>,
}

/// What comes to a client.
#[derive(Debug)]
pub enum Incoming {
    Message(serde_json::Value),
    /// The server has said that the position is lost; a stream just ends.
    Lost,
    /// The connection is gone.
    Cut,
}

pub fn connect(wire: Wire, random: &Random) -> (Socket, Link) {
    let capacity = random.choose(&[150, 700, 5_000, 1 << 20]);
    let shared = Shared(Arc::new((Mutex::new(Pipe { capacity, ..Pipe::default() }), Notify::new())));
    let socket = Socket { shared: shared.clone(), random: random.clone() };
    (socket, Link { shared, wire, random: random.clone(), buffer: Vec::new() })
}

impl Socket {
    /// Whether there is room again after there was none: told once.
    pub fn has_room_again(&self) -> bool {
        let mut pipe = self.shared.pipe();
        let has_room = pipe.is_cut || pipe.to_client.len() < pipe.capacity;
        let is_news = pipe.wants_room && has_room;
        pipe.wants_room &= !has_room;
        is_news
    }

    /// A fault of the server's own, where it serves this client: a panic, without a line of the hook's for each.
    fn break_at_times(&self) {
        if self.random.once_in(500) {
            self.shared.pipe().is_broken = true;
            resume_unwind(Box::new("a fault while one client is served"));
        }
    }

    pub fn has_something(&self) -> bool {
        let pipe = self.shared.pipe();
        pipe.is_cut || !pipe.to_server.is_empty()
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.break_at_times();
        let mut pipe = self.shared.pipe();
        match pipe.to_server.read(buffer)? {
            0 if pipe.is_cut => Ok(0),
            0 => Err(ErrorKind::WouldBlock.into()),
            length => Ok(length),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.break_at_times();
        let mut pipe = self.shared.pipe();
        if pipe.is_cut {
            return Err(ErrorKind::BrokenPipe.into());
        }
        let offered = slices.iter().map(|slice| slice.len()).sum();
        let room = pipe.capacity.saturating_sub(pipe.to_client.len());
        // Memory pressure: a kernel may take less than it has room for.
        let taken = if self.random.once_in(20) { room.min(self.random.below(40)) } else { room }.min(offered);
        pipe.wants_room |= taken < offered;
        pipe.to_client.extend(slices.iter().flat_map(|slice| slice.iter()).take(taken));
        drop(pipe);
        self.shared.changed().notify_one();
        if taken == 0 { Err(ErrorKind::WouldBlock.into()) } else { Ok(taken) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.shared.pipe().is_cut = true;
        self.shared.changed().notify_one();
    }
}

impl Link {
    pub fn is_broken(&self) -> bool {
        self.shared.pipe().is_broken
    }

    /// The next message. Can be dropped before it answers; nothing is lost then.
    pub async fn next(&mut self) -> Incoming {
        loop {
            if let Some(incoming) = self.take_message() {
                return incoming;
            }
            let (taken, is_cut) = self.receive();
            if taken == 0 {
                if is_cut {
                    return Incoming::Cut;
                }
                self.shared.changed().notified().await;
            }
        }
    }

    /// Takes some of what has arrived; answers how much, and whether the connection is gone.
    fn receive(&mut self) -> (usize, bool) {
        let mut pipe = self.shared.pipe();
        // A slow reader takes little at a time.
        let taken = pipe.to_client.len().min(1 + self.random.below(400));
        self.buffer.extend(pipe.to_client.drain(..taken));
        (taken, pipe.is_cut)
    }

    fn take_message(&mut self) -> Option<Incoming> {
        match self.wire {
            Wire::WebSocket => self.take_frame(),
            Wire::Chunks => self.take_event(b"\n\n\r\n"),
            Wire::Plain => self.take_event(b"\n\n"),
        }
    }

    /// RFC 6455 §5.2, as far as this server uses it.
    fn take_frame(&mut self) -> Option<Incoming> {
        loop {
            let (first, short) = (*self.buffer.first()?, usize::from(*self.buffer.get(1)?));
            let (start, length) = match short {
                126 => (4, usize::from(u16::from_be_bytes([*self.buffer.get(2)?, *self.buffer.get(3)?]))),
                short => (2, short),
            };
            if self.buffer.len() < start + length {
                return None;
            }
            let frame: Vec<u8> = self.buffer.drain(..start + length).collect();
            let payload = &frame[start..];
            match first {
                0x81 => return Some(Incoming::Message(serde_json::from_slice(payload).expect("JSON"))),
                0x88 => {
                    assert_eq!(payload[..2], 4000_u16.to_be_bytes(), "no other close is due");
                    return Some(Incoming::Lost);
                }
                0x89 => self.shared.pipe().to_server.extend([0x8a, 0x80, 0, 0, 0, 0]),
                other => panic!("an unexpected frame {other:x}"),
            }
        }
    }

    fn take_event(&mut self, end: &[u8]) -> Option<Incoming> {
        if self.buffer.starts_with(b"0\r\n\r\n") {
            return Some(Incoming::Lost);
        }
        let length = self.buffer.windows(end.len()).position(|bytes| bytes == end)? + end.len();
        let event: Vec<u8> = self.buffer.drain(..length).collect();
        let event = std::str::from_utf8(&event).expect("UTF-8");
        let data = event.lines().find_map(|line| line.strip_prefix("data: ")).expect("an event has data");
        let message: serde_json::Value = serde_json::from_str(data).expect("JSON");
        let id = event.lines().find_map(|line| line.strip_prefix("id: ")).expect("an event has an id");
        assert_eq!(Some(id), position(&message).map(|position| position.to_string()).as_deref());
        if self.wire == Wire::Chunks {
            let size = usize::from_str_radix(event.lines().next().expect("a size"), 16).expect("a size");
            assert_eq!(event.lines().next().unwrap().len() + 2 + size + 2, length, "a chunk is as long as it says");
        }
        Some(Incoming::Message(message))
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.shared.pipe().is_cut = true;
    }
}

/// The position that a message says.
pub fn position(message: &serde_json::Value) -> Option<Position> {
    let position = if message["type"] == "new_trending" { &message["id"] } else { &message["position"] };
    position.as_str().and_then(|text| text.parse().ok())
}
