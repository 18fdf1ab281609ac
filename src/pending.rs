//! Connections that are no clients yet: how many there may be, and which of them makes room for another.
//!
//! Whoever connects holds a descriptor before it has said a word. Where too many do, the one goes that has waited longest:
//! who means it asks right after connecting, so it takes many newcomers a moment to crowd it out. It is one of those that
//! have never asked anything, or of those that are kept for a next request, whichever are more: so neither crowd takes the
//! other's places. One whose request is being answered is never ended, nor is a client.

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
    rejection::Rejection,
};

/// As many as wait in the kernel to be accepted; at most, a storm of clients is half here and half there.
const MOST: u64 = 4096;

/// Even where clients have all descriptors that may be theirs, or an address few, somebody has to be told so.
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

/// Those that have asked nothing that is still to be answered, by their turn: from the one that has waited longest.
#[derive(Default)]
struct Waiting {
    silent: BTreeMap<u64, Arc<Notify>>,
    kept: BTreeMap<u64, Arc<Notify>>,
    last_turn: u64,
}

impl Waiting {
    fn pop(&mut self) -> Option<Arc<Notify>> {
        let more = if self.silent.len() >= self.kept.len() { &mut self.silent } else { &mut self.kept };
        more.pop_first().map(|(_, oldest)| oldest)
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
        let admitted = self.make_room(peer);
        admitted.inspect_err(|refusal| self.metrics.refused(Rejection::from(*refusal).reason()))
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
        let mut waiting = self.waiting();
        let turn = connection.next_turn(&mut waiting);
        waiting.silent.insert(turn, connection.crowded_out.clone());
        drop(waiting);
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
    /// It has asked something: it stays until it is answered.
    pub fn asks(&self) {
        let mut waiting = self.pending.waiting();
        let turn = self.turn.load(Ordering::Relaxed);
        if waiting.silent.remove(&turn).is_none() {
            waiting.kept.remove(&turn);
        }
    }

    /// It has been answered, and may ask again.
    pub fn is_answered(&self) {
        let mut waiting = self.pending.waiting();
        let turn = self.next_turn(&mut waiting);
        waiting.kept.insert(turn, self.crowded_out.clone());
    }

    fn next_turn(&self, waiting: &mut Waiting) -> u64 {
        waiting.last_turn += 1;
        self.turn.store(waiting.last_turn, Ordering::Relaxed);
        waiting.last_turn
    }

    /// Returns when it has to make room.
    pub async fn crowded_out(&self) {
        self.crowded_out.notified().await;
    }
}

impl Drop for PendingConnection {
    fn drop(&mut self) {
        self.asks();
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
        all[0].asks();
        all[1].asks();
        all[1].is_answered();
        all.push(pending.admit(None).expect("room is made"));
        for (number, connection) in all.iter().enumerate() {
            assert_eq!(is_out(connection).await, number == 2, "{number}");
        }
        drop(all.remove(2));
        all.iter().for_each(PendingConnection::asks);
        assert_eq!(pending.admit(None).err(), Some(Refusal::Full), "all are being answered");
        all.iter().for_each(PendingConnection::is_answered);
        let _silent = pending.admit(None).expect("room is made by those that are more");
        assert!(is_out(&all[0]).await, "kept for longest");
        drop(all);
        assert!(pending.waiting().kept.is_empty());
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
