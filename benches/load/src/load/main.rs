//! Clients of one server on this machine, by the thousand, and what the server spends on them.
//!
//!     load ADDRESS:PORT PID [TOKEN]
//!
//! Reads commands from standard input, one JSON object a line, and answers each with one ([`Command`] and [`Answer`]);
//! ends with its input. One thread does everything, so that it takes as little as it can of a core that it shares with
//! the server, and while no command runs it goes on answering Pings.
//!
//! - `account` reads from /proc what the server spends
//! - `clients` are the connections and what arrived at them
//! - `publisher` posts
//! - `latency` has percentiles and medians
//! - `stamps` asks the kernel when something arrived
//! - `wire` is the little of HTTP, WebSocket and server-sent events that this needs

mod account;
mod clients;
mod latency;
mod publisher;
mod stamps;
mod wire;

use std::{
    env,
    io::{self, BufRead},
    net::SocketAddrV4,
    os::fd::{AsFd, OwnedFd},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    buffer::spare_capacity,
    event::{Timespec, epoll},
    io::Errno,
};
use serde::{Deserialize, Serialize};

use account::Usage;
use clients::{Clients, Faults, Opening};
use latency::{Sorted, median};
use publisher::Publisher;

/// How long a command may take before it answers with what it has.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the server may still do for a command after the last client was served; it is counted with it.
const TRAILING: Duration = Duration::from_millis(200);

fn main() {
    let words: Vec<String> = env::args().skip(1).collect();
    let usage = "usage: load ADDRESS:PORT PID [TOKEN]";
    let [address, pid, token @ ..] = &words[..] else { panic!("{usage}") };
    let address: SocketAddrV4 = address.parse().expect(usage);
    assert!(address.ip().is_loopback(), "only servers on this machine");
    let token = token.first().map_or("", String::as_str);
    let mut load = Load::new(address, pid.parse().expect(usage), token).expect("epoll");

    let mut lines = io::stdin().lock().lines();
    loop {
        while !load.turn(None) {}
        let Some(Ok(line)) = lines.next() else { return };
        let answer = match serde_json::from_str(&line) {
            Ok(Command::Open(opening)) => load.open(opening),
            Ok(Command::Publish(publishing)) => load.publish(&publishing),
            Ok(Command::Sample) => load.sample(),
            Ok(Command::Close) => load.close(),
            Err(error) => panic!("{line}: {error}"),
        };
        println!("{}", serde_json::to_string(&answer).expect("an answer can be written"));
    }
}

#[derive(Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
enum Command {
    /// Opens clients, and waits until each has its `hello` and what it missed.
    Open(Opening),
    /// Posts, and waits until every client has everything.
    Publish(Publishing),
    /// Only answers what the server holds.
    Sample,
    /// Closes all clients.
    Close,
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Publishing {
    /// How many notifications in all.
    messages: usize,
    /// How many at once, each over a connection of its own.
    burst: usize,
    /// How long nobody reads after a burst, in milliseconds, so that reading takes nothing from the server's cores.
    unread_ms: u64,
    /// How long to wait after all clients have a burst, in milliseconds.
    gap_ms: u64,
    /// Over how many regions they go in turn: `R0`, `R1`, ...
    regions: usize,
    /// The length of the message that clients get, in bytes.
    length: usize,
}

impl Default for Publishing {
    fn default() -> Self {
        Self { messages: 1, burst: 1, unread_ms: 0, gap_ms: 20, regions: 1, length: 700 }
    }
}

/// What a command did. CPU is what the server spent on it, in microseconds.
#[derive(Serialize)]
struct Answer {
    cpu_us: f64,
    /// The part of it that was spent in the kernel, by the ticks of 10 ms.
    system_us: f64,
    /// What this process spent.
    load_cpu_us: f64,
    seconds: f64,
    /// The server's proportional set size now.
    pss_bytes: u64,
    /// Clients that are open now, stalled ones too.
    open: usize,
    #[serde(flatten)]
    what: What,
    /// Since the start.
    faults: Faults,
}

#[derive(Serialize)]
#[serde(untagged)]
enum What {
    Opened {
        opened: usize,
        /// Without what trailed.
        took_seconds: f64,
    },
    Published {
        /// Publications that should have arrived at clients, and that did.
        expected: usize,
        delivered: usize,
        /// Heartbeats that arrived meanwhile.
        heartbeats: u64,
        /// From the post to the first client, to half of them, to 99 of a hundred, and to the last; each is the median
        /// over all publications, so that one which something else on the machine held up does not decide.
        first_us: u32,
        p50_us: u32,
        p99_us: u32,
        last_us: u32,
        /// The same of all deliveries together, by the permille from 1 to 1,000; empty where there were none.
        permilles_of_all_us: Vec<u32>,
        /// The last receipt's id, and this program's own number of it.
        position: String,
        sequence: usize,
    },
    Nothing {},
}

/// Where an event of epoll comes from.
const STDIN: u64 = u64::MAX;
const LANES: u64 = 1 << 32;

struct Load {
    epoll: OwnedFd,
    events: Vec<epoll::Event>,
    buffer: Vec<u8>,
    clients: Clients,
    publisher: Publisher,
    server: u32,
}

impl Load {
    fn new(address: SocketAddrV4, server: u32, token: &str) -> rustix::io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, io::stdin().as_fd(), epoll::EventData::new_u64(STDIN), epoll::EventFlags::IN)?;
        Ok(Self {
            epoll,
            events: Vec::with_capacity(1024),
            buffer: vec![0; 256 * 1024],
            clients: Clients::new(address),
            publisher: Publisher::new(address, token),
            server,
        })
    }

    /// Waits for events and handles them; whether a command waits to be read.
    fn turn(&mut self, timeout: Option<Duration>) -> bool {
        let timeout = timeout.map(|timeout| Timespec::try_from(timeout).expect("a timeout is short"));
        self.events.clear();
        match epoll::wait(&self.epoll, spare_capacity(&mut self.events), timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => panic!("epoll: {error}"),
        }
        let mut command = false;
        for event in &self.events {
            match event.data.u64() {
                STDIN => command = true,
                token @ LANES.. => self.publisher.ready((token - LANES) as usize),
                slot => self.clients.ready(&self.epoll, slot as usize, event.flags, &mut self.buffer),
            }
        }
        command
    }

    /// Takes turns for so long.
    fn pause(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            self.turn(Some(left));
        }
    }

    fn open(&mut self, opening: Opening) -> Answer {
        let before = self.account();
        let began = Instant::now();
        self.clients.start(opening);
        while self.clients.opening() && began.elapsed() < PATIENCE {
            let more = self.clients.connect(&self.epoll);
            self.turn(Some(if more { Duration::ZERO } else { Duration::from_millis(100) }));
        }
        let opened = self.clients.opened_since_start();
        let took_seconds = self.clients.last_opened().saturating_duration_since(began).as_secs_f64();
        self.pause(TRAILING);
        self.answer(&before, What::Opened { opened, took_seconds })
    }

    fn publish(&mut self, publishing: &Publishing) -> Answer {
        self.publisher.open_lanes(&self.epoll, LANES, publishing.burst);
        let first = self.clients.next_sequence();
        let heartbeats = self.clients.heartbeats;
        let before = self.account();
        let mut left = publishing.messages;
        while left > 0 {
            for _ in 0..publishing.burst.min(left) {
                let sequence = self.clients.next_sequence();
                let region = sequence % publishing.regions;
                let body = wire::post_body(sequence, region, publishing.length);
                self.clients.announce(region);
                self.publisher.post(&body);
                left -= 1;
            }
            thread::sleep(Duration::from_millis(publishing.unread_ms));
            let began = Instant::now();
            let waits = |load: &Self| load.publisher.waits() || load.clients.missing > 0;
            while waits(self) && began.elapsed() < PATIENCE {
                self.turn(Some(Duration::from_millis(100)));
            }
            self.pause(Duration::from_millis(publishing.gap_ms));
        }
        let expected = self.clients.publications_from(first).iter().map(|it| it.expected).sum();
        let delivered = self.clients.publications_from(first).iter().map(|it| it.latencies.len()).sum();
        let latencies = self.clients.take_latencies(first);
        let percentile = |part| median(latencies.iter().filter_map(|it| it.percentile(part)));
        let [first_us, p50_us, p99_us, last_us] = [0.0, 0.5, 0.99, 1.0].map(percentile);
        let what = What::Published {
            expected,
            delivered,
            heartbeats: self.clients.heartbeats - heartbeats,
            first_us,
            p50_us,
            p99_us,
            last_us,
            permilles_of_all_us: Sorted::joined(latencies).permilles(),
            position: self.publisher.position().to_owned(),
            sequence: self.clients.next_sequence() - 1,
        };
        self.answer(&before, what)
    }

    fn sample(&mut self) -> Answer {
        let before = self.account();
        self.answer(&before, What::Nothing {})
    }

    fn close(&mut self) -> Answer {
        let before = self.account();
        self.clients.close_all();
        self.pause(TRAILING);
        self.answer(&before, What::Nothing {})
    }

    fn account(&self) -> (Instant, Usage, Usage) {
        (Instant::now(), Usage::of(self.server), Usage::of(std::process::id()))
    }

    fn answer(&self, (began, server, load): &(Instant, Usage, Usage), what: What) -> Answer {
        let (ended, server_now, load_now) = self.account();
        Answer {
            cpu_us: server_now.since(server).cpu_us(),
            system_us: server_now.since(server).system_us(),
            load_cpu_us: load_now.since(load).cpu_us(),
            seconds: ended.duration_since(*began).as_secs_f64(),
            pss_bytes: account::pss_bytes(self.server),
            open: self.clients.open(),
            what,
            faults: self.clients.faults(),
        }
    }
}
