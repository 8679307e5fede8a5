//! Shards over a simulated log whose handler copies events, or fails as their payloads say.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rand::Rng;
use rand::rngs::StdRng;
use wasmill::config::plan::RetryPlan;
use wasmill::event::{Event, Failure, FailureKind, Handler, Outcome, Output, Record};
use wasmill::log::simulated::{Broker, SimulatedCommits, SimulatedSource};
use wasmill::shard::{Identity, Shard, Turn};

pub(crate) const GROUP: &str = "wasmill.test.copy";
/// Tries of an event.
pub(crate) const ATTEMPTS: u32 = 4;

/// Copies each event to `out`; fails as the payload says: `reject`, `trap`, or `retry N` (works at try N).
pub(crate) struct Copy;

impl Handler for Copy {
    fn handle(&mut self, events: &[&Event], attempts: &[u32]) -> Vec<Outcome> {
        events.iter().zip(attempts).map(|(event, &attempt)| copy(event, attempt)).collect()
    }

    fn digest(&self) -> Arc<str> {
        "c0ffee".into()
    }
}

pub(crate) fn copy(event: &Event, attempt: u32) -> Outcome {
    let payload = String::from_utf8(event.payload.clone().unwrap_or_default().to_vec()).unwrap();
    match payload.split(' ').next().unwrap() {
        "reject" => Err(Failure::new(FailureKind::Reject, "never")),
        "trap" => Err(Failure::new(FailureKind::Trap, "unreachable")),
        "retry" if attempt < payload.split(' ').nth(1).unwrap().parse().unwrap() => {
            Err(Failure::new(FailureKind::Retry, "later"))
        }
        "huge" => Ok(vec![Output {
            topic: None,
            key: event.key.clone(),
            // The longer the input, the larger.
            payload: Some(vec![0; 2_000_000 + payload.len()].into()),
            headers: vec![],
        }]),
        "elsewhere" => {
            Ok(vec![Output { topic: Some("nowhere".into()), key: None, payload: None, headers: vec![] }])
        }
        _ => Ok(vec![Output {
            topic: None,
            key: event.key.clone(),
            payload: event.payload.clone(),
            headers: vec![],
        }]),
    }
}

pub(crate) type TestShard<H = Copy> = Shard<SimulatedSource, SimulatedCommits, H>;

pub(crate) fn shard_of<H: Handler>(broker: &Broker, member: &str, seed: u64, handler: H) -> TestShard<H> {
    let commits = SimulatedCommits::init(broker, member);
    let source = SimulatedSource::join(broker, GROUP, member, &["in"]);
    Shard::new(identity(), 20, source, commits, handler, seed)
}

/// The digest is the handler's.
pub(crate) fn identity() -> Identity {
    Identity {
        name: "copy".into(),
        digest: "".into(),
        publish: vec!["out".into()],
        dead_letter: "copy.dlq".into(),
        retry: RetryPlan {
            attempts: Some(ATTEMPTS),
            backoff_min: Duration::from_millis(100),
            backoff_max: Duration::from_secs(1),
        },
    }
}

pub(crate) fn broker(seed: u64) -> Broker {
    Broker::new(seed, &[("in", 4), ("out", 4), ("copy.dlq", 2)])
}

pub(crate) fn produce(broker: &Broker, key: &str, payload: &str) {
    broker.produce(Record {
        topic: "in".into(),
        key: Some(Bytes::from(key.to_string())),
        payload: Some(Bytes::from(payload.to_string())),
        headers: vec![],
    });
}

/// Gives how many turns were refused.
pub(crate) fn drain<H: Handler>(broker: &Broker, shard: &mut TestShard<H>) -> u32 {
    let mut refused = 0;
    for _ in 0..10_000 {
        if broker.drained(GROUP) {
            return refused;
        }
        if let Turn::Refused { wait, .. } = shard.turn(&|| broker.now()).unwrap() {
            refused += 1;
            broker.pass(wait);
        }
    }
    panic!("not drained after 10,000 turns");
}

/// One event more, of any key or of none, added to what is expected of each.
pub(crate) fn produce_any(
    broker: &Broker,
    number: u32,
    expected: &mut BTreeMap<String, Vec<String>>,
    random: &mut StdRng,
) {
    let key = random.random_range(0..13_u32);
    let key = if key == 12 { NO_KEY.into() } else { format!("k{key}") };
    let payload = any_payload(random, number);
    expected.entry(key.clone()).or_default().push(payload.clone());
    broker.produce(Record {
        topic: "in".into(),
        key: (key != NO_KEY).then(|| Bytes::from(key)),
        payload: Some(Bytes::from(payload)),
        headers: vec![],
    });
}

/// Stands for the events without a key, which have no order.
const NO_KEY: &str = "";

/// Mostly fine.
fn any_payload(random: &mut StdRng, number: u32) -> String {
    match random.random_range(0..20) {
        0 => format!("reject {number}"),
        1 => format!("trap {number}"),
        2 => format!("retry {} {number}", random.random_range(2..7)),
        _ => format!("fine {number}"),
    }
}

/// Each event, by its key and in its order, is copied once or a dead letter once, as its payload says.
pub(crate) fn every_event_has_its_fate(broker: &Broker, expected: BTreeMap<String, Vec<String>>, seed: u64) {
    let mut seen: BTreeMap<String, (Vec<String>, Vec<String>)> = BTreeMap::new();
    let text = |bytes: Option<Bytes>| String::from_utf8(bytes.unwrap_or_default().to_vec()).unwrap();
    for stored in broker.read("out") {
        seen.entry(text(stored.record.key)).or_default().0.push(text(stored.record.payload));
    }
    for stored in broker.read("copy.dlq") {
        seen.entry(text(stored.record.key)).or_default().1.push(text(stored.record.payload));
    }
    for (key, all) in expected {
        let dead = |payload: &&String| {
            let mut words = payload.split(' ');
            match words.next().unwrap() {
                "reject" | "trap" => true,
                "retry" => words.next().unwrap().parse::<u32>().unwrap() > ATTEMPTS,
                _ => false,
            }
        };
        let (mut letters, mut outputs): (Vec<_>, Vec<_>) = all.iter().partition(dead);
        let (mut out, mut dlq) = seen.remove(&key).unwrap_or_default();
        if key == NO_KEY {
            letters.sort();
            outputs.sort();
            out.sort();
            dlq.sort();
        }
        assert_eq!(out.iter().collect::<Vec<_>>(), outputs, "seed {seed}, key {key}: outputs");
        assert_eq!(dlq.iter().collect::<Vec<_>>(), letters, "seed {seed}, key {key}: dead letters");
    }
    assert!(seen.is_empty(), "seed {seed}: nobody sent {seen:?}");
}
