//! What becomes of a batch: outputs to publish, dead letters, events to try again, offsets completed.
//!
//! Pure: no I/O, no clock, and the only randomness is the caller's.

use std::sync::Arc;

use rand::Rng;

use super::dead_letter::{Attempts, dead_letter};
use super::retry;
use super::window::{Slot, State, Waiting, Window};
use crate::config::plan::{HandlerPlan, RetryPlan, SinkPlan};
use crate::event::headers::{DIGEST, HANDLER, INGRESS_TIME, SOURCE, TRACEPARENT};
use crate::event::{
    Event, Failure, FailureKind, Header, Now, Outcome, Output, Position, Record, destination, header,
};
use crate::log::Commit;

/// Who handles, where to, and how often: all that decisions need of the plan.
#[derive(Clone, Debug)]
pub struct Identity {
    pub name: Arc<str>,
    pub digest: Arc<str>,
    /// The topics that outputs may go to; the first is the default.
    pub publish: Vec<Arc<str>>,
    pub dead_letter: Arc<str>,
    pub retry: RetryPlan,
}

impl Identity {
    pub fn of_handler(plan: &HandlerPlan, digest: Arc<str>) -> Self {
        Self {
            name: plan.name.clone(),
            digest,
            publish: plan.publish.clone(),
            dead_letter: plan.dead_letter.clone(),
            retry: plan.retry.clone(),
        }
    }

    pub fn of_sink(plan: &SinkPlan, digest: Arc<str>) -> Self {
        Self {
            name: plan.name.clone(),
            digest,
            publish: plan.receipts.iter().cloned().collect(),
            dead_letter: plan.dead_letter.clone(),
            retry: plan.retry.clone(),
        }
    }
}

/// What a turn amounted to, for the status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Events that ran, each try counted.
    pub events: u64,
    pub retries: u64,
    /// Records in the commit, dead letters not counted.
    pub outputs: u64,
    pub dead_letters: u64,
    pub committed: bool,
    /// Of each partition that the present handler had run nothing of before: the first event that it ran. An earlier
    /// one may wait for its next try, which is the present handler's as well.
    pub begun: Vec<Position>,
    /// The last failure of the batch, and its event.
    pub failure: Option<(Position, Failure)>,
}

pub(super) struct Decision {
    pub(super) commit: Commit,
    /// The event that each record of `commit.publish` came from.
    pub(super) origins: Vec<Position>,
    pub(super) tally: Tally,
}

/// Enters the outcomes of `ready` into the window and takes out what can be committed. Events at the end of
/// `ready` may have no outcome yet.
pub(super) fn decide(
    window: &mut Window,
    ready: &[Slot],
    outcomes: Vec<Outcome>,
    identity: &Identity,
    now: Now,
    random: &mut impl Rng,
) -> Decision {
    let mut tally = Tally { events: outcomes.len() as u64, ..Tally::default() };
    for (&slot, outcome) in ready.iter().zip(outcomes) {
        let event = window.event(slot);
        let settled = outcome.and_then(|outputs| records(event, outputs, identity));
        let state = match settled {
            Ok(records) => State::Settled(records),
            Err(failure) => {
                let state = failed(event, &failure, window.waiting(slot), identity, now, random);
                tally.failure = Some((event.position.clone(), failure));
                match &state {
                    State::Waiting(_) => tally.retries += 1,
                    State::Settled(_) => tally.dead_letters += 1,
                    State::Fresh => unreachable!("a failed event waits or is settled"),
                }
                state
            }
        };
        window.set(slot, state);
    }
    let (commit, origins) = window.take_settled();
    tally.committed = !commit.is_empty();
    tally.outputs = commit.publish.iter().filter(|r| r.topic != identity.dead_letter).count() as u64;
    Decision { commit, origins, tally }
}

/// An event that has no outputs waits for its next try, or is settled by a dead letter.
fn failed(
    event: &Event,
    failure: &Failure,
    before: Option<&Waiting>,
    identity: &Identity,
    now: Now,
    random: &mut impl Rng,
) -> State {
    let made = before.map_or(1, |w| w.attempt);
    let first_failed_ms = before.map_or(now.wall_ms, |w| w.first_failed_ms);
    let again = match failure.kind {
        FailureKind::Retry => retry::grants(&identity.retry, made + 1),
        FailureKind::Reject
        | FailureKind::Trap
        | FailureKind::Timeout
        | FailureKind::Memory
        | FailureKind::Contract => false,
    };
    if again {
        let due = now.monotonic + retry::backoff(&identity.retry, made + 1, random);
        return State::Waiting(Waiting { attempt: made + 1, due, first_failed_ms });
    }
    let attempts = Attempts { made, first_failed_ms, last_failed_ms: now.wall_ms };
    State::Settled(vec![dead_letter(event, failure, &attempts, identity)])
}

/// A handler's outputs as records, with their provenance; all of them or a failure.
fn records(event: &Event, outputs: Vec<Output>, identity: &Identity) -> Result<Vec<Record>, Failure> {
    outputs
        .into_iter()
        .map(|output| {
            let topic = destination(output.topic.as_deref(), &identity.publish, &identity.name)?.clone();
            let mut headers = output.headers;
            if header(&headers, TRACEPARENT).is_none()
                && let Some(parent) = event.headers.iter().rfind(|h| h.name == TRACEPARENT)
            {
                headers.push(parent.clone());
            }
            if let Some(ingress) = event.headers.iter().rfind(|h| h.name == INGRESS_TIME) {
                headers.push(ingress.clone());
            }
            headers.push(Header::new(HANDLER, identity.name.as_bytes().to_vec()));
            headers.push(Header::new(DIGEST, identity.digest.as_bytes().to_vec()));
            headers.push(Header::new(SOURCE, event.position.to_string()));
            Ok(Record { topic, key: output.key, payload: output.payload, headers })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;
    use crate::event::TopicPartition;

    const ATTEMPTS: u32 = 3;

    fn identity() -> Identity {
        Identity {
            name: "h".into(),
            digest: "d".into(),
            publish: vec!["out".into()],
            dead_letter: "h.dlq".into(),
            retry: RetryPlan {
                attempts: Some(ATTEMPTS),
                backoff_min: Duration::from_millis(10),
                backoff_max: Duration::from_millis(100),
            },
        }
    }

    /// An event whose payload says at which try it goes through; 0 is never, and said at once.
    fn event(partition: i32, offset: i64, works_at: u8) -> Event {
        Event {
            position: Position { topic: "in".into(), partition, offset },
            timestamp_ms: Some(0),
            key: None,
            payload: Some(vec![works_at].into()),
            headers: vec![],
        }
    }

    fn outcome(event: &Event, attempt: u32) -> Outcome {
        let works_at = u32::from(event.payload.as_ref().unwrap()[0]);
        match works_at {
            0 => Err(Failure::new(FailureKind::Reject, "never")),
            _ if attempt < works_at => Err(Failure::new(FailureKind::Retry, "later")),
            _ => Ok(vec![Output { topic: None, key: None, payload: event.payload.clone(), headers: vec![] }]),
        }
    }

    proptest! {
        #[test]
        fn every_event_has_one_fate_and_an_offset_moves_over_what_is_settled_alone(
            partitions in prop::collection::vec(prop::collection::vec(0..5_u8, 0..20), 1..4),
            limit in 1..30_usize,
            answered in 1..30_usize,
            seed: u64,
        ) {
            let (identity, mut random) = (identity(), StdRng::seed_from_u64(seed));
            let mut window = Window::default();
            for (partition, events) in partitions.iter().enumerate() {
                let events = events.iter().enumerate();
                window.admit(events.map(|(n, &works_at)| event(partition as i32, n as i64, works_at)).collect());
            }
            let mut now = Duration::ZERO;
            let mut committed: BTreeMap<TopicPartition, i64> = BTreeMap::new();
            let mut fates: BTreeMap<i32, Vec<(i64, bool)>> = BTreeMap::new();
            while let Some(wait) = window.next_due(now) {
                now += wait;
                let ready = window.ready(now, limit);
                let (events, attempts) = window.events(&ready);
                let tries = events.iter().zip(attempts).take(answered);
                let outcomes: Vec<_> = tries.map(|(event, attempt)| outcome(event, attempt)).collect();
                let ran = outcomes.len() as u64;
                let now = Now { monotonic: now, wall_ms: 0 };
                let decision = decide(&mut window, &ready, outcomes, &identity, now, &mut random);
                prop_assert_eq!(decision.tally.events, ran);
                prop_assert_eq!(decision.commit.publish.len(), decision.origins.len());
                for (record, origin) in decision.commit.publish.iter().zip(&decision.origins) {
                    fates.entry(origin.partition).or_default().push((origin.offset, *record.topic == *"out"));
                    let source = header(&record.headers, SOURCE).unwrap();
                    prop_assert_eq!(String::from_utf8_lossy(source), origin.to_string());
                }
                for (partition, next) in decision.commit.offsets {
                    // All before it have their fate by now, and none from it on.
                    let settled = fates.get(&partition.partition).map_or(0, Vec::len);
                    prop_assert_eq!(next, settled as i64);
                    prop_assert!(committed.insert(partition, next).is_none_or(|before| before < next));
                }
            }
            for (partition, events) in partitions.iter().enumerate() {
                let expected: Vec<_> = events.iter().enumerate()
                    .map(|(n, &works_at)| (n as i64, (1..=ATTEMPTS).contains(&u32::from(works_at))))
                    .collect();
                prop_assert_eq!(fates.remove(&(partition as i32)).unwrap_or_default(), expected);
            }
        }
    }
}
