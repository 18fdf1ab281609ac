//! The log: lines on stderr, written by a thread of its own. Where nobody reads them they are dropped, and neither a
//! request nor a client nor the end waits.

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    io::{self, IsTerminal, Write, stderr},
    panic::{self, PanicHookInfo},
    sync::{Arc, OnceLock, mpsc},
    thread,
    time::Duration,
};

use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;

/// How many lines may wait to be written. More than come at once, and a megabyte or so where nobody reads.
const WAITING_LINES: usize = 4096;

/// How long the end waits until the last lines are written.
const PATIENCE: Duration = Duration::from_secs(1);

/// The log of the process; when this is dropped the last lines are written, if somebody reads them.
pub struct Logs(Option<WorkerGuard>);

/// Starts the log, which panics go to as well.
pub fn start(format: Option<LogFormat>) -> Logs {
    let dropped = Arc::<OnceLock<ErrorCounter>>::default();
    let stderr = Stderr { dropped: dropped.clone(), told: 0 };
    let (lines, guard) =
        NonBlockingBuilder::default().buffered_lines_limit(WAITING_LINES).thread_name("log").finish(stderr);
    let _ = dropped.set(lines.error_counter());

    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    // What fails in here would be told on stderr by whoever logs.
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(lines).log_internal_errors(false);
    let terminal = io::stderr().is_terminal();
    match format.unwrap_or(if terminal { LogFormat::Text } else { LogFormat::Json }) {
        LogFormat::Text => logs.with_target(false).with_ansi(terminal).init(),
        LogFormat::Json => logs.json().flatten_event(true).with_current_span(false).init(),
    }
    panic::set_hook(Box::new(log_panic));
    Logs(Some(guard))
}

/// Instead of the hook of Rust, by which whoever panics writes to stderr.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let text = panic.payload_as_str().unwrap_or("unknown");
    let location = panic.location().map(ToString::to_string);
    // Where RUST_BACKTRACE asks for it.
    let backtrace = Backtrace::capture();
    let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
    tracing::error!(panic = text, location, backtrace, "a fault of the server");
}

impl Drop for Logs {
    fn drop(&mut self) {
        let guard = self.0.take();
        let (written, is_written) = mpsc::channel::<()>();
        // Elsewhere: where lines can't be written in time, the guard says so on stdout, which nobody may read either.
        let end = move || {
            drop(guard);
            drop(written);
        };
        if thread::Builder::new().spawn(end).is_ok() {
            let _ = is_written.recv_timeout(PATIENCE);
        }
    }
}

/// What the thread of the log writes to.
struct Stderr {
    dropped: Arc<OnceLock<ErrorCounter>>,
    /// How many of those that were dropped the log has told of.
    told: usize,
}

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        stderr().write(bytes)
    }

    /// Comes when no line waits any more: so this is where others are missing, and there is room to say so.
    fn flush(&mut self) -> io::Result<()> {
        let dropped = self.dropped.get().map_or(0, ErrorCounter::dropped_lines);
        if dropped > self.told {
            tracing::warn!(lines = dropped - self.told, "nobody read the log: lines are missing here");
            self.told = dropped;
        }
        Ok(())
    }
}
