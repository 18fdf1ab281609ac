//! One run: sets the stage as the seed says, lets it play, and checks the end.

use std::{
    ops::AddAssign,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::sleep;
use video_notifier::{
    history::{Append, AppendError, History, IdempotencyKey, Retention},
    hub::{Hub, HubOptions},
    metrics::Metrics,
    notification::{Notification, Post},
    region::Regions,
    transport::shard::Opening,
};

use crate::{clients::Client, executor, model::Truth, network::Socket, random::Random, server, store::Store};

const REGIONS: [&str; 3] = ["US", "GB", "JP"];

/// What all parts of a run share.
#[derive(Clone)]
pub struct World {
    pub random: Random,
    pub truth: Truth,
    pub store: Store,
    pub replay_max: usize,
    shared: Arc<Mutex<Shared>>,
    loud: bool,
}

#[derive(Default)]
struct Shared {
    /// The hub that runs now, and how many ran before it.
    hub: Option<Arc<Hub>>,
    generation: usize,
    /// Clients on their way in.
    openings: Vec<Opening<Socket>>,
    /// No more posts, failures, crashes.
    calm: bool,
    posters_left: usize,
    clients_left: usize,
    tally: Tally,
}

/// What was met, to see that nothing is proven by never happening.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    pub delivered: usize,
    pub from_store: usize,
    pub recovered: usize,
    pub trimmed: usize,
    pub capped: usize,
    pub lost: usize,
    pub crashes: usize,
    pub replaced: usize,
    pub deduplicated: usize,
    pub broken: usize,
}

impl Tally {
    pub fn met_everything(&self) -> bool {
        let Self { delivered, from_store, recovered, trimmed, capped, lost, crashes, replaced, deduplicated, broken } =
            *self;
        ![delivered, from_store, recovered, trimmed, capped, lost, crashes, replaced, deduplicated, broken].contains(&0)
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.delivered += other.delivered;
        self.from_store += other.from_store;
        self.recovered += other.recovered;
        self.trimmed += other.trimmed;
        self.capped += other.capped;
        self.lost += other.lost;
        self.crashes += other.crashes;
        self.replaced += other.replaced;
        self.deduplicated += other.deduplicated;
        self.broken += other.broken;
    }
}

impl std::iter::Sum for Tally {
    fn sum<I: Iterator<Item = Self>>(tallies: I) -> Self {
        tallies.fold(Self::default(), |mut sum, tally| {
            sum += tally;
            sum
        })
    }
}

impl World {
    pub fn hub(&self) -> Option<(Arc<Hub>, usize)> {
        let shared = self.shared.lock().unwrap();
        shared.hub.clone().map(|hub| (hub, shared.generation))
    }

    pub fn generation(&self) -> usize {
        self.shared.lock().unwrap().generation
    }

    pub fn open(&self, opening: Opening<Socket>) {
        self.change(|shared| shared.openings.push(opening));
    }

    pub fn openings(&self) -> Vec<Opening<Socket>> {
        self.change(|shared| std::mem::take(&mut shared.openings))
    }

    pub fn is_calm(&self) -> bool {
        self.shared.lock().unwrap().calm
    }

    pub fn tally(&self, count: impl FnOnce(&mut Tally)) {
        count(&mut self.shared.lock().unwrap().tally);
    }

    pub fn log(&self, line: impl FnOnce() -> String) {
        if self.loud {
            println!("{}", line());
        }
    }

    fn change<T>(&self, change: impl FnOnce(&mut Shared) -> T) -> T {
        change(&mut self.shared.lock().unwrap())
    }
}

/// Plays one seed; panics where a promise is broken.
pub fn run(seed: u64, loud: bool) -> Tally {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
    let play = async {
        let random = Random::new(seed);
        let truth = Truth::default();
        let retention = Retention {
            max_count: random.choose(&[3, 8, 30, 1000]),
            max_age: Duration::from_millis(random.choose(&[300, 3_000, 1_000_000])),
            dedup_window: Duration::from_secs(600),
        };
        let store = Store::new(retention, random.clone(), truth.clone());
        let options = HubOptions {
            replay_max: random.choose(&[2, 10, 1000]),
            window_bytes: random.choose(&[200, 1500, 1 << 20]),
            broadcast_capacity: random.choose(&[1, 2, 8, 64]),
            ..HubOptions::default()
        };
        let (posters, clients) = (1 + random.below(3), 2 + random.below(4));
        let world = World {
            random: random.clone(),
            truth,
            store,
            replay_max: options.replay_max,
            shared: Arc::default(),
            loud,
        };
        world.change(|shared| (shared.posters_left, shared.clients_left) = (posters, clients));

        let mut tasks: Vec<std::pin::Pin<Box<dyn Future<Output = ()>>>> = Vec::new();
        for poster in 0..posters {
            tasks.push(Box::pin(post(poster, world.clone())));
        }
        for name in 0..clients {
            let some: Vec<&str> = REGIONS.into_iter().filter(|_| random.once_in(2)).collect();
            let regions: Regions = some.join(",").parse().expect("names of regions");
            let (client, world) = (Client::new(name, regions, world.clone()), world.clone());
            tasks.push(Box::pin(async move {
                client.run().await;
                world.change(|shared| shared.clients_left -= 1);
            }));
        }
        tasks.push(Box::pin(supervise(world.clone(), options)));
        executor::run(tasks, random).await;
        world.change(|shared| shared.tally)
    };
    runtime.block_on(tokio::task::unconstrained(play))
}

/// Posts until every post was answered, then checks that each was accepted once.
async fn post(poster: usize, world: World) {
    let random = &world.random;
    for number in 0..random.below(25) {
        // The count tells posts apart in what clients get.
        let post = 1 + poster * 1000 + number;
        let region = random.choose(&REGIONS);
        let body = format!(r#"{{"region":"{region}","count":{post},"videos":[{{"id":{post},"title":"t"}}]}}"#);
        let Ok(Post::Publish(notification)) = Notification::parse(body.as_bytes(), &Regions::All) else {
            panic!("the post is valid")
        };
        let key = random.once_in(2).then(|| IdempotencyKey::new(&format!("key-{post}")).expect("a key"));
        let (epoch, receipt) = loop {
            let epoch = world.store.epoch();
            let append = Append { notification: notification.clone(), key: key.clone(), subscribers: 0 };
            match world.store.append(append).await {
                Ok(receipt) => break (epoch, receipt),
                Err(AppendError::Unavailable(_)) => sleep(random.millis(50)).await,
                Err(AppendError::KeyReused) => panic!("nobody else has this key"),
            }
        };
        world.log(|| format!("post {post} is answered: {:?}", receipt.id));
        let position = receipt.id.expect("a post with videos has a position");
        assert_eq!(world.truth.find(position).map(|accepted| accepted.post), Some(post), "the receipt is of the post");
        assert_eq!(world.truth.times(position.epoch, post), 1, "post {post} is published once in {epoch:?}");
        if receipt.deduplicated {
            world.tally(|tally| tally.deduplicated += 1);
        }
        sleep(random.millis(random.choose(&[1, 1, 30, 200]))).await;
    }
    world.change(|shared| shared.posters_left -= 1);
}

/// Runs the hub; crashes it and replaces the history as the seed says; calms down when all posts are made.
async fn supervise(world: World, options: HubOptions) {
    let random = world.random.clone();
    loop {
        let metrics = Arc::new(Metrics::default());
        let hub = loop {
            match Hub::open(Arc::new(world.store.clone()), options.clone(), metrics.clone()).await {
                Ok(hub) => break hub,
                Err(_) => sleep(random.millis(20)).await,
            }
        };
        world.change(|shared| shared.hub = Some(hub.clone()));
        let calm = world.is_calm();
        let life = async {
            loop {
                sleep(random.millis(1500)).await;
                let posters_left = world.change(|shared| shared.posters_left);
                if calm {
                    if world.change(|shared| shared.clients_left) == 0 {
                        return;
                    }
                } else if posters_left == 0 {
                    world.log(|| "calm".to_owned());
                    world.store.heal();
                    world.change(|shared| shared.calm = true);
                    return;
                } else if random.once_in(4) {
                    world.log(|| "the history is replaced".to_owned());
                    world.store.replace();
                    world.tally(|tally| tally.replaced += 1);
                } else if random.once_in(3) {
                    return;
                }
            }
        };
        let mut shard = std::pin::pin!(server::run(world.clone(), hub.clone()));
        tokio::select! {
            biased;
            () = life => {}
            () = hub.clone().run() => unreachable!("the hub runs for ever"),
            () = &mut shard => unreachable!("so does the shard"),
        }
        if calm {
            return;
        }
        // Once calm, the same hub may have to heal by itself.
        if world.is_calm() && random.once_in(2) {
            tokio::select! {
                () = hub.run() => unreachable!("the hub runs for ever"),
                () = shard => unreachable!("so does the shard"),
                () = async { while world.change(|shared| shared.clients_left) > 0 { sleep(Duration::from_secs(1)).await } } => return,
            }
        }
        world.log(|| "the hub crashes".to_owned());
        world.tally(|tally| tally.crashes += 1);
        world.change(|shared| {
            shared.hub = None;
            shared.openings.clear();
            shared.generation += 1;
        });
    }
}
