//! Real-time notifications for a video platform: one `POST /notify`, and every open browser tab shows a toast.
//!
//! The flow goes one way:
//!
//! ```text
//! POST /notify -> Notification::parse -> History::append
//!     -> the Hub tails the history -> tokio broadcast -> Shard: Subscription, Connection -> socket -> notifier.js
//! ```
//!
//! The modules below stand in the order of that flow; each uses only those above it, and `app` alone names concrete
//! histories and transports. `docs/ARCHITECTURE.md` tells why, and `docs/PROTOCOL.md` what goes over the wire.

// The values: one that exists is valid.
pub mod origin;
pub mod position;
pub mod region;

pub mod notification;
pub mod publication;

// What everything may use.
pub mod codec;
pub mod config;
pub mod metrics;
pub mod panics;
pub mod protocol;
pub mod shutdown;

// From the log to one client.
pub mod history;
pub mod hub;
pub mod subscription;

pub mod forwarded;
pub mod limits;
pub mod rates;
pub mod rejection;
pub mod token;

pub mod connection;
pub mod http;
pub mod pending;
pub mod transport;

// The process.
pub mod app;
pub mod healthcheck;
pub mod logs;
pub mod server;
pub mod systemd;
