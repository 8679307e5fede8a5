//! How often something took how long, or was how large: counts in buckets, which add up over shards and over time. And where
//! all values are at hand, as in reports: which of them stands where.

use std::iter;
use std::time::Duration;

use serde::Serialize;
use serde::ser::{SerializeStruct, Serializer};

const BUCKETS: usize = 25;

/// The upper bounds of the buckets: 1, 2 and 5 times the powers of ten, up to 10^8. In microseconds that is 100 s.
const BOUNDS: [u64; BUCKETS] = bounds();

const fn bounds() -> [u64; BUCKETS] {
    let mut bounds = [0; BUCKETS];
    let (mut bucket, mut power) = (0, 1);
    while bucket < BUCKETS {
        bounds[bucket] = power * [1, 2, 5][bucket % 3];
        if bucket % 3 == 2 {
            power *= 10;
        }
        bucket += 1;
    }
    bounds
}

/// Of whole numbers: microseconds, events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    counts: [u64; BUCKETS],
    /// Of values above the last bound.
    above: u64,
    sum: u64,
}

impl Histogram {
    pub fn record(&mut self, value: u64) {
        let bucket = BOUNDS.partition_point(|bound| *bound < value);
        *self.counts.get_mut(bucket).unwrap_or(&mut self.above) += 1;
        self.sum = self.sum.saturating_add(value);
    }

    /// In microseconds.
    pub fn record_time(&mut self, time: Duration) {
        self.record(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
    }

    pub fn add(&mut self, other: &Self) {
        self.counts.iter_mut().zip(other.counts).for_each(|(count, more)| *count += more);
        self.above += other.above;
        self.sum = self.sum.saturating_add(other.sum);
    }

    /// What came since it was `earlier`.
    pub fn since(&self, earlier: &Self) -> Self {
        let mut since = self.clone();
        since.counts.iter_mut().zip(earlier.counts).for_each(|(count, less)| *count -= less.min(*count));
        since.above = since.above.saturating_sub(earlier.above);
        since.sum = since.sum.saturating_sub(earlier.sum);
        since
    }

    pub fn count(&self) -> u64 {
        self.counts.iter().sum::<u64>() + self.above
    }

    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// The upper bound of each bucket, none of the last one, and how many values are in it.
    pub fn buckets(&self) -> impl Iterator<Item = (Option<u64>, u64)> {
        iter::zip(BOUNDS.map(Some), self.counts).chain([(None, self.above)])
    }

    /// The value that this share of all is not above, as far as buckets tell: within one, values are taken to lie evenly.
    /// None of nothing; at most the last bound.
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let wanted = count as f64 * share;
        let (mut seen, mut lower) = (0.0, 0);
        for (bound, of_bucket) in iter::zip(BOUNDS, self.counts) {
            let of_bucket = of_bucket as f64;
            if of_bucket > 0.0 && seen + of_bucket >= wanted {
                let within = ((wanted - seen) / of_bucket).max(0.0);
                return Some(lower as f64 + (bound - lower) as f64 * within);
            }
            seen += of_bucket;
            lower = bound;
        }
        Some(lower as f64)
    }
}

/// Its outline, and the buckets from the first to the last one that holds something.
impl Serialize for Histogram {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut outline = serializer.serialize_struct("Histogram", 5)?;
        outline.serialize_field("count", &self.count())?;
        outline.serialize_field("sum", &self.sum)?;
        for (name, share) in [("p50", 0.5), ("p99", 0.99)] {
            outline.serialize_field(name, &self.quantile(share).map(f64::round))?;
        }
        let buckets: Vec<_> = self.buckets().collect();
        let is_filled = |(_, count): &(_, u64)| *count > 0;
        let first = buckets.iter().position(is_filled).unwrap_or(buckets.len());
        let last = buckets.iter().rposition(is_filled).map_or(first, |last| last + 1);
        outline.serialize_field("buckets", &buckets[first..last])?;
        outline.end()
    }
}

/// Of a sorted list, the smallest value that so many percent do not exceed: one that was measured (nearest rank). None of
/// nothing.
pub fn percentile<T: Copy>(sorted: &[T], percent: f64) -> Option<T> {
    let rank = (sorted.len() as f64 * percent / 100.0).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied()
}

/// Of a sorted list; of an even number of values, what lies half-way between the two in the middle. None of nothing.
pub fn median(sorted: &[f64]) -> Option<f64> {
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    Some(if sorted.len() % 2 == 1 { upper } else { f64::midpoint(sorted[middle - 1], upper) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: impl IntoIterator<Item = u64>) -> Histogram {
        let mut histogram = Histogram::default();
        values.into_iter().for_each(|value| histogram.record(value));
        histogram
    }

    #[test]
    fn a_value_is_in_the_first_bucket_whose_bound_it_does_not_pass() {
        let filled = |value| {
            let histogram = of([value]);
            let bound = histogram.buckets().find(|(_, count)| *count == 1).map(|(bound, _)| bound);
            bound.unwrap()
        };
        for (value, bound) in [(0, 1), (1, 1), (2, 2), (3, 5), (5, 5), (6, 10), (100_000_000, 100_000_000)] {
            assert_eq!(filled(value), Some(bound), "{value}");
        }
        assert_eq!(filled(100_000_001), None);
        assert_eq!(filled(u64::MAX), None);
    }

    #[test]
    fn quantiles_lie_within_the_bucket_of_the_value() {
        assert_eq!(of([]).quantile(0.5), None);
        let even = of(1..=1000);
        for (share, from, to) in [(0.5, 450.0, 550.0), (0.99, 950.0, 1000.0), (1.0, 1000.0, 1000.0)] {
            let quantile = even.quantile(share).unwrap();
            assert!((from..=to).contains(&quantile), "{share}: {quantile}");
        }
        assert_eq!(of([u64::MAX]).quantile(0.5), Some(100_000_000.0));
        assert_eq!((even.count(), even.sum()), (1000, 500_500));
    }

    #[test]
    fn a_percentile_is_a_value_that_was_measured() {
        let thousand: Vec<u64> = (1..=1000).collect();
        for (percent, value) in [(0.0, 1), (0.01, 1), (50.0, 500), (99.0, 990), (99.9, 999), (100.0, 1000)] {
            assert_eq!(percentile(&thousand, percent), Some(value), "{percent}");
        }
        let times = [1, 2, 3].map(Duration::from_millis);
        assert_eq!([50.0, 99.0].map(|percent| percentile(&times, percent)), [Some(times[1]), Some(times[2])]);
        assert_eq!(percentile(&[7], 1.0), Some(7));
        assert_eq!(percentile::<u64>(&[], 50.0), None);
    }

    #[test]
    fn a_median_has_as_much_below_it_as_above() {
        assert_eq!(median(&[1.0, 2.0, 30.0]), Some(2.0));
        assert_eq!(median(&[1.0, 2.0, 3.0, 40.0]), Some(2.5));
        assert_eq!((median(&[4.0]), median(&[])), (Some(4.0), None));
    }

    #[test]
    fn what_is_added_can_be_taken_off_again() {
        let (some, more) = (of([1, 70, 400_000_000]), of([3, 70]));
        let mut both = some.clone();
        both.add(&more);
        assert_eq!(both, of([1, 70, 400_000_000, 3, 70]));
        assert_eq!(both.since(&some), more);
    }

    #[test]
    fn json_shows_its_outline_and_what_lies_between_its_ends() {
        let json = |histogram| serde_json::to_value(histogram).unwrap();
        assert_eq!(
            json(of([10, 10])),
            serde_json::json!({ "count": 2, "sum": 20, "p50": 8.0, "p99": 10.0, "buckets": [[10, 2]] })
        );
        let far_apart = json(of([30_000_000, u64::MAX]));
        assert_eq!(far_apart["buckets"], serde_json::json!([[50_000_000, 1], [100_000_000, 0], [null, 1]]));
        assert_eq!(json(of([]))["buckets"], serde_json::json!([]));
    }
}
