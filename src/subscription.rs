//! A client's place in the history: replay first, then live, without a gap and without a double.
//!
//! Many subscriptions share one [`Feed`], which receives from the broadcast what all of them wait for. A subscription
//! that is live costs no work until something of its regions comes: where it stands is where its feed does. One that
//! is behind has a position of its own, from which it reads on in memory or in the store until it is live again.

use std::{collections::HashMap, sync::Arc};

use slab::Slab;

use crate::{
    history::{HistoryError, Page},
    hub::{Event, Hub, NextAfter, Published, Start, Subscriber, give_back, make_room},
    position::Position,
    publication::Publication,
    region::{Region, Regions},
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
    /// The sets of regions that are asked for.
    selections: Slab<Selection>,
    by_regions: HashMap<Regions, u32>,
    /// Which selections have a region, for those that something was published of: a publication costs nothing for those
    /// who do not ask for it, and a name that only a subscription has costs nothing here.
    by_region: HashMap<Region, Places>,
    /// How few selections are to be left before their places are given back.
    few: usize,
}

struct Selection {
    regions: Regions,
    subscriptions: u32,
    /// Which of the batch are of these regions.
    of_batch: Due,
}

/// A set of selections, a bit for each.
#[derive(Default)]
struct Places(Vec<u64>);

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
    /// Nobody's yet.
    pub fn new(hub: Arc<Hub>) -> Self {
        Self {
            hub,
            position: None,
            batch: Vec::with_capacity(BATCH),
            selections: Slab::new(),
            by_regions: HashMap::new(),
            by_region: HashMap::new(),
            few: 0,
        }
    }

    /// Takes a client that has started; it ends by [`Feed::unsubscribe`]. What was published since its start is
    /// looked for in the history first.
    pub fn subscribe(&mut self, start: Start) -> Subscription {
        let Start { position, subscriber, .. } = start;
        let selection = self.select(subscriber.regions());
        Subscription { subscriber, selection, position, state: State::Behind }
    }

    /// Ends what [`Feed::subscribe`] began.
    pub fn unsubscribe(&mut self, subscription: Subscription) {
        let place = subscription.selection as usize;
        let selection = &mut self.selections[place];
        selection.subscriptions -= 1;
        if selection.subscriptions == 0 {
            let Selection { regions, .. } = self.selections.remove(place);
            self.by_regions.remove(&regions);
            self.by_region.values_mut().for_each(|places| places.remove(place));
            self.give_back();
        }
    }

    fn select(&mut self, regions: &Regions) -> u32 {
        if let Some(&known) = self.by_regions.get(regions) {
            self.selections[known as usize].subscriptions += 1;
            return known;
        }
        let of_batch = matching(&self.batch, |published| regions.contains(&published.region));
        let place = self.selections.insert(Selection { regions: regions.clone(), subscriptions: 1, of_batch });
        let having = self.by_region.iter_mut().filter(|(region, _)| regions.contains(region));
        having.for_each(|(_, places)| places.insert(place));
        self.by_regions.insert(regions.clone(), place as u32);
        self.few = self.few.max(self.selections.len() / 4);
        place as u32
    }

    /// Gives back what a crowd of selections had taken, once most of them are gone; each time that as many are.
    fn give_back(&mut self) {
        give_back(&mut self.by_regions);
        if self.selections.len() <= self.few {
            self.few = self.selections.len() / 4;
            self.selections.shrink_to_fit();
            self.by_region.values_mut().for_each(|places| places.shrink_to(self.selections.capacity()));
        }
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
        self.for_each_having(&published.region, |selection| selection.of_batch |= bit);
        self.batch.push(published);
        self.batch.len() == BATCH
    }

    /// Does something to each selection that has a region.
    fn for_each_having(&mut self, region: &Region, mut work: impl FnMut(&mut Selection)) {
        if !self.by_region.contains_key(region) {
            make_room(&mut self.by_region);
            let having = self.selections.iter().filter(|(_, selection)| selection.regions.contains(region));
            let mut places = Places::default();
            having.for_each(|(place, _)| places.insert(place));
            self.by_region.insert(region.clone(), places);
        }
        for place in self.by_region[region].iter() {
            work(&mut self.selections[place]);
        }
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
        let mut batch = std::mem::take(&mut self.batch);
        for published in batch.drain(..) {
            self.for_each_having(&published.region, |selection| selection.of_batch = 0);
        }
        // With its room, for the next.
        self.batch = batch;
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

    /// What of a page is for the subscription that it was read for, oldest first; [`Subscription::given`] notes each
    /// that is given out. Empty where the store did not answer: the position is kept, so the client misses nothing.
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

impl Places {
    fn insert(&mut self, place: usize) {
        let word = place / 64;
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << (place % 64);
    }

    fn remove(&mut self, place: usize) {
        if let Some(word) = self.0.get_mut(place / 64) {
            *word &= !(1 << (place % 64));
        }
    }

    fn iter(&self) -> impl Iterator<Item = usize> {
        self.0.iter().enumerate().flat_map(|(at, word)| {
            let mut left = *word;
            std::iter::from_fn(move || {
                let bit = left.trailing_zeros();
                left &= left.wrapping_sub(1);
                (bit < u64::BITS).then_some(at * 64 + bit as usize)
            })
        })
    }

    /// Gives back the room of places that are no more.
    fn shrink_to(&mut self, places: usize) {
        self.0.truncate(places.div_ceil(64));
        self.0.shrink_to_fit();
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        history::{Retention, memory::MemoryHistory},
        hub::HubOptions,
    };

    async fn hub() -> Arc<Hub> {
        let day = Duration::from_secs(24 * 60 * 60);
        let history = MemoryHistory::new(Retention { max_count: 100, max_age: day, dedup_window: day });
        Hub::open(Arc::new(history), HubOptions::default(), Arc::default()).await.expect("a hub")
    }

    fn regions(list: &str) -> Regions {
        list.parse().expect("regions")
    }

    /// Subscriptions that each ask for 64 regions that nobody else knows.
    fn crowd(feed: &mut Feed, clients: usize) -> Vec<Subscription> {
        let names = |client| (0..64).map(|name| format!("r{client}-{name}")).collect::<Vec<_>>().join(",");
        (0..clients).map(|client| feed.subscribe(feed.hub.start(regions(&names(client)), None))).collect()
    }

    fn publish(feed: &mut Feed, region: &str, offset: u64) {
        let position = Position { offset, ..feed.hub.head() };
        feed.push(Arc::new(Published::of(region.parse().expect("a region"), position)));
    }

    /// How many selections a publication of a region is work for.
    fn work(feed: &mut Feed, region: &str) -> usize {
        let mut selections = 0;
        feed.for_each_having(&region.parse().expect("a region"), |_| selections += 1);
        selections
    }

    #[tokio::test]
    async fn a_publication_costs_nothing_for_those_who_do_not_ask_for_it() {
        let mut feed = Feed::new(hub().await);
        assert_eq!(work(&mut feed, "US"), 0, "known before anybody asks for it");
        let crowd = crowd(&mut feed, 1500);
        let asked = ["US", "GB", "GB,US", ""].map(|list| feed.subscribe(feed.hub.start(regions(list), None)));
        let again = feed.subscribe(feed.hub.start(regions("US"), None));
        assert_eq!(["US", "GB", "JP", "r7-63"].map(|region| work(&mut feed, region)), [3, 3, 1, 2]);
        feed.unsubscribe(again);
        assert_eq!(work(&mut feed, "US"), 3, "another asks for the same");
        asked.into_iter().for_each(|one| feed.unsubscribe(one));
        assert_eq!(["US", "GB", "JP", "r7-63"].map(|region| work(&mut feed, region)), [0, 0, 0, 1]);
        crowd.into_iter().for_each(|one| feed.unsubscribe(one));
        assert_eq!(work(&mut feed, "r7-63"), 0);
        for number in 0..1000 {
            work(&mut feed, &format!("posted-{number}"));
        }
        assert!(feed.by_region.len() <= 256, "however many regions are posted to");
    }

    #[tokio::test]
    async fn who_comes_and_goes_amid_a_batch_gets_what_is_of_its_regions() {
        let mut feed = Feed::new(hub().await);
        let live = |feed: &mut Feed, list: &str| {
            let mut subscription = feed.subscribe(feed.hub.start(regions(list), None));
            assert_eq!(feed.catch_up(&mut subscription, &mut Vec::new()), Ok(CatchUp::Live));
            subscription
        };
        let (us, gone) = (live(&mut feed, "US"), live(&mut feed, "GB"));
        for round in 0..3 {
            let first = round * 3;
            publish(&mut feed, "US", first + 1);
            publish(&mut feed, "GB", first + 2);
            // In the place of one that has left.
            let late = live(&mut feed, "GB,JP");
            publish(&mut feed, "JP", first + 3);
            assert_eq!((feed.due(&us), feed.due(&late)), (0b001, 0b110));
            feed.finish_batch();
            assert_eq!((feed.due(&us), feed.due(&late)), (0, 0));
            feed.unsubscribe(late);
        }
        feed.unsubscribe(gone);
        publish(&mut feed, "GB", 10);
        assert_eq!(feed.due(&us), 0);
    }

    #[tokio::test]
    async fn a_crowd_that_left_leaves_nothing_behind() {
        let mut feed = Feed::new(hub().await);
        work(&mut feed, "US");
        let first = feed.subscribe(feed.hub.start(regions("US"), None));
        let crowd = crowd(&mut feed, 1500);
        let last = feed.subscribe(feed.hub.start(regions("US,GB"), None));
        let Regions::Only(names) = crowd[7].subscriber.regions().clone() else { unreachable!() };
        crowd.into_iter().for_each(|one| feed.unsubscribe(one));
        assert_eq!(Arc::strong_count(&names), 1, "the names are nowhere else");
        assert_eq!((feed.selections.len(), feed.by_regions.len()), (2, 2));
        // Who stays keeps its place, though those before it are free.
        assert_eq!(work(&mut feed, "US"), 2);
        feed.unsubscribe(last);
        feed.unsubscribe(first);
        let kept = [
            feed.selections.capacity(),
            feed.by_regions.capacity(),
            feed.by_region.values().map(|it| it.0.capacity()).sum(),
        ];
        assert!(kept.iter().all(|places| *places <= 64), "{kept:?}");
    }
}
