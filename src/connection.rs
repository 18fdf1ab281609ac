//! One client's life, whatever the transport: hello, then publications and heartbeats until one side ends it.
//!
//! A transport pulls: it asks for the next thing to send once it has sent the last. So a client that reads slowly
//! is asked for nothing and holds nothing but its position.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::{
    hub::{Hub, Published},
    limits::{MessageRate, Permit},
    metrics::{Metrics, TransportKind},
    protocol::{Disconnect, Frame, Message, Pace, is_ping},
    publication::Timestamp,
    region::Regions,
    shutdown::Shutdown,
    subscription::{Delivery, Subscription},
};

/// Opens connections; shared by the transports.
#[derive(Clone)]
pub struct Connections {
    pub hub: Arc<Hub>,
    pub metrics: Arc<Metrics>,
    pub shutdown: Shutdown,
    /// How often each client gets a heartbeat.
    pub heartbeat: Duration,
}

/// After how many heartbeats without a sign of life a client is taken for gone.
pub const SILENT_HEARTBEATS: u32 = 3;

/// See the module's documentation.
pub struct Connection {
    subscription: Subscription,
    metrics: Arc<Metrics>,
    shutdown: Shutdown,
    hub: Arc<Hub>,
    transport: TransportKind,
    stage: Stage,
    heartbeat: Interval,
    /// Given to the transport with the last call; that it asks again says that it was written.
    in_flight: Option<Arc<Published>>,
    /// Heartbeats since the client last said anything. They are counted, not timed: while the server stands still
    /// it asks nobody, and what came meanwhile waits to be read.
    silent: u32,
    rate: MessageRate,
    /// Pings that the client has not answered yet; the answers are asked for, so they count against no rate.
    unanswered: u64,
    _permit: Permit,
    /// The end of the process waits for this.
    _held: TaskTrackerToken,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Hello is still to be sent.
    New,
    Open,
    /// The last word is said.
    Closing(Disconnect),
}

/// What a transport is to do next.
#[derive(Debug)]
pub enum Outgoing {
    Message(Frame),
    /// Like a message; a transport that can, asks for a sign of life in the same write.
    Heartbeat(Frame),
    /// Say why and end.
    Close(Disconnect),
}

impl Connections {
    pub fn open(&self, transport: TransportKind, regions: Regions, since: Option<&str>, permit: Permit) -> Connection {
        self.metrics.connected(transport);
        let subscription = self.hub.subscribe(regions, since);
        tracing::debug!(?transport, position = %subscription.position(), "connected");
        // The first beat at a random moment: clients that came together don't beat together.
        let first = Instant::now() + self.heartbeat.mul_f64(random_part());
        let mut heartbeat = interval_at(first, self.heartbeat);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Connection {
            subscription,
            metrics: self.metrics.clone(),
            shutdown: self.shutdown.clone(),
            hub: self.hub.clone(),
            transport,
            stage: Stage::New,
            heartbeat,
            in_flight: None,
            silent: 0,
            rate: MessageRate::new(),
            unanswered: 0,
            _permit: permit,
            _held: self.shutdown.hold(),
        }
    }
}

impl Connection {
    /// What to send next. Can be dropped before it answers; nothing is lost then.
    pub async fn next(&mut self) -> Outgoing {
        if let Some(published) = self.in_flight.take() {
            published.handed_over();
            self.metrics.delivered();
        }
        match self.stage {
            Stage::New => {
                self.stage = Stage::Open;
                return Outgoing::Message(self.hello());
            }
            Stage::Closing(disconnect) => return self.close(disconnect),
            Stage::Open => {}
        }
        tokio::select! {
            biased;
            () = self.shutdown.started() => {
                self.stage = Stage::Closing(Disconnect::Restart);
                Outgoing::Message(self.reconnect())
            }
            // Before publications, which may never pause, so that the answers to its Ping keep the client alive.
            _ = self.heartbeat.tick() => {
                self.silent = self.silent.saturating_add(1);
                Outgoing::Heartbeat(self.subscription.heartbeat())
            }
            delivery = self.subscription.next() => match delivery {
                Ok(delivery) => {
                    let frame = delivery.frame().clone();
                    match delivery {
                        Delivery::Shared(published) => self.in_flight = Some(published),
                        Delivery::Stored(_) => self.metrics.delivered(),
                    }
                    Outgoing::Message(frame)
                }
                Err(_) => self.close(Disconnect::PositionLost),
            },
        }
    }

    /// A message of the client: the answer, if it gets one.
    ///
    /// # Errors
    /// When the client says more than it may.
    pub fn received(&mut self, text: &str) -> Result<Option<Frame>, Disconnect> {
        self.sign_of_life()?;
        if is_ping(text) {
            return Ok(Some(Frame::message(&Message::Pong, None)));
        }
        self.metrics.ignored_message();
        Ok(None)
    }

    /// A Ping was sent with the heartbeat.
    pub fn pinged(&mut self) {
        self.unanswered += 1;
    }

    /// A Pong: the answer to a Ping, or one that nobody asked for.
    ///
    /// # Errors
    /// When the client says more than it may.
    pub fn pong(&mut self) -> Result<(), Disconnect> {
        if self.unanswered == 0 {
            return self.sign_of_life();
        }
        self.unanswered -= 1;
        self.silent = 0;
        Ok(())
    }

    /// The client is alive: a frame that carries no message.
    ///
    /// # Errors
    /// When the client says more than it may.
    pub fn sign_of_life(&mut self) -> Result<(), Disconnect> {
        self.silent = 0;
        if self.rate.allow() { Ok(()) } else { Err(Disconnect::Flood) }
    }

    /// Whether a client that has to answer Pings has said nothing since three heartbeats before the one in hand.
    pub fn is_silent(&self) -> bool {
        self.silent > SILENT_HEARTBEATS
    }

    /// Counts a disconnect that the transport decided on.
    pub fn ended_by(&self, disconnect: Disconnect) {
        self.metrics.disconnected(disconnect);
    }

    fn close(&mut self, disconnect: Disconnect) -> Outgoing {
        self.metrics.disconnected(disconnect);
        Outgoing::Close(disconnect)
    }

    fn hello(&self) -> Frame {
        let position = self.subscription.position();
        let pace = self.hub.pace();
        let hello = Message::Hello {
            position,
            recovered: self.subscription.recovered(),
            now: Timestamp::now(),
            heartbeat_ms: self.heartbeat.period().as_millis() as u64,
            pace,
        };
        Frame::with_retry(&hello, Some(position), retry_ms(pace))
    }

    fn reconnect(&self) -> Frame {
        let pace = self.hub.pace();
        let after_ms = (pace.reconnect_window_ms as f64 * random_part()) as u64;
        Frame::with_retry(&Message::Reconnect { after_ms }, None, after_ms)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.metrics.left(self.transport);
        tracing::debug!(transport = ?self.transport, position = %self.subscription.position(), "left");
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
