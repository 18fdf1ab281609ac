//! A history that is slow, fails, and is sometimes replaced: the real memory history behind a wrapper.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};

use async_trait::async_trait;
use futures_util::{StreamExt, stream, stream::BoxStream};
use video_notifier::{
    history::{Append, AppendError, Head, History, HistoryError, Page, Retention, Tailed, memory::MemoryHistory},
    position::{Epoch, Position},
    publication::Receipt,
};

use crate::{
    executor::pause,
    model::{Accepted, Truth},
    random::Random,
};

/// Cheap to clone; all clones are one store.
#[derive(Clone)]
pub struct Store {
    current: Arc<Mutex<(Epoch, MemoryHistory)>>,
    retention: Retention,
    random: Random,
    truth: Truth,
    /// Whether it may fail.
    faulty: Arc<AtomicBool>,
}

impl Store {
    pub fn new(retention: Retention, random: Random, truth: Truth) -> Self {
        let epoch = Epoch::from_seed(random.below(1 << 30) as u64);
        let history = MemoryHistory::with_epoch(epoch, retention);
        let current = Arc::new(Mutex::new((epoch, history)));
        Self { current, retention, random, truth, faulty: Arc::new(AtomicBool::new(true)) }
    }

    /// From now on nothing fails and the history stays.
    pub fn heal(&self) {
        self.faulty.store(false, Ordering::Relaxed);
    }

    /// Another history takes the place of this one, as after a failover that lost writes.
    pub fn replace(&self) {
        let epoch = Epoch::from_seed(self.random.below(1 << 30) as u64);
        *self.current.lock().unwrap() = (epoch, MemoryHistory::with_epoch(epoch, self.retention));
    }

    pub fn epoch(&self) -> Epoch {
        self.current.lock().unwrap().0
    }

    fn history(&self) -> (Epoch, MemoryHistory) {
        self.current.lock().unwrap().clone()
    }

    fn fails(&self) -> bool {
        self.faulty.load(Ordering::Relaxed) && self.random.once_in(12)
    }

    async fn answer<T>(&self, answer: Result<T, HistoryError>) -> Result<T, HistoryError> {
        pause(&self.random).await;
        if self.fails() { Err(HistoryError::Unavailable("simulated".into())) } else { answer }
    }

    /// Notes what retention has removed, so that the oracle knows at least what any client can know.
    async fn note_trimmed(&self, epoch: Epoch, history: &MemoryHistory) {
        let head = history.head().await.expect("memory answers");
        self.truth.trim(epoch, head.trimmed);
    }
}

#[async_trait]
impl History for Store {
    async fn append(&self, append: Append) -> Result<Receipt, AppendError> {
        pause(&self.random).await;
        let unavailable = || AppendError::Unavailable("simulated".into());
        if self.fails() {
            return Err(unavailable());
        }
        let (epoch, history) = self.history();
        let post = append.notification.count as usize;
        let receipt = history.append(append).await?;
        if !receipt.deduplicated {
            let offset = receipt.id.expect("an accepted post has a position").offset;
            self.truth.accept(epoch, Accepted { offset, region: receipt.region.clone(), post });
        }
        self.note_trimmed(epoch, &history).await;
        pause(&self.random).await;
        // Accepted, but the poster does not learn of it.
        if self.fails() { Err(unavailable()) } else { Ok(receipt) }
    }

    async fn head(&self) -> Result<Head, HistoryError> {
        pause(&self.random).await;
        let (epoch, history) = self.history();
        let head = history.head().await;
        self.note_trimmed(epoch, &history).await;
        self.answer(head).await
    }

    async fn read(&self, after: Position, limit: usize) -> Result<Page, HistoryError> {
        pause(&self.random).await;
        let (epoch, history) = self.history();
        let page = history.read(after, limit).await;
        self.note_trimmed(epoch, &history).await;
        self.answer(page).await
    }

    fn tail(&self, after: Position) -> BoxStream<'static, Result<Tailed, HistoryError>> {
        let (epoch, history) = self.history();
        let tail = history.tail(after);
        let store = self.clone();
        Box::pin(stream::unfold((store, history, tail), move |(store, history, mut tail)| async move {
            let tailed = tail.next().await?;
            store.note_trimmed(epoch, &history).await;
            let gone = store.epoch() != epoch;
            let answer = if gone { Err(HistoryError::Unavailable("replaced".into())) } else { tailed };
            let answer = store.answer(answer).await;
            Some((answer, (store, history, tail)))
        }))
    }
}
