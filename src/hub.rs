//! Fan-out within the process: one task tails the history into one broadcast channel and keeps the newest
//! publications, encoded, for those who come back or fall behind.
//!
//! A node that did not take a post learns of it like the one that did. Whoever reads here has a position of its
//! own, so a slow client costs a number, not a buffer. What each reads is up to its
//! [`Subscription`](crate::subscription::Subscription).

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
    sync::{
        Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::StreamExt;
use tokio::{
    sync::{Notify, Semaphore, broadcast, watch},
    time::Instant,
};

use crate::{
    history::{Head, History, HistoryError, Page, Tailed, Trimmed},
    metrics::Metrics,
    panics::contain_async,
    position::{Epoch, Offset, Position},
    protocol::{Frame, Message, Pace},
    publication::Publication,
    region::{Region, Regions},
};

/// How many publications the broadcast holds for those who are a moment late. Who is later reads the window.
const BROADCAST_CAPACITY: usize = 1024;

/// How much of the encoded history stays in memory, in bytes.
const WINDOW_BYTES: usize = 32 * 1024 * 1024;

/// How many subscriptions may read the store at a time; the others wait, and their positions with them.
const READERS: usize = 4;

/// How many reads for `/notifications` may run at a time; counted apart, so that neither kind waits for the other.
const LIST_READERS: usize = 2;

/// How many publications of a list are read at a time: whoever takes a list slowly has no more of it held for it.
const LIST_PAGE: usize = 8;

/// How long such a read may take, with the wait for it.
const LIST_PATIENCE: Duration = Duration::from_secs(5);

/// How many publications a client that is behind gets at a time from memory, where they are shared.
const FOUND_AT_ONCE: usize = 64;

/// How many publications one read of the store brings; what is read is held until it is written.
const PAGE: usize = 16;

/// How long the pace that clients are told may be behind the number of clients.
const PACE_LIFETIME: Duration = Duration::from_secs(1);

/// How long a publication's fan-out is watched before its line is logged all the same.
const FAN_OUT_WATCH: Duration = Duration::from_secs(1);

/// What the hub needs to know.
#[derive(Debug, Clone)]
pub struct HubOptions {
    /// The most publications that a client is caught up on; one that missed more is told of a gap.
    pub replay_max: usize,
    /// Requests per second that the clients together may send to the site after a publication.
    pub refetch_rate: u64,
    /// Handshakes per second that the clients together may make after a restart.
    pub reconnect_rate: u64,
    /// How much of the encoded history stays in memory, in bytes; older publications are read from the store.
    pub window_bytes: usize,
    /// How many events the broadcast channel holds.
    pub broadcast_capacity: usize,
}

impl Default for HubOptions {
    fn default() -> Self {
        Self {
            replay_max: 1000,
            refetch_rate: 1000,
            reconnect_rate: 2000,
            window_bytes: WINDOW_BYTES,
            broadcast_capacity: BROADCAST_CAPACITY,
        }
    }
}

/// See the module's documentation.
pub struct Hub {
    history: Arc<dyn History>,
    options: HubOptions,
    pub metrics: Arc<Metrics>,
    sender: broadcast::Sender<Event>,
    window: RwLock<Window>,
    readers: Semaphore,
    list_readers: Arc<Semaphore>,
    subscribers: Mutex<Subscribers>,
    heartbeat: Mutex<Heartbeat>,
    /// Changes with the head.
    moved: watch::Sender<()>,
}

/// What travels over the broadcast channel.
#[derive(Debug, Clone)]
pub enum Event {
    Published(Arc<Published>),
    /// Retention removed publications that were never broadcast.
    Trimmed(Arc<Trimmed>),
    /// The history is another one; nobody's position means anything any more.
    Reset,
}

/// A publication ready to be sent.
#[derive(Debug)]
pub struct Published {
    pub position: Position,
    pub region: Region,
    pub frame: Frame,
    fan_out: FanOut,
}

/// Watches one publication on its way to the clients.
#[derive(Debug)]
struct FanOut {
    start: Instant,
    expected: u64,
    handed: AtomicU64,
    complete: Notify,
}

impl Published {
    fn new(publication: &Publication, expected: u64) -> Self {
        Self {
            position: publication.position,
            region: publication.region.clone(),
            frame: Frame::publication(publication),
            fan_out: FanOut { start: Instant::now(), expected, handed: AtomicU64::new(0), complete: Notify::new() },
        }
    }

    /// One where nothing else of it matters.
    #[cfg(test)]
    pub fn of(region: Region, position: Position) -> Self {
        let timestamp = crate::publication::Timestamp::now();
        Self::new(&Publication { position, region, count: 0, videos: "[]".into(), timestamp }, 0)
    }

    /// So many clients' sockets have taken it.
    pub fn handed_over(&self, clients: u64) {
        let FanOut { expected, handed, complete, .. } = &self.fan_out;
        let before = handed.fetch_add(clients, Ordering::Relaxed);
        if before < *expected && before + clients >= *expected {
            complete.notify_one();
        }
    }

    /// Logs the publication once all clients have it, or after a while.
    async fn report(self: Arc<Self>, metrics: Arc<Metrics>) {
        let FanOut { start, expected, handed, complete } = &self.fan_out;
        if *expected > 0 {
            let _ = tokio::time::timeout(FAN_OUT_WATCH, complete.notified()).await;
        }
        let took = start.elapsed();
        metrics.fanned_out(took);
        tracing::info!(
            position = %self.position,
            region = %self.region,
            subscribers = expected,
            handed = handed.load(Ordering::Relaxed),
            took_us = took.as_micros() as u64,
            "published"
        );
    }
}

impl Hub {
    /// Reads the history up to its head. The hub then waits for [`Hub::run`].
    ///
    /// # Errors
    /// When the history does not answer.
    pub async fn open(
        history: Arc<dyn History>,
        options: HubOptions,
        metrics: Arc<Metrics>,
    ) -> Result<Arc<Self>, HistoryError> {
        let window = Window::load(&*history, options.window_bytes).await?;
        Ok(Arc::new(Self {
            history,
            metrics,
            sender: broadcast::Sender::new(options.broadcast_capacity),
            window: RwLock::new(window),
            readers: Semaphore::new(READERS),
            list_readers: Arc::new(Semaphore::new(LIST_READERS)),
            subscribers: Mutex::default(),
            heartbeat: Mutex::default(),
            moved: watch::Sender::new(()),
            options,
        }))
    }

    /// Follows the history, for ever. An outage of the store, or a fault of ours, heals by tailing again from the hub's
    /// own position.
    pub async fn run(self: Arc<Self>) {
        const FIRST_PAUSE: Duration = Duration::from_millis(100);
        const LONGEST_PAUSE: Duration = Duration::from_secs(5);

        let mut pause = FIRST_PAUSE;
        loop {
            let follow = async {
                let mut tail = self.history.tail(self.head());
                loop {
                    match tail.next().await {
                        Some(Ok(tailed)) => {
                            self.take(tailed);
                            pause = FIRST_PAUSE;
                        }
                        Some(Err(error)) => break error,
                        None => break HistoryError::Unavailable("the tail ended".into()),
                    }
                }
            };
            let ended = contain_async("the hub", follow).await;
            let error = ended.unwrap_or_else(|| HistoryError::Unavailable("the hub broke".into()));
            tracing::warn!(%error, "the history can't be followed");
            if error == HistoryError::PositionLost {
                match Window::load(&*self.history, self.options.window_bytes).await {
                    Ok(window) => {
                        *self.window_mut() = window;
                        let _ = self.sender.send(Event::Reset);
                        continue;
                    }
                    Err(error) => tracing::warn!(%error, "the new history can't be read"),
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn take(&self, tailed: Tailed) {
        match tailed {
            Tailed::Published(publication) => {
                let published = Arc::new(Published::new(&publication, self.subscribers(&publication.region)));
                // Into the window first: a subscription that starts between the two finds it there, and drops
                // what the channel then brings again.
                self.window_mut().push(published.clone());
                let _ = self.sender.send(Event::Published(published.clone()));
                self.moved.send_replace(());
                self.metrics.published(&published.region);
                tokio::spawn(published.report(self.metrics.clone()));
            }
            Tailed::Trimmed(trimmed) => {
                let mut window = self.window_mut();
                let unseen = trimmed.highest() > window.head.offset;
                window.trim(&trimmed);
                drop(window);
                if unseen {
                    let _ = self.sender.send(Event::Trimmed(Arc::new(trimmed)));
                }
            }
        }
    }

    /// Everything that is published from now on; to be asked for before [`Hub::start`], so that nothing is between.
    pub fn receive(&self) -> broadcast::Receiver<Event> {
        self.sender.subscribe()
    }

    /// Starts a client: right after `since` where that can be proven, else with what comes next.
    pub fn start(self: &Arc<Self>, regions: Regions, since: Option<&str>) -> Start {
        let regions = self.lock_subscribers().add(regions);
        let since = since.filter(|since| !since.is_empty());
        let window = self.window();
        let resumed = since.map(|since| window.resume(since, &regions, self.options.replay_max));
        let (position, missed) = resumed.flatten().unwrap_or((window.head, 0));
        drop(window);
        let recovered = resumed.map(|resumed| resumed.is_some());
        Start { position, recovered, missed, subscriber: Subscriber { hub: self.clone(), regions } }
    }

    /// Returns once the hub has seen a position, or after a while: what its poster asks next is then answered with it.
    pub async fn seen(&self, position: Position) {
        const PATIENCE: Duration = Duration::from_secs(1);

        let mut moved = self.moved.subscribe();
        let reached = |head: Position| head.epoch == position.epoch && head.offset >= position.offset;
        let wait = async { while !reached(self.head()) && moved.changed().await.is_ok() {} };
        let _ = tokio::time::timeout(PATIENCE, wait).await;
    }

    /// The last position that the hub has seen.
    pub fn head(&self) -> Position {
        self.window().head
    }

    /// This node's subscriptions that include a region.
    pub fn subscribers(&self, region: &Region) -> u64 {
        self.lock_subscribers().of(region)
    }

    /// How the clients of this node should spread what they do.
    pub fn pace(&self) -> Pace {
        let mut heartbeat = self.heartbeat.lock().unwrap_or_else(PoisonError::into_inner);
        heartbeat.pace(|| self.measure_pace())
    }

    /// From now on the pace is that of all who are connected now: as they leave, those who are told later would
    /// otherwise be told to come back sooner, on top of the others.
    pub fn keep_pace(&self) {
        let mut heartbeat = self.heartbeat.lock().unwrap_or_else(PoisonError::into_inner);
        heartbeat.keep_pace(|| self.measure_pace());
    }

    fn measure_pace(&self) -> Pace {
        let clients = self.lock_subscribers().total;
        Pace::of(clients, self.options.refetch_rate, self.options.reconnect_rate)
    }

    /// The heartbeat for a subscription that stands at `position`: encoded once for all that are up to date.
    pub fn heartbeat(&self, position: Position) -> Frame {
        let mut heartbeat = self.heartbeat.lock().unwrap_or_else(PoisonError::into_inner);
        let pace = heartbeat.pace(|| self.measure_pace());
        match &heartbeat.frame {
            Some((encoded, frame)) if *encoded == (position, pace) => frame.clone(),
            _ => {
                let frame = Frame::with_ping(&Message::Heartbeat { position, pace }, position);
                heartbeat.frame = Some(((position, pace), frame.clone()));
                frame
            }
        }
    }

    /// What a subscription that is behind gets next: publications in memory go into `found`.
    pub fn next_after(&self, position: Position, regions: &Regions, found: &mut Vec<Arc<Published>>) -> NextAfter {
        self.window().next_after(position, regions, found)
    }

    /// Reads publications from the store that are no longer in memory: a page of them.
    ///
    /// # Errors
    /// When the store does not answer, or the position is not of its history.
    pub async fn read(&self, after: Position) -> Result<Page, HistoryError> {
        let _permit = self.readers.acquire().await.expect("the semaphore is never closed");
        self.history.read(after, PAGE).await
    }

    /// Looks for the newest publications of these regions below `before`, newest first, at most `limit`.
    pub fn recent(&self, regions: &Regions, before: Option<Position>, limit: usize) -> Recent {
        let window = self.window();
        let before = before.filter(|before| before.epoch == window.head.epoch).map_or(Offset::MAX, |it| it.offset);
        let entries = window.newest_below(before, regions, limit).into_iter().cloned().collect();
        Recent { entries, head: window.head }
    }

    /// The next few of what was found, encoded; what is no longer in memory is read, and left out where it was trimmed
    /// meanwhile.
    ///
    /// # Errors
    /// When something can't be read, or not in time.
    pub async fn load(&self, recent: &mut Recent) -> Result<Vec<Frame>, HistoryError> {
        let page: Vec<Entry> = recent.entries.drain(..LIST_PAGE.min(recent.count())).collect();
        let in_store = page.iter().filter(|entry| entry.published.is_none()).map(|entry| entry.offset);
        let in_store: Vec<Offset> = in_store.collect();
        let read = if in_store.is_empty() { Vec::new() } else { self.find(recent.head.epoch, in_store).await? };
        let frame = |entry: &Entry| match &entry.published {
            Some(published) => Some(published.frame.clone()),
            None => read.iter().find(|it| it.position.offset == entry.offset).map(Frame::publication),
        };
        Ok(page.iter().filter_map(frame).collect())
    }

    /// Reads publications for one who asks for a list and may not wait for the answer.
    async fn find(&self, epoch: Epoch, offsets: Vec<Offset>) -> Result<Vec<Publication>, HistoryError> {
        let (history, places) = (self.history.clone(), self.list_readers.clone());
        let read = async {
            let place = places.acquire_owned().await.expect("the semaphore is never closed");
            // A read goes on when nobody waits for it any more, and keeps its place until it has ended.
            tokio::spawn(async move {
                let _place = place;
                history.find(epoch, &offsets).await
            })
            .await
        };
        let read = tokio::time::timeout(LIST_PATIENCE, read).await;
        let read = read.map_err(|_| HistoryError::Unavailable("it takes too long to read".into()))?;
        read.map_err(|error| HistoryError::Unavailable(error.to_string()))?
    }

    fn window(&self) -> RwLockReadGuard<'_, Window> {
        self.window.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn window_mut(&self) -> RwLockWriteGuard<'_, Window> {
        self.window.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_subscribers(&self) -> std::sync::MutexGuard<'_, Subscribers> {
        self.subscribers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Recent publications that were found, some perhaps no longer in memory; [`Hub::load`] takes them out.
pub struct Recent {
    entries: VecDeque<Entry>,
    /// Where a subscription goes on after them.
    pub head: Position,
}

impl Recent {
    /// How many are left.
    pub fn count(&self) -> usize {
        self.entries.len()
    }
}

/// Where a client starts.
pub struct Start {
    pub position: Position,
    /// `true`: everything after the client's `since` follows. `false`: that can't be proven, and nothing old follows.
    /// `None`: the client gave no `since`.
    pub recovered: Option<bool>,
    /// How many publications follow that were there before.
    pub missed: usize,
    pub subscriber: Subscriber,
}

/// One who counts among the subscribers of its regions until this is dropped.
pub struct Subscriber {
    hub: Arc<Hub>,
    regions: Regions,
}

impl Subscriber {
    pub fn regions(&self) -> &Regions {
        &self.regions
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.hub.lock_subscribers().remove(&self.regions);
    }
}

/// What follows a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextAfter {
    /// The next publications of the regions are in memory, and were found.
    Found,
    /// It has to be read from the store, right after a position; the hub itself knows of nothing beyond its head.
    InStore { after: Position, head: Position },
    /// Nothing up to the head.
    UpToDate(Position),
    /// Something after the position is gone, or it is of another history.
    Lost,
}

/// Every retained publication by offset and region, the newest with their encoded bytes.
#[derive(Debug)]
struct Window {
    head: Position,
    trimmed: Trimmed,
    entries: VecDeque<Entry>,
    /// The offsets of each region that has any. Strangers choose what is looked for: to look for regions that have
    /// little, or nothing, must not be to look at all of it.
    by_region: HashMap<Region, VecDeque<Offset>>,
    /// How many of the entries, from the oldest, have lost their bytes.
    dropped: usize,
    bytes: usize,
    max_bytes: usize,
}

#[derive(Debug, Clone)]
struct Entry {
    offset: Offset,
    region: Region,
    published: Option<Arc<Published>>,
}

impl Window {
    async fn load(history: &dyn History, max_bytes: usize) -> Result<Self, HistoryError> {
        const PAGE: usize = 500;

        let Head { position, trimmed } = history.head().await?;
        let mut window = Self {
            head: Position { offset: 0, ..position },
            trimmed,
            entries: VecDeque::new(),
            by_region: HashMap::new(),
            dropped: 0,
            bytes: 0,
            max_bytes,
        };
        while window.head.offset < position.offset {
            let page = history.read(window.head, PAGE).await?;
            window.trim(&page.trimmed);
            if page.publications.is_empty() {
                break;
            }
            for publication in &page.publications {
                window.push(Arc::new(Published::new(publication, 0)));
            }
        }
        // Trimmed publications may have stood between the last that is left and the head.
        window.head.offset = window.head.offset.max(position.offset);
        Ok(window)
    }

    fn push(&mut self, published: Arc<Published>) {
        self.head = published.position;
        self.bytes += published.frame.size();
        let region = published.region.clone();
        self.by_region.entry(region.clone()).or_default().push_back(self.head.offset);
        self.entries.push_back(Entry { offset: self.head.offset, region, published: Some(published) });
        while self.bytes > self.max_bytes
            && let Some(entry) = self.entries.get_mut(self.dropped)
        {
            self.bytes -= entry.published.take().map_or(0, |published| published.frame.size());
            self.dropped += 1;
        }
    }

    /// Forgets what the history no longer has, so that everybody is told the same.
    fn trim(&mut self, trimmed: &Trimmed) {
        while let Some(entry) = self.entries.front()
            && trimmed.covers(&entry.region, entry.offset)
        {
            self.bytes -= entry.published.as_ref().map_or(0, |published| published.frame.size());
            self.dropped = self.dropped.saturating_sub(1);
            let offsets = self.by_region.get_mut(&entry.region).expect("each entry is noted by its region");
            offsets.pop_front();
            if offsets.is_empty() {
                self.by_region.remove(&entry.region);
            }
            self.entries.pop_front();
        }
        self.trimmed = trimmed.clone();
        // Past what was trimmed unseen: a subscription that starts now must not start before it.
        self.head.offset = self.head.offset.max(trimmed.highest());
    }

    /// The position that `since` names, if everything of these regions after it can follow; and how much that is.
    fn resume(&self, since: &str, regions: &Regions, replay_max: usize) -> Option<(Position, usize)> {
        let since: Position = since.parse().ok()?;
        let known = since.epoch == self.head.epoch && since.offset <= self.head.offset;
        if !known || self.trimmed.reaches_past(since.offset, regions) {
            return None;
        }
        let missed = self.count_after(since.offset, regions);
        (missed <= replay_max).then_some((since, missed))
    }

    fn next_after(&self, position: Position, regions: &Regions, found: &mut Vec<Arc<Published>>) -> NextAfter {
        found.clear();
        if position.epoch != self.head.epoch || self.trimmed.reaches_past(position.offset, regions) {
            return NextAfter::Lost;
        }
        for entry in self.oldest_after(position.offset, regions, FOUND_AT_ONCE) {
            match &entry.published {
                Some(published) => found.push(published.clone()),
                // Bytes go from the oldest on, so this is the first, unless the history is at odds with itself.
                None if found.is_empty() => {
                    let after = Position { offset: entry.offset - 1, ..position };
                    return NextAfter::InStore { after, head: self.head };
                }
                None => break,
            }
        }
        if found.is_empty() { NextAfter::UpToDate(self.head) } else { NextAfter::Found }
    }

    /// How many are of these regions after an offset.
    fn count_after(&self, offset: Offset, regions: &Regions) -> usize {
        match regions {
            Regions::All => self.entries.len() - self.place_after(offset),
            Regions::Only(names) => {
                let of_each = names.iter().filter_map(|name| self.by_region.get(name));
                of_each.map(|offsets| offsets.len() - offsets.partition_point(|it| *it <= offset)).sum()
            }
        }
    }

    /// Those of these regions after an offset, oldest first, at most `limit`.
    fn oldest_after(&self, offset: Offset, regions: &Regions, limit: usize) -> Vec<&Entry> {
        let Regions::Only(names) = regions else {
            return self.entries.range(self.place_after(offset)..).take(limit).collect();
        };
        let of_each = names.iter().filter_map(|name| self.by_region.get(name));
        let after = of_each.flat_map(|it| it.range(it.partition_point(|it| *it <= offset)..).take(limit));
        let mut offsets: Vec<Offset> = after.copied().collect();
        offsets.sort_unstable();
        self.entries(&offsets[..limit.min(offsets.len())])
    }

    /// Those of these regions below an offset, newest first, at most `limit`.
    fn newest_below(&self, offset: Offset, regions: &Regions, limit: usize) -> Vec<&Entry> {
        let last = offset.saturating_sub(1);
        let Regions::Only(names) = regions else {
            return self.entries.range(..self.place_after(last)).rev().take(limit).collect();
        };
        let of_each = names.iter().filter_map(|name| self.by_region.get(name));
        let below = of_each.flat_map(|it| it.range(..it.partition_point(|it| *it <= last)).rev().take(limit));
        let mut offsets: Vec<Offset> = below.copied().collect();
        offsets.sort_unstable_by(|one, other| other.cmp(one));
        self.entries(&offsets[..limit.min(offsets.len())])
    }

    /// Where in the entries those after an offset begin.
    fn place_after(&self, offset: Offset) -> usize {
        self.entries.partition_point(|entry| entry.offset <= offset)
    }

    fn entries(&self, offsets: &[Offset]) -> Vec<&Entry> {
        offsets.iter().map(|offset| &self.entries[self.place_after(offset - 1)]).collect()
    }
}

/// How many subscriptions there are, and for what.
#[derive(Debug, Default)]
struct Subscribers {
    total: u64,
    /// How many ask for each set of regions; who asks for the same holds the same.
    by_set: HashMap<Regions, u64>,
    /// How many include a region, for those that somebody posts to. A name that only a subscription has costs nothing
    /// here.
    by_region: HashMap<Region, u64>,
}

impl Subscribers {
    /// Answers the regions as the others hold them who ask for the same.
    fn add(&mut self, regions: Regions) -> Regions {
        self.total += 1;
        self.counts(&regions).for_each(|count| *count += 1);
        let set = self.by_set.entry(regions);
        let shared = set.key().clone();
        *set.or_default() += 1;
        shared
    }

    fn remove(&mut self, regions: &Regions) {
        self.total -= 1;
        self.counts(regions).for_each(|count| *count -= 1);
        let count = self.by_set.get_mut(regions).expect("what is removed was added");
        *count -= 1;
        if *count == 0 {
            self.by_set.remove(regions);
            give_back(&mut self.by_set);
        }
    }

    /// Of the regions that are counted, those of a set.
    fn counts(&mut self, regions: &Regions) -> impl Iterator<Item = &mut u64> {
        self.by_region.iter_mut().filter(|(region, _)| regions.contains(region)).map(|(_, count)| count)
    }

    fn of(&mut self, region: &Region) -> u64 {
        if let Some(count) = self.by_region.get(region) {
            return *count;
        }
        let sets = self.by_set.iter().filter(|(regions, _)| regions.contains(region));
        let count = sets.map(|(_, count)| count).sum();
        make_room(&mut self.by_region);
        self.by_region.insert(region.clone(), count);
        count
    }
}

/// How many regions an index has that is built as regions are posted to; with more, it is built anew.
const INDEXED_REGIONS: usize = 256;

/// Bounds such an index before another region comes in.
pub(crate) fn make_room<T>(index: &mut HashMap<Region, T>) {
    if index.len() >= INDEXED_REGIONS {
        index.clear();
    }
}

/// Gives back what a crowd had taken, once most of it has left.
pub(crate) fn give_back<K: Eq + Hash, V>(map: &mut HashMap<K, V>) {
    const FEW: usize = 64;

    if map.capacity() > FEW && map.len() < map.capacity() / 4 {
        map.shrink_to(map.len() * 2);
    }
}

/// The last heartbeat encoded, and the pace it tells.
#[derive(Debug, Default)]
struct Heartbeat {
    pace: Option<(Instant, Pace)>,
    is_kept: bool,
    frame: Option<((Position, Pace), Frame)>,
}

impl Heartbeat {
    fn pace(&mut self, measure: impl FnOnce() -> Pace) -> Pace {
        match self.pace {
            Some((measured, pace)) if self.is_kept || measured.elapsed() < PACE_LIFETIME => pace,
            _ => {
                let pace = measure();
                self.pace = Some((Instant::now(), pace));
                pace
            }
        }
    }

    fn keep_pace(&mut self, measure: impl FnOnce() -> Pace) {
        if !std::mem::replace(&mut self.is_kept, true) {
            self.pace = Some((Instant::now(), measure()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use async_trait::async_trait;
    use futures_util::{future::join_all, stream::BoxStream};
    use proptest::{collection::vec, prelude::*, sample::select};

    use super::*;
    use crate::{
        history::{Append, AppendError, Retention, memory::MemoryHistory},
        notification::{Notification, Post},
        publication::Receipt,
    };

    const NAMES: [&str; 4] = ["US", "GB", "JP", "DE"];

    fn regions(list: &str) -> Regions {
        list.parse().expect("regions")
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_is_found_by_region_is_what_a_look_at_all_of_it_would_find(
            // How far each offset is from the one before, and its region.
            published in vec((1..4_u64, select(&NAMES[..])), 0..60),
            trimmed in 0..70_usize,
            asked in select(vec!["", "US", "GB,JP", "JP,US,FR", "FR", "US,GB,JP,DE"]),
            [offset, limit] in [0..200_u64, 0..20],
        ) {
            let epoch = Epoch::from_seed(1);
            let head = Position { epoch, offset: 0 };
            let mut window = Window {
                head,
                trimmed: Trimmed::default(),
                entries: VecDeque::new(),
                by_region: HashMap::new(),
                dropped: 0,
                bytes: 0,
                max_bytes: 1000,
            };
            let (mut all, mut gone) = (Vec::new(), Trimmed::default());
            for (distance, name) in published {
                let region: Region = name.parse().expect("a region");
                let position = Position { epoch, offset: window.head.offset + distance };
                window.push(Arc::new(Published::of(region.clone(), position)));
                all.push((position.offset, region));
            }
            for (offset, region) in all.drain(..trimmed.min(all.len())) {
                gone.note(&region, offset);
            }
            window.trim(&gone);
            let regions = regions(asked);
            let asked_for = all.iter().filter(|(_, region)| regions.contains(region)).map(|(offset, _)| *offset);
            let asked_for: Vec<Offset> = asked_for.collect();
            let of = |entries: Vec<&Entry>| entries.into_iter().map(|entry| entry.offset).collect::<Vec<_>>();
            let limit = limit as usize;

            let after: Vec<Offset> = asked_for.iter().copied().filter(|it| *it > offset).collect();
            prop_assert_eq!(window.count_after(offset, &regions), after.len());
            let oldest: Vec<Offset> = after.into_iter().take(limit).collect();
            prop_assert_eq!(of(window.oldest_after(offset, &regions, limit)), oldest);
            let below = asked_for.iter().rev().copied().filter(|it| *it < offset).take(limit);
            prop_assert_eq!(of(window.newest_below(offset, &regions, limit)), below.collect::<Vec<_>>());
            prop_assert_eq!(of(window.newest_below(Offset::MAX, &regions, 100)).len(), asked_for.len());
            // A region of which nothing is left is not kept either.
            let left: std::collections::HashSet<_> = all.iter().map(|(_, region)| region).collect();
            prop_assert_eq!(window.by_region.len(), left.len());
        }
    }

    /// A store that counts how often it is asked, and answers when it is let.
    struct Store {
        inner: MemoryHistory,
        asked: AtomicUsize,
        answers: Semaphore,
    }

    #[async_trait]
    impl History for Store {
        async fn append(&self, append: Append) -> Result<Receipt, AppendError> {
            self.inner.append(append).await
        }

        async fn head(&self) -> Result<Head, HistoryError> {
            self.inner.head().await
        }

        async fn read(&self, after: Position, limit: usize) -> Result<Page, HistoryError> {
            self.inner.read(after, limit).await
        }

        async fn find(&self, epoch: Epoch, offsets: &[Offset]) -> Result<Vec<Publication>, HistoryError> {
            self.asked.fetch_add(1, Ordering::Relaxed);
            self.answers.acquire().await.expect("it is never closed").forget();
            self.inner.find(epoch, offsets).await
        }

        fn tail(&self, after: Position) -> BoxStream<'static, Result<Tailed, HistoryError>> {
            self.inner.tail(after)
        }
    }

    /// A hub that has nothing in memory but the newest of 30 publications.
    async fn hub_over_a_store() -> (Arc<Hub>, Arc<Store>) {
        let day = Duration::from_secs(24 * 60 * 60);
        let inner = MemoryHistory::new(Retention { max_count: 100, max_age: day, dedup_window: day });
        for id in 0..30 {
            let body = format!(r#"{{"region":"US","videos":[{{"id":{id},"title":"t"}}]}}"#);
            let Ok(Post::Publish(notification)) = Notification::parse(body.as_bytes(), &Regions::All) else { panic!() };
            inner.append(Append { notification, key: None, subscribers: 0 }).await.expect("memory is never away");
        }
        let store = Arc::new(Store { inner, asked: AtomicUsize::new(0), answers: Semaphore::new(0) });
        let options = HubOptions { window_bytes: 400, ..HubOptions::default() };
        (Hub::open(store.clone(), options, Arc::default()).await.expect("a hub"), store)
    }

    #[tokio::test(start_paused = true)]
    async fn the_pace_follows_the_clients_until_it_is_kept() {
        let (hub, _) = hub_over_a_store().await;
        let window = || hub.pace().reconnect_window_ms;
        let subscribers = |count| (0..count).map(|_| hub.start(Regions::All, None)).collect::<Vec<_>>();
        let some = subscribers(10_000);
        assert_eq!(
            window(),
            Pace::of(10_000, hub.options.refetch_rate, hub.options.reconnect_rate).reconnect_window_ms
        );
        let more = subscribers(10_000);
        hub.keep_pace();
        let kept = window();
        assert_eq!(kept, Pace::of(20_000, hub.options.refetch_rate, hub.options.reconnect_rate).reconnect_window_ms);
        drop((some, more));
        tokio::time::advance(2 * PACE_LIFETIME).await;
        hub.keep_pace();
        assert_eq!(window(), kept);
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_is_read_a_few_at_a_time() {
        let (hub, store) = hub_over_a_store().await;
        let mut recent = hub.recent(&Regions::All, None, 100);
        assert_eq!(recent.count(), 30);
        let mut frames = Vec::new();
        for reads in 1..=4 {
            store.answers.add_permits(1);
            let page = hub.load(&mut recent).await.expect("the store answers");
            assert!(page.len() <= LIST_PAGE);
            frames.extend(page);
            assert_eq!(store.asked.load(Ordering::Relaxed), reads);
        }
        assert_eq!((frames.len(), recent.count()), (30, 0));
        let ids = frames.iter().map(|frame| String::from_utf8_lossy(frame.json()).into_owned());
        for (json, id) in ids.zip((0..30).rev()) {
            assert!(json.contains(&format!(r#""id":{id},"#)), "{json}");
        }
        // What is in memory asks nobody.
        let mut newest = hub.recent(&Regions::All, None, 1);
        assert_eq!(hub.load(&mut newest).await.expect("it is in memory").len(), 1);
        assert_eq!(store.asked.load(Ordering::Relaxed), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_hangs_is_asked_for_few_lists_and_nobody_waits_for_long() {
        let (hub, store) = hub_over_a_store().await;
        let ask = async || hub.load(&mut hub.recent(&Regions::All, None, 100)).await;
        for _ in 0..3 {
            let start = Instant::now();
            let answers = join_all((0..100).map(|_| ask())).await;
            assert!(answers.iter().all(|answer| matches!(answer, Err(HistoryError::Unavailable(_)))));
            assert_eq!(start.elapsed(), LIST_PATIENCE);
            // Who went away has left its place to what it asked for.
            assert_eq!(store.asked.load(Ordering::Relaxed), LIST_READERS);
        }
        // Clients that are behind do not wait for them.
        let start = Instant::now();
        assert_eq!(hub.read(Position { offset: 0, ..hub.head() }).await.expect("a page").publications.len(), PAGE);
        assert_eq!(start.elapsed(), Duration::ZERO);
        store.answers.add_permits(LIST_READERS + 1);
        assert_eq!(ask().await.expect("the store answers").len(), LIST_PAGE);
    }

    #[test]
    fn subscribers_are_counted_by_region_and_leave_nothing_behind() {
        let mut subscribers = Subscribers::default();
        let of = |subscribers: &mut Subscribers, name: &str| subscribers.of(&name.parse().expect("a region"));
        assert_eq!(of(&mut subscribers, "US"), 0);
        let names = |client| (0..64).map(|name| format!("r{client}-{name}")).collect::<Vec<_>>().join(",");
        let crowd: Vec<Regions> = (0..1500).map(|client| subscribers.add(regions(&names(client)))).collect();
        let asked = ["US", "US,GB", "", "US"].map(|list| subscribers.add(regions(list)));
        let (Regions::Only(one), Regions::Only(other)) = (&asked[0], &asked[3]) else { unreachable!() };
        assert!(Arc::ptr_eq(one, other), "who asks for the same holds the same");
        for (name, count) in [("US", 4), ("GB", 2), ("JP", 1), ("r7-63", 2)] {
            // Once when it is asked about first, once as it is known.
            assert_eq!([of(&mut subscribers, name), of(&mut subscribers, name)], [count; 2], "{name}");
        }
        crowd.iter().for_each(|regions| subscribers.remove(regions));
        asked[1..].iter().for_each(|regions| subscribers.remove(regions));
        for (name, count) in [("US", 1), ("GB", 0), ("r7-63", 0), ("unknown", 0)] {
            assert_eq!(of(&mut subscribers, name), count, "{name}");
        }
        assert_eq!((subscribers.total, subscribers.by_set.len()), (1, 1));
        assert!(subscribers.by_set.capacity() <= 64, "{}", subscribers.by_set.capacity());
        for number in 0..1000 {
            of(&mut subscribers, &format!("posted-{number}"));
        }
        assert!(subscribers.by_region.len() <= INDEXED_REGIONS);
    }
}
