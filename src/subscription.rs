//! A client's place in the history: replay first, then live, without a gap and without a double.
//!
//! Many subscriptions share one [`Feed`], which receives from the broadcast what all of them wait for. A subscription
//! that is live costs no work until something of its regions comes: where it stands is where its feed does. One that
//! is behind has a position of its own, from which it reads on in memory or in the store until it is live again.

use std::{collections::HashMap, sync::Arc};

use crate::{
    history::{HistoryError, Page},
    hub::{Event, Hub, NextAfter, Published, Start, Subscriber},
    position::Position,
    publication::Publication,
    region::Regions,
};

/// How many publications a feed offers at once: one bit for each in a [`Due`].
pub const BATCH: usize = u64::BITS as usize;

/// See the module's documentation.
pub struct Subscription {
    subscriber: Subscriber,
    selection: u32,
    /// Everything of the regions up to here has been given out. A live subscription may be further, with its feed.
    position: Position,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Gets what its feed brings.
    Live,
    /// Looks for the next publication in the history.
    Behind,
    /// Behind, and a page of the store is being read for it.
    Reading,
}

/// What the subscriptions of one thread share: what was received last, and who asks for which regions.
pub struct Feed {
    hub: Arc<Hub>,
    /// Everything up to here has been offered to those that are live.
    position: Option<Position>,
    /// What was received and is not offered yet, oldest first; at most [`BATCH`].
    batch: Vec<Arc<Published>>,
    /// Region sets that are asked for; free places are kept for the next.
    selections: Vec<Selection>,
    by_regions: HashMap<Regions, u32>,
    free: Vec<u32>,
}

struct Selection {
    regions: Regions,
    subscriptions: u32,
    /// Which of the batch are of these regions.
    of_batch: Due,
}

/// Which publications of the batch a subscription is to get: bit 0 is the oldest.
pub type Due = u64;

/// The position means nothing any more: retention overtook it, or the history is another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the position is lost")]
pub struct PositionLost;

/// A read of the store that a subscription needs; nothing is lost when nobody makes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreRead {
    pub after: Position,
    /// Where the hub stood.
    head: Position,
}

/// What a subscription that is behind gets next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CatchUp {
    /// Publications were found in memory.
    Found,
    /// They have to be read, and are being read from now on.
    Read(StoreRead),
    /// They are being read.
    Reading,
    /// Nothing more: the subscription is live.
    Live,
}

impl Feed {
    pub fn new(hub: Arc<Hub>) -> Self {
        Self {
            hub,
            position: None,
            batch: Vec::with_capacity(BATCH),
            selections: Vec::new(),
            by_regions: HashMap::new(),
            free: Vec::new(),
        }
    }

    /// Takes a client that has started; it ends by [`Feed::unsubscribe`]. What was published since its start is
    /// looked for in the history first.
    pub fn subscribe(&mut self, start: Start) -> Subscription {
        let Start { position, mut subscriber, .. } = start;
        let selection = self.select(&mut subscriber);
        Subscription { subscriber, selection, position, state: State::Behind }
    }

    pub fn unsubscribe(&mut self, subscription: Subscription) {
        let selection = &mut self.selections[subscription.selection as usize];
        selection.subscriptions -= 1;
        if selection.subscriptions == 0 {
            self.by_regions.remove(&selection.regions);
            self.free.push(subscription.selection);
        }
    }

    fn select(&mut self, subscriber: &mut Subscriber) -> u32 {
        if let Some(&known) = self.by_regions.get(subscriber.regions()) {
            let selection = &mut self.selections[known as usize];
            selection.subscriptions += 1;
            subscriber.share(&selection.regions);
            return known;
        }
        let regions = subscriber.regions().clone();
        let of_batch = matching(&self.batch, |published| regions.contains(&published.region));
        let selection = Selection { regions: regions.clone(), subscriptions: 1, of_batch };
        let place = self.free.pop().unwrap_or(self.selections.len() as u32);
        match self.selections.get_mut(place as usize) {
            Some(free) => *free = selection,
            None => self.selections.push(selection),
        }
        self.by_regions.insert(regions, place);
        place
    }

    /// Where a subscription stands: all of its regions up to here has been given out.
    pub fn position(&self, subscription: &Subscription) -> Position {
        match self.position {
            Some(position)
                if subscription.state == State::Live
                    && position.epoch == subscription.position.epoch
                    && position.offset > subscription.position.offset =>
            {
                position
            }
            _ => subscription.position,
        }
    }

    /// Takes what was received into the batch; whether the batch has to be offered before anything else is taken.
    pub fn push(&mut self, published: Arc<Published>) -> bool {
        let bit = 1 << self.batch.len();
        for selection in self.selections.iter_mut().filter(|it| it.regions.contains(&published.region)) {
            selection.of_batch |= bit;
        }
        self.batch.push(published);
        self.batch.len() == BATCH
    }

    /// What is to be offered to every subscription, oldest first.
    pub fn batch(&self) -> &[Arc<Published>] {
        &self.batch
    }

    /// Which of the batch a subscription gets: what was given out by a replay already is not among it.
    pub fn due(&self, subscription: &Subscription) -> Due {
        if subscription.state != State::Live {
            return 0;
        }
        let due = self.selections[subscription.selection as usize].of_batch;
        let is_new = |published: &Arc<Published>| {
            published.position.epoch == subscription.position.epoch
                && published.position.offset > subscription.position.offset
        };
        // Offsets rise, so mostly one look is enough.
        if self.batch.first().is_none_or(is_new) {
            return due;
        }
        due & matching(&self.batch, is_new)
    }

    /// The batch was offered to every subscription.
    pub fn finish_batch(&mut self) {
        if let Some(last) = self.batch.last() {
            self.position = Some(last.position);
        }
        self.batch.clear();
        self.selections.iter_mut().for_each(|selection| selection.of_batch = 0);
    }

    /// A live subscription got only what is before `missed` in the batch: from there it reads on by itself.
    pub fn fall_behind(&self, subscription: &mut Subscription, missed: usize) {
        let before = |published: &Arc<Published>| published.position.epoch == subscription.position.epoch;
        let given = self.batch[..missed].iter().rev().find(|published| before(published)).map(|last| last.position);
        let position = self.position(subscription);
        subscription.position = given.filter(|given| given.offset > position.offset).unwrap_or(position);
        subscription.state = State::Behind;
    }

    /// The broadcast has dropped what the feed had not received. That is a resume, not an error: the history has it.
    /// Whether the subscription was live.
    pub fn lagged(&self, subscription: &mut Subscription) -> bool {
        let was_live = subscription.state == State::Live;
        if was_live {
            self.fall_behind(subscription, 0);
        }
        was_live
    }

    /// Whether an event other than a publication takes the position from a live subscription. One that is behind is
    /// told by its next look.
    pub fn is_lost(&self, subscription: &Subscription, event: &Event) -> bool {
        let position = self.position(subscription);
        match event {
            Event::Published(_) => false,
            Event::Trimmed(trimmed) => {
                subscription.state == State::Live
                    && trimmed.reaches_past(position.offset, subscription.subscriber.regions())
            }
            Event::Reset => position.epoch != self.hub.head().epoch,
        }
    }

    /// What a subscription that is behind gets next. Publications in memory go into `found`; each is given out by
    /// [`Subscription::given`].
    ///
    /// # Errors
    /// When the position is lost; the client has to start again.
    pub fn catch_up(
        &self,
        subscription: &mut Subscription,
        found: &mut Vec<Arc<Published>>,
    ) -> Result<CatchUp, PositionLost> {
        match subscription.state {
            State::Live => return Ok(CatchUp::Live),
            State::Reading => return Ok(CatchUp::Reading),
            State::Behind => {}
        }
        match self.hub.next_after(subscription.position, subscription.subscriber.regions(), found) {
            NextAfter::Found => Ok(CatchUp::Found),
            NextAfter::InStore { after, head } => {
                subscription.state = State::Reading;
                Ok(CatchUp::Read(StoreRead { after, head }))
            }
            NextAfter::UpToDate(head) => {
                subscription.position = head;
                subscription.state = State::Live;
                Ok(CatchUp::Live)
            }
            NextAfter::Lost => Err(PositionLost),
        }
    }

    /// What of a page is for the subscription that it was read for, oldest first; each is given out by [`Subscription::given`]. None where
    /// the store did not answer: the position is kept, so the client waits and misses nothing.
    ///
    /// # Errors
    /// When the position is lost; the client has to start again.
    pub fn read(
        &self,
        subscription: &mut Subscription,
        read: StoreRead,
        page: Result<Page, HistoryError>,
    ) -> Result<Vec<Publication>, PositionLost> {
        subscription.state = State::Behind;
        let regions = subscription.subscriber.regions();
        match page {
            Ok(page) if page.trimmed.reaches_past(subscription.position.offset, regions) => Err(PositionLost),
            Ok(page) => {
                // The store may be ahead of the hub. What lies beyond its head will come live; given out now it
                // would come twice, and a client could stand where the hub can't prove anything.
                let known = |it: &Publication| it.position.offset <= read.head.offset && regions.contains(&it.region);
                Ok(page.publications.into_iter().filter(known).collect())
            }
            Err(HistoryError::PositionLost) => Err(PositionLost),
            Err(HistoryError::Unavailable(_)) => Ok(Vec::new()),
        }
    }
}

impl Subscription {
    /// A publication after the position was given out, and all of the regions before it.
    pub fn given(&mut self, position: Position) {
        self.position = position;
    }
}

/// Those of the batch that are wanted.
fn matching(batch: &[Arc<Published>], is_wanted: impl Fn(&Arc<Published>) -> bool) -> Due {
    (0..).zip(batch).filter(|(_, published)| is_wanted(published)).fold(0, |due, (at, _)| due | 1 << at)
}
