//! The append-only log of publications: the trait, and what its backends share.
//!
//! The handler of a post only appends; the hub only tails. The caller keeps the position, so a store that was
//! away heals by being tailed again. To add a backend, implement [`History`] and run the suite in
//! `tests/it/history.rs` against it.

pub mod memory;
pub mod sqlite;

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use tokio::time::Instant;

use crate::{
    notification::Notification,
    position::{Epoch, Offset, Position},
    publication::{Publication, Receipt, Timestamp},
    region::{Region, Regions},
};

/// A log of publications in one total order.
#[async_trait]
pub trait History: Send + Sync + 'static {
    /// Accepts a notification, or finds that it was accepted before, as one atomic step. Returns once it is durable.
    ///
    /// # Errors
    /// When the key came with another notification, or the store does not take it: then nothing was published, unless the log
    /// kept what it could not confirm; the same post again tells.
    async fn append(&self, append: Append) -> Result<Receipt, AppendError>;

    /// Where the history ends, and what it no longer has.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn head(&self) -> Result<Head, HistoryError>;

    /// The oldest publications after a position, at most `limit`, with what had been trimmed at that moment.
    ///
    /// # Errors
    /// `HistoryError::PositionLost` when the position is of another epoch or above the head.
    async fn read(&self, after: Position, limit: usize) -> Result<Page, HistoryError>;

    /// The publications at these offsets, which had one each, without those that are gone.
    ///
    /// # Errors
    /// `HistoryError::PositionLost` when the epoch is another.
    async fn find(&self, epoch: Epoch, offsets: &[Offset]) -> Result<Vec<Publication>, HistoryError> {
        let mut found = Vec::new();
        for offset in offsets {
            let page = self.read(Position { epoch, offset: offset - 1 }, 1).await?;
            found.extend(page.publications.into_iter().filter(|it| it.position.offset == *offset));
        }
        Ok(found)
    }

    /// All that happens after a position, for as long as it is polled; the stream ends with its first error.
    fn tail(&self, after: Position) -> BoxStream<'static, Result<Tailed, HistoryError>>;
}

/// What is to be appended.
#[derive(Debug, Clone)]
pub struct Append {
    pub notification: Notification,
    /// The poster's `Idempotency-Key`, if it gave one.
    pub key: Option<IdempotencyKey>,
    /// What the receipt will say of this node's clients, kept with it so that a repeated answer is the same.
    pub subscribers: u64,
}

/// The value of an `Idempotency-Key` header: 1 to 255 visible ASCII characters, compared byte by byte.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct IdempotencyKey(String);

impl IdempotencyKey {
    /// The longest key, in bytes.
    pub const MAX_LENGTH: usize = 255;

    /// The key, unless it is empty, too long or has other than visible ASCII characters.
    pub fn new(key: &str) -> Option<Self> {
        let fits = (1..=Self::MAX_LENGTH).contains(&key.len()) && key.bytes().all(|letter| letter.is_ascii_graphic());
        fits.then(|| Self(key.to_owned()))
    }

    /// As it was sent.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The end of a history.
#[derive(Debug, Clone)]
pub struct Head {
    /// The last publication's position, or where the first will follow.
    pub position: Position,
    pub trimmed: Trimmed,
}

/// A stretch of a history.
#[derive(Debug, Clone)]
pub struct Page {
    /// In order, without those that had been trimmed.
    pub publications: Vec<Publication>,
    pub trimmed: Trimmed,
}

/// What a tail tells.
#[derive(Debug, Clone)]
pub enum Tailed {
    Published(Publication),
    /// Retention went on. Told before any publication that lies beyond what was trimmed unseen.
    Trimmed(Trimmed),
}

/// For each region the highest offset that retention has removed. It outlives the publications, since it proves
/// to a client that comes back whether it missed one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trimmed(BTreeMap<Region, Offset>);

impl Trimmed {
    /// Notes that a publication of `region` was removed.
    pub fn note(&mut self, region: &Region, offset: Offset) {
        match self.0.get_mut(region) {
            Some(mark) => *mark = offset.max(*mark),
            None => drop(self.0.insert(region.clone(), offset)),
        }
    }

    /// Whether the publication at `offset` is gone.
    pub fn covers(&self, region: &Region, offset: Offset) -> bool {
        self.0.get(region).is_some_and(|mark| offset <= *mark)
    }

    /// The highest offset that is gone, 0 where none is.
    pub fn highest(&self) -> Offset {
        self.0.values().copied().max().unwrap_or(0)
    }

    /// Whether something of these regions after `position` is gone.
    pub fn reaches_past(&self, position: Offset, regions: &Regions) -> bool {
        match regions {
            Regions::All => self.highest() > position,
            Regions::Only(names) => names.iter().any(|name| self.0.get(name).is_some_and(|mark| *mark > position)),
        }
    }
}

/// How long publications are kept. Both bounds hold.
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    /// At most so many publications; at least 1.
    pub max_count: usize,
    /// None older than this.
    pub max_age: Duration,
    /// How long a post without a key is compared with earlier ones.
    pub dedup_window: Duration,
}

impl Retention {
    /// How long an idempotency key is remembered, whatever else is kept.
    pub const KEY_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

    /// How long any receipt may still be asked for.
    pub fn receipt_lifetime(&self) -> Duration {
        self.dedup_window.max(Self::KEY_LIFETIME)
    }
}

/// Why a history could not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HistoryError {
    /// The store does not answer; ask again.
    #[error("the history is unavailable: {0}")]
    Unavailable(String),
    /// The position is not of this history.
    #[error("the position is of another epoch or above the head")]
    PositionLost,
}

/// Why a notification was not appended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The key came with another notification before.
    #[error("the idempotency key was used for another notification")]
    KeyReused,
    /// Nothing is known to be durable; post again.
    #[error("the history is unavailable: {0}")]
    Unavailable(String),
}

/// Measures windows and ages, in milliseconds: wall time that never steps back, whatever happens to the wall clock.
#[derive(Debug)]
pub struct Clock {
    start: Instant,
    offset_millis: u64,
}

impl Clock {
    /// Starts at the wall clock's time, or at `latest`, the last reading of an earlier run, if that is later.
    pub fn starting_after(latest: u64) -> Self {
        let wall = Timestamp::now().as_millis().unsigned_abs();
        Self { start: Instant::now(), offset_millis: wall.max(latest) }
    }

    /// Milliseconds since 1970 by the wall clock of the start, and from there by one that never steps.
    pub fn millis(&self) -> u64 {
        self.offset_millis + self.start.elapsed().as_millis() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trimmed_remembers_the_highest_offset_of_each_region() {
        let [us, gb]: [Region; 2] = ["US", "GB"].map(|name| name.parse().unwrap());
        let mut trimmed = Trimmed::default();
        trimmed.note(&us, 7);
        trimmed.note(&us, 3);
        assert!(trimmed.covers(&us, 7) && !trimmed.covers(&us, 8) && !trimmed.covers(&gb, 1));
        assert!(trimmed.reaches_past(6, &Regions::All) && !trimmed.reaches_past(7, &Regions::All));
        assert!(!trimmed.reaches_past(0, &Regions::Only([gb].into())));
    }

    #[test]
    fn a_key_is_visible_ascii() {
        assert!(IdempotencyKey::new("fetch-2026-11-24T08:00Z/US").is_some());
        for key in ["", "a b", "é", "a\n", &"x".repeat(256)] {
            assert!(IdempotencyKey::new(key).is_none(), "{key:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_clock_starts_after_the_last_run_and_goes_on() {
        let future = Timestamp::now().as_millis() as u64 + 1_000_000;
        let clock = Clock::starting_after(future);
        tokio::time::advance(Duration::from_millis(1500)).await;
        assert_eq!(clock.millis(), future + 1500);
    }
}
