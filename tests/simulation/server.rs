//! A shard as its thread runs it, but that the seed chooses what comes first.

use std::{sync::Arc, time::Duration};

use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::{
    sync::broadcast::error::TryRecvError,
    time::{Instant, sleep},
};
use video_notifier::{
    connection::Connections,
    history::{HistoryError, Page},
    hub::Hub,
    rates::Rate,
    shutdown::Shutdown,
    subscription::StoreRead,
    transport::shard::{Id, Shard},
};

use crate::{network::Socket, world::World};

/// How often clients hear that all is well.
const HEARTBEATS: [u64; 3] = [128, 400, 2_000];

/// A read of the store that was made for a client.
type Read = (Id, StoreRead, Result<Page, HistoryError>);

/// Carries the clients of a hub for as long as it is polled.
pub async fn run(world: World, hub: Arc<Hub>) {
    let random = &world.random;
    let connections = Connections {
        metrics: hub.metrics.clone(),
        shutdown: Shutdown::default(),
        heartbeat: Duration::from_millis(random.choose(&HEARTBEATS)),
        message_rate: Rate::per_second(1, 60),
        hub: hub.clone(),
    };
    let mut receiver = hub.receive();
    let mut shard: Shard<Socket> = Shard::new(connections);
    let mut ids: Vec<Id> = Vec::new();
    let mut reads: FuturesUnordered<BoxFuture<'static, Read>> = FuturesUnordered::new();
    loop {
        match random.below(7) {
            0 | 1 => {
                for _ in 0..=random.below(70) {
                    match receiver.try_recv() {
                        Ok(event) => shard.take(event),
                        Err(TryRecvError::Lagged(_)) => shard.lagged(),
                        Err(TryRecvError::Empty | TryRecvError::Closed) => break,
                    }
                }
                // Sometimes other things come before the batch is written.
                if !random.once_in(4) {
                    shard.offer();
                }
            }
            2 => ids.extend(
                world.openings().into_iter().filter_map(|opening| shard.open(opening, random.below(128) as u32)),
            ),
            3 => shard.tick(Instant::now()),
            4 => {
                for (id, read) in shard.reads().collect::<Vec<_>>() {
                    let hub = hub.clone();
                    reads.push(async move { (id, read, hub.read(read.after).await) }.boxed());
                }
                if let Some(Some((id, read, page))) = reads.next().now_or_never() {
                    if page.as_ref().is_ok_and(|page| !page.publications.is_empty()) {
                        world.tally(|tally| tally.from_store += 1);
                    }
                    shard.page(id, read, page);
                }
            }
            _ => {
                ids.retain(|id| shard.id(id.key) == Some(*id));
                if let Some(&id) = (!ids.is_empty()).then(|| &ids[random.below(ids.len())]) {
                    if shard.socket(id).has_room_again() {
                        shard.writable(id);
                    }
                    if shard.id(id.key) == Some(id) && shard.socket(id).has_something() {
                        shard.readable(id, random.once_in(2));
                    }
                }
            }
        }
        if random.once_in(3) {
            sleep(random.millis(6)).await;
        }
    }
}
