//! Whether a handler has lately wasted the processors' time: by calls that took long and failed.

use std::time::Duration;

/// A call that takes this long and then fails is a waste. One that succeeds may take what it needs.
const LONG: Duration = Duration::from_millis(10);

/// So many calls in a row must be none. Many: what comes of a change, a new thread, costs memory each time.
const CALLS: u32 = 256;

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Probation {
    left: u32,
}

impl Probation {
    /// Hears how a call ended, and how long it took.
    pub(super) fn heed(&mut self, failed: bool, took: Duration) {
        self.left = if failed && took >= LONG { CALLS } else { self.left.saturating_sub(1) };
    }

    pub(super) fn lasts(self) -> bool {
        self.left > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_begins_with_a_long_call_in_vain_and_ends_after_many_that_are_none() {
        let mut probation = Probation::default();
        probation.heed(false, LONG);
        probation.heed(true, Duration::ZERO);
        assert!(!probation.lasts());
        probation.heed(true, LONG);
        for _ in 0..CALLS {
            assert!(probation.lasts());
            probation.heed(false, LONG);
        }
        assert!(!probation.lasts());
    }
}
