//! How often somebody may do something: a burst at once, then so many a second. By connection, or by address.
//!
//! All that is kept is a moment, from which on the whole burst may be had again (the generic cell rate algorithm). So
//! an address is forgotten as soon as that has passed, and how many are known is bounded by what they do: to keep one
//! in memory costs its owner as many requests a second as the rate allows it.
//!
//! By hand, since limiters that can be had charge for every question: a wrong token must be asked about before it is
//! compared and charged after. And by Tokio's clock, which tests can hold.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::forwarded::limit_key;

/// A burst, and after how long one more may follow it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    interval: Duration,
    /// How long it takes until the whole burst may be had again.
    burst: Duration,
}

impl Rate {
    /// `count` a second, from 1, and `burst` at once: 0 refuses everything.
    pub fn per_second(count: u64, burst: u64) -> Self {
        Self::new(Duration::from_secs(1), count, burst)
    }

    /// The burst is what a minute allows.
    pub fn per_minute(count: u64) -> Self {
        Self::new(Duration::from_secs(60), count, count)
    }

    fn new(period: Duration, count: u64, burst: u64) -> Self {
        let interval = (period.as_nanos() as u64 / count.max(1)).max(1);
        Self { interval: Duration::from_nanos(interval), burst: Duration::from_nanos(interval.saturating_mul(burst)) }
    }

    fn cost(self, count: u64) -> Duration {
        Duration::from_nanos((self.interval.as_nanos() as u64).saturating_mul(count))
    }
}

/// What somebody has left of a rate.
#[derive(Debug, Clone, Copy)]
pub struct Bucket {
    /// When the whole burst may be had again; the further ahead, the less is left.
    full_at: Instant,
}

impl Bucket {
    /// From which nothing was taken yet.
    pub fn full(now: Instant) -> Self {
        Self { full_at: now }
    }

    /// Takes `count`, or answers how long it takes until there are so many. What is refused costs nothing.
    pub fn take(&mut self, rate: Rate, count: u64, now: Instant) -> Result<(), Duration> {
        let full_at = self.full_at.max(now) + rate.cost(count);
        match (full_at - now).checked_sub(rate.burst) {
            Some(wait) if !wait.is_zero() => Err(wait),
            _ => {
                self.full_at = full_at;
                Ok(())
            }
        }
    }
}

/// What is done too often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    Handshake,
    /// Being caught up, in publications.
    Replay,
    Post,
    WrongToken,
}

/// An address has done something too often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooOften {
    pub act: Act,
    /// When it may do so again.
    pub wait: Duration,
}

/// One rate for each address; a network of IPv6 is one (see [`limit_key`]).
pub struct Rates {
    act: Act,
    rate: Rate,
    known: Mutex<Known>,
}

struct Known {
    buckets: HashMap<IpAddr, Bucket>,
    /// How many may be known before those are forgotten that have their whole burst again.
    sweep_at: usize,
}

impl Rates {
    /// Below so many addresses it is not worth looking for those to forget.
    const FEW: usize = 1024;

    /// `act` is what is refused.
    pub fn new(act: Act, rate: Rate) -> Self {
        Self { act, rate, known: Mutex::new(Known { buckets: HashMap::new(), sweep_at: Self::FEW }) }
    }

    /// Counts what an address does. One that is not known (a silent proxy on a Unix socket) is everybody's, and passes.
    ///
    /// # Errors
    /// When it has done so too often; then it is not counted.
    pub fn take(&self, address: Option<IpAddr>, count: u64) -> Result<(), TooOften> {
        let now = Instant::now();
        self.bucket(address, now, |bucket| bucket.take(self.rate, count, now))
    }

    /// Whether an address may do so once more, without counting it.
    ///
    /// # Errors
    /// When it may not.
    pub fn ask(&self, address: Option<IpAddr>) -> Result<(), TooOften> {
        let now = Instant::now();
        self.bucket(address, now, |bucket| { *bucket }.take(self.rate, 1, now))
    }

    fn bucket(
        &self,
        address: Option<IpAddr>,
        now: Instant,
        take: impl FnOnce(&mut Bucket) -> Result<(), Duration>,
    ) -> Result<(), TooOften> {
        let Some(address) = address else { return Ok(()) };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.forget(now);
        let bucket = known.buckets.entry(limit_key(address)).or_insert_with(|| Bucket::full(now));
        take(bucket).map_err(|wait| TooOften { act: self.act, wait })
    }
}

impl Known {
    /// Drops who has the whole burst again, at times: each address pays for looking at two.
    fn forget(&mut self, now: Instant) {
        if self.buckets.len() < self.sweep_at {
            return;
        }
        self.buckets.retain(|_, bucket| bucket.full_at > now);
        self.sweep_at = (self.buckets.len() * 2).max(Rates::FEW);
        self.buckets.shrink_to(self.sweep_at);
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    fn rates() -> Rates {
        Rates::new(Act::Handshake, Rate::per_second(2, 10))
    }

    fn address(number: u32) -> Option<IpAddr> {
        Some(Ipv4Addr::from_bits(number).into())
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_passes_and_then_the_rate() {
        let rates = rates();
        assert!((0..10).all(|_| rates.take(address(1), 1).is_ok()));
        let wait = Duration::from_millis(500);
        for _ in 0..3 {
            // Asking again and again makes nothing worse.
            assert_eq!(rates.take(address(1), 1), Err(TooOften { act: Act::Handshake, wait }));
        }
        tokio::time::advance(wait).await;
        assert!(rates.take(address(1), 1).is_ok());
        assert!(rates.take(address(1), 1).is_err());
        assert!(rates.take(address(2), 1).is_ok(), "others have their own");
        for _ in 0..1000 {
            tokio::time::advance(wait).await;
            assert!(rates.take(address(1), 1).is_ok());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_counts_for_several_takes_as_many_or_none() {
        let rates = rates();
        assert!(rates.take(address(1), 8).is_ok());
        assert!(rates.take(address(1), 3).is_err());
        assert!(rates.take(address(1), 2).is_ok());
        assert!(rates.take(address(1), 0).is_ok(), "nothing is always left");
        assert!(rates.take(address(2), u64::MAX).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn asking_costs_nothing() {
        let rates = rates();
        assert!((0..100).all(|_| rates.ask(address(1)).is_ok()));
        assert!(rates.take(address(1), 10).is_ok());
        assert!(rates.ask(address(1)).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_network_of_ipv6_is_one_and_who_is_not_known_passes() {
        let rates = rates();
        let [one, same, other] =
            ["2001:db8::1", "2001:db8::ffff:2", "2001:db8:0:1::1"].map(|text| Some(text.parse().unwrap()));
        assert!(rates.take(one, 10).is_ok());
        assert!(rates.take(same, 1).is_err());
        assert!(rates.take(other, 1).is_ok());
        assert!((0..100).all(|_| rates.take(None, 1).is_ok()));
    }

    #[tokio::test(start_paused = true)]
    async fn addresses_are_forgotten_and_those_that_are_over_the_rate_are_not() {
        let rates = rates();
        assert!(rates.take(address(0), 10).is_ok());
        for number in 1..100_000_u32 {
            let network: IpAddr = Ipv6Addr::from_bits(u128::from(number) << 64).into();
            assert!(rates.take(Some(network), 1).is_ok());
            tokio::time::advance(Duration::from_millis(1)).await;
            if number % 10_000 == 0 {
                let known = rates.known.lock().expect("nobody panicked");
                // Each is full again after 500 ms, so 500 are worth keeping at any time.
                assert!(known.buckets.len() <= Rates::FEW && known.buckets.capacity() <= 4 * Rates::FEW);
            }
            if number < 400 {
                assert!(rates.take(address(0), 1).is_err());
            }
        }
    }
}
