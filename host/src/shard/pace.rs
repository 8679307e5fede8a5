//! How many events a turn takes, and how many may be gathered into one commit.
//!
//! A commit that didn't go out may have been too large for the time that a transaction has, as on a slow link, and the same again
//! would fare the same. So the next ones hold half of what it held at most, and by each that goes out they grow, until they are
//! as large as what failed, and a turn is whole again.

pub(super) struct Pace {
    limit: usize,
    reduced: Option<Reduced>,
}

/// Since a commit failed.
struct Reduced {
    /// What a commit holds, at most: several turns, or less than a whole one.
    events: usize,
    /// What the first one held that failed.
    failed: usize,
}

impl Pace {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit: limit.max(1), reduced: None }
    }

    pub(super) fn set_limit(&mut self, limit: usize) {
        self.limit = limit.max(1);
    }

    /// Of a turn, at most.
    pub(super) fn events(&self) -> usize {
        self.reduced.as_ref().map_or(self.limit, |reduced| reduced.events.min(self.limit))
    }

    /// So many have been handed over, and another turn must not be gathered into one commit with them.
    pub(super) fn is_full(&self, handed_over: u64) -> bool {
        let more = usize::try_from(handed_over).unwrap_or(usize::MAX).saturating_add(self.events());
        self.reduced.as_ref().is_some_and(|reduced| more > reduced.events)
    }

    /// A commit of so many events failed, which may be for its size.
    pub(super) fn failed(&mut self, events: u64) {
        let events = usize::try_from(events).unwrap_or(usize::MAX);
        let Reduced { events: most, failed } =
            self.reduced.take().unwrap_or(Reduced { events: usize::MAX, failed: events });
        self.reduced = Some(Reduced { events: (events / 2).clamp(1, most), failed });
    }

    /// A commit went out.
    pub(super) fn went(&mut self) {
        let Some(reduced) = &mut self.reduced else { return };
        // A quarter: from half of what was too much it takes four commits to come there again.
        reduced.events += (reduced.events / 4).max(1);
        if reduced.events >= reduced.failed.max(self.limit) {
            self.reduced = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_halves_what_failed_and_grows_until_it_is_whole() {
        let mut pace = Pace::new(100);
        assert_eq!((pace.events(), pace.is_full(100_000)), (100, false));
        pace.failed(100);
        assert_eq!((pace.events(), pace.is_full(50)), (50, true));
        for events in [62, 77, 96] {
            pace.went();
            assert_eq!((pace.events(), pace.is_full(1)), (events, true));
        }
        pace.went();
        assert_eq!((pace.events(), pace.is_full(100_000)), (100, false));
    }

    #[test]
    fn what_was_gathered_and_failed_is_gathered_by_half() {
        let mut pace = Pace::new(100);
        pace.failed(2000);
        assert_eq!((pace.events(), pace.is_full(900), pace.is_full(901)), (100, false, true));
        pace.failed(1000);
        assert_eq!((pace.events(), pace.is_full(400), pace.is_full(401)), (100, false, true));
        // Not whole with the turn: it was more that failed.
        for _ in 0..6 {
            pace.went();
            assert!(pace.is_full(2000));
        }
        pace.went();
        assert!(!pace.is_full(100_000));
    }

    #[test]
    fn one_event_is_the_least() {
        let mut pace = Pace::new(1);
        pace.failed(1);
        pace.failed(0);
        assert_eq!((pace.events(), pace.is_full(1)), (1, true));
        pace.went();
        assert_eq!((pace.events(), pace.is_full(1)), (1, false));
    }

    #[test]
    fn a_lower_limit_holds_for_what_is_reduced_as_well() {
        let mut pace = Pace::new(1000);
        pace.failed(100);
        pace.set_limit(10);
        assert_eq!(pace.events(), 10);
        for _ in 0..4 {
            pace.went();
        }
        assert!(!pace.is_full(1000));
    }
}
