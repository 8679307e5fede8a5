//! How many events a turn takes.
//!
//! A commit that didn't go out may have been too large for the time that a transaction has, as on a slow link, and the same again
//! would fare the same. So the next turns take half of what it held, or what they took before if that is less, and each is
//! committed by itself; by each commit that goes out they grow, until they are whole again.

pub(super) struct Pace {
    limit: usize,
    /// What a turn takes since a commit failed, until that would be the limit again.
    reduced: Option<usize>,
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
        self.reduced.map_or(self.limit, |reduced| reduced.min(self.limit))
    }

    /// What comes later must not be gathered into one commit: that may be what was too large.
    pub(super) fn one_by_one(&self) -> bool {
        self.reduced.is_some()
    }

    /// A commit of so many events failed, which may be for its size.
    pub(super) fn failed(&mut self, events: u64) {
        let half = usize::try_from(events / 2).unwrap_or(usize::MAX);
        self.reduced = Some(half.clamp(1, self.events()));
    }

    /// A commit went out.
    pub(super) fn went(&mut self) {
        // A quarter: from half of what was too much it takes four commits to come there again.
        let more = self.reduced.map(|events| events + (events / 4).max(1));
        self.reduced = more.filter(|events| *events < self.limit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_halves_what_failed_and_grows_until_it_is_whole() {
        let mut pace = Pace::new(100);
        assert_eq!((pace.events(), pace.one_by_one()), (100, false));
        // Several turns that were gathered.
        pace.failed(2000);
        assert_eq!((pace.events(), pace.one_by_one()), (100, true));
        pace.failed(100);
        assert_eq!(pace.events(), 50);
        for events in [62, 77, 96] {
            pace.went();
            assert_eq!((pace.events(), pace.one_by_one()), (events, true));
        }
        pace.went();
        assert_eq!((pace.events(), pace.one_by_one()), (100, false));
    }

    #[test]
    fn one_event_is_the_least() {
        let mut pace = Pace::new(1);
        pace.failed(100);
        pace.failed(1);
        pace.failed(0);
        assert_eq!((pace.events(), pace.one_by_one()), (1, true));
        pace.went();
        assert_eq!((pace.events(), pace.one_by_one()), (1, false));
    }

    #[test]
    fn a_lower_limit_holds_for_what_is_reduced_as_well() {
        let mut pace = Pace::new(1000);
        pace.failed(1000);
        pace.set_limit(10);
        assert_eq!(pace.events(), 10);
        pace.went();
        assert!(!pace.one_by_one());
    }
}
