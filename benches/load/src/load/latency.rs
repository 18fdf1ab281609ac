//! Latencies of millions of deliveries in little memory.

/// Counts of microseconds in steps of at most 1/32 of the value.
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
    max: u64,
}

/// Steps in each power of two, as a power of two.
const STEPS: u32 = 5;

impl Default for Histogram {
    fn default() -> Self {
        // Up to 2^40 us, which is twelve days.
        Self { counts: vec![0; 40 << STEPS], total: 0, max: 0 }
    }
}

impl Histogram {
    pub fn record(&mut self, micros: u64) {
        let last = self.counts.len() - 1;
        self.counts[step(micros).min(last)] += 1;
        self.total += 1;
        self.max = self.max.max(micros);
    }

    /// The value that this part of all values does not exceed; 0 where there is none.
    pub fn percentile(&self, part: f64) -> u64 {
        let wanted = ((self.total as f64 * part).ceil() as u64).max(1);
        let mut seen = 0;
        let reached = self.counts.iter().position(|count| {
            seen += count;
            seen >= wanted
        });
        reached.map_or(0, |step| start(step).min(self.max))
    }

    pub fn max(&self) -> u64 {
        self.max
    }
}

/// The step that holds a value.
fn step(value: u64) -> usize {
    let bits = u64::BITS - value.leading_zeros();
    let shift = bits.saturating_sub(STEPS + 1);
    ((shift as usize) << STEPS) + (value >> shift) as usize
}

/// The lowest value of a step.
fn start(step: usize) -> u64 {
    let shift = (step >> STEPS).saturating_sub(1);
    ((step - (shift << STEPS)) as u64) << shift
}

/// The value in the middle; 0 where there is none.
pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_starts_within_a_thirty_second_of_each_of_its_values() {
        for value in (0..5000).chain([1 << 20, (1 << 20) + 12_345, u64::from(u32::MAX)]) {
            let start = start(step(value));
            assert!(start <= value && value - start <= value / 32, "{value}: {start}");
        }
    }

    #[test]
    fn percentiles_count_from_the_smallest() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.percentile(0.5), 0);
        (1..=50).for_each(|value| histogram.record(value));
        assert_eq!((histogram.percentile(0.5), histogram.percentile(1.0), histogram.max()), (25, 50, 50));
    }
}
