//! How long an event waits for its next try: exponential, capped, with jitter.

use std::time::Duration;

use rand::Rng;

use crate::config::plan::RetryPlan;

/// The wait before try number `attempt` (2 is the first that waits). Half of it is certain and half is
/// random, so that events that failed together do not all come again together.
pub(super) fn backoff(plan: &RetryPlan, attempt: u32, random: &mut impl Rng) -> Duration {
    let doublings = attempt.saturating_sub(2).min(30);
    let full = plan.backoff_min.saturating_mul(1 << doublings).min(plan.backoff_max);
    full / 2 + full.mul_f64(random.random::<f64>() / 2.0)
}

/// Whether the plan grants a try of this number.
pub(super) fn grants(plan: &RetryPlan, attempt: u32) -> bool {
    plan.attempts.is_none_or(|attempts| attempt <= attempts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    proptest! {
        #[test]
        fn a_wait_grows_with_the_attempt_and_stays_within_its_cap(attempt in 2u32.., seed: u64) {
            let plan = RetryPlan {
                attempts: None,
                backoff_min: Duration::from_millis(200),
                backoff_max: Duration::from_secs(30),
            };
            let wait = backoff(&plan, attempt, &mut StdRng::seed_from_u64(seed));
            let full = if attempt < 10 {
                Duration::from_millis(200 << (attempt - 2)).min(plan.backoff_max)
            } else {
                plan.backoff_max
            };
            prop_assert!(wait >= full / 2 && wait <= full, "{wait:?} of {full:?}");
        }
    }
}
