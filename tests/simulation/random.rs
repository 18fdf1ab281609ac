//! The seed's stream of choices.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

/// Cheap to clone; all clones draw from one stream, so that a run is repeatable as a whole.
#[derive(Clone)]
pub struct Random(Arc<Mutex<u64>>);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(seed)))
    }

    /// SplitMix64 (Steele, Lea and Flood, 2014).
    fn next(&self) -> u64 {
        let mut state = self.0.lock().expect("no draw panics");
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = *state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From `0` to `end - 1`.
    pub fn below(&self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// True once in `times`.
    pub fn once_in(&self, times: usize) -> bool {
        self.below(times) == 0
    }

    pub fn choose<T: Copy>(&self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    pub fn millis(&self, below: usize) -> Duration {
        Duration::from_millis(self.below(below) as u64)
    }
}
