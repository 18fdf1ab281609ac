//! A client as a browser is one: it keeps the position of the last message, is cut, is slow, and comes back. It
//! checks every message against the truth.

use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use tokio::time::{sleep, timeout};
use video_notifier::{
    hub::Hub,
    limits::Limits,
    position::{Offset, Position},
    protocol::Wire,
    region::Regions,
    transport::shard::{Opening, Wish},
};

use crate::{
    executor::pause,
    network::{self, Incoming, Link},
    random::Random,
    world::World,
};

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
                let (link, position) = self.connect(&hub);
                self.follow(link, position, generation).await;
            }
            sleep(self.random.millis(400)).await;
        }
        self.finish().await;
    }

    /// Connects with the last position, sometimes with another `since`, and checks what hello says.
    fn connect(&self, hub: &std::sync::Arc<Hub>) -> (Link, Position) {
        let truth = &self.world.truth;
        let since = match self.random.below(12) {
            0 => None,
            1 => Some("".to_owned()),
            2 => Some("neither-1".to_owned()),
            3 => self.position.map(|position| Position { offset: position.offset + 1_000_000, ..position }.to_string()),
            _ => self.position.map(|position| position.to_string()),
        };
        let start = hub.start(self.regions.clone(), since.as_deref());
        let (position, recovered, head) = (start.position, start.recovered, hub.head());
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
        let wire = self.random.choose(&[Wire::WebSocket, Wire::WebSocket, Wire::Chunks, Wire::Plain]);
        let (socket, link) = network::connect(wire, &self.random);
        let Ok(permit) = Limits::new(u64::MAX, u64::MAX).admit(None) else { panic!("a limit that is never reached") };
        self.world.open(Opening {
            socket,
            wire,
            permit,
            head: Bytes::new(),
            early: Bytes::new(),
            wish: Wish::Subscribe(start),
        });
        (link, position)
    }

    /// Reads until it is cut.
    async fn follow(&mut self, mut link: Link, start: Position, generation: usize) {
        let (mut position, mut greeted) = (start, false);
        let pace = self.random.choose(&[1, 1, 5, 60]);
        for _ in 0..self.random.below(40) {
            if self.world.generation() != generation {
                return;
            }
            if !self.step(&mut link, &mut position, &mut greeted).await {
                return;
            }
            if self.random.once_in(3) {
                sleep(self.random.millis(10 * pace)).await;
            }
        }
    }

    /// One message, or none for a while; whether the connection goes on.
    async fn step(&mut self, link: &mut Link, position: &mut Position, greeted: &mut bool) -> bool {
        pause(&self.random).await;
        // Cut off in the middle of a wait, as a select! would.
        match timeout(self.random.millis(80), link.next()).await {
            Ok(Incoming::Message(message)) => {
                let is_hello = message["type"] == "hello";
                assert_eq!(is_hello, !*greeted, "hello comes first, and once");
                *greeted = true;
                self.take(&message, position);
            }
            Ok(Incoming::Lost) => {
                let epoch_changed = self.world.store.epoch() != position.epoch;
                let trimmed = self.world.truth.is_trimmed_after(*position, &self.regions);
                assert!(epoch_changed || trimmed, "client {}: {position} is not lost", self.name);
                self.world.tally(|tally| tally.lost += 1);
                return false;
            }
            Ok(Incoming::Cut) => {
                if link.is_broken() {
                    self.world.tally(|tally| tally.broken += 1);
                }
                return false;
            }
            Err(_) => {}
        }
        true
    }

    fn take(&mut self, message: &Value, position: &mut Position) {
        let said = network::position(message).expect("a position");
        self.world.log(|| format!("client {} at {position} hears {} {said}", self.name, message["type"]));
        match message["type"].as_str() {
            Some("new_trending") => self.deliver(message, said, position),
            Some("hello") => assert_eq!(said, *position, "hello is where the client started"),
            Some("heartbeat") if said == *position => {}
            Some("heartbeat") => self.advance(position, said, said.offset),
            other => panic!("client {}: an unexpected {other:?}", self.name),
        }
    }

    fn deliver(&mut self, message: &Value, id: Position, position: &mut Position) {
        self.advance(position, id, id.offset - 1);
        let accepted = self.world.truth.find(id).expect("what is delivered was accepted");
        assert!(self.regions.contains(&accepted.region), "client {}: {id} is of another region", self.name);
        assert_eq!(message["count"], accepted.post, "{id} is not what was posted");
        self.world.tally(|tally| tally.delivered += 1);
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
                let (mut link, mut position) = self.connect(&hub);
                let mut greeted = false;
                loop {
                    let epoch = self.world.store.epoch();
                    let head = self.world.truth.head(epoch);
                    let left = self.world.truth.between(epoch, position.offset, head, &self.regions);
                    if position.epoch == epoch && left.is_empty() {
                        return;
                    }
                    if !self.step(&mut link, &mut position, &mut greeted).await {
                        break;
                    }
                }
            }
        };
        assert!(timeout(patience, everything).await.is_ok(), "client {name} never gets everything");
    }
}
