//! Tests of the whole server over real sockets, each against a process of its own.
//!
//! What takes minutes is marked `#[ignore]` and run by `tests/run chaos`.

mod support;

mod chaos;
mod faults;
mod pings;
mod shutdown;
mod smoke;
mod stalled;
mod startup;
