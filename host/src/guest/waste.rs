//! How long a handler rests because its calls burned the processors in vain, so that a guest which does nothing else
//! has a tenth of one, up to a waste of 111 ms a turn, and half of one at 1 s: what it does to caches and memory is felt by all others, whatever its priority.

use std::time::Duration;

/// A call that takes this long and comes to nothing is a waste. One that succeeds may take what it needs.
const LONG: Duration = Duration::from_millis(10);

/// So many times as long as it wasted. Measured beside a steady handler, on two processors that the broker shares:
/// at 3 its p99 grew by up to half, at 9 by up to a fifth.
const TIMES: u32 = 9;

/// At most: the events behind a guilty one wait for it.
const MOST: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(super) struct Waste(Duration);

impl Waste {
    /// Hears of a call, whether it was in vain, and how long it took.
    pub(super) fn heed(&mut self, vain: bool, took: Duration) {
        if vain && took >= LONG {
            self.0 += took;
        }
    }

    /// The rest that is due for all that was heard since the last one.
    pub(super) fn rest(&mut self) -> Duration {
        std::mem::take(&mut self.0).saturating_mul(TIMES).min(MOST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_wasted_is_rested_for_once_and_in_bounds() {
        let mut waste = Waste::default();
        waste.heed(false, MOST);
        waste.heed(true, LONG - Duration::from_nanos(1));
        assert_eq!(waste.rest(), Duration::ZERO);
        waste.heed(true, LONG);
        waste.heed(true, LONG);
        assert_eq!(waste.rest(), 2 * TIMES * LONG);
        assert_eq!(waste.rest(), Duration::ZERO);
        waste.heed(true, MOST);
        assert_eq!(waste.rest(), MOST);
    }
}
