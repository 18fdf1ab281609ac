//! Connections that are no clients yet: how many there may be, and which of them makes room for another.
//!
//! A connection holds a descriptor before it has said a word. Where there are too many, the one goes that has waited
//! for its client the longest: a real client asks right after connecting, takes its answer and leaves, so it takes many
//! newcomers a moment to crowd it out. What a connection waits for (see [`Wait`]) tells three crowds apart, and it is
//! one of the largest that goes: so none takes the places of the others. A connection whose request is being worked on
//! is never closed, nor is a client.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::Notify;

use crate::{
    forwarded::TrustedProxies,
    limits::{Limits, Permit, Refusal},
    metrics::Metrics,
};

/// The most connections that are no clients: as many as the kernel lets wait to be accepted.
const MOST: u64 = 4096;

/// The fewest of them, also where clients have all descriptors, or an address its due: only who is accepted can be told
/// 503 or 429.
const FEWEST: u64 = 16;

/// All connections that are no clients.
pub struct Pending {
    /// How many there may be together with clients.
    descriptors: u64,
    clients: Arc<Limits>,
    /// Counts them, in all and by address.
    counted: Arc<Limits>,
    proxies: Arc<TrustedProxies>,
    metrics: Arc<Metrics>,
    waiting: Mutex<Waiting>,
}

/// What a connection waits for, of its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// The first request.
    Request,
    /// The next one: it is kept.
    NextRequest,
    /// That the client goes on: it sends slowly what nobody asked for, or takes its answer slowly.
    Progress,
}

/// The connections that wait, by their turn: from the one that has waited longest.
#[derive(Default)]
struct Waiting {
    /// In the order of [`Wait`].
    crowds: [BTreeMap<u64, Arc<Notify>>; 3],
    last_turn: u64,
}

impl Waiting {
    fn pop(&mut self) -> Option<Arc<Notify>> {
        // Of crowds of one size the last that is looked at, and so the first.
        let largest = self.crowds.iter_mut().rev().max_by_key(|crowd| crowd.len())?;
        largest.pop_first().map(|(_, oldest)| oldest)
    }
}

/// A connection that is no client; it counts until this is dropped.
pub struct PendingConnection {
    pending: Arc<Pending>,
    turn: AtomicU64,
    crowded_out: Arc<Notify>,
    _permit: Permit,
}

impl Pending {
    /// `max_per_address` is for peers that are no proxies, behind which many may be.
    pub fn new(
        descriptors: u64,
        max_per_address: u64,
        clients: Arc<Limits>,
        proxies: Arc<TrustedProxies>,
        metrics: Arc<Metrics>,
    ) -> Arc<Self> {
        let counted = Limits::new(u64::MAX, max_per_address.max(FEWEST));
        Arc::new(Self { descriptors, clients, counted, proxies, metrics, waiting: Mutex::default() })
    }

    /// Takes a connection in, at the cost of the one that has waited longest where there are too many.
    ///
    /// # Errors
    /// When its address has too many by itself, or none of too many can go.
    pub fn admit(self: &Arc<Self>, peer: Option<IpAddr>) -> Result<PendingConnection, Refusal> {
        self.make_room(peer).inspect_err(|refusal| {
            self.metrics.refused(match refusal {
                Refusal::AddressFull => "pending_address_full",
                Refusal::Full => "pending_full",
            });
        })
    }

    fn make_room(self: &Arc<Self>, peer: Option<IpAddr>) -> Result<PendingConnection, Refusal> {
        let is_proxy = peer.is_none_or(|peer| self.proxies.trust(peer));
        let permit = self.counted.admit(peer.filter(|_| !is_proxy))?;
        if self.counted.connected() > self.room() {
            self.waiting().pop().ok_or(Refusal::Full)?.notify_one();
            self.metrics.refused("no_request");
        }
        let connection = PendingConnection {
            pending: self.clone(),
            turn: AtomicU64::default(),
            crowded_out: Arc::default(),
            _permit: permit,
        };
        connection.wait(Wait::Request);
        Ok(connection)
    }

    /// Whether the next one has to take another's place.
    pub fn is_crowded(&self) -> bool {
        self.counted.connected() >= self.room()
    }

    fn room(&self) -> u64 {
        self.descriptors.saturating_sub(self.clients.connected()).clamp(FEWEST, MOST)
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PendingConnection {
    /// It waits for its client from now on, and may have to make room.
    pub fn wait(&self, what: Wait) {
        let mut waiting = self.pending.waiting();
        self.leave(&mut waiting);
        waiting.last_turn += 1;
        self.turn.store(waiting.last_turn, Ordering::Relaxed);
        let turn = waiting.last_turn;
        waiting.crowds[what as usize].insert(turn, self.crowded_out.clone());
    }

    /// It waits no more: its request is worked on, and it stays. Returns false where it had to make room before.
    pub fn go_on(&self) -> bool {
        self.leave(&mut self.pending.waiting())
    }

    /// Whether it waits for its client.
    pub fn is_waiting(&self) -> bool {
        let turn = self.turn.load(Ordering::Relaxed);
        self.pending.waiting().crowds.iter().any(|crowd| crowd.contains_key(&turn))
    }

    fn leave(&self, waiting: &mut Waiting) -> bool {
        let turn = self.turn.load(Ordering::Relaxed);
        waiting.crowds.iter_mut().any(|crowd| crowd.remove(&turn).is_some())
    }

    /// Returns when it has to make room.
    pub async fn crowded_out(&self) {
        self.crowded_out.notified().await;
    }
}

impl Drop for PendingConnection {
    fn drop(&mut self) {
        self.go_on();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pending(descriptors: u64, proxies: &str) -> Arc<Pending> {
        let proxies = TrustedProxies::new(vec![proxies.parse().expect("a network")], None);
        Pending::new(descriptors, 2, Limits::new(0, 0), Arc::new(proxies), Arc::default())
    }

    async fn is_out(connection: &PendingConnection) -> bool {
        tokio::time::timeout(std::time::Duration::ZERO, connection.crowded_out()).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_waited_longest_makes_room_and_nobody_who_is_being_answered() {
        let pending = pending(FEWEST, "127.0.0.0/8");
        let mut all: Vec<_> = (0..FEWEST).map(|_| pending.admit(None).expect("room")).collect();
        assert!(pending.is_crowded());
        assert!(all[0].go_on());
        all[1].go_on();
        all[1].wait(Wait::NextRequest);
        all.push(pending.admit(None).expect("room is made"));
        for (number, connection) in all.iter().enumerate() {
            assert_eq!(is_out(connection).await, number == 2, "{number}");
        }
        assert!(!all[2].go_on(), "too late");
        drop(all.remove(2));
        assert!(all.iter().filter(|connection| connection.go_on()).count() > 2);
        assert_eq!(pending.admit(None).err(), Some(Refusal::Full), "all are being answered");
        all.iter().for_each(|connection| connection.wait(Wait::NextRequest));
        let _silent = pending.admit(None).expect("room is made by those that are more");
        assert!(is_out(&all[0]).await, "kept for longest");
        drop(all);
        let kept = |pending: &Pending| pending.waiting().crowds[Wait::NextRequest as usize].len();
        assert_eq!(kept(&pending), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn each_crowd_makes_room_for_itself() {
        let pending = pending(FEWEST, "127.0.0.0/8");
        let slow: Vec<_> = (0..FEWEST - 2).map(|_| pending.admit(None).expect("room")).collect();
        slow.iter().for_each(|connection| connection.wait(Wait::Progress));
        let kept = pending.admit(None).expect("room");
        kept.wait(Wait::NextRequest);
        let silent = pending.admit(None).expect("room");
        let more: Vec<_> = (0..4).map(|_| pending.admit(None).expect("room is made")).collect();
        for (number, connection) in slow.iter().enumerate() {
            assert_eq!(is_out(connection).await, number < 4, "{number}");
        }
        for connection in more.iter().chain([&kept, &silent]) {
            assert!(!is_out(connection).await);
        }
    }

    #[tokio::test]
    async fn an_address_has_its_own_bound_unless_it_is_a_proxy() {
        let pending = pending(1000, "127.0.0.0/8");
        let [stranger, proxy]: [Option<IpAddr>; 2] = ["1.1.1.1", "127.0.0.1"].map(|text| text.parse().ok());
        let strangers = [(); FEWEST as usize].map(|()| pending.admit(stranger).expect("room"));
        assert_eq!(pending.admit(stranger).err(), Some(Refusal::AddressFull));
        let _others = [(); 2 * FEWEST as usize].map(|()| pending.admit(proxy).expect("room"));
        drop(strangers);
        assert!(pending.admit(stranger).is_ok());
    }
}
