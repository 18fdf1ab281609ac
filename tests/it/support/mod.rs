//! A real server process, and real clients to talk to it.

pub mod client;
pub mod raw;
pub mod server;

pub use client::{EventStream, Socket};
pub use server::Server;

/// The body of a post: one video of that id.
pub fn post_body(region: &str, id: impl std::fmt::Display) -> String {
    format!(r#"{{"region":"{region}","videos":[{{"id":"{id}","title":"Video {id}"}}]}}"#)
}
