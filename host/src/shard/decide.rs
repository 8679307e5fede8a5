//! What becomes of a batch: outputs to publish, dead letters, events to try again, offsets completed.
//!
//! Pure: no I/O, no clock, and the only randomness is the caller's.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use rand::Rng;

use super::dead_letter::{Attempts, dead_letter};
use super::retry;
use super::tally::{FailedEvent, Tally};
use super::window::{Settled, Slot, State, Waiting, Window};
use crate::config::plan::{HandlerPlan, RetryPlan, SinkPlan};
use crate::event::headers::{DIGEST, HANDLER, INGRESS_TIME, SOURCE, TRACEPARENT};
use crate::event::{
    Event, Failure, FailureKind, Fate, Header, Now, Outcome, Output, Position, Record, destination, header,
};
use crate::log::Commit;
use crate::telemetry::trace_context;

/// Bytes of a position's text, as a rule, and how many of them are made room for at a time.
const SOURCE_TEXT: usize = 64;
const SOURCES: usize = 64;

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

    /// For the records of a batch.
    pub fn stamp(&self) -> Stamp {
        let bytes = |text: &Arc<str>| Bytes::copy_from_slice(text.as_bytes());
        let made_by = [Header::new(HANDLER, bytes(&self.name)), Header::new(DIGEST, bytes(&self.digest))];
        Stamp { made_by, sources: BytesMut::new() }
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

/// What is written on records: who made them, and of what.
pub struct Stamp {
    made_by: [Header; 2],
    /// Room for the texts of many positions: one allocation, and not some for each record.
    sources: BytesMut,
}

impl Stamp {
    fn source(&mut self, position: &Position) -> Header {
        if self.sources.capacity() < SOURCE_TEXT {
            self.sources.reserve(SOURCES * SOURCE_TEXT);
        }
        let Ok(()) = write!(self.sources, "{position}") else { unreachable!("it grows") };
        Header::new(SOURCE, self.sources.split().freeze())
    }
}

pub(super) struct Decision {
    pub(super) commit: Commit,
    /// The event that each record of `commit.publish` came from.
    pub(super) origins: Vec<Position>,
    /// When the requests came that the events of the commit go back to, in microseconds since the epoch.
    pub(super) ingress_us: Vec<i64>,
    pub(super) tally: Tally,
    /// Of the events that have no outputs to be published.
    pub(super) fates: Vec<(Position, Fate)>,
}

/// Enters outcomes into the window, which are in its order, and takes out what can be committed. An event that ran
/// behind one of its key that is to be tried again has not run: its turn comes after that one.
pub(super) fn decide(
    window: &mut Window,
    outcomes: Vec<(Slot, Outcome)>,
    identity: &Identity,
    now: Now,
    random: &mut impl Rng,
) -> Decision {
    let mut tally = Tally { events: outcomes.len() as u64, ..Tally::default() };
    let mut parked: HashSet<(usize, Bytes)> = HashSet::new();
    let mut stamp = identity.stamp();
    let mut fates = Vec::new();
    for (slot, outcome) in outcomes {
        let event = window.event(slot);
        let key = |event: &Event| event.key.clone().map(|key| (slot.partition, key));
        if !parked.is_empty() && key(event).is_some_and(|key| parked.contains(&key)) {
            fates.push((event.position.clone(), Fate::Overtaken));
            continue;
        }
        let settled = outcome.and_then(|outputs| records(event, outputs, identity, &mut stamp));
        let state = match settled {
            Ok(records) => State::Settled(records),
            Err(failure) => {
                let state = failed(event, &failure, window.waiting(slot), identity, now, random);
                *tally.figures.failures.entry(failure.kind).or_default() += 1;
                let fate = match &state {
                    State::Waiting(_) => {
                        tally.retries += 1;
                        parked.extend(key(event));
                        Fate::Retry(failure.kind)
                    }
                    State::Settled(_) => {
                        tally.dead_letters += 1;
                        Fate::DeadLetter(failure.kind)
                    }
                    State::Fresh => unreachable!("a failed event waits or is settled"),
                };
                fates.push((event.position.clone(), fate));
                let trace = header(&event.headers, TRACEPARENT).and_then(trace_context::trace_id);
                let (position, trace) = (event.position.clone(), trace.map(str::to_string));
                tally.failed = Some(FailedEvent { position, trace, failure });
                state
            }
        };
        window.set(slot, state);
    }
    let Settled { commit, origins, ingress_us } = window.take_settled();
    tally.outputs = commit.publish.iter().filter(|r| r.topic != identity.dead_letter).count() as u64;
    Decision { commit, origins, ingress_us, tally, fates }
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

/// A handler's outputs as records, with their provenance; all of them or a failure. The stamp is the identity's.
pub fn records(
    event: &Event,
    outputs: Vec<Output>,
    identity: &Identity,
    stamp: &mut Stamp,
) -> Result<Vec<Record>, Failure> {
    let passed_on = |name| event.headers.iter().rfind(|header| header.name == name);
    let (parent, ingress) = (passed_on(TRACEPARENT), passed_on(INGRESS_TIME));
    outputs
        .into_iter()
        .map(|output| {
            let topic = destination(output.topic.as_deref(), &identity.publish, &identity.name)?.clone();
            let mut headers = output.headers;
            headers.reserve_exact(5);
            if header(&headers, TRACEPARENT).is_none() {
                headers.extend(parent.cloned());
            }
            headers.extend(ingress.cloned());
            headers.extend_from_slice(&stamp.made_by);
            headers.push(stamp.source(&event.position));
            Ok(Record { topic, key: output.key, payload: output.payload, headers })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use proptest::prelude::*;
    use rand::rngs::StdRng;
    use rand::{Rng as _, SeedableRng as _};

    use super::super::beyond::Beyond;
    use super::super::window::Flow;
    use super::*;
    use crate::event::TopicPartition;
    use crate::log::Progress;

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
    fn event(partition: i32, offset: i64, key: Option<u8>, works_at: u8) -> Event {
        Event {
            position: Position { topic: "in".into(), partition, offset },
            timestamp_ms: Some(0),
            key: key.map(|key| vec![key].into()),
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

    /// Partitions of events, as a key, the try at which it goes through, and how many offsets are missing before it.
    type Log = Vec<Vec<Event>>;

    fn logs() -> impl Strategy<Value = Log> {
        let event =
            (prop::option::weighted(0.8, 0..4_u8), 0..5_u8, prop_oneof![5 => Just(0), 1 => 0..300_i64]);
        prop::collection::vec(prop::collection::vec(event, 0..20), 1..4).prop_map(|log| {
            let partitions = log.into_iter().enumerate();
            let made = partitions.map(|(partition, events)| {
                let mut offset = -1;
                let events = events.into_iter().map(|(key, works_at, gap)| {
                    offset += 1 + gap;
                    event_of(partition, offset, key, works_at)
                });
                events.collect()
            });
            made.collect()
        })
    }

    fn event_of(partition: usize, offset: i64, key: Option<u8>, works_at: u8) -> Event {
        event(i32::try_from(partition).unwrap(), offset, key, works_at)
    }

    proptest! {
        #[test]
        fn every_event_has_one_fate_in_the_order_of_its_key_whatever_restarts(
            log in logs(),
            limit in 1..30_usize,
            answered in 1..30_usize,
            seed: u64,
        ) {
            let (identity, mut random) = (identity(), StdRng::seed_from_u64(seed));
            let restarts = seed % 3 == 0;
            let mut committed: BTreeMap<TopicPartition, Progress> = BTreeMap::new();
            let start = |committed: &BTreeMap<TopicPartition, Progress>| {
                let mut window = Window::default();
                for events in &log {
                    let Some(first) = events.first() else { continue };
                    let id = first.position.topic_partition();
                    let progress = committed.get(&id).cloned().unwrap_or_default();
                    let from = events.iter().filter(|event| event.position.offset >= progress.offset);
                    window.begin(id, Beyond::of(&progress).unwrap());
                    window.admit(from.cloned().collect());
                }
                window
            };
            let mut window = start(&committed);
            let mut now = Duration::ZERO;
            let mut fates: BTreeMap<i32, Vec<(i64, bool)>> = BTreeMap::new();
            while let Some(wait) = window.next_due(now) {
                now += wait;
                let ready = window.ready(now, limit);
                let (events, attempts) = window.events(&ready);
                let tries = ready.iter().zip(events).zip(attempts).take(answered);
                let outcomes: Vec<_> =
                    tries.map(|((slot, event), attempt)| (*slot, outcome(event, attempt))).collect();
                let ran = outcomes.len() as u64;
                let at = Now { monotonic: now, wall_ms: 0 };
                let decision = decide(&mut window, outcomes, &identity, at, &mut random);
                prop_assert_eq!(decision.tally.events, ran);
                prop_assert_eq!(decision.commit.publish.len(), decision.origins.len());
                for (record, origin) in decision.commit.publish.iter().zip(&decision.origins) {
                    fates.entry(origin.partition).or_default().push((origin.offset, *record.topic == *"out"));
                    let source = header(&record.headers, SOURCE).unwrap();
                    prop_assert_eq!(String::from_utf8_lossy(source), origin.to_string());
                }
                for (partition, progress) in decision.commit.progress {
                    let before = committed.insert(partition, progress.clone());
                    prop_assert!(before.is_none_or(|before| before.offset <= progress.offset));
                }
                if restarts && random.random_bool(0.1) {
                    window = start(&committed);
                }
            }
            for events in log {
                let Some(Event { position, .. }) = events.last() else { continue };
                let all_done = Progress { offset: position.offset + 1, metadata: String::new() };
                prop_assert_eq!(&committed[&position.topic_partition()], &all_done);
                let fates = fates.remove(&position.partition).unwrap_or_default();
                prop_assert_eq!(fates.len(), events.len());
                for key in [None, Some(0), Some(1), Some(2), Some(3)] {
                    let of_key = |event: &&Event| event.key.as_ref().map(|key| key[0]) == key;
                    let expected = events.iter().filter(of_key).map(|event| {
                        let works_at = u32::from(event.payload.as_ref().unwrap()[0]);
                        (event.position.offset, (1..=ATTEMPTS).contains(&works_at))
                    });
                    let expected: Vec<_> = expected.collect();
                    let mut met = fates.clone();
                    met.retain(|(offset, _)| expected.iter().any(|(of_key, _)| of_key == offset));
                    if key.is_none() {
                        met.sort();
                    }
                    prop_assert_eq!(met, expected);
                }
            }
        }
    }

    /// Runs everything that is due at `now`, and says which events ran.
    fn turn(window: &mut Window, now: Duration) -> Vec<i64> {
        let ready = window.ready(now, 100);
        let (events, attempts) = window.events(&ready);
        let offsets = events.iter().map(|event| event.position.offset).collect();
        let tries = ready.iter().zip(events).zip(attempts);
        let outcomes = tries.map(|((slot, event), attempt)| (*slot, outcome(event, attempt))).collect();
        let at = Now { monotonic: now, wall_ms: 0 };
        decide(window, outcomes, &identity(), at, &mut StdRng::seed_from_u64(1));
        offsets
    }

    #[test]
    fn a_parked_key_holds_back_its_own_events_alone_and_null_keys_nobody() {
        let mut window = Window::default();
        let events = [(Some(1), 2), (Some(1), 1), (Some(2), 1), (None, 3), (None, 1)];
        let events =
            events.iter().enumerate().map(|(n, (key, works_at))| event(0, n as i64, *key, *works_at));
        window.admit(events.collect());
        assert_eq!(turn(&mut window, Duration::ZERO), [0, 1, 2, 3, 4]);
        let parked = window.parked(Duration::ZERO, 10);
        let told: Vec<_> = parked.iter().map(|p| (p.position.offset, p.attempt, p.behind)).collect();
        assert_eq!((told, window.parked_keys()), (vec![(0, 2, 1), (3, 2, 0)], 2));
        // Later events of the key wait, though the window has never seen them.
        window.admit(vec![event(0, 5, Some(1), 1), event(0, 6, Some(2), 1)]);
        assert_eq!(turn(&mut window, Duration::ZERO), [6]);
        let due = window.next_due(Duration::ZERO).unwrap();
        assert!(due >= Duration::from_millis(5), "{due:?}");
        // Both tries are due by then; what waits behind the one that goes through comes next.
        assert_eq!(turn(&mut window, Duration::from_secs(1)), [0, 3]);
        assert_eq!(turn(&mut window, Duration::from_secs(1)), [1, 5]);
        assert_eq!(turn(&mut window, Duration::from_secs(2)), [3]);
        assert_eq!(window.next_due(Duration::ZERO), None);
    }

    #[test]
    fn however_many_tries_are_due_half_of_the_room_is_for_fresh_events() {
        let mut window = Window::default();
        window.admit((0..6).map(|n| event(0, n, Some(n as u8), 9)).collect());
        turn(&mut window, Duration::ZERO);
        window.admit((6..10).map(|n| event(0, n, Some(n as u8), 1)).collect());
        let mut ready = |limit| -> Vec<i64> {
            let slots = window.ready(Duration::from_secs(9), limit);
            slots.iter().map(|slot| window.event(*slot).position.offset).collect()
        };
        assert_eq!(ready(4), [0, 1, 6, 7]);
        assert_eq!(ready(20), (0..10).collect::<Vec<i64>>());
        assert_eq!((ready(1), ready(1)), (vec![0], vec![6]));
        assert_eq!(ready(9), [0, 1, 2, 3, 4, 6, 7, 8, 9]);
    }

    #[test]
    fn a_topic_that_was_made_anew_is_handled_from_its_beginning() {
        let mut window = Window::default();
        let in_0 = TopicPartition { topic: "in".into(), partition: 0 };
        window.begin(in_0.clone(), Beyond { undone: vec![500, 510], end: 600 });
        window.admit(vec![event(0, 500, Some(1), 1), event(0, 501, Some(1), 1), event(0, 510, Some(1), 1)]);
        assert_eq!(turn(&mut window, Duration::ZERO), [500, 510]);
        window.begin(in_0, Beyond { undone: vec![500], end: 600 });
        window.admit((0..3).map(|n| event(0, n, Some(1), 1)).collect());
        assert_eq!(turn(&mut window, Duration::ZERO), [0, 1, 2]);
        // Once more, while the partition stays where it is.
        window.admit((0..2).map(|n| event(0, n, Some(1), 1)).collect());
        assert_eq!(turn(&mut window, Duration::ZERO), [0, 1]);
    }

    #[test]
    fn a_full_window_pauses_its_partition_and_no_other_until_it_has_room() {
        let mut window = Window::default();
        window.admit(vec![event(0, 0, Some(1), 4), event(1, 0, Some(1), 1)]);
        assert_eq!(turn(&mut window, Duration::ZERO), [0, 0]);
        assert_eq!(window.flow(), Flow::default());
        window.admit((1..10_000).map(|n| event(0, n, Some(1), 1)).collect());
        let in_0 = TopicPartition { topic: "in".into(), partition: 0 };
        assert_eq!(window.flow(), Flow { pause: vec![in_0.clone()], resume: vec![] });
        assert_eq!((window.flow(), window.full()), (Flow::default(), vec![in_0.clone()]));
        for second in 1..=ATTEMPTS {
            turn(&mut window, Duration::from_secs(u64::from(second)));
        }
        while window.next_due(Duration::MAX).is_some() {
            turn(&mut window, Duration::from_secs(60));
        }
        assert_eq!(window.flow(), Flow { pause: vec![], resume: vec![in_0] });
    }
}
