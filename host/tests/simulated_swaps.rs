//! Shards over a simulated log whose handlers are exchanged at any moment, between crashes, rebalances, aborts, lost
//! answers and retries, from a seed.
//!
//! A failing seed prints the command that replays it.

mod common;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use common::copies::{
    Copy, GROUP, TestShard, broker, every_event_has_its_fate, identity, produce_any, shard_of,
};
use common::seeds;
use rand::rngs::StdRng;
use rand::seq::IteratorRandom;
use rand::{Rng, SeedableRng};
use wasmill::event::{Event, Handler, Outcome, Position, TopicPartition, header, headers};
use wasmill::log::simulated::{Broker, Faults, Stored};
use wasmill::shard::{Tally, Turn};

/// A version as one shard runs it. Its digest names both, `shard/version`.
struct Version {
    digest: Arc<str>,
    /// What it has run in this turn.
    ran: Rc<RefCell<Vec<Position>>>,
    /// Events of a batch that it answers for: a slow one leaves the rest out.
    answers: usize,
}

impl Handler for Version {
    fn handle(&mut self, events: &[&Event], attempts: &[u32]) -> Vec<Outcome> {
        let some = events.len().min(self.answers);
        self.ran.borrow_mut().extend(events[..some].iter().map(|event| event.position.clone()));
        Copy.handle(&events[..some], &attempts[..some])
    }

    fn digest(&self) -> Arc<str> {
        self.digest.clone()
    }
}

/// One life of a shard, from its start to its crash or its leaving.
struct Life {
    number: u32,
    member: String,
    shard: TestShard<Version>,
    version: u32,
    ran: Rc<RefCell<Vec<Position>>>,
    /// Where the present handler has begun.
    begun: BTreeSet<TopicPartition>,
    /// What a turn commits is told by a later one.
    is_late: bool,
}

/// The first event of a partition that a digest was said to run.
type Firsts = BTreeMap<(String, TopicPartition), i64>;

impl Life {
    fn start(
        broker: &Broker,
        number: u32,
        member: String,
        version: u32,
        is_late: bool,
        random: &mut StdRng,
    ) -> Self {
        let ran = Rc::default();
        let handler = handler(number, version, &ran, random);
        let shard = shard_of(broker, &member, random.random(), handler);
        Self { number, member, shard, version, ran, begun: BTreeSet::new(), is_late }
    }

    /// A turn, in which or before which the handler may be exchanged for the newest, or linked anew.
    fn turn(&mut self, broker: &Broker, newest: u32, firsts: &mut Firsts, random: &mut StdRng) -> Turn {
        self.ran.borrow_mut().clear();
        let next = (newest != self.version && random.random_bool(0.3) || random.random_bool(0.03))
            .then(|| (handler(self.number, newest, &self.ran, random), random.random_range(1..=20)));
        let mut exchanged = false;
        let take_up = |shard: &mut TestShard<Version>| {
            if let Some((handler, max_events)) = next {
                shard.exchange(identity(), max_events, handler);
                exchanged = true;
            }
        };
        let turn = if random.random() {
            take_up(&mut self.shard);
            self.shard.turn(&|| broker.now())
        } else {
            self.shard.turn_with(&|| broker.now(), |shard| {
                take_up(shard);
                Ok(())
            })
        };
        if exchanged {
            self.version = newest;
            self.begun.clear();
        }
        let turn = turn.unwrap();
        if let Turn::Went(tally) = &turn {
            self.begins_where_it_says(tally, firsts);
        }
        turn
    }

    fn begins_where_it_says(&mut self, tally: &Tally, firsts: &mut Firsts) {
        if self.is_late {
            for (digest, begun) in &tally.begun {
                firsts.entry((digest.to_string(), begun.topic_partition())).or_insert(begun.offset);
            }
            return;
        }
        let mut expected: BTreeMap<TopicPartition, i64> = BTreeMap::new();
        for position in self.ran.borrow().iter().filter(|ran| !self.begun.contains(&ran.topic_partition())) {
            let first = expected.entry(position.topic_partition()).or_insert(position.offset);
            *first = position.offset.min(*first);
        }
        let said = tally.begun.iter().map(|(_, begun)| (begun.topic_partition(), begun.offset));
        assert_eq!(said.collect::<BTreeMap<_, _>>(), expected, "where {} begins", self.shard.digest());
        assert_eq!(tally.begun.len(), expected.len(), "said twice");
        for (partition, offset) in expected {
            firsts.entry((self.shard.digest().into(), partition.clone())).or_insert(offset);
            self.begun.insert(partition);
        }
    }
}

fn handler(life: u32, version: u32, ran: &Rc<RefCell<Vec<Position>>>, random: &mut StdRng) -> Version {
    let answers = if random.random_bool(0.2) { 3 } else { usize::MAX };
    Version { digest: format!("{life}/{version}").into(), ran: ran.clone(), answers }
}

/// What happens to shards and their handlers while events flow, all from one seed.
fn ordeal(seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let broker = broker(seed);
    // Of what was committed and not answered, or not heard before the end, nobody knows where it began.
    let answer_lost = if random.random() { random.random_range(0.0..0.2) } else { 0.0 };
    let late = if random.random() { random.random_range(0.0..0.9) } else { 0.0 };
    broker.set_faults(Faults {
        unavailable: random.random_range(0.0..0.2),
        aborted: random.random_range(0.0..0.2),
        answer_lost,
        late,
        most_records: None,
    });
    let is_late = late > 0.0;
    let mut lives: Vec<Life> = Vec::new();
    let (mut started, mut newest, mut firsts) = (0, 0, Firsts::new());
    let mut expected: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for number in 0..random.random_range(1..150) {
        produce_any(&broker, number, &mut expected, &mut random);
        for _ in 0..random.random_range(0..5) {
            let one = (0..lives.len()).choose(&mut random);
            match (random.random_range(0..40), one) {
                (0..3, _) if lives.len() < 3 => {
                    started += 1;
                    let member = format!("m{started}");
                    lives.push(Life::start(&broker, started, member, newest, is_late, &mut random));
                }
                (3, Some(one)) => lives.swap_remove(one).shard.close(Duration::ZERO),
                (4, Some(one)) => crash(lives.swap_remove(one), &broker),
                // Restarts under its old name, which fences what it was.
                (5, Some(one)) => {
                    started += 1;
                    let member = lives[one].member.clone();
                    lives[one] = Life::start(&broker, started, member, newest, is_late, &mut random);
                }
                (6..10, _) => newest += 1,
                (_, Some(one)) => drop(lives[one].turn(&broker, newest, &mut firsts, &mut random)),
                (_, None) => {}
            }
        }
    }
    broker.set_faults(Faults::default());
    lives.drain(..).for_each(|life| crash(life, &broker));
    let mut last = Life::start(&broker, started + 1, "last".into(), newest, is_late, &mut random);
    for _ in 0..10_000 {
        if broker.drained(GROUP) {
            break;
        }
        newest += u32::from(random.random_bool(0.1));
        if let Turn::Refused { wait, .. } = last.turn(&broker, newest, &mut firsts, &mut random) {
            broker.pass(wait);
        }
    }
    assert!(broker.drained(GROUP), "not drained after 10,000 turns");

    every_event_has_its_fate(&broker, expected, seed);
    for (key, fates) in fates(&broker) {
        versions_only_rise_in_each_life(&key, &fates);
        if answer_lost == 0.0 && !is_late {
            nothing_is_older_than_its_first(&key, &fates, &firsts);
        }
    }
}

fn crash(life: Life, broker: &Broker) {
    drop(life.shard);
    broker.expire(GROUP, &life.member);
}

/// What became of an event.
struct Fate {
    digest: String,
    /// It asked for another try, and waited.
    waited: bool,
}

/// A key, and the partition that its events came from.
type Key = (TopicPartition, String);

/// By the events' keys and offsets.
fn fates(broker: &Broker) -> BTreeMap<Key, BTreeMap<i64, Fate>> {
    let mut fates: BTreeMap<Key, BTreeMap<i64, Fate>> = BTreeMap::new();
    for Stored { record, .. } in [broker.read("out"), broker.read("copy.dlq")].concat() {
        let text = |name| String::from_utf8(header(&record.headers, name).unwrap().to_vec()).unwrap();
        let source = text(headers::SOURCE);
        let [topic, partition, offset] = source.split('/').collect::<Vec<_>>().try_into().unwrap();
        let partition = TopicPartition { topic: topic.into(), partition: partition.parse().unwrap() };
        let waited = record.payload.as_ref().unwrap().starts_with(b"retry");
        let fate = Fate { digest: text(headers::DIGEST), waited };
        // Those without one have no order.
        let Some(key) = record.key else { continue };
        let key = String::from_utf8(key.to_vec()).unwrap();
        fates.entry((partition, key)).or_default().insert(offset.parse().unwrap(), fate);
    }
    fates
}

fn versions_only_rise_in_each_life((partition, key): &Key, fates: &BTreeMap<i64, Fate>) {
    let mut newest: BTreeMap<&str, u32> = BTreeMap::new();
    for (offset, Fate { digest, .. }) in fates {
        let (life, version) = digest.split_once('/').unwrap();
        let version = version.parse().unwrap();
        let before = mem::replace(newest.entry(life).or_insert(version), version);
        assert!(before <= version, "{partition}/{offset}, {key}, by {digest}, after version {before}");
    }
}

fn nothing_is_older_than_its_first((partition, _): &Key, fates: &BTreeMap<i64, Fate>, firsts: &Firsts) {
    // One that waits while the version changes, and what waits behind it, is run by the new one when its time comes,
    // after later ones of other keys.
    for (offset, Fate { digest, .. }) in fates.iter().take_while(|(_, fate)| !fate.waited) {
        let first = firsts.get(&(digest.clone(), partition.clone()));
        assert!(
            first.is_some_and(|first| first <= offset),
            "{digest} from {first:?}, but {partition}/{offset}"
        );
    }
}

#[test]
fn swaps_at_any_moment_lose_double_and_reorder_nothing_and_each_key_sees_its_versions_in_order() {
    seeds::each(0..4_000, "simulated_swaps", ordeal);
}
