//! A real server process, and real clients to talk to it.

pub mod answer;
pub mod attacks;
pub mod blackout;
pub mod client;
pub mod frames;
pub mod mount;
pub mod process;
pub mod proxy;
pub mod random;
pub mod raw;
pub mod server;
pub mod strace;
pub mod witness;

pub use answer::Answer;
pub use client::{EventStream, Socket};
pub use mount::Mount;
pub use server::{Server, Setup};
pub use witness::Witness;

use serde_json::json;

/// Says that a test can't be made here. `tests/run`, which installs what is needed, takes no such excuse.
///
/// # Panics
/// Where `SKIP_NO_TEST` is set.
pub fn skip(needs: &str) {
    assert!(std::env::var_os("SKIP_NO_TEST").is_none(), "this needs {needs}");
    eprintln!("SKIPPED: this needs {needs}");
}

/// The body of a post: one video of that id.
pub fn post_body(region: &str, id: impl std::fmt::Display) -> String {
    format!(r#"{{"region":"{region}","videos":[{{"id":"{id}","title":"Video {id}"}}]}}"#)
}

/// One of nearly 8 KiB.
pub fn long_post(id: usize) -> String {
    let video = json!({"id": id, "title": "T", "filler": "x".repeat(7 * 1024)});
    json!({"region": "US", "videos": [video]}).to_string()
}
