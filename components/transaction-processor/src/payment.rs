//! The payment provider, simulated: what it answers hangs on the token, the amount and the attempt alone.

use serde::Serialize;
use wasmill_sdk::Failure;

pub(crate) struct Gateway {
    /// `DECLINE_OVER_CENTS`: greater totals are declined. No limit when it is not set.
    pub(crate) decline_over_cents: Option<u64>,
    /// `RECOVERS_AFTER`: the attempt at which `tok_unavailable` starts to work.
    pub(crate) recovers_after: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    Approved,
    Declined(DeclineReason),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum DeclineReason {
    OverLimit,
    CardDeclined,
}

impl Gateway {
    /// The tokens that stand for a case; any other one, or none, is a good card.
    ///
    /// | token | answer |
    /// |---|---|
    /// | `tok_unavailable` | `retry` until the attempt `RECOVERS_AFTER`, then a good card |
    /// | `tok_always_unavailable` | `retry`, whatever the attempt |
    /// | `tok_invalid` | `reject`: it never will work |
    /// | `tok_declined` | declined |
    pub(crate) fn charge(
        &self,
        token: Option<&str>,
        total_cents: u64,
        attempt: u32,
    ) -> Result<Decision, Failure> {
        match token {
            Some("tok_unavailable") if attempt < self.recovers_after => {
                return Err(Failure::retry(format!(
                    "the payment provider is unavailable (attempt {attempt}, it recovers at {})",
                    self.recovers_after
                )));
            }
            Some("tok_always_unavailable") => {
                return Err(Failure::retry("the payment provider is unavailable"));
            }
            Some("tok_invalid") => {
                return Err(Failure::reject("payment.token: the payment provider doesn't know it"));
            }
            Some("tok_declined") => return Ok(Decision::Declined(DeclineReason::CardDeclined)),
            Some(_) | None => {}
        }
        match self.decline_over_cents {
            Some(limit) if total_cents > limit => Ok(Decision::Declined(DeclineReason::OverLimit)),
            Some(_) | None => Ok(Decision::Approved),
        }
    }
}
