//! Faults of ours that come up as panics: what one of them costs ends where it is contained.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
};

use futures_util::FutureExt;

#[cfg(panic = "abort")]
compile_error!("a panic has to cost one client, not the process: build with panic = \"unwind\"");

/// Does `work`. None where it panicked: that is logged, and what it was about to do is left as it is.
pub fn contain<T>(what: &str, work: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| report(what, &*panic)).ok()
}

/// As [`contain`], for what waits.
pub async fn contain_async<T>(what: &str, work: impl Future<Output = T>) -> Option<T> {
    AssertUnwindSafe(work).catch_unwind().await.map_err(|panic| report(what, &*panic)).ok()
}

fn report(what: &str, panic: &(dyn Any + Send)) {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("unknown");
    tracing::error!(panic = text, "{what} broke");
}
