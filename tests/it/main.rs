//! Tests of the whole server over real sockets, each against a process of its own.
//!
//! What takes minutes is marked `#[ignore]` and run by `tests/run chaos`.

mod support;

mod limits;
mod resume;
mod slow;
mod smoke;
mod sse;
mod websocket;
mod websocket_ends;
