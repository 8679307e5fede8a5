//! Two processes of one instance name fence each other for ever, a few times a minute at the least.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// What to say when it happens again and again.
pub(super) const TWO_OF_A_NAME: &str = "another process seems to run with the same instance name; give each its own, \
                                        by --instance, $WASMILL_INSTANCE or `kafka.instance`";

/// Being fenced this often within this time is no accident.
const OFTEN: usize = 4;
const WITHIN: Duration = Duration::from_secs(60);

/// When a client was fenced lately.
#[derive(Default)]
pub(super) struct Fencing(VecDeque<Instant>);

impl Fencing {
    /// It is fenced now. Whether that happens again and again.
    pub(super) fn again(&mut self) -> bool {
        let now = Instant::now();
        self.0.push_back(now);
        self.0.retain(|&at| now - at <= WITHIN);
        self.0.len() >= OFTEN
    }
}
