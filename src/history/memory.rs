//! A history in memory: for trying things out, for tests and the simulation, and where nothing may be written.
//!
//! Each start draws a new epoch, so clients of the last run are told that their position is lost.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use futures_util::stream::{self, BoxStream};
use tokio::sync::watch;

use super::{
    Append, AppendError, Clock, Head, History, HistoryError, IdempotencyKey, Page, Retention, Tailed, Trimmed,
};
use crate::{
    notification::Fingerprint,
    position::{Epoch, Offset, Position},
    publication::{Publication, Receipt, Timestamp},
};

/// See the module's documentation.
#[derive(Clone)]
pub struct MemoryHistory {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    /// Changes whenever the log does; tails wait for it.
    changed: watch::Sender<()>,
    retention: Retention,
    clock: Clock,
}

struct State {
    epoch: Epoch,
    head: Offset,
    /// In order, each with the clock's reading at its append.
    log: VecDeque<(u64, Publication)>,
    trimmed: Trimmed,
    receipts: Receipts,
}

/// What was answered, for as long as it may be asked again.
#[derive(Default)]
struct Receipts {
    /// In order of their time, which is the order in which they are forgotten.
    by_age: VecDeque<(u64, Fingerprint, Option<IdempotencyKey>)>,
    by_key: HashMap<IdempotencyKey, (Fingerprint, Receipt)>,
    by_fingerprint: HashMap<Fingerprint, VecDeque<(u64, Receipt)>>,
}

impl MemoryHistory {
    /// An empty history of an epoch of its own.
    pub fn new(retention: Retention) -> Self {
        Self::with_epoch(Epoch::draw(), retention)
    }

    /// A history whose epoch is given, for tests that must be repeatable.
    pub fn with_epoch(epoch: Epoch, retention: Retention) -> Self {
        let state =
            State { epoch, head: 0, log: VecDeque::new(), trimmed: Trimmed::default(), receipts: Receipts::default() };
        Self {
            shared: Arc::new(Shared {
                state: Mutex::new(state),
                changed: watch::Sender::new(()),
                retention,
                clock: Clock::starting_after(0),
            }),
        }
    }

    /// Removes what retention no longer keeps. Runs before every answer, so that age needs no timer of its own.
    fn trimmed_state(&self) -> MutexGuard<'_, State> {
        let Shared { state, changed, retention, clock } = &*self.shared;
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.trim(clock.millis(), retention) {
            changed.send_replace(());
        }
        state
    }
}

#[async_trait]
impl History for MemoryHistory {
    async fn append(&self, append: Append) -> Result<Receipt, AppendError> {
        let Append { notification, key, subscribers } = append;
        let Shared { changed, retention, clock, .. } = &*self.shared;
        let now = clock.millis();
        let mut state = self.trimmed_state();
        let fingerprint = notification.fingerprint;
        if let Some(receipt) = state.receipts.find(&fingerprint, key.as_ref(), now, retention)? {
            return Ok(Receipt { deduplicated: true, ..receipt });
        }

        state.head += 1;
        let publication = Publication {
            position: Position { epoch: state.epoch, offset: state.head },
            region: notification.region,
            count: notification.count,
            videos: notification.videos,
            timestamp: Timestamp::now(),
        };
        let receipt = Receipt {
            id: Some(publication.position),
            region: publication.region.clone(),
            count: publication.count,
            timestamp: publication.timestamp,
            deduplicated: false,
            subscribers,
        };
        state.log.push_back((now, publication));
        state.receipts.remember(fingerprint, key, &receipt, now);
        state.trim(now, retention);
        changed.send_replace(());
        Ok(receipt)
    }

    async fn head(&self) -> Result<Head, HistoryError> {
        let state = self.trimmed_state();
        Ok(Head { position: Position { epoch: state.epoch, offset: state.head }, trimmed: state.trimmed.clone() })
    }

    async fn read(&self, after: Position, limit: usize) -> Result<Page, HistoryError> {
        let state = self.trimmed_state();
        if after.epoch != state.epoch || after.offset > state.head {
            return Err(HistoryError::PositionLost);
        }
        let start = state.log.partition_point(|(_, publication)| publication.position.offset <= after.offset);
        let publications = state.log.range(start..).take(limit).map(|(_, publication)| publication.clone()).collect();
        Ok(Page { publications, trimmed: state.trimmed.clone() })
    }

    fn tail(&self, after: Position) -> BoxStream<'static, Result<Tailed, HistoryError>> {
        /// How often age is looked at while nobody asks for anything.
        const TRIM_INTERVAL: Duration = Duration::from_secs(1);

        let changed = self.shared.changed.subscribe();
        tail_by_reading(self.clone(), after, changed, TRIM_INTERVAL)
    }
}

/// Tails a history that can be read and that tells when it changed.
///
/// At least every `trim_interval` it is read all the same, so that what has become too old is told.
pub(super) fn tail_by_reading<H: History>(
    history: H,
    after: Position,
    changed: watch::Receiver<()>,
    trim_interval: Duration,
) -> BoxStream<'static, Result<Tailed, HistoryError>> {
    const PAGE: usize = 100;

    struct Tail<H> {
        history: H,
        position: Position,
        changed: watch::Receiver<()>,
        told: Trimmed,
        page: VecDeque<Publication>,
        failed: bool,
    }

    let tail =
        Tail { history, position: after, changed, told: Trimmed::default(), page: VecDeque::new(), failed: false };
    let stream = stream::unfold(tail, move |mut tail| async move {
        if tail.failed {
            return None;
        }
        loop {
            if let Some(publication) = tail.page.pop_front() {
                tail.position = publication.position;
                return Some((Ok(Tailed::Published(publication)), tail));
            }
            // Before the read: a change during it is then seen by the next wait.
            tail.changed.mark_unchanged();
            match tail.history.read(tail.position, PAGE).await {
                Ok(page) => {
                    tail.page = page.publications.into();
                    if page.trimmed != tail.told {
                        tail.told = page.trimmed.clone();
                        return Some((Ok(Tailed::Trimmed(page.trimmed)), tail));
                    }
                    if tail.page.is_empty() {
                        // A sender that is gone changes nothing any more; only the interval is left then.
                        let changed = async {
                            if tail.changed.changed().await.is_err() {
                                std::future::pending::<()>().await;
                            }
                        };
                        let _ = tokio::time::timeout(trim_interval, changed).await;
                    }
                }
                Err(error) => {
                    tail.failed = true;
                    return Some((Err(error), tail));
                }
            }
        }
    });
    Box::pin(stream)
}

impl State {
    /// Whether anything was removed.
    fn trim(&mut self, now: u64, retention: &Retention) -> bool {
        let oldest = now.saturating_sub(retention.max_age.as_millis() as u64);
        let mut removed = false;
        while let Some((at, publication)) = self.log.front() {
            if self.log.len() <= retention.max_count && *at >= oldest {
                break;
            }
            self.trimmed.note(&publication.region, publication.position.offset);
            self.log.pop_front();
            removed = true;
        }
        removed
    }
}

impl Receipts {
    /// The receipt of an equal post, if one is remembered.
    fn find(
        &mut self,
        fingerprint: &Fingerprint,
        key: Option<&IdempotencyKey>,
        now: u64,
        retention: &Retention,
    ) -> Result<Option<Receipt>, AppendError> {
        self.forget_before(now.saturating_sub(retention.receipt_lifetime().as_millis() as u64));
        let Some(key) = key else {
            let window = now.saturating_sub(retention.dedup_window.as_millis() as u64);
            let equal = self.by_fingerprint.get(fingerprint).into_iter().flatten();
            return Ok(equal.into_iter().find(|(at, _)| *at > window).map(|(_, receipt)| receipt.clone()));
        };
        match self.by_key.get(key) {
            Some((known, receipt)) if known == fingerprint => Ok(Some(receipt.clone())),
            Some(_) => Err(AppendError::KeyReused),
            None => Ok(None),
        }
    }

    fn remember(&mut self, fingerprint: Fingerprint, key: Option<IdempotencyKey>, receipt: &Receipt, now: u64) {
        if let Some(key) = &key {
            self.by_key.insert(key.clone(), (fingerprint, receipt.clone()));
        }
        self.by_fingerprint.entry(fingerprint).or_default().push_back((now, receipt.clone()));
        self.by_age.push_back((now, fingerprint, key));
    }

    fn forget_before(&mut self, oldest: u64) {
        while self.by_age.front().is_some_and(|(at, ..)| *at <= oldest) {
            let (_, fingerprint, key) = self.by_age.pop_front().expect("there is a front");
            if let Some(key) = key {
                self.by_key.remove(&key);
            }
            if let Some(equal) = self.by_fingerprint.get_mut(&fingerprint) {
                equal.pop_front();
                if equal.is_empty() {
                    self.by_fingerprint.remove(&fingerprint);
                }
            }
        }
    }
}
