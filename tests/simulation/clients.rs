//! A client as a browser is one: it keeps the position of the last message, is cut, is slow, and comes back. It
//! checks every message against the truth.

use std::time::Duration;

use tokio::time::{sleep, timeout};
use video_notifier::{
    hub::Hub,
    position::{Offset, Position},
    region::Regions,
    subscription::{Delivery, Subscription},
};

use crate::{executor::pause, random::Random, world::World};

pub struct Client {
    pub name: usize,
    pub regions: Regions,
    /// Of the last message.
    position: Option<Position>,
    world: World,
    random: Random,
}

impl Client {
    pub fn new(name: usize, regions: Regions, world: World) -> Self {
        let random = world.random.clone();
        Self { name, regions, position: None, world, random }
    }

    /// Lives until the end is near, then stays until it has everything.
    pub async fn run(mut self) {
        sleep(self.random.millis(300)).await;
        while !self.world.is_calm() {
            if let Some((hub, generation)) = self.world.hub() {
                let (subscription, position) = self.connect(&hub);
                self.follow(subscription, position, generation).await;
            }
            sleep(self.random.millis(400)).await;
        }
        self.finish().await;
    }

    /// Connects with the last position, sometimes with another `since`, and checks what hello says.
    fn connect(&self, hub: &std::sync::Arc<Hub>) -> (Subscription, Position) {
        let truth = &self.world.truth;
        let since = match self.random.below(12) {
            0 => None,
            1 => Some("".to_owned()),
            2 => Some("neither-1".to_owned()),
            3 => self.position.map(|position| Position { offset: position.offset + 1_000_000, ..position }.to_string()),
            _ => self.position.map(|position| position.to_string()),
        };
        let subscription = hub.subscribe(self.regions.clone(), since.as_deref());
        let (position, recovered, head) = (subscription.position(), subscription.recovered(), hub.head());
        self.world.log(|| format!("client {} connects since {since:?}: {position} {recovered:?}", self.name));

        let asked = since.filter(|since| !since.is_empty());
        assert_eq!(recovered.is_none(), asked.is_none(), "recovered is null exactly where nothing was asked");
        let asked: Option<Position> = asked.and_then(|since| since.parse().ok());
        let missed = asked
            .filter(|asked| asked.epoch == head.epoch && asked.offset <= truth.head(head.epoch))
            .map(|asked| truth.between(asked.epoch, asked.offset, head.offset, &self.regions).len());
        if recovered == Some(true) {
            assert_eq!(asked, Some(position), "recovered: the position is the since itself");
            assert!(missed.expect("recovered from a known position") <= self.world.replay_max, "the cap holds");
            self.world.tally(|tally| tally.recovered += 1);
        } else {
            assert_eq!(position, head, "not recovered: what follows starts right after the head");
        }
        if recovered == Some(false) {
            let unknown = missed.is_none();
            let trimmed = asked.is_some_and(|asked| truth.is_trimmed_after(asked, &self.regions));
            let too_many = missed.is_some_and(|missed| missed > self.world.replay_max);
            assert!(unknown || trimmed || too_many, "client {}: recovered is false without a reason", self.name);
            self.world.tally(|tally| {
                tally.trimmed += usize::from(trimmed);
                tally.capped += usize::from(too_many);
            });
        }
        (subscription, position)
    }

    /// Reads until it is cut.
    async fn follow(&mut self, mut subscription: Subscription, start: Position, generation: usize) {
        let mut position = start;
        let pace = self.random.choose(&[1, 1, 5, 60]);
        for _ in 0..self.random.below(40) {
            if self.world.generation() != generation {
                return;
            }
            if !self.step(&mut subscription, &mut position).await {
                return;
            }
            if self.random.once_in(3) {
                sleep(self.random.millis(10 * pace)).await;
            }
        }
    }

    /// One message, or none for a while; whether the subscription goes on.
    async fn step(&mut self, subscription: &mut Subscription, position: &mut Position) -> bool {
        pause(&self.random).await;
        // Cut off in the middle of a wait, as a select! would.
        match timeout(self.random.millis(80), subscription.next()).await {
            Ok(Ok(delivery)) => self.deliver(&delivery, position),
            Ok(Err(_)) => {
                let epoch_changed = self.world.store.epoch() != position.epoch;
                let trimmed = self.world.truth.is_trimmed_after(*position, &self.regions);
                assert!(epoch_changed || trimmed, "client {}: {position} is not lost", self.name);
                self.world.tally(|tally| tally.lost += 1);
                return false;
            }
            Err(_) => {}
        }
        if self.random.once_in(4) {
            self.heartbeat(subscription, position);
        }
        true
    }

    fn deliver(&mut self, delivery: &Delivery, position: &mut Position) {
        let id = match delivery {
            Delivery::Shared(published) => published.position,
            Delivery::Stored(_) => {
                self.world.tally(|tally| tally.from_store += 1);
                id(&delivery.frame().json())
            }
        };
        self.world.log(|| format!("client {} at {position} gets {id}", self.name));
        self.advance(position, id, id.offset - 1);
        let accepted = self.world.truth.find(id).expect("what is delivered was accepted");
        assert!(self.regions.contains(&accepted.region), "client {}: {id} is of another region", self.name);
        let text = String::from_utf8(delivery.frame().json().to_vec()).expect("JSON is UTF-8");
        assert!(text.contains(&format!("\"count\":{},", accepted.post)), "{id} is not what was posted: {text}");
        self.world.tally(|tally| tally.delivered += 1);
    }

    fn heartbeat(&mut self, subscription: &Subscription, position: &mut Position) {
        let json = String::from_utf8(subscription.heartbeat().json().to_vec()).expect("JSON is UTF-8");
        let heartbeat: serde_json::Value = serde_json::from_str(&json).expect("JSON");
        let said: Position = heartbeat["position"].as_str().and_then(|text| text.parse().ok()).expect("a position");
        self.world.log(|| format!("client {} at {position} hears {said}", self.name));
        if said == *position {
            return;
        }
        self.advance(position, said, said.offset);
    }

    /// Moves to a position that a message said; everything up to `complete` must have been sent before.
    fn advance(&mut self, position: &mut Position, to: Position, complete: Offset) {
        let name = self.name;
        assert_eq!(position.epoch, to.epoch, "client {name}: a subscription stays in one history");
        assert!(to.offset > position.offset, "client {name}: {to} comes after {position}: doubled or out of order");
        assert!(to.offset <= self.world.truth.head(to.epoch), "client {name}: {to} is ahead of the history");
        let missed = self.world.truth.between(to.epoch, position.offset, complete, &self.regions);
        assert!(missed.is_empty(), "client {name} goes from {position} to {to} without {missed:?}");
        *position = to;
        self.position = Some(to);
    }

    /// With the store healthy and nobody posting, everybody must end up with everything.
    async fn finish(&mut self) {
        let patience = Duration::from_secs(120);
        let name = self.name;
        let everything = async {
            loop {
                let Some((hub, _)) = self.world.hub() else {
                    sleep(Duration::from_millis(10)).await;
                    continue;
                };
                let (mut subscription, mut position) = self.connect(&hub);
                loop {
                    let epoch = self.world.store.epoch();
                    let head = self.world.truth.head(epoch);
                    let left = self.world.truth.between(epoch, position.offset, head, &self.regions);
                    if position.epoch == epoch && left.is_empty() {
                        return;
                    }
                    if !self.step(&mut subscription, &mut position).await {
                        break;
                    }
                }
            }
        };
        assert!(timeout(patience, everything).await.is_ok(), "client {name} never gets everything");
    }
}

/// The id in a publication's JSON.
fn id(json: &[u8]) -> Position {
    let message: serde_json::Value = serde_json::from_slice(json).expect("JSON");
    message["id"].as_str().and_then(|id| id.parse().ok()).expect("an id")
}
