//! Tests of the whole server over real sockets, each against a process of its own.
//!
//! What takes minutes is marked `#[ignore]` and run by `tests/run chaos`, or `kernel`.

mod support;

mod chaos;
mod crowded;
mod dedup;
mod descriptors;
mod faults;
mod handover;
mod history;
mod hostile;
mod http;
mod kernel;
mod limits;
mod logs;
mod lost;
mod notify;
mod panics;
mod pings;
mod rates;
mod resume;
mod shutdown;
mod slow;
mod smoke;
mod soak;
mod sse;
mod stalled;
mod startup;
mod vanished;
mod websocket;
mod websocket_ends;
