//! One client's life, whatever the transport and whatever carries its bytes: what it is told first and last, what it
//! may say, and when it is taken for gone.

use std::{ops::ControlFlow, sync::Arc, time::Duration};

use tokio::time::Instant;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::{
    codec::{self, Incoming, Opcode, Violation},
    hub::Hub,
    limits::Permit,
    metrics::Metrics,
    position::Position,
    protocol::{Disconnect, Frame, Message, Pace, Wire, is_ping},
    publication::Timestamp,
    rates::{Bucket, Rate},
    shutdown::Shutdown,
};

/// What all connections share.
#[derive(Clone)]
pub struct Connections {
    pub hub: Arc<Hub>,
    pub metrics: Arc<Metrics>,
    pub shutdown: Shutdown,
    /// How often each client gets a heartbeat.
    pub heartbeat: Duration,
    /// How much each client may say unasked. The script sends far less than the default.
    pub message_rate: Rate,
}

/// After how many heartbeats without a sign of life a client is taken for gone.
pub const SILENT_HEARTBEATS: u32 = 3;

/// See the module's documentation.
pub struct Connection {
    /// Heartbeats since the client last said anything. They are counted, not timed: while the server stands still
    /// it sends none, and what came meanwhile waits to be read.
    silent: u32,
    /// Pings that the client has not answered yet; the answers are asked for, so they count against no rate.
    unanswered: u32,
    said: Bucket,
    _permit: Permit,
    /// The end of the process waits for this.
    _held: TaskTrackerToken,
}

/// What a client's frame ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The server says why.
    Disconnect(Disconnect),
    /// The client has said goodbye, and was answered.
    Goodbye,
}

impl Connections {
    /// A client has come; the permit is its place until it leaves.
    pub fn accept(&self, permit: Permit) -> Connection {
        let said = Bucket::full(Instant::now());
        Connection { silent: 0, unanswered: 0, said, _permit: permit, _held: self.shutdown.hold() }
    }

    /// The first message.
    pub fn hello(&self, position: Position, recovered: Option<bool>) -> Frame {
        let pace = self.hub.pace();
        let hello = Message::Hello {
            position,
            recovered,
            now: Timestamp::now(),
            heartbeat_ms: self.heartbeat.as_millis() as u64,
            pace,
        };
        Frame::with_retry(&hello, Some(position), retry_ms(pace))
    }

    /// The last message before a planned restart.
    pub fn reconnect(&self) -> Frame {
        let pace = self.hub.pace();
        let after_ms = (pace.reconnect_window_ms as f64 * random_part()) as u64;
        Frame::with_retry(&Message::Reconnect { after_ms }, None, after_ms)
    }
}

impl Connection {
    /// Takes a frame of a WebSocket client; what it is answered goes into `answer`, in whole frames.
    pub fn receive(&mut self, incoming: Incoming<'_>, all: &Connections, answer: &mut Vec<u8>) -> ControlFlow<End> {
        let disconnect = |disconnect| ControlFlow::Break(End::Disconnect(disconnect));
        match incoming {
            Incoming::Pong(_) if self.unanswered > 0 => {
                self.unanswered -= 1;
                self.silent = 0;
            }
            Incoming::Close(reason) => {
                codec::encode_close(reason.map(|(code, _)| (code, "")), answer);
                return ControlFlow::Break(End::Goodbye);
            }
            _ if !self.may_say_more(all.message_rate) => return disconnect(Disconnect::Flood),
            Incoming::Text(text) if is_ping(text) => {
                answer.extend_from_slice(Frame::message(&Message::Pong, None).bytes(Wire::WebSocket));
            }
            Incoming::Text(_) => all.metrics.ignored_message(),
            Incoming::Binary(_) => return disconnect(Disconnect::Binary),
            Incoming::Ping(payload) => codec::encode(Opcode::Pong, payload, answer),
            Incoming::Pong(_) | Incoming::Fragment => {}
        }
        ControlFlow::Continue(())
    }

    /// The client is alive: whatever it said that needs no answer. Whether it may go on.
    pub fn may_say_more(&mut self, rate: Rate) -> bool {
        self.silent = 0;
        self.said.take(rate, 1, Instant::now()).is_ok()
    }

    /// A Ping goes out with a heartbeat. Whether the client has been heard of in the three heartbeats before.
    pub fn is_heard_of(&mut self) -> bool {
        self.unanswered = self.unanswered.saturating_add(1);
        self.silent = self.silent.saturating_add(1);
        self.silent <= SILENT_HEARTBEATS
    }
}

impl From<Violation> for Disconnect {
    fn from(violation: Violation) -> Self {
        match violation {
            Violation::TooBig => Self::TooBig,
            Violation::Protocol => Self::ProtocolError,
            Violation::InvalidText => Self::InvalidText,
        }
    }
}

/// After how long an `EventSource`, which has no jitter of its own, is to come back: a second and its part of
/// the window.
fn retry_ms(pace: Pace) -> u64 {
    1000 + (pace.reconnect_window_ms as f64 * random_part()) as u64
}

/// Evenly from 0 to 1.
fn random_part() -> f64 {
    let random = getrandom::u32().expect("the system gives randomness");
    f64::from(random) / f64::from(u32::MAX)
}
