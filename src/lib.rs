//! Real-time notifications for a video platform: one `POST /notify`, and every open browser tab shows a toast.
//!
//! The flow goes one way:
//!
//! ```text
//! POST /notify -> Notification::parse -> History::append
//!     -> the Hub tails the history -> tokio broadcast -> Shard: Subscription, Connection -> socket -> notifier.js
//! ```
//!
//! The modules below stand in order of dependency: each uses only those above it, and `app` alone names concrete
//! histories and transports. `docs/ARCHITECTURE.md` tells why, and `docs/PROTOCOL.md` what goes over the wire.

// The values: one that exists is valid.
pub mod origin;
pub mod position;
pub mod region;

pub mod publication;

pub mod notification;

// What everything may use.
pub mod codec;
pub mod config;
pub mod panics;
pub mod protocol;
pub mod shutdown;

pub mod metrics;

// From the log to one client.
pub mod history;
pub mod hub;
pub mod subscription;

// Who somebody is, and how much they may do.
pub mod forwarded;
pub mod limits;
pub mod pending;
pub mod rates;
pub mod rejection;
pub mod token;

// One client, and the two ways to reach it.
pub mod connection;
pub mod transport;

// The other routes.
pub mod http;

// The process.
pub mod healthcheck;
pub mod logs;
pub mod server;
pub mod systemd;

pub mod app;
