//! The routes beside the transports.

pub mod authorization;
pub mod client;
pub mod health;
pub mod metrics;
pub mod notifications;
pub mod notify;
