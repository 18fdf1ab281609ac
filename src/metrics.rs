//! What is counted, as verbs of the domain, and how it prints for Prometheus.
//!
//! Handles are typed and looked up once, so that counting in the fan-out is one atomic addition.

use std::time::Duration;

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

use crate::{protocol::Disconnect, region::Region};

/// Every counter of the process.
pub struct Metrics {
    registry: Registry,
    connections: Family<OfTransport, Gauge>,
    refused: Family<Refused, Counter>,
    disconnected: Family<Disconnected, Counter>,
    dropped: Family<Dropped, Counter>,
    publications: Family<OfRegion, Counter>,
    deduplicated: Counter,
    deliveries: Counter,
    lagged: Counter,
    resumed: Family<Resumed, Counter>,
    replayed: Counter,
    ignored: Counter,
    append_seconds: Histogram,
    fan_out_seconds: Histogram,
}

/// How a client is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum TransportKind {
    #[allow(non_camel_case_types, reason = "the label's value")]
    websocket,
    #[allow(non_camel_case_types, reason = "the label's value")]
    sse,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfTransport {
    transport: TransportKind,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Refused {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Disconnected {
    code: u16,
}

/// Why a client is taken for gone, and dropped without a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Gone {
    /// It has neither said nor answered anything for three heartbeats.
    #[allow(non_camel_case_types, reason = "the label's value")]
    silent,
    /// It has taken nothing that was written for three heartbeats.
    #[allow(non_camel_case_types, reason = "the label's value")]
    stalled,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Dropped {
    reason: Gone,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfRegion {
    region: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Resumed {
    recovered: &'static str,
}

impl Default for Metrics {
    fn default() -> Self {
        // From a commit on a fast disk to one that is in trouble; from one client to a hundred thousand.
        let append_buckets = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5];
        let fan_out_buckets = [0.0001, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0];
        let mut metrics = Self {
            registry: Registry::with_prefix("notifier"),
            connections: Family::default(),
            refused: Family::default(),
            disconnected: Family::default(),
            dropped: Family::default(),
            publications: Family::default(),
            deduplicated: Counter::default(),
            deliveries: Counter::default(),
            lagged: Counter::default(),
            resumed: Family::default(),
            replayed: Counter::default(),
            ignored: Counter::default(),
            append_seconds: Histogram::new(append_buckets),
            fan_out_seconds: Histogram::new(fan_out_buckets),
        };
        metrics.register();
        metrics
    }
}

impl Metrics {
    fn register(&mut self) {
        let registry = &mut self.registry;
        for transport in [TransportKind::websocket, TransportKind::sse] {
            // A gauge that is absent until the first client would look like a server that is down.
            drop(self.connections.get_or_create(&OfTransport { transport }));
        }
        registry.register("connections", "Clients connected now", self.connections.clone());
        registry.register("refused", "Requests refused, by reason", self.refused.clone());
        registry.register(
            "disconnected",
            "Connections that the server ended, by close code",
            self.disconnected.clone(),
        );
        registry.register("dropped", "Clients taken for gone, by reason", self.dropped.clone());
        registry.register("publications", "Publications handed to the clients of this node", self.publications.clone());
        registry.register("deduplicated", "Posts answered with an earlier receipt", self.deduplicated.clone());
        registry.register("deliveries", "Publications written to a client", self.deliveries.clone());
        registry.register(
            "lagged",
            "Times a client fell behind the broadcast and read on by itself",
            self.lagged.clone(),
        );
        registry.register("resumed", "Clients that came back with a position", self.resumed.clone());
        registry.register("replayed", "Publications sent from the history, not live", self.replayed.clone());
        registry.register("ignored_messages", "Client messages that mean nothing", self.ignored.clone());
        let seconds = Unit::Seconds;
        registry.register_with_unit("append", "Time to make a post durable", seconds, self.append_seconds.clone());
        registry.register_with_unit(
            "fan_out",
            "Time from the broadcast to the last client's kernel buffer",
            Unit::Seconds,
            self.fan_out_seconds.clone(),
        );
    }

    /// A client has come.
    pub fn connected(&self, transport: TransportKind) {
        self.connections.get_or_create(&OfTransport { transport }).inc();
    }

    /// A client has left, however.
    pub fn left(&self, transport: TransportKind) {
        self.connections.get_or_create(&OfTransport { transport }).dec();
    }

    /// A request or a connection was refused. `reason` is one of few fixed words: that of a
    /// [`Rejection`](crate::rejection::Rejection), or one of those in `docs/PROTOCOL.md` that have no answer.
    pub fn refused(&self, reason: &'static str) {
        self.refused.get_or_create(&Refused { reason }).inc();
    }

    /// The server has ended a client.
    pub fn disconnected(&self, disconnect: Disconnect) {
        self.disconnected.get_or_create(&Disconnected { code: disconnect.code() }).inc();
    }

    /// A client was taken for gone.
    pub fn dropped(&self, reason: Gone) {
        self.dropped.get_or_create(&Dropped { reason }).inc();
    }

    /// A publication was broadcast.
    pub fn published(&self, region: &Region) {
        self.publications.get_or_create(&OfRegion { region: region.as_str().to_owned() }).inc();
    }

    /// A post was answered with an earlier receipt.
    pub fn deduplicated(&self) {
        self.deduplicated.inc();
    }

    /// So many publications are in the kernel's buffers of clients, each counted for each.
    pub fn delivered(&self, count: u64) {
        self.deliveries.inc_by(count);
    }

    /// A live client fell behind, and reads on by itself.
    pub fn lagged(&self) {
        self.lagged.inc();
    }

    /// A client has come with a position.
    pub fn resumed(&self, recovered: bool) {
        self.resumed.get_or_create(&Resumed { recovered: if recovered { "true" } else { "false" } }).inc();
    }

    /// So many publications were sent from the window or the store, not live.
    pub fn replayed(&self, count: u64) {
        self.replayed.inc_by(count);
    }

    /// A client has sent a message that means nothing.
    pub fn ignored_message(&self) {
        self.ignored.inc();
    }

    /// How long a post waited until it was durable.
    pub fn appended(&self, took: Duration) {
        self.append_seconds.observe(took.as_secs_f64());
    }

    /// How long a publication took from the broadcast to the last client's kernel buffer, at most one second.
    pub fn fanned_out(&self, took: Duration) {
        self.fan_out_seconds.observe(took.as_secs_f64());
    }

    /// All of it as OpenMetrics text.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("text can be written to memory");
        text
    }
}
