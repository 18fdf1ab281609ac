//! `GET /healthz`: the process is alive. `GET /readyz`: it can serve.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::extract::State;
use tokio::sync::watch;

use crate::{
    history::{History, HistoryError},
    rejection::Rejection,
    shutdown::Shutdown,
};

/// How long the history may take to answer before the node is no longer ready.
const PATIENCE: Duration = Duration::from_secs(2);

/// Tells whether the history answers.
#[derive(Clone)]
pub struct Readiness {
    history: Arc<dyn History>,
    shutdown: Shutdown,
    /// The probe that was made last. It goes on when nobody waits for it any more.
    probe: Arc<Mutex<Option<Probe>>>,
}

/// What the history answers, once it does; closed then.
type Probe = watch::Receiver<Option<Result<(), HistoryError>>>;

impl Readiness {
    /// Ready while this history answers and this shutdown has not started.
    pub fn new(history: Arc<dyn History>, shutdown: Shutdown) -> Self {
        Self { history, shutdown, probe: Arc::default() }
    }

    /// Asks the history, together with all who ask meanwhile: each question may hold a thread and a connection to the
    /// database for as long as the disk takes, and anybody may ask.
    async fn probe(&self) -> Result<(), HistoryError> {
        let mut probe = self.running_probe();
        let answer = probe.wait_for(Option::is_some).await.ok().and_then(|answer| answer.clone());
        answer.unwrap_or_else(|| Err(HistoryError::Unavailable("the probe broke".into())))
    }

    fn running_probe(&self) -> Probe {
        let mut last = self.probe.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = last.as_ref().filter(|probe| probe.has_changed().is_ok()) {
            return running.clone();
        }
        let (answer, probe) = watch::channel(None);
        let history = self.history.clone();
        tokio::spawn(async move { answer.send_replace(Some(history.head().await.map(drop))) });
        last.insert(probe).clone()
    }
}

/// The process is alive.
pub async fn healthz() -> &'static str {
    "alive\n"
}

/// Ready when the history answers and the server is not about to end.
pub async fn readyz(State(readiness): State<Readiness>) -> Result<&'static str, Rejection> {
    if readiness.shutdown.is_draining() {
        return Err(Rejection::Draining);
    }
    tokio::time::timeout(PATIENCE, readiness.probe()).await.map_err(|_| Rejection::Unavailable)??;
    Ok("ready\n")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use async_trait::async_trait;
    use futures_util::{future::join_all, stream::BoxStream};
    use tokio::sync::Semaphore;

    use super::*;
    use crate::{
        history::{Append, AppendError, Head, Page, Tailed},
        position::{Epoch, Position},
        publication::Receipt,
    };

    /// A history that answers as often as it is let, and counts how often it was asked.
    struct Slow {
        answers: Semaphore,
        asked: AtomicUsize,
    }

    #[async_trait]
    impl History for Slow {
        async fn head(&self) -> Result<Head, HistoryError> {
            self.asked.fetch_add(1, Ordering::Relaxed);
            self.answers.acquire().await.expect("it is never closed").forget();
            let position = Position { epoch: Epoch::from_seed(0), offset: 0 };
            Ok(Head { position, trimmed: Default::default() })
        }

        async fn append(&self, _: Append) -> Result<Receipt, AppendError> {
            unreachable!("nobody posts")
        }

        async fn read(&self, _: Position, _: usize) -> Result<Page, HistoryError> {
            unreachable!("nobody reads")
        }

        fn tail(&self, _: Position) -> BoxStream<'static, Result<Tailed, HistoryError>> {
            unreachable!("nobody follows")
        }
    }

    #[tokio::test(start_paused = true)]
    async fn however_many_ask_one_probe_is_made_at_a_time() {
        let history = Arc::new(Slow { answers: Semaphore::new(0), asked: AtomicUsize::new(0) });
        let readiness = Readiness::new(history.clone(), Shutdown::default());
        let ask = async |times| {
            let answers = join_all((0..times).map(|_| readyz(State(readiness.clone())))).await;
            answers.iter().filter(|answer| answer.is_ok()).count()
        };
        // Nobody waits for longer than the patience, and what they asked goes on.
        for _ in 0..3 {
            assert_eq!((ask(60).await, history.asked.load(Ordering::Relaxed)), (0, 1));
        }
        history.answers.add_permits(1);
        assert_eq!((ask(60).await, history.asked.load(Ordering::Relaxed)), (60, 1));
        // What was answered says nothing of later.
        assert_eq!((ask(60).await, history.asked.load(Ordering::Relaxed)), (0, 2));
    }
}
