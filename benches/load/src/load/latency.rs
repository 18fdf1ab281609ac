//! Percentiles and medians of what was measured.

/// Latencies of one publication's deliveries, in microseconds, from the shortest.
pub struct Sorted(Vec<u32>);

impl Sorted {
    pub fn new(mut micros: Vec<u32>) -> Self {
        micros.sort_unstable();
        Self(micros)
    }

    /// All of these as one.
    pub fn joined(many: Vec<Self>) -> Self {
        Self::new(many.into_iter().flat_map(|one| one.0).collect())
    }

    /// The one that this part of all does not exceed: 0 is the first, 1 the last. None where nothing was delivered.
    pub fn percentile(&self, part: f64) -> Option<u32> {
        let place = (self.0.len() as f64 * part).ceil() as usize;
        self.0.get(place.saturating_sub(1)).copied()
    }

    /// The percentiles from 0.1 to 100 by 0.1, so that those of several runs can be looked at as one.
    pub fn permilles(&self) -> Vec<u32> {
        (1..=1000).filter_map(|permille| self.percentile(f64::from(permille) / 1000.0)).collect()
    }
}

/// The one in the middle; 0 where there is none.
pub fn median(values: impl Iterator<Item = u32>) -> u32 {
    Sorted::new(values.collect()).percentile(0.5).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_count_from_the_shortest() {
        let latencies = Sorted::new((1..=200).rev().collect());
        let percentiles = [0.0, 0.5, 0.99, 1.0].map(|part| latencies.percentile(part));
        assert_eq!(percentiles, [Some(1), Some(100), Some(198), Some(200)]);
        assert_eq!(Sorted::new(Vec::new()).percentile(0.5), None);
        let permilles = latencies.permilles();
        assert_eq!([0, 499, 989, 999].map(|place| permilles[place]), [1, 100, 198, 200]);
        assert_eq!(Sorted::joined(vec![latencies, Sorted::new(vec![0])]).percentile(0.0), Some(0));
    }

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median([9, 1, 5].into_iter()), 5);
        assert_eq!(median([].into_iter()), 0);
    }
}
