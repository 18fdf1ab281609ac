//! The connections, and what arrived at them: whether every publication came once and in order, and how late.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    os::fd::OwnedFd,
    time::Instant,
};

use rustix::{
    event::epoll,
    io::Errno,
    net::{self, AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, sockopt},
};
use serde::{Deserialize, Serialize};

use crate::{
    latency::Sorted,
    stamps,
    wire::{self, Incoming, Transport},
};

/// The clients to open.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Opening {
    count: usize,
    transport: Transport,
    /// Which region they ask for; all where none is given.
    region: Option<usize>,
    /// The position that they come back with, and this program's own number of it.
    since: Option<(String, usize)>,
    /// How many may be under way at once.
    in_flight: usize,
    /// Whether they never read again after their `hello`.
    stalled: bool,
    /// Whether the kernel tells when what they read arrived. What they read late was then not late.
    stamped: bool,
}

impl Default for Opening {
    fn default() -> Self {
        let transport = Transport::default();
        Self { count: 1, transport, region: None, since: None, in_flight: 1000, stalled: false, stamped: false }
    }
}

/// What should not have happened.
#[derive(Serialize, Default, Clone)]
pub struct Faults {
    /// Connections that the server did not take.
    refused: usize,
    /// Connections that it ended.
    ended: usize,
    /// Publications that came twice or out of order, and that the client had not asked for.
    doubled: u64,
    strayed: u64,
    /// What the first of these was.
    first: Option<String>,
}

pub struct Clients {
    address: SocketAddrV4,
    /// All that were ever opened and not closed by us; those that the server ended are empty.
    connections: Vec<Option<Connection>>,
    groups: Vec<Group>,
    /// How many of the last group have been started, are under way, and are open.
    started: usize,
    under_way: usize,
    opened: usize,
    last_opened: Instant,
    /// Numbers the connections of this process's life, for their addresses.
    connected: usize,
    /// By sequence.
    publications: Vec<Publication>,
    /// Deliveries that are still to come.
    pub missing: usize,
    pub heartbeats: u64,
    /// Where the last publication had its mark.
    mark: usize,
    faults: Faults,
}

/// Clients that were opened together.
struct Group {
    opening: Opening,
    request: Vec<u8>,
    /// The offset that they come back with.
    since: u64,
    /// How many publications they missed; once they have them they are open.
    missed: usize,
}

struct Connection {
    socket: OwnedFd,
    group: usize,
    stage: Stage,
    /// The offset of the last publication that came; those of one client rise.
    offset: u64,
    /// How many came.
    received: usize,
    /// What has not arrived whole.
    partial: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Connecting,
    Asking,
    /// Waits for `hello`, then for what it missed.
    Greeting,
    CatchingUp,
    Open,
}

/// One publication on its way to the clients.
pub struct Publication {
    region: usize,
    sent_at: Instant,
    /// How many clients are to get it.
    pub expected: usize,
    /// How long after the post each got it, in microseconds.
    pub latencies: Vec<u32>,
}

impl Clients {
    pub fn new(address: SocketAddrV4) -> Self {
        Self {
            address,
            connections: Vec::new(),
            groups: Vec::new(),
            started: 0,
            under_way: 0,
            opened: 0,
            last_opened: Instant::now(),
            connected: 0,
            publications: Vec::new(),
            missing: 0,
            heartbeats: 0,
            mark: 0,
            faults: Faults::default(),
        }
    }

    // Opening.

    /// Begins to open a group; [`Clients::connect`] goes on with it.
    pub fn start(&mut self, opening: Opening) {
        let mut query = opening.region.map(|region| format!("regions={}", wire::region(region))).unwrap_or_default();
        let (mut since, mut missed) = (0, 0);
        if let Some((position, sequence)) = &opening.since {
            query += &format!("{}since={position}", if query.is_empty() { "" } else { "&" });
            since = wire::offset(position.as_bytes()).expect("a position");
            let later = self.publications_from(sequence + 1).iter();
            missed = later.filter(|it| opening.region.is_none_or(|region| it.region == region)).count();
        }
        let request = wire::request(opening.transport, &query);
        self.groups.push(Group { opening, request, since, missed });
        (self.started, self.under_way, self.opened, self.last_opened) = (0, 0, 0, Instant::now());
    }

    /// Whether clients of the last group are not open yet.
    pub fn opening(&self) -> bool {
        self.group().is_some_and(|group| self.started < group.opening.count) || self.under_way > 0
    }

    /// Starts as many connections as may be under way, some at a time; whether more could be started at once.
    pub fn connect(&mut self, epoll: &OwnedFd) -> bool {
        const AT_A_TIME: usize = 100;

        let Some(&Opening { count, in_flight, .. }) = self.group().map(|group| &group.opening) else { return false };
        let free = (count - self.started).min(in_flight.saturating_sub(self.under_way));
        for _ in 0..free.min(AT_A_TIME) {
            self.started += 1;
            self.under_way += 1;
            if let Err(error) = self.connect_one(epoll) {
                self.under_way -= 1;
                self.faults.refused += 1;
                self.faults.first.get_or_insert_with(|| format!("connect: {error}"));
            }
        }
        free > AT_A_TIME
    }

    fn connect_one(&mut self, epoll: &OwnedFd) -> rustix::io::Result<()> {
        let group = self.groups.len() - 1;
        let Group { opening, since, .. } = &self.groups[group];
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
        sockopt::set_tcp_nodelay(&socket, true)?;
        if opening.stalled {
            // As small as the kernel lets it be, so that the server soon feels that nobody reads.
            sockopt::set_socket_recv_buffer_size(&socket, 1)?;
        }
        if opening.stamped {
            stamps::ask_for(&socket)?;
        }
        net::bind(&socket, &self.own_address())?;
        match net::connect(&socket, &self.address) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(error) => return Err(error),
        }
        let events = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::RDHUP | epoll::EventFlags::ET;
        epoll::add(epoll, &socket, epoll::EventData::new_u64(self.connections.len() as u64), events)?;
        let (offset, stage) = (*since, Stage::Connecting);
        self.connections.push(Some(Connection { socket, group, stage, offset, received: 0, partial: Vec::new() }));
        self.connected += 1;
        Ok(())
    }

    /// A loopback address of this process, another for each 10,000 connections: ports of closed connections stay
    /// taken for a minute.
    fn own_address(&self) -> SocketAddrV4 {
        let [_, _, high, low] = std::process::id().to_be_bytes();
        SocketAddrV4::new(Ipv4Addr::new(127, 1 + (self.connected / 10_000) as u8, high, low), 0)
    }

    pub fn opened_since_start(&self) -> usize {
        self.opened
    }

    pub fn last_opened(&self) -> Instant {
        self.last_opened
    }

    /// How many are connected.
    pub fn open(&self) -> usize {
        self.connections.iter().flatten().filter(|connection| connection.stage == Stage::Open).count()
    }

    pub fn close_all(&mut self) {
        self.connections.clear();
        self.groups.clear();
        self.missing = 0;
    }

    pub fn faults(&self) -> Faults {
        self.faults.clone()
    }

    fn group(&self) -> Option<&Group> {
        self.groups.last()
    }

    // Publishing.

    /// The sequence of the next publication.
    pub fn next_sequence(&self) -> usize {
        self.publications.len()
    }

    /// Says that the next publication, of this region, is about to be posted.
    pub fn announce(&mut self, region: usize) {
        let listens = |connection: &&Connection| {
            let Opening { region: asked, stalled, .. } = self.groups[connection.group].opening;
            !stalled && asked.is_none_or(|asked| asked == region)
        };
        let expected = self.connections.iter().flatten().filter(listens).count();
        self.missing += expected;
        let latencies = Vec::with_capacity(expected);
        self.publications.push(Publication { region, sent_at: Instant::now(), expected, latencies });
    }

    pub fn publications_from(&self, sequence: usize) -> &[Publication] {
        &self.publications[sequence..]
    }

    /// Takes the latencies of the publications from this one on.
    pub fn take_latencies(&mut self, sequence: usize) -> Vec<Sorted> {
        let publications = self.publications[sequence..].iter_mut();
        publications.map(|it| Sorted::new(std::mem::take(&mut it.latencies))).collect()
    }

    // Listening.

    /// Handles what epoll says of a connection.
    pub fn ready(&mut self, epoll: &OwnedFd, slot: usize, flags: epoll::EventFlags, buffer: &mut [u8]) {
        // Taken out while it is handled; one that ends is not put back.
        let Some(mut connection) = self.connections.get_mut(slot).and_then(Option::take) else { return };
        match self.handle(&mut connection, flags, buffer) {
            Ok(()) => {
                if connection.stage == Stage::Open && self.groups[connection.group].opening.stalled {
                    epoll::delete(epoll, &connection.socket).expect("it was added");
                }
                self.connections[slot] = Some(connection);
            }
            Err(reason) => self.lost(&connection, reason),
        }
    }

    fn handle(
        &mut self,
        connection: &mut Connection,
        flags: epoll::EventFlags,
        buffer: &mut [u8],
    ) -> Result<(), String> {
        if connection.stage == Stage::Connecting {
            if flags.intersects(epoll::EventFlags::ERR | epoll::EventFlags::HUP) {
                return Err("the connection was not taken".into());
            }
            connection.stage = Stage::Asking;
            send(connection, &self.groups[connection.group].request)?;
        }
        let hung_up = flags.intersects(epoll::EventFlags::RDHUP | epoll::EventFlags::HUP | epoll::EventFlags::ERR);
        if !hung_up && !flags.contains(epoll::EventFlags::IN) {
            return Ok(());
        }
        let stamped = self.groups[connection.group].opening.stamped;
        loop {
            let read = if stamped {
                stamps::receive(&connection.socket, buffer)
            } else {
                net::recv(&connection.socket, &mut *buffer, RecvFlags::empty())
                    .map(|(length, _)| (length, Instant::now()))
            };
            match read {
                Ok((0, _)) => return Err("the server closed the connection".into()),
                Ok((length, arrived)) => {
                    self.received(connection, &buffer[..length], arrived)?;
                    // A short read has emptied the socket; only its end can still be behind it.
                    if length < buffer.len() && !hung_up {
                        return Ok(());
                    }
                }
                Err(Errno::AGAIN) => return Ok(()),
                Err(error) => return Err(error.to_string()),
            }
        }
    }

    fn received(&mut self, connection: &mut Connection, bytes: &[u8], arrived: Instant) -> Result<(), String> {
        if connection.partial.is_empty() {
            let taken = self.take(connection, bytes, arrived)?;
            connection.partial.extend_from_slice(&bytes[taken..]);
        } else {
            let mut joined = std::mem::take(&mut connection.partial);
            joined.extend_from_slice(bytes);
            let taken = self.take(connection, &joined, arrived)?;
            joined.drain(..taken);
            connection.partial = joined;
        }
        Ok(())
    }

    /// Takes all that is whole; answers how many bytes that was.
    fn take(&mut self, connection: &mut Connection, bytes: &[u8], arrived: Instant) -> Result<usize, String> {
        let transport = self.groups[connection.group].opening.transport;
        let mut taken = 0;
        if connection.stage == Stage::Asking {
            let Some(end) = wire::head_end(bytes) else { return Ok(0) };
            let accepted: &[u8] = if transport == Transport::Websocket { b"HTTP/1.1 101 " } else { b"HTTP/1.1 200 " };
            if !bytes.starts_with(accepted) {
                return Err(String::from_utf8_lossy(&bytes[..end.min(80)]).into_owned());
            }
            connection.stage = Stage::Greeting;
            taken = end;
        }
        while let Some((incoming, length)) = wire::next(transport, &bytes[taken..]) {
            match incoming {
                Incoming::Message(json) => self.message(connection, json, arrived),
                Incoming::Events(events) => wire::data(events).for_each(|json| self.message(connection, json, arrived)),
                Incoming::Ping => send(connection, &wire::PONG)?,
                Incoming::End(reason) => return Err(reason),
            }
            taken += length;
        }
        Ok(taken)
    }

    fn message(&mut self, connection: &mut Connection, json: &[u8], arrived: Instant) {
        if let Some((offset, sequence)) = wire::publication(json, &mut self.mark) {
            self.publication(connection, offset, sequence, arrived);
        } else if json.starts_with(b"{\"type\":\"heartbeat\"") {
            self.heartbeats += 1;
        } else if json.starts_with(b"{\"type\":\"hello\"") && connection.stage == Stage::Greeting {
            connection.stage = Stage::CatchingUp;
        }
        if connection.stage == Stage::CatchingUp && connection.received >= self.groups[connection.group].missed {
            connection.stage = Stage::Open;
            self.under_way -= 1;
            self.opened += 1;
            self.last_opened = arrived;
        }
    }

    fn publication(&mut self, connection: &mut Connection, offset: u64, sequence: usize, arrived: Instant) {
        let asked = self.groups[connection.group].opening.region;
        let Some(publication) = self.publications.get_mut(sequence) else { return };
        if asked.is_some_and(|asked| asked != publication.region) {
            self.faults.strayed += 1;
            return;
        }
        if offset <= connection.offset {
            self.faults.doubled += 1;
            return;
        }
        connection.offset = offset;
        connection.received += 1;
        // What a client is caught up on was posted before it came, and says nothing of latency.
        if connection.stage != Stage::Open {
            return;
        }
        publication.latencies.push(arrived.saturating_duration_since(publication.sent_at).as_micros() as u32);
        self.missing = self.missing.saturating_sub(1);
    }

    /// Counts a connection that is no more.
    fn lost(&mut self, connection: &Connection, reason: String) {
        if connection.stage == Stage::Open {
            self.faults.ended += 1;
        } else {
            self.under_way -= 1;
            self.faults.refused += 1;
        }
        self.faults.first.get_or_insert(reason);
    }
}

/// Sends what always fits, since clients say little.
fn send(connection: &Connection, bytes: &[u8]) -> Result<(), String> {
    net::send(&connection.socket, bytes, SendFlags::NOSIGNAL).map(drop).map_err(|error| error.to_string())
}
