//! The end of the process: from the signal to the last client.

use std::{future::Future, time::Duration};

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::{
    sync::CancellationToken,
    task::task_tracker::{TaskTracker, TaskTrackerToken},
};

/// Told to everyone who must end in good order, and knows whom to wait for. Cheap to clone.
#[derive(Clone, Default)]
pub struct Shutdown {
    started: CancellationToken,
    tasks: TaskTracker,
}

impl Shutdown {
    /// Starts to drain: no new connection, and those that are open end.
    pub fn start(&self) {
        self.started.cancel();
        self.tasks.close();
    }

    /// Whether the drain has started.
    pub fn is_draining(&self) -> bool {
        self.started.is_cancelled()
    }

    /// Returns once the drain has started.
    pub async fn started(&self) {
        self.started.cancelled().await;
    }

    /// Runs a task that the end waits for.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }

    /// The end waits until this is dropped: for what runs in a task that others spawned.
    pub fn hold(&self) -> TaskTrackerToken {
        self.tasks.token()
    }

    /// Waits for everybody, at most so long; answers how many were left.
    pub async fn drained(&self, patience: Duration) -> usize {
        let _ = tokio::time::timeout(patience, self.tasks.wait()).await;
        self.tasks.len()
    }
}

/// Listens for signals from now on; the future ends when the process is asked to end, with the signal's name.
///
/// # Panics
/// When the system takes no handler for SIGTERM or SIGINT.
pub fn signalled() -> impl Future<Output = &'static str> {
    let mut terminate = signal(SignalKind::terminate()).expect("a handler for SIGTERM");
    let mut interrupt = signal(SignalKind::interrupt()).expect("a handler for SIGINT");
    async move {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    }
}
