//! When each client's next heartbeat is due: spread evenly over the interval, so that the cost is spread too.

use std::time::Duration;

use tokio::time::Instant;

/// Into how many moments the interval is cut.
const SLOTS: usize = 128;

/// A ring of moments, each with the clients that beat then.
pub struct Beats {
    slots: Vec<Vec<u32>>,
    /// From one moment to the next.
    step: Duration,
    /// The slot that is due next, and when.
    slot: usize,
    next: Instant,
}

/// Where a client stands in the ring.
#[derive(Debug, Clone, Copy)]
pub struct Beat {
    slot: u16,
    index: u32,
}

impl Beats {
    /// One beat for each client in each `interval`, spread over it.
    pub fn new(interval: Duration) -> Self {
        let step = (interval / SLOTS as u32).max(Duration::from_millis(1));
        Self { slots: vec![Vec::new(); SLOTS], step, slot: 0, next: Instant::now() + step }
    }

    /// Adds a client; `random` chooses its moment, so that clients that came together don't beat together.
    pub fn add(&mut self, key: usize, random: u32) -> Beat {
        let slot = random as usize % SLOTS;
        let keys = &mut self.slots[slot];
        keys.push(u32::try_from(key).expect("there are fewer descriptors than that"));
        Beat { slot: slot as u16, index: keys.len() as u32 - 1 }
    }

    /// Takes a client out; another one may have moved into its place.
    pub fn remove(&mut self, beat: Beat) -> Option<(usize, Beat)> {
        let keys = &mut self.slots[usize::from(beat.slot)];
        keys.swap_remove(beat.index as usize);
        keys.get(beat.index as usize).map(|moved| (*moved as usize, beat))
    }

    /// When somebody is to be looked at next.
    pub fn next(&self) -> Instant {
        self.next
    }

    /// The clients that are due at a moment that has come, into `keys`; whether there was one. To be called until
    /// there is none.
    pub fn due(&mut self, now: Instant, keys: &mut Vec<u32>) -> bool {
        keys.clear();
        if now < self.next {
            return false;
        }
        keys.extend_from_slice(&self.slots[self.slot]);
        self.slot = (self.slot + 1) % SLOTS;
        self.next += self.step;
        // After a pass that took long, everybody's turn is made up for. After a standstill of the whole process it
        // is not: a client would be asked several times at once, and had no time to answer.
        if now > self.next + self.step * (SLOTS as u32 / 2) {
            self.next = now + self.step;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_millis(1280);

    fn beat(beats: &mut Beats) -> Vec<u32> {
        let (mut keys, mut all) = (Vec::new(), Vec::new());
        while beats.due(Instant::now(), &mut keys) {
            all.extend_from_slice(&keys);
        }
        all
    }

    #[tokio::test(start_paused = true)]
    async fn each_client_beats_once_an_interval() {
        let mut beats = Beats::new(INTERVAL);
        for key in 0..1000 {
            beats.add(key, key as u32 * 7);
        }
        for _ in 0..3 {
            let mut seen = Vec::new();
            for _ in 0..64 {
                tokio::time::advance(INTERVAL / 64).await;
                let keys = beat(&mut beats);
                assert!(keys.len() <= 20, "{} at once", keys.len());
                seen.extend(keys);
            }
            seen.sort_unstable();
            assert!(seen.into_iter().eq(0..1000));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_left_beats_no_more_and_the_one_in_its_place_does() {
        let mut beats = Beats::new(INTERVAL);
        let first = beats.add(1, 0);
        let second = beats.add(2, 0);
        let (moved, place) = beats.remove(first).expect("the second takes the place of the first");
        assert_eq!(moved, 2);
        tokio::time::advance(INTERVAL).await;
        assert_eq!(beat(&mut beats), [2]);
        assert!(beats.remove(place).is_none());
        tokio::time::advance(INTERVAL).await;
        assert!(beat(&mut beats).is_empty());
        let _ = second;
    }

    #[tokio::test(start_paused = true)]
    async fn a_standstill_is_not_made_up_for() {
        let mut beats = Beats::new(INTERVAL);
        beats.add(1, 5);
        tokio::time::advance(INTERVAL * 50).await;
        assert!(beat(&mut beats).len() <= 1);
    }
}
