//! Where calls run whose handler has lately wasted time: on threads of low priority, so that a guest that burns
//! processors gives way to the shards, the Kafka clients and the HTTP of everybody else.
//!
//! A thread each, for the length of the call: a priority that was lowered can't be raised again without privilege, and
//! what comes after the call, the commit, is the host's own work. Starting one takes some 50 us, beside the time that is
//! lost anyway.

use std::panic::resume_unwind;
use std::thread;
use std::time::Duration;

/// A call that takes this long and then fails is a waste. One that succeeds may take what it needs: with less of a
/// processor it might run into its deadline.
const LONG: Duration = Duration::from_millis(10);

/// So many calls in a row must be none before the handler is back in front.
const PROBATION: u32 = 16;

/// The `nice` value of these threads, on top of the host's own. Beside a busy thread of the host this one has a tenth
/// of a processor, so that a handler on probation still gets through its calls where all processors are busy.
const NICE: i32 = 10;

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct BackSeat {
    /// Calls on probation that are left.
    left: u32,
}

impl BackSeat {
    /// Runs a call where it belongs by now.
    pub(super) fn run<T: Send>(self, call: impl FnOnce() -> T + Send) -> T {
        if self.left == 0 {
            return call();
        }
        thread::scope(|scope| {
            let call = move || {
                // Of this thread alone. Where the system refuses it, the call is no worse off than in front.
                let _ = rustix::process::nice(NICE);
                call()
            };
            scope.spawn(call).join().unwrap_or_else(|panic| resume_unwind(panic))
        })
    }

    /// Hears how the call ended, and how long it took.
    pub(super) fn heed(&mut self, failed: bool, took: Duration) {
        self.left = if failed && took >= LONG { PROBATION } else { self.left.saturating_sub(1) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nice() -> i32 {
        rustix::process::nice(0).unwrap()
    }

    #[test]
    fn a_call_that_wastes_time_lowers_the_next_ones_and_not_the_threads_own_work() {
        let (mut seat, ours) = (BackSeat::default(), nice());
        assert_eq!(seat.run(nice), ours);
        seat.heed(false, LONG);
        seat.heed(true, Duration::ZERO);
        assert_eq!(seat.run(nice), ours);
        seat.heed(true, LONG);
        for _ in 0..PROBATION {
            assert_eq!(seat.run(nice), (ours + NICE).min(19));
            assert_eq!(nice(), ours);
            seat.heed(false, Duration::ZERO);
        }
        assert_eq!(seat.run(nice), ours);
    }

    #[test]
    #[should_panic(expected = "of the call")]
    fn a_panic_of_the_call_is_one_of_its_caller() {
        let mut seat = BackSeat::default();
        seat.heed(true, LONG);
        seat.run(|| panic!("of the call"))
    }
}
