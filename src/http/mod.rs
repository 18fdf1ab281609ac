//! The routes beside the transports.

pub mod assets;
pub mod authorization;
pub mod health;
pub mod metrics;
pub mod notifications;
pub mod notify;
