//! Shards over a simulated log: crashes, rebalances, aborts, lost answers and failing handlers, from a seed.
//!
//! A failing seed prints the command that replays it.

mod common;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::copies::{
    Copy, GROUP, TestShard, broker, drain, every_event_has_its_fate, identity, produce, produce_any, shard_of,
};
use common::seeds;
use rand::rngs::StdRng;
use rand::seq::IteratorRandom;
use rand::{Rng, SeedableRng};
use wasmill::config::plan::RetryPlan;
use wasmill::event::{Event, Failure, FailureKind, Handler, Outcome, Record, header, headers};
use wasmill::log::simulated::{Broker, Faults, SimulatedCommits, SimulatedSource};
use wasmill::shard::{Identity, Shard};

fn shard(broker: &Broker, member: &str, seed: u64) -> TestShard {
    shard_of(broker, member, seed, Copy)
}

fn payloads(broker: &Broker, topic: &str) -> Vec<String> {
    let text = |r: &Record| String::from_utf8(r.payload.clone().unwrap().to_vec()).unwrap();
    broker.read(topic).iter().map(|stored| text(&stored.record)).collect()
}

fn text<'a>(record: &'a Record, name: &str) -> &'a str {
    std::str::from_utf8(header(&record.headers, name).unwrap_or_else(|| panic!("no header {name}"))).unwrap()
}

#[test]
fn a_rejected_event_becomes_a_dead_letter_and_its_key_goes_on() {
    let broker = broker(1);
    produce(&broker, "k", "first");
    produce(&broker, "k", "reject this");
    produce(&broker, "k", "third");
    drain(&broker, &mut shard(&broker, "a", 1));
    assert_eq!(payloads(&broker, "out"), ["first", "third"]);
    assert_eq!(payloads(&broker, "copy.dlq"), ["reject this"]);
}

#[test]
fn a_dead_letter_says_where_it_came_from_and_what_happened() {
    let broker = broker(1);
    broker.produce(Record {
        topic: "in".into(),
        key: Some("k".into()),
        payload: Some("retry 9".into()),
        headers: vec![
            wasmill::event::Header::new("mine", "kept"),
            wasmill::event::Header::new(headers::TRACEPARENT, "00-trace"),
            wasmill::event::Header::new(headers::HANDLER, "an earlier one"),
        ],
    });
    drain(&broker, &mut shard(&broker, "a", 1));
    let letters = broker.read("copy.dlq");
    let [letter] = letters.as_slice() else { panic!("{letters:?}") };
    let record = &letter.record;
    assert_eq!(record.key.as_deref(), Some(b"k".as_slice()));
    assert!(text(record, headers::SOURCE).starts_with("in/"));
    assert!(text(record, headers::SOURCE).ends_with("/0"));
    assert_eq!(text(record, headers::HANDLER), "copy");
    assert_eq!(text(record, headers::DIGEST), "c0ffee");
    assert_eq!(text(record, headers::ATTEMPTS), "4");
    assert_eq!(text(record, headers::FAILURE_KIND), "retry");
    assert_eq!(text(record, headers::FAILURE_MESSAGE), "later");
    assert_eq!(text(record, headers::TRACEPARENT), "00-trace");
    assert_eq!(text(record, "mine"), "kept");
    assert_eq!(text(record, "wasmill-original-handler"), "an earlier one");
    let number = |name| text(record, name).parse::<i64>().unwrap();
    let waited = number(headers::LAST_FAILED_MS) - number(headers::FIRST_FAILED_MS);
    assert!((350..2000).contains(&waited), "100, 200 and 400 ms with jitter, but {waited}");
    assert_eq!(number(headers::SOURCE_TIMESTAMP_MS), 1_790_000_000_000);
}

#[test]
fn a_retry_keeps_the_order_of_its_key_and_holds_up_no_other() {
    let broker = Broker::new(3, &[("in", 1), ("out", 1), ("copy.dlq", 1)]);
    for payload in ["a 1", "retry 3", "after"] {
        produce(&broker, "a", payload);
    }
    for key in ["b", "c", "d", "e", "f"] {
        produce(&broker, key, &format!("{key} 1"));
    }
    let mut first = shard(&broker, "a", 3);
    // While `retry 3` waits, the other keys are through.
    for _ in 0..8 {
        first.turn(&|| broker.now()).unwrap();
        if payloads(&broker, "out").len() >= 6 {
            break;
        }
    }
    assert_eq!(payloads(&broker, "out"), ["a 1", "b 1", "c 1", "d 1", "e 1", "f 1"]);
    // Who takes over knows what is done.
    drop(first);
    broker.expire(GROUP, "a");
    let mut shard = shard(&broker, "b", 3);
    drain(&broker, &mut shard);
    assert_eq!(payloads(&broker, "out").len(), 8);
    let of_a: Vec<_> = broker
        .read("out")
        .into_iter()
        .filter(|s| s.record.key.as_deref() == Some(b"a"))
        .map(|s| s.record.payload.unwrap())
        .collect();
    assert_eq!(of_a, ["a 1", "retry 3", "after"]);
}

/// Never works, and is tried again and again.
struct Down;

impl Handler for Down {
    fn handle(&mut self, events: &[&Event], _attempts: &[u32]) -> Vec<Outcome> {
        let failure = || Failure::new(FailureKind::Retry, "down");
        events.iter().map(|_| Err(failure())).collect()
    }

    fn digest(&self) -> Arc<str> {
        Copy.digest()
    }
}

#[test]
fn a_partition_stops_to_be_read_when_too_much_of_it_waits() {
    let broker = Broker::new(3, &[("in", 1), ("out", 1), ("copy.dlq", 1)]);
    for n in 0..30_000 {
        produce(&broker, "k", &n.to_string());
    }
    let mut shard = shard_that_waits(&broker, 500);
    for _ in 0..200 {
        shard.turn(&|| broker.now()).unwrap();
    }
    let parked = shard.parked(broker.now(), 10);
    assert_eq!(shard.full().len(), 1);
    assert!((9_999..10_500).contains(&parked[0].behind), "{parked:?}");
}

#[test]
fn a_partition_is_not_called_full_any_more_once_nothing_is_tried_again() {
    let broker = Broker::new(3, &[("in", 1), ("out", 1), ("copy.dlq", 1)]);
    produce(&broker, "k", "retry 2");
    for _ in 0..4000 {
        produce(&broker, "k", &"x".repeat(10_000));
    }
    let mut shard = shard(&broker, "a", 3);
    until(&broker, &mut shard, |shard| shard.full().len() == 1);
    broker.pass(DAY);
    until(&broker, &mut shard, |shard| shard.parked_keys() == 0);
    assert!(shard.full().is_empty(), "what is left in it is about to run");
}

fn until(broker: &Broker, shard: &mut TestShard, is_so: impl Fn(&TestShard) -> bool) {
    for _ in 0..10_000 {
        if is_so(shard) {
            return;
        }
        shard.turn(&|| broker.now()).unwrap();
    }
    panic!("not so after 10,000 turns");
}

#[test]
fn what_waits_of_many_partitions_is_bounded_for_all_of_them() {
    let broker = Broker::new(3, &[("in", 8), ("out", 1), ("copy.dlq", 1)]);
    let payload = Bytes::from(vec![b'x'; 100_000]);
    for n in 0..4000 {
        let (key, payload) = (Some(format!("k{}", n % 50).into()), Some(payload.clone()));
        broker.produce(Record { topic: "in".into(), key, payload, headers: vec![] });
    }
    let mut shard = shard_that_waits(&broker, 20);
    for _ in 0..2000 {
        shard.turn(&|| broker.now()).unwrap();
    }
    assert_eq!(shard.full().len(), 8, "each of them would hold 50 MB");
    let parked = shard.parked(broker.now(), 100);
    let held = parked.iter().map(|key| key.behind + 1).sum::<usize>() * payload.len();
    // A partition is paused when it has its share, so each may have a poll's events more.
    let most = 32 * 1024 * 1024 + 8 * 20 * payload.len();
    assert!((24 * 1024 * 1024..most).contains(&held), "{held} bytes");
}

fn shard_that_waits(broker: &Broker, max_events: usize) -> TestShard<Down> {
    let commits = SimulatedCommits::init(broker, "a");
    let source = SimulatedSource::join(broker, GROUP, "a", &["in"]);
    let retry = RetryPlan { attempts: None, backoff_min: DAY, backoff_max: DAY };
    Shard::new(Identity { retry, ..identity() }, max_events, source, commits, Down, 3)
}

const DAY: Duration = Duration::from_secs(86_400);

#[test]
fn outputs_carry_where_they_came_from_and_the_trace_goes_on() {
    let broker = broker(1);
    broker.produce(Record {
        topic: "in".into(),
        key: None,
        payload: Some("x".into()),
        headers: vec![
            wasmill::event::Header::new(headers::TRACEPARENT, "00-trace"),
            wasmill::event::Header::new(headers::INGRESS_TIME, "17"),
            wasmill::event::Header::new(headers::IDEMPOTENCY_KEY, "stays behind"),
        ],
    });
    drain(&broker, &mut shard(&broker, "a", 1));
    let out = broker.read("out");
    assert_eq!(text(&out[0].record, headers::HANDLER), "copy");
    assert_eq!(text(&out[0].record, headers::DIGEST), "c0ffee");
    assert!(text(&out[0].record, headers::SOURCE).starts_with("in/"));
    assert_eq!(text(&out[0].record, headers::TRACEPARENT), "00-trace");
    assert_eq!(text(&out[0].record, headers::INGRESS_TIME), "17");
    assert_eq!(header(&out[0].record.headers, headers::IDEMPOTENCY_KEY), None);
}

#[test]
fn an_output_that_no_broker_takes_and_one_to_an_undeclared_topic_become_dead_letters() {
    let broker = broker(1);
    produce(&broker, "k", "before");
    produce(&broker, "k", "huge");
    produce(&broker, "k", "elsewhere");
    produce(&broker, "k", "after");
    drain(&broker, &mut shard(&broker, "a", 1));
    assert_eq!(payloads(&broker, "out"), ["before", "after"]);
    let letters = broker.read("copy.dlq");
    assert_eq!(letters.len(), 2);
    for letter in &letters {
        assert_eq!(text(&letter.record, headers::FAILURE_KIND), "contract");
    }
    assert!(text(&letters[1].record, headers::FAILURE_MESSAGE).contains("\"nowhere\""));
}

/// Counts how often each event is handled.
struct Counting(Rc<RefCell<BTreeMap<i64, u32>>>);

impl Handler for Counting {
    fn handle(&mut self, events: &[&Event], attempts: &[u32]) -> Vec<Outcome> {
        for event in events {
            *self.0.borrow_mut().entry(event.position.offset).or_default() += 1;
        }
        Copy.handle(events, attempts)
    }

    fn digest(&self) -> Arc<str> {
        Copy.digest()
    }
}

#[test]
fn an_event_whose_output_is_refused_is_not_handled_again_on_its_way_to_the_dead_letters() {
    let broker = Broker::new(1, &[("in", 1), ("out", 1), ("copy.dlq", 1)]);
    produce(&broker, "k", "huge");
    produce(&broker, "k", "after");
    let handled = Rc::new(RefCell::new(BTreeMap::new()));
    drain(&broker, &mut shard_of(&broker, "a", 1, Counting(handled.clone())));
    assert_eq!(*handled.borrow(), BTreeMap::from([(0, 1), (1, 2)]));
    assert_eq!((payloads(&broker, "out"), broker.read("copy.dlq").len()), (vec!["after".into()], 1));
}

#[test]
fn all_outputs_that_are_too_large_are_found_in_one_round() {
    let broker = Broker::new(1, &[("in", 1), ("out", 1), ("copy.dlq", 1)]);
    for payload in ["huge", "huge 1", "huge 22", "after"] {
        produce(&broker, "k", payload);
    }
    let handled = Rc::new(RefCell::new(BTreeMap::new()));
    drain(&broker, &mut shard_of(&broker, "a", 1, Counting(handled.clone())));
    assert_eq!(*handled.borrow(), BTreeMap::from([(0, 1), (1, 1), (2, 1), (3, 2)]));
    assert_eq!((payloads(&broker, "out"), broker.read("copy.dlq").len()), (vec!["after".into()], 3));
}

#[test]
fn a_topic_that_is_gone_stops_the_shard_and_names_it() {
    let broker = Broker::new(1, &[("in", 1), ("copy.dlq", 1)]);
    produce(&broker, "k", "x");
    let mut shard = shard(&broker, "a", 1);
    let error = shard.turn(&|| broker.now()).unwrap_err();
    assert!(error.to_string().contains("`out`"), "{error}");
}

/// Leaves out all but the first three events of a batch, as a handler does that has run for long.
struct Slow(Copy);

impl Handler for Slow {
    fn handle(&mut self, events: &[&Event], attempts: &[u32]) -> Vec<Outcome> {
        let some = events.len().min(3);
        self.0.handle(&events[..some], &attempts[..some])
    }

    fn digest(&self) -> Arc<str> {
        self.0.digest()
    }
}

#[test]
fn what_a_slow_handler_leaves_out_comes_next_in_order_and_no_try_is_counted() {
    let broker = Broker::new(7, &[("in", 1), ("out", 1), ("copy.dlq", 1)]);
    let payloads_in: Vec<String> =
        (0..40).map(|n| if n % 10 == 5 { format!("retry 2 {n}") } else { format!("fine {n}") }).collect();
    for payload in &payloads_in {
        produce(&broker, "k", payload);
    }
    let mut shard = shard_of(&broker, "a", 7, Slow(Copy));
    for _ in 0..1000 {
        shard.turn(&|| broker.now()).unwrap();
    }
    assert_eq!(payloads(&broker, "out"), payloads_in);
}

#[test]
fn what_is_too_much_for_one_transaction_goes_out_in_smaller_ones() {
    for seed in 0..100 {
        let broker = Broker::new(seed, &[("in", 1), ("out", 1), ("copy.dlq", 1)]);
        let numbers: Vec<String> = (0..200).map(|number| number.to_string()).collect();
        for number in &numbers {
            produce(&broker, "k", number);
        }
        // Whatever waits for its answer is gathered.
        broker.set_faults(Faults { late: 0.5, most_records: Some(3), ..Faults::default() });
        drain(&broker, &mut shard(&broker, "a", seed));
        assert_eq!(payloads(&broker, "out"), numbers, "seed {seed}");
    }
}

#[test]
fn what_was_gathered_and_was_too_much_is_gathered_by_half() {
    let mut refused = 0;
    for seed in 0..100 {
        let broker = Broker::new(seed, &[("in", 1), ("out", 1), ("copy.dlq", 1)]);
        (0..2000).for_each(|number| produce(&broker, "k", &number.to_string()));
        // Five turns; ten are gathered on average.
        broker.set_faults(Faults { late: 0.95, most_records: Some(100), ..Faults::default() });
        refused += drain(&broker, &mut shard(&broker, "a", seed));
        assert_eq!(payloads(&broker, "out").len(), 2000);
    }
    // Of 10,000 turns. It is twice as often where the next ones are gathered whole.
    assert!(refused < 600, "{refused}");
}

/// What happens to shards while events flow, all from one seed.
fn ordeal(seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let broker = broker(seed);
    broker.set_faults(Faults {
        unavailable: random.random_range(0.0..0.2),
        aborted: random.random_range(0.0..0.2),
        answer_lost: random.random_range(0.0..0.2),
        late: random.random_range(0.0..0.9),
        most_records: random.random_bool(0.2).then(|| random.random_range(1..20)),
    });
    let mut shards: BTreeMap<u32, TestShard> = BTreeMap::new();
    let mut next_member = 0;
    let mut expected: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for number in 0..random.random_range(1..150) {
        produce_any(&broker, number, &mut expected, &mut random);
        for _ in 0..random.random_range(0..4) {
            match random.random_range(0..40) {
                0..3 if shards.len() < 3 => {
                    shards.insert(next_member, shard(&broker, &format!("m{next_member}"), seed));
                    next_member += 1;
                }
                3 => {
                    if let Some((_, left)) = shards.pop_first() {
                        left.close(Duration::ZERO);
                    }
                }
                4 => {
                    if let Some((member, crashed)) = shards.pop_last() {
                        drop(crashed);
                        broker.expire(GROUP, &format!("m{member}"));
                    }
                }
                // Restarts under its old name, which fences what it was.
                5 => {
                    if let Some(&member) = shards.keys().choose(&mut random) {
                        shards.insert(member, shard(&broker, &format!("m{member}"), seed));
                    }
                }
                _ => {
                    if let Some(shard) = shards.values_mut().choose(&mut random) {
                        shard.turn(&|| broker.now()).unwrap();
                    }
                }
            }
        }
    }
    broker.set_faults(Faults::default());
    for (member, shard) in std::mem::take(&mut shards) {
        drop(shard);
        broker.expire(GROUP, &format!("m{member}"));
    }
    drain(&broker, &mut shard(&broker, "last", seed));
    every_event_has_its_fate(&broker, expected, seed);
}

#[test]
fn nothing_is_lost_doubled_or_reordered_whatever_the_seed_does() {
    seeds::each(0..10_000, "simulated", ordeal);
}
