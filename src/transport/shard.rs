//! One thread's clients: who is sent what, and what each has not taken yet.
//!
//! A shard does no waiting and knows no system: its owner tells it what came (a publication, a client, a socket that
//! can be read or written, the time) and it writes to the sockets without blocking. So the simulation runs it over
//! sockets of its own.
//!
//! A client that takes what it is sent costs a write and nothing else. Of one that does not, the rest of the frame
//! that was begun is kept, which is shared with all others; its subscription falls behind and reads on from its own
//! position when there is room again, many publications in one write.
//!
//! A panic while one client is served ends that client alone: it is cut, and comes back.

use std::{
    collections::VecDeque,
    io::{self, ErrorKind, IoSlice, Read, Write},
    ops::ControlFlow,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use slab::Slab;
use tokio::time::Instant;

use super::beats::{Beat, Beats};
use crate::{
    codec::{self, Decoder},
    connection::{Connection, Connections, End, SILENT_HEARTBEATS},
    history::{HistoryError, Page},
    hub::{Event, Published, Start},
    limits::Permit,
    metrics::{Gone, TransportKind},
    panics::contain,
    protocol::{Disconnect, Frame, MAX_INCOMING, Wire},
    subscription::{BATCH, CatchUp, Due, Feed, StoreRead, Subscription},
};

/// How long a client has to answer a close frame, before the socket is closed under it.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// How much is read at a time, in bytes; clients send next to nothing.
const READ_BUFFER: usize = 16 * 1024;

/// How often one socket is read before the others have their turn.
const READS_IN_A_ROW: usize = 8;

/// How much is read of a client that was told why it ends, in bytes: its answer may come behind what it had sent
/// before. A flood that goes on is left to the kernel, whose buffer is soon full.
const READ_WHILE_CLOSING: usize = 64 * 1024;

/// How much may be waiting for a client beside publications, in bytes. More than this are answers to Pings that it
/// does not read; they may be left out (RFC 6455 §5.5.3).
const MAX_ANSWERS: usize = 4 * 1024;

/// What breaks, in the log, where one client is served; it has to come back.
const A_CONNECTION: &str = "a connection";

/// The end of a chunked body (RFC 9112 §7.1).
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// See the module's documentation.
pub struct Shard<S> {
    connections: Connections,
    feed: Feed,
    clients: Slab<Client<S>>,
    beats: Beats,
    /// Who was told why it ends, and until when it may answer.
    closing: VecDeque<(Instant, Id)>,
    /// Reads of the store to be made by the owner.
    reads: Vec<(Id, StoreRead)>,
    /// Sockets with more to read.
    unread: Vec<Id>,
    draining: bool,
    opened: u32,
    /// Used again and again: what was read, publications found in memory, clients to beat.
    buffer: Box<[u8]>,
    found: Vec<Arc<Published>>,
    due: Vec<u32>,
}

/// A client; its place may be another's later, but not its serial number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Id {
    /// Its place in the shard, until it leaves.
    pub key: usize,
    serial: u32,
}

/// A client that comes in.
pub struct Opening<S> {
    pub socket: S,
    pub wire: Wire,
    pub permit: Permit,
    /// The head of the answer to its request, which goes out in one write with what follows.
    pub head: Bytes,
    /// What it sent behind the handshake without waiting for the answer.
    pub early: Bytes,
    pub wish: Wish,
}

/// What a client gets.
pub enum Wish {
    Subscribe(Start),
    /// It is told why, where its page can see it.
    Refused(Disconnect),
}

struct Client<S> {
    socket: S,
    wire: Wire,
    /// The socket has taken less than it was given, and has not said since that there is room.
    is_blocked: bool,
    /// Heartbeats since it last took anything, while blocked.
    stalled: u8,
    serial: u32,
    beat: Beat,
    stage: Stage,
    connection: Connection,
    decoder: Decoder,
    /// What goes before anything else; most have nothing.
    outbox: Option<Box<Outbox>>,
}

enum Stage {
    Open(Subscription),
    /// It was told why it ends, and may answer; so much is still read of it.
    Closing(usize),
    /// It ends when it has taken what is in the outbox.
    Ending,
}

#[derive(Default)]
struct Outbox {
    /// The rest of a frame that was begun.
    rest: Bytes,
    /// Whose frame that is.
    of: Option<Arc<Published>>,
    /// Whole frames for this client alone, behind the rest.
    answers: Vec<u8>,
    /// A heartbeat fell due meanwhile.
    heartbeat: bool,
}

impl<S: Read + Write> Shard<S> {
    /// Receives nothing by itself: what the hub publishes from before this call on comes by [`Shard::take`].
    pub fn new(connections: Connections) -> Self {
        Self {
            feed: Feed::new(connections.hub.clone()),
            clients: Slab::new(),
            beats: Beats::new(connections.heartbeat),
            closing: VecDeque::new(),
            reads: Vec::new(),
            unread: Vec::new(),
            draining: connections.shutdown.is_draining(),
            opened: 0,
            buffer: vec![0; READ_BUFFER].into(),
            found: Vec::new(),
            due: Vec::new(),
            connections,
        }
    }

    /// Takes a client in and says hello, with what it has missed in the same write. None when it has left already.
    pub fn open(&mut self, opening: Opening<S>, random: u32) -> Option<Id> {
        let Opening { socket, wire, permit, head, early, wish } = opening;
        self.opened = self.opened.wrapping_add(1);
        let entry = self.clients.vacant_entry();
        let id = Id { key: entry.key(), serial: self.opened };
        let (stage, greeting) = match wish {
            Wish::Subscribe(start) => {
                self.connections.metrics.connected(kind(wire));
                tracing::debug!(transport = ?kind(wire), position = %start.position, "connected");
                let hello = self.connections.hello(start.position, start.recovered);
                (Stage::Open(self.feed.subscribe(start)), Ok(hello))
            }
            Wish::Refused(disconnect) => (Stage::Closing(READ_WHILE_CLOSING), Err(disconnect)),
        };
        entry.insert(Client {
            socket,
            wire,
            is_blocked: false,
            stalled: 0,
            serial: id.serial,
            beat: self.beats.add(id.key, random),
            stage,
            connection: self.connections.accept(permit),
            decoder: Decoder::new(MAX_INCOMING),
            outbox: None,
        });
        self.serve(id.key, |shard| {
            match greeting {
                Ok(hello) => shard.greet(id.key, head, hello),
                Err(disconnect) => shard.say_goodbye(id.key, &head, disconnect),
            }
            if shard.draining && shard.is_open(id.key) {
                shard.restart(id.key);
            }
            if !early.is_empty() && shard.has(id) {
                shard.received(id.key, &mut early.to_vec());
            }
        });
        self.has(id).then_some(id)
    }

    /// Who has a place now.
    pub fn id(&self, key: usize) -> Option<Id> {
        self.clients.get(key).map(|client| Id { key, serial: client.serial })
    }

    /// Ends a client without a word: its socket is of no use.
    pub fn close(&mut self, id: Id) {
        if self.has(id) {
            self.remove(id.key);
        }
    }

    /// The socket of a client.
    pub fn socket(&mut self, id: Id) -> &mut S {
        &mut self.clients[id.key].socket
    }

    /// Something came from the hub. Publications wait until [`Shard::offer`].
    pub fn take(&mut self, event: Event) {
        match event {
            Event::Published(published) => {
                if self.feed.push(published) {
                    self.offer();
                }
            }
            event => {
                self.offer();
                let is_lost = |client: &Client<S>| {
                    client.stage.subscription().is_some_and(|subscription| self.feed.is_lost(subscription, &event))
                };
                let lost: Vec<usize> =
                    self.clients.iter().filter(|(_, client)| is_lost(client)).map(|(key, _)| key).collect();
                lost.into_iter()
                    .for_each(|key| self.serve(key, |shard| shard.disconnect(key, Disconnect::PositionLost)));
            }
        }
    }

    /// The hub has published more than the broadcast holds: everybody reads on from where it stands.
    pub fn lagged(&mut self) {
        self.offer();
        let mut behind = Vec::new();
        for (key, client) in &mut self.clients {
            if let Stage::Open(subscription) = &mut client.stage
                && self.feed.lagged(subscription)
            {
                self.connections.metrics.lagged();
                behind.push(key);
            }
        }
        behind.into_iter().for_each(|key| self.serve(key, |shard| shard.advance(key)));
    }

    /// Writes what was taken to everybody who is live. The path that all the others exist to keep short.
    pub fn offer(&mut self) {
        if self.feed.batch().is_empty() {
            return;
        }
        let mut tally = Tally::default();
        let mut slices = Slices::default();
        let (mut looked_at, mut gone) = (0, Vec::new());
        // One net under all of them, since one under each could be measured.
        loop {
            let pass = || {
                for (key, client) in self.clients.iter_mut().skip(looked_at) {
                    looked_at += 1;
                    let due = client.stage.subscription().map_or(0, |subscription| self.feed.due(subscription));
                    if due > 0 && client.give(due, &self.feed, &mut slices, &mut tally, &self.connections).is_err() {
                        gone.push(key);
                    }
                }
            };
            if contain(A_CONNECTION, pass).is_some() {
                break;
            }
            // Whoever broke is the last that was looked at; the others go on behind it.
            gone.extend(self.clients.iter().nth(looked_at - 1).map(|(key, _)| key));
        }
        slices.settle(&mut tally);
        tally.report(self.feed.batch(), &self.connections);
        self.feed.finish_batch();
        gone.into_iter().for_each(|key| self.remove(key));
    }

    /// The socket may have something to read; `ends` where nothing will come behind that.
    pub fn readable(&mut self, id: Id, ends: bool) {
        if !self.has(id) {
            return;
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        self.serve(id.key, |shard| shard.read(id, &mut buffer, ends));
        self.buffer = buffer;
    }

    fn read(&mut self, id: Id, buffer: &mut [u8], ends: bool) {
        for _ in 0..READS_IN_A_ROW {
            let Some(client) = self.clients.get_mut(id.key).filter(|client| client.serial == id.serial) else { return };
            if matches!(client.stage, Stage::Closing(0)) {
                return;
            }
            match client.socket.read(buffer) {
                Ok(0) => return self.remove(id.key),
                Ok(length) => {
                    self.received(id.key, &mut buffer[..length]);
                    // That was all: what comes later is told anew, but for the end.
                    if length < buffer.len() && !ends {
                        return;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return self.remove(id.key),
            }
        }
        self.unread.push(id);
    }

    /// The socket may have room again.
    pub fn writable(&mut self, id: Id) {
        if self.has(id) && self.clients[id.key].is_blocked {
            self.clients[id.key].is_blocked = false;
            self.serve(id.key, |shard| shard.advance(id.key));
        }
    }

    /// What is left to read of sockets that had much; whether there is still more.
    pub fn read_on(&mut self) -> bool {
        for id in std::mem::take(&mut self.unread) {
            self.readable(id, true);
        }
        !self.unread.is_empty()
    }

    /// Reads of the store that are to be made; what they bring goes to [`Shard::page`].
    pub fn reads(&mut self) -> impl Iterator<Item = (Id, StoreRead)> {
        self.reads.drain(..)
    }

    /// A page of the store, or why there is none.
    pub fn page(&mut self, id: Id, read: StoreRead, page: Result<Page, HistoryError>) {
        if self.has(id) {
            self.serve(id.key, |shard| shard.take_page(id, read, page));
        }
    }

    fn take_page(&mut self, id: Id, read: StoreRead, page: Result<Page, HistoryError>) {
        let client = &mut self.clients[id.key];
        // It may have been closed meanwhile.
        let Stage::Open(subscription) = &mut client.stage else { return };
        let Ok(publications) = self.feed.read(subscription, read, page) else {
            return self.disconnect(id.key, Disconnect::PositionLost);
        };
        let encode = |publication| Frame::publication(publication).rest(client.wire, 0);
        let pieces: Vec<Bytes> = publications.iter().map(encode).collect();
        let Ok(given) = client.write_pieces(&pieces) else { return self.remove(id.key) };
        // What the socket did not take is read again: the position is the queue.
        if let (Stage::Open(subscription), Some(last)) = (&mut client.stage, given.checked_sub(1)) {
            subscription.given(publications[last].position);
        }
        self.connections.metrics.replayed(given as u64);
        self.connections.metrics.delivered(given as u64);
        self.advance(id.key);
    }

    /// When [`Shard::tick`] has something to do; none while nobody is connected.
    pub fn next_tick(&self) -> Option<Instant> {
        if self.clients.is_empty() {
            return None;
        }
        let closing = self.closing.front().map(|(until, _)| *until);
        Some(closing.map_or(self.beats.next(), |until| until.min(self.beats.next())))
    }

    /// Time has passed: heartbeats, and those that do not answer.
    pub fn tick(&mut self, now: Instant) {
        while let Some((_, id)) = self.closing.pop_front_if(|(until, _)| *until <= now) {
            if self.has(id) {
                self.remove(id.key);
            }
        }
        let mut due = std::mem::take(&mut self.due);
        while self.beats.due(now, &mut due) {
            for key in due.iter().map(|key| *key as usize) {
                self.serve(key, |shard| shard.beat(key));
            }
        }
        self.due = due;
    }

    /// Everybody is told to come back; nobody is taken in any more.
    pub fn drain(&mut self) {
        self.connections.hub.keep_pace();
        self.offer();
        self.draining = true;
        let open: Vec<usize> = self.clients.iter().map(|(key, _)| key).filter(|key| self.is_open(*key)).collect();
        open.into_iter().for_each(|key| self.serve(key, |shard| shard.restart(key)));
    }

    /// Does what concerns one client. A panic ends it alone: it is cut, since nobody knows how much of a frame its socket
    /// has taken.
    fn serve(&mut self, key: usize, work: impl FnOnce(&mut Self)) {
        if contain(A_CONNECTION, || work(self)).is_none() && self.clients.contains(key) {
            self.remove(key);
        }
    }

    /// The head of the answer, hello, and what was missed, in one write.
    fn greet(&mut self, key: usize, head: Bytes, hello: Frame) {
        let client = &mut self.clients[key];
        let Stage::Open(subscription) = &mut client.stage else { return };
        let hello = Bytes::from([&head, hello.bytes(client.wire)].concat());
        let mut pieces = vec![hello.clone()];
        match self.feed.catch_up(subscription, &mut self.found) {
            Ok(CatchUp::Found) => pieces.extend(self.found.iter().map(|found| found.frame.rest(client.wire, 0))),
            Ok(CatchUp::Read(read)) => self.reads.push((Id { key, serial: client.serial }, read)),
            // Nothing, or a loss, which is told behind hello.
            Ok(CatchUp::Live | CatchUp::Reading) | Err(_) => {}
        }
        let Ok(given) = client.write_pieces(&pieces) else { return self.remove(key) };
        if given == 0 {
            // Not even room for hello; it waits, and all else behind it.
            client.outbox.get_or_insert_default().rest = hello;
        }
        self.given(key, given.saturating_sub(1));
        self.advance(key);
    }

    /// Writes until the client has everything, or takes no more.
    fn advance(&mut self, key: usize) {
        loop {
            let Some(client) = self.clients.get_mut(key) else { return };
            if client.flush(&self.connections, &self.feed).is_err() {
                return self.remove(key);
            }
            if client.is_blocked {
                return;
            }
            let Stage::Open(subscription) = &mut client.stage else {
                if matches!(client.stage, Stage::Ending) {
                    self.remove(key);
                }
                return;
            };
            match self.feed.catch_up(subscription, &mut self.found) {
                Ok(CatchUp::Live | CatchUp::Reading) => return,
                Ok(CatchUp::Found) => {
                    let pieces = self.found.iter().map(|published| published.frame.rest(client.wire, 0));
                    let pieces: Vec<Bytes> = pieces.collect();
                    let Ok(given) = client.write_pieces(&pieces) else { return self.remove(key) };
                    self.given(key, given);
                }
                Ok(CatchUp::Read(read)) => return self.reads.push((Id { key, serial: client.serial }, read)),
                Err(_) => return self.disconnect(key, Disconnect::PositionLost),
            }
        }
    }

    /// So many of those that were found are written, or begun.
    fn given(&mut self, key: usize, given: usize) {
        let client = &mut self.clients[key];
        let (Stage::Open(subscription), Some(last)) = (&mut client.stage, given.checked_sub(1)) else { return };
        subscription.given(self.found[last].position);
        self.connections.metrics.replayed(given as u64);
        let is_begun = client.outbox.as_ref().is_some_and(|outbox| !outbox.rest.is_empty());
        let whole = if is_begun { last } else { given };
        if is_begun && let Some(outbox) = &mut client.outbox {
            outbox.of = Some(self.found[last].clone());
        }
        self.found[..whole].iter().for_each(|published| published.handed_over(1));
        self.connections.metrics.delivered(whole as u64);
    }

    fn beat(&mut self, key: usize) {
        let client = &mut self.clients[key];
        if client.is_blocked {
            client.stalled += 1;
            if u32::from(client.stalled) > SILENT_HEARTBEATS {
                self.connections.metrics.dropped(Gone::stalled);
                return self.remove(key);
            }
            client.outbox.get_or_insert_default().heartbeat = true;
            return;
        }
        let Some(position) = client.stage.subscription().map(|subscription| self.feed.position(subscription)) else {
            return;
        };
        if client.wire == Wire::WebSocket && !client.connection.is_heard_of() {
            self.connections.metrics.dropped(Gone::silent);
            return self.remove(key);
        }
        let frame = self.connections.hub.heartbeat(position);
        if client.send(frame.bytes(client.wire)).is_err() {
            self.remove(key);
        }
    }

    fn received(&mut self, key: usize, bytes: &mut [u8]) {
        let client = &mut self.clients[key];
        match (&mut client.stage, client.wire) {
            (Stage::Ending, _) => {}
            // A stream has nothing to say; what comes all the same is bounded like everything else.
            (_, Wire::Chunks | Wire::Plain) => {
                if !client.connection.may_say_more(self.connections.message_rate) {
                    self.connections.metrics.disconnected(Disconnect::Flood);
                    self.remove(key);
                }
            }
            (Stage::Closing(left), Wire::WebSocket) => {
                *left = left.saturating_sub(bytes.len());
                let mut is_answered = false;
                let result = client.decoder.feed(bytes, |incoming| {
                    is_answered = matches!(incoming, codec::Incoming::Close(_));
                    if is_answered { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
                });
                // What came after a violation is no frames; it is passed over until the client leaves.
                if is_answered && result.is_ok() {
                    self.remove(key);
                }
            }
            (Stage::Open(_), Wire::WebSocket) => {
                let mut answer = Vec::new();
                let mut end = None;
                let (connection, all) = (&mut client.connection, &self.connections);
                let result = client.decoder.feed(bytes, |incoming| {
                    // Without a break, after which the decoder would not find the client's goodbye either.
                    if end.is_none()
                        && let ControlFlow::Break(reason) = connection.receive(incoming, all, &mut answer)
                    {
                        end = Some(reason);
                    }
                    ControlFlow::Continue(())
                });
                if !answer.is_empty() && client.reply(&answer).is_err() {
                    return self.remove(key);
                }
                match (result, end) {
                    (Err(violation), _) => self.disconnect(key, violation.into()),
                    (_, Some(End::Disconnect(disconnect))) => self.disconnect(key, disconnect),
                    (_, Some(End::Goodbye)) => {
                        self.leave(key);
                        self.end(key);
                    }
                    (Ok(()), None) => {}
                }
            }
        }
    }

    /// Ends a client for a planned restart.
    fn restart(&mut self, key: usize) {
        let client = &mut self.clients[key];
        let frame = self.connections.reconnect();
        if client.send(frame.bytes(client.wire)).is_err() {
            return self.remove(key);
        }
        self.disconnect(key, Disconnect::Restart);
    }

    fn disconnect(&mut self, key: usize, disconnect: Disconnect) {
        self.connections.metrics.disconnected(disconnect);
        self.leave(key);
        self.say_goodbye(key, &[], disconnect);
    }

    /// Says why, where the transport has words for it, behind the head of an answer that is still to be sent.
    fn say_goodbye(&mut self, key: usize, head: &[u8], disconnect: Disconnect) {
        let client = &mut self.clients[key];
        if client.wire != Wire::WebSocket {
            if client.wire == Wire::Chunks && client.send(LAST_CHUNK).is_err() {
                return self.remove(key);
            }
            return self.end(key);
        }
        let mut frame = head.to_vec();
        codec::encode_close(Some((disconnect.code(), disconnect.reason())), &mut frame);
        client.stage = Stage::Closing(READ_WHILE_CLOSING);
        // Closing at once could destroy the close frame on its way, so the client gets time to answer.
        self.closing.push_back((Instant::now() + CLOSE_TIMEOUT, Id { key, serial: client.serial }));
        if client.send(&frame).is_err() {
            self.remove(key);
        }
    }

    /// Ends the connection once everything is written, or after the time that a client has to answer a close frame.
    fn end(&mut self, key: usize) {
        let client = &mut self.clients[key];
        client.stage = Stage::Ending;
        if client.outbox.is_none() {
            return self.remove(key);
        }
        self.closing.push_back((Instant::now() + CLOSE_TIMEOUT, Id { key, serial: client.serial }));
    }

    /// The client is none any more, though its socket may still be open.
    fn leave(&mut self, key: usize) {
        let client = &mut self.clients[key];
        if let Stage::Open(subscription) = std::mem::replace(&mut client.stage, Stage::Ending) {
            tracing::debug!(transport = ?kind(client.wire), position = %self.feed.position(&subscription), "left");
            self.feed.unsubscribe(subscription);
            self.connections.metrics.left(kind(client.wire));
        }
    }

    fn remove(&mut self, key: usize) {
        self.leave(key);
        let client = self.clients.remove(key);
        if let Some((moved, beat)) = self.beats.remove(client.beat) {
            self.clients[moved].beat = beat;
        }
    }

    fn has(&self, id: Id) -> bool {
        self.clients.get(id.key).is_some_and(|client| client.serial == id.serial)
    }

    fn is_open(&self, key: usize) -> bool {
        self.clients.get(key).is_some_and(|client| client.stage.subscription().is_some())
    }
}

impl<S> Drop for Shard<S> {
    fn drop(&mut self) {
        for (_, client) in &self.clients {
            if client.stage.subscription().is_some() {
                self.connections.metrics.left(kind(client.wire));
            }
        }
    }
}

impl Stage {
    fn subscription(&self) -> Option<&Subscription> {
        match self {
            Self::Open(subscription) => Some(subscription),
            Self::Closing(_) | Self::Ending => None,
        }
    }
}

impl<S: Write> Client<S> {
    /// Writes what of the batch is due; what the socket does not take, the client reads on by itself.
    #[inline]
    fn give<'a>(
        &mut self,
        due: Due,
        feed: &'a Feed,
        slices: &mut Slices<'a>,
        tally: &mut Tally,
        connections: &Connections,
    ) -> io::Result<()> {
        let Stage::Open(subscription) = &mut self.stage else { return Ok(()) };
        if self.is_blocked {
            // By a heartbeat or an answer, which it has not taken whole.
            feed.fall_behind(subscription, due.trailing_zeros() as usize);
            connections.metrics.lagged();
            return Ok(());
        }
        let batch = feed.batch();
        slices.select(due, self.wire, batch, tally);
        let written = write(&mut self.socket, &slices.slices)?;
        if written == slices.bytes {
            slices.whole += 1;
            return Ok(());
        }
        let (at, start) = slices.position(written);
        let which: Vec<usize> = bits(due).collect();
        which[..at].iter().for_each(|published| tally.handed[*published] += 1);
        let begun = &batch[which[at]];
        let mut missed = which[at];
        if start > 0 {
            let rest = begun.frame.rest(self.wire, start);
            self.outbox = Some(Box::new(Outbox { rest, of: Some(begun.clone()), ..Outbox::default() }));
            missed += 1;
        }
        self.is_blocked = true;
        feed.fall_behind(subscription, missed);
        connections.metrics.lagged();
        Ok(())
    }

    /// What the client asked for. One that asks again and again without taking the answers gets no more of them.
    fn reply(&mut self, bytes: &[u8]) -> io::Result<()> {
        let is_full = self.outbox.as_ref().is_some_and(|outbox| outbox.answers.len() + bytes.len() > MAX_ANSWERS);
        if is_full { Ok(()) } else { self.send(bytes) }
    }

    /// Bytes for this client alone: at once, or behind what waits already.
    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.is_blocked || self.outbox.is_some() {
            self.outbox.get_or_insert_default().answers.extend_from_slice(bytes);
            return Ok(());
        }
        let written = write(&mut self.socket, &[IoSlice::new(bytes)])?;
        if written < bytes.len() {
            self.is_blocked = true;
            self.outbox.get_or_insert_default().rest = Bytes::copy_from_slice(&bytes[written..]);
        }
        Ok(())
    }

    /// Writes shared pieces; answers how many the socket has taken, the last of them perhaps only in part: its rest then
    /// is in the outbox.
    fn write_pieces(&mut self, pieces: &[Bytes]) -> io::Result<usize> {
        if self.is_blocked || pieces.is_empty() {
            return Ok(0);
        }
        debug_assert!(self.outbox.is_none(), "they would overtake what waits");
        let slices: Vec<IoSlice<'_>> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
        let written = write(&mut self.socket, &slices)?;
        let (whole, start) = split(&slices, written);
        if whole == pieces.len() {
            return Ok(whole);
        }
        self.is_blocked = true;
        if start == 0 {
            return Ok(whole);
        }
        self.outbox.get_or_insert_default().rest = pieces[whole].slice(start..);
        Ok(whole + 1)
    }

    /// Writes what waits, as far as the socket takes it.
    fn flush(&mut self, connections: &Connections, feed: &Feed) -> io::Result<()> {
        if self.is_blocked {
            return Ok(());
        }
        let Some(outbox) = &mut self.outbox else { return Ok(()) };
        let mut waiting = outbox.rest.len() + outbox.answers.len();
        if waiting > 0 {
            let slices = [IoSlice::new(&outbox.rest), IoSlice::new(&outbox.answers)];
            let written = write(&mut self.socket, &slices)?;
            waiting -= written;
            if written > 0 {
                self.stalled = 0;
            }
            let of_rest = written.min(outbox.rest.len());
            let _ = outbox.rest.split_to(of_rest);
            outbox.answers.drain(..written - of_rest);
        }
        if outbox.rest.is_empty()
            && let Some(published) = outbox.of.take()
        {
            published.handed_over(1);
            connections.metrics.delivered(1);
        }
        self.is_blocked = waiting > 0;
        if self.is_blocked {
            return Ok(());
        }
        let heartbeat = outbox.heartbeat;
        self.outbox = None;
        self.stalled = 0;
        match self.stage.subscription() {
            Some(subscription) if heartbeat => {
                let frame = connections.hub.heartbeat(feed.position(subscription));
                self.send(frame.bytes(self.wire))
            }
            _ => Ok(()),
        }
    }
}

/// One write; 0 where the socket has no room.
fn write(socket: &mut impl Write, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    loop {
        let written = match slices {
            [one] => socket.write(one),
            several => socket.write_vectored(several),
        };
        match written {
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(0),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// How many slices so many bytes are, and how far into the next they go.
fn split(slices: &[IoSlice<'_>], mut bytes: usize) -> (usize, usize) {
    for (at, slice) in slices.iter().enumerate() {
        if bytes < slice.len() {
            return (at, bytes);
        }
        bytes -= slice.len();
    }
    (slices.len(), 0)
}

/// The places of the bits that are set, from the lowest.
fn bits(mut due: Due) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let bit = due.trailing_zeros();
        due &= due.wrapping_sub(1);
        (bit < Due::BITS).then_some(bit as usize)
    })
}

fn kind(wire: Wire) -> TransportKind {
    match wire {
        Wire::WebSocket => TransportKind::websocket,
        Wire::Chunks | Wire::Plain => TransportKind::sse,
    }
}

/// What of the batch is written to one client; most clients in a row get the same.
#[derive(Default)]
struct Slices<'a> {
    key: Option<(Due, Wire)>,
    slices: Vec<IoSlice<'a>>,
    bytes: usize,
    /// How many clients have taken all of it.
    whole: u64,
}

impl<'a> Slices<'a> {
    fn select(&mut self, due: Due, wire: Wire, batch: &'a [Arc<Published>], tally: &mut Tally) {
        if self.key == Some((due, wire)) {
            return;
        }
        self.settle(tally);
        self.slices.clear();
        self.slices.extend(bits(due).map(|at| IoSlice::new(batch[at].frame.bytes(wire))));
        self.bytes = self.slices.iter().map(|slice| slice.len()).sum();
        // Last: after a panic above, nobody may take these for the next client's.
        self.key = Some((due, wire));
    }

    fn position(&self, written: usize) -> (usize, usize) {
        split(&self.slices, written)
    }

    fn settle(&mut self, tally: &mut Tally) {
        if let Some((due, _)) = self.key.take() {
            bits(due).for_each(|at| tally.handed[at] += self.whole);
            self.whole = 0;
        }
    }
}

/// How many clients have taken each of the batch; counted here, added up once a pass.
struct Tally {
    handed: [u64; BATCH],
}

impl Default for Tally {
    fn default() -> Self {
        Self { handed: [0; BATCH] }
    }
}

impl Tally {
    fn report(&self, batch: &[Arc<Published>], connections: &Connections) {
        for (published, handed) in batch.iter().zip(self.handed) {
            published.handed_over(handed);
        }
        connections.metrics.delivered(self.handed.iter().sum());
    }
}

#[cfg(test)]
mod tests {
    use std::panic::resume_unwind;

    use super::*;
    use crate::{
        history::{Append, History, Retention, memory::MemoryHistory},
        hub::{Hub, HubOptions},
        limits::Limits,
        metrics::Metrics,
        notification::{Notification, Post},
        rates::Rate,
        region::Regions,
        shutdown::Shutdown,
    };

    /// What the client has sent and got; it takes everything.
    #[derive(Default)]
    struct Socket {
        sent: VecDeque<u8>,
        got: Vec<u8>,
        /// Whoever touches it panics: a fault of ours while this client is served.
        is_broken: bool,
    }

    impl Socket {
        fn touch(&self) {
            if self.is_broken {
                resume_unwind(Box::new("a fault of ours"));
            }
        }

        fn got(&self, text: &str) -> usize {
            self.got.windows(text.len()).filter(|bytes| *bytes == text.as_bytes()).count()
        }
    }

    impl Read for Socket {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.touch();
            if self.sent.is_empty() { Err(ErrorKind::WouldBlock.into()) } else { self.sent.read(buffer) }
        }
    }

    impl Write for Socket {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.touch();
            self.got.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    async fn shard() -> Shard<Socket> {
        shard_of(history()).await
    }

    fn history() -> MemoryHistory {
        let day = Duration::from_secs(24 * 60 * 60);
        MemoryHistory::new(Retention { max_count: 10, max_age: day, dedup_window: day })
    }

    async fn shard_of(history: MemoryHistory) -> Shard<Socket> {
        let metrics = Arc::new(Metrics::default());
        let hub = Hub::open(Arc::new(history), HubOptions::default(), metrics.clone()).await.expect("a hub");
        let heartbeat = Duration::from_secs(25);
        let message_rate = Rate::per_second(1, 60);
        Shard::new(Connections { hub, metrics, shutdown: Shutdown::default(), heartbeat, message_rate })
    }

    fn open(shard: &mut Shard<Socket>) -> Id {
        try_open(shard, Socket::default()).expect("it stays")
    }

    fn try_open(shard: &mut Shard<Socket>, socket: Socket) -> Option<Id> {
        let Ok(permit) = Limits::new(1, 1).admit(None) else { panic!("there is room for one") };
        let wish = Wish::Subscribe(shard.connections.hub.start(Regions::All, None));
        let wire = Wire::WebSocket;
        let opening = Opening { socket, wire, permit, head: Bytes::new(), early: Bytes::new(), wish };
        shard.open(opening, 0)
    }

    fn send(shard: &mut Shard<Socket>, id: Id, frame: &[u8]) {
        shard.socket(id).sent.extend(frame);
        shard.readable(id, false);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_was_refused_something_leaves_with_its_goodbye_and_not_only_in_time() {
        let mut shard = shard().await;
        let (binary, close) = ([0x82, 0x80, 0, 0, 0, 0], [0x88, 0x80, 0, 0, 0, 0]);
        let id = open(&mut shard);
        send(&mut shard, id, &binary);
        assert!(shard.has(id), "it may answer");
        send(&mut shard, id, &close);
        assert!(!shard.has(id), "it has answered");

        let id = open(&mut shard);
        send(&mut shard, id, &binary);
        shard.tick(Instant::now() + CLOSE_TIMEOUT);
        assert!(!shard.has(id), "it has not answered in time");
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_while_one_client_is_served_costs_that_client_alone() {
        type Act = fn(&mut Shard<Socket>, Id);
        let acts: [(&str, Act); 4] = [
            ("a publication is written", |shard, _| shard.offer()),
            ("it is read", |shard, id| shard.readable(id, false)),
            ("it has room again", |shard, id| {
                shard.clients[id.key].is_blocked = true;
                shard.clients[id.key].outbox.get_or_insert_default().answers.push(0);
                shard.writable(id);
            }),
            ("a heartbeat is due", |shard, _| shard.tick(Instant::now() + shard.connections.heartbeat)),
        ];
        for (what, act) in acts {
            let history = history();
            let mut shard = shard_of(history.clone()).await;
            let hub = shard.connections.hub.clone();
            let mut receiver = hub.receive();
            let running = tokio::spawn(hub.clone().run());
            let [before, broken, behind] = std::array::from_fn(|_| open(&mut shard));
            shard.socket(broken).is_broken = true;
            let body = br#"{"region":"US","videos":[{"id":1,"title":"t"}]}"#;
            let Ok(Post::Publish(notification)) = Notification::parse(body, &Regions::All) else { unreachable!() };
            let append = Append { notification, key: None, subscribers: 3 };
            history.append(append).await.expect("memory is never away");
            shard.take(receiver.recv().await.expect("the hub runs"));

            act(&mut shard, broken);
            shard.offer();
            assert!(!shard.has(broken), "{what}");
            assert_eq!(hub.subscribers(&"US".parse().expect("a region")), 2, "{what}");
            for id in [before, behind] {
                assert!(shard.has(id), "{what}");
                assert_eq!(shard.socket(id).got("new_trending"), 1, "{what}");
            }
            running.abort();
        }
        let mut shard = shard().await;
        assert!(try_open(&mut shard, Socket { is_broken: true, ..Socket::default() }).is_none(), "it said hello");
        open(&mut shard);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_no_answers_is_still_told_when_to_come_back() {
        let mut shard = shard().await;
        let id = open(&mut shard);
        shard.clients[id.key].is_blocked = true;
        let ping = [&[0x89, 0x80 | 125, 0, 0, 0, 0][..], &[0; 125]].concat();
        for _ in 0..50 {
            send(&mut shard, id, &ping);
        }
        let waiting = shard.clients[id.key].outbox.as_ref().expect("answers wait").answers.len();
        assert!((MAX_ANSWERS - ping.len()..=MAX_ANSWERS).contains(&waiting), "{waiting}");
        shard.restart(id.key);
        shard.writable(id);
        let restart = Disconnect::Restart;
        assert_eq!(shard.socket(id).got(r#""type":"reconnect""#), 1);
        assert_eq!(shard.socket(id).got(restart.reason()), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_that_goes_on_after_the_close_is_not_read_on() {
        const FLOOD: usize = 1024 * 1024;
        let mut shard = shard().await;
        let id = open(&mut shard);
        send(&mut shard, id, &[0x89, 0x80, 0, 0, 0, 0].repeat(100));
        assert!(shard.has(id) && !shard.is_open(id.key), "it was told");
        send(&mut shard, id, &[0x89, 0x80, 0, 0, 0, 0].repeat(FLOOD / 6));
        while shard.read_on() {}
        let left = shard.socket(id).sent.len();
        assert!(left >= FLOOD - READ_WHILE_CLOSING - READ_BUFFER, "{left}");
        assert!(shard.has(id), "it may still read why");
        shard.tick(Instant::now() + CLOSE_TIMEOUT);
        assert!(!shard.has(id));
    }
}
