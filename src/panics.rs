//! Contains panics, so that a fault of ours costs one client, one post or one retry, and never the process.

use std::panic::{AssertUnwindSafe, catch_unwind};

use futures_util::FutureExt;

#[cfg(panic = "abort")]
compile_error!("a panic has to cost one client, not the process: build with panic = \"unwind\"");

/// Does `work`. None where it panicked: that is logged, and what it was about to do is left as it is.
pub fn contain<T>(what: &str, work: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|_| report(what)).ok()
}

/// As [`contain`], for what waits.
pub async fn contain_async<T>(what: &str, work: impl Future<Output = T>) -> Option<T> {
    AssertUnwindSafe(work).catch_unwind().await.map_err(|_| report(what)).ok()
}

/// Tells what it cost; the hook ([`logs`](crate::logs)) has told what it was.
fn report(what: &str) {
    tracing::error!("{what} broke");
}
