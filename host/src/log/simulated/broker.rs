//! The state behind a simulated log, and the rules by which it refuses.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::Membership;
use crate::event::{Event, Now, Position, Record, TopicPartition};
use crate::log::{Commit, CommitError, Progress};

/// How often things go wrong, as probabilities per call.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// A poll or a rewind doesn't reach the broker.
    pub unavailable: f64,
    /// A transaction is aborted.
    pub aborted: f64,
    /// A transaction is committed, but the answer is lost: to the client it looks aborted.
    pub answer_lost: f64,
    /// A commit that was handed over waits still, or its answer.
    pub late: f64,
    /// A transaction that publishes more records is aborted.
    pub most_records: Option<usize>,
}

/// A record where it was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    pub position: Position,
    pub record: Record,
}

/// Kafka's default for a topic's `max.message.bytes`.
const MAX_RECORD_BYTES: usize = 1_048_588;

/// Kafka's default for `offset.metadata.max.bytes`.
const MAX_METADATA_BYTES: usize = 4096;

#[derive(Clone)]
pub struct Broker {
    state: Arc<Mutex<State>>,
}

struct State {
    topics: BTreeMap<Arc<str>, Vec<Vec<(Record, i64)>>>,
    groups: BTreeMap<String, Group>,
    /// The current epoch of each transactional.id.
    producers: BTreeMap<String, u64>,
    time: Duration,
    faults: Faults,
    random: StdRng,
}

#[derive(Default)]
struct Group {
    generation: u64,
    /// What each member subscribes to.
    members: BTreeMap<String, Vec<Arc<str>>>,
    committed: BTreeMap<TopicPartition, Progress>,
}

impl Broker {
    pub fn new(seed: u64, topics: &[(&str, usize)]) -> Self {
        let topics = topics.iter().map(|&(name, count)| (Arc::from(name), vec![Vec::new(); count])).collect();
        Self {
            state: Arc::new(Mutex::new(State {
                topics,
                groups: BTreeMap::new(),
                producers: BTreeMap::new(),
                time: Duration::ZERO,
                faults: Faults::default(),
                random: StdRng::seed_from_u64(seed),
            })),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn set_faults(&self, faults: Faults) {
        self.lock().faults = faults;
    }

    pub fn now(&self) -> Now {
        let time = self.lock().time;
        Now { monotonic: time, wall_ms: 1_790_000_000_000 + time.as_millis() as i64 }
    }

    /// Lets simulated time pass.
    pub fn pass(&self, time: Duration) {
        self.lock().time += time;
    }

    /// Appends a record, outside any transaction.
    ///
    /// # Panics
    /// If the topic does not exist.
    pub fn produce(&self, record: Record) -> Position {
        self.lock().append(record)
    }

    /// Everything in a topic, partition by partition, in offset order.
    pub fn read(&self, topic: &str) -> Vec<Stored> {
        let state = self.lock();
        let Some((topic, partitions)) = state.topics.get_key_value(topic) else { return Vec::new() };
        let mut stored = Vec::new();
        for (partition, log) in partitions.iter().enumerate() {
            for (offset, (record, _)) in log.iter().enumerate() {
                let position =
                    Position { topic: topic.clone(), partition: partition as i32, offset: offset as i64 };
                stored.push(Stored { position, record: record.clone() });
            }
        }
        stored
    }

    /// Whether the group has committed everything that its topics hold.
    pub fn drained(&self, group: &str) -> bool {
        let state = self.lock();
        let Some(group) = state.groups.get(group) else { return false };
        let mut topics = group.members.values().flatten();
        topics.all(|topic| {
            state.topics[topic].iter().enumerate().all(|(partition, log)| {
                let id = TopicPartition { topic: topic.clone(), partition: partition as i32 };
                group.committed.get(&id).map_or(0, |progress| progress.offset) == log.len() as i64
            })
        })
    }

    /// The session of a crashed member times out: the others share its partitions.
    pub fn expire(&self, group: &str, member: &str) {
        let mut state = self.lock();
        if let Some(group) = state.groups.get_mut(group)
            && group.members.remove(member).is_some()
        {
            group.generation += 1;
        }
    }

    pub(super) fn join(&self, group: &str, member: &str, topics: &[&str]) {
        let mut state = self.lock();
        let topics = topics.iter().map(|&topic| Arc::from(topic)).collect();
        let group = state.groups.entry(group.into()).or_default();
        group.members.insert(member.into(), topics);
        group.generation += 1;
    }

    pub(super) fn leave(&self, member: &Membership) {
        self.expire(&member.group, &member.member);
    }

    pub(super) fn generation(&self, member: &Membership) -> u64 {
        self.lock().groups.get(&member.group).map_or(0, |group| group.generation)
    }

    /// The member's share of the partitions, with the offsets to go on from. Nothing for one that has expired.
    pub(super) fn assigned(&self, member: &Membership) -> BTreeMap<TopicPartition, Progress> {
        let state = self.lock();
        let Some(group) = state.groups.get(&member.group) else { return BTreeMap::new() };
        let Some(topics) = group.members.get(&member.member) else { return BTreeMap::new() };
        let mine = group.members.keys().position(|m| *m == member.member).unwrap_or(0);
        let mut assigned = BTreeMap::new();
        for topic in topics {
            for partition in 0..state.topics[topic].len() {
                if partition % group.members.len() == mine {
                    let id = TopicPartition { topic: topic.clone(), partition: partition as i32 };
                    let committed = group.committed.get(&id).cloned().unwrap_or_default();
                    assigned.insert(id, committed);
                }
            }
        }
        assigned
    }

    pub(super) fn committed(&self, group: &str, id: &TopicPartition) -> Progress {
        self.lock().groups.get(group).and_then(|g| g.committed.get(id).cloned()).unwrap_or_default()
    }

    /// Whether a call reaches the broker.
    pub(super) fn stumble(&self) -> Result<(), String> {
        let mut state = self.lock();
        let unavailable = state.faults.unavailable;
        if state.random.random_bool(unavailable) { Err("injected: unavailable".into()) } else { Ok(()) }
    }

    pub(super) fn is_late(&self) -> bool {
        let mut state = self.lock();
        let late = state.faults.late;
        late > 0.0 && state.random.random_bool(late)
    }

    /// Takes events of these partitions and moves their positions: how many of each is up to the seed.
    pub(super) fn fetch<'a>(
        &self,
        positions: impl Iterator<Item = (&'a TopicPartition, &'a mut i64)>,
        max_events: usize,
    ) -> Vec<Event> {
        let mut state = self.lock();
        let mut events = Vec::new();
        for (id, position) in positions {
            let there = state.topics[&id.topic][id.partition as usize].len() - *position as usize;
            let limit = there.min(max_events - events.len());
            let count = if limit == 0 { 0 } else { state.random.random_range(1..=limit) };
            for _ in 0..count {
                let (record, timestamp_ms) =
                    state.topics[&id.topic][id.partition as usize][*position as usize].clone();
                let place = Position { topic: id.topic.clone(), partition: id.partition, offset: *position };
                events.push(Event {
                    position: place,
                    timestamp_ms: Some(timestamp_ms),
                    key: record.key,
                    payload: record.payload,
                    headers: record.headers,
                });
                *position += 1;
            }
        }
        events
    }

    pub(super) fn init_transactions(&self, transactional_id: &str) -> u64 {
        let mut state = self.lock();
        let epoch = state.producers.entry(transactional_id.into()).or_default();
        *epoch += 1;
        *epoch
    }

    pub(super) fn commit(
        &self,
        commit: &Commit,
        membership: &Membership,
        transactional_id: &str,
        epoch: u64,
    ) -> Result<(), CommitError> {
        let mut state = self.lock();
        if state.producers.get(transactional_id) != Some(&epoch) {
            return Err(CommitError::Fenced(format!("a newer producer has `{transactional_id}`")));
        }
        for (record, it) in commit.publish.iter().enumerate() {
            if !state.topics.contains_key(&it.topic) {
                return Err(CommitError::Fatal(format!("topic `{}` does not exist", it.topic)));
            }
            let bytes = size(it);
            if bytes > MAX_RECORD_BYTES {
                return Err(CommitError::Unpublishable {
                    record,
                    too_large: true,
                    reason: format!("too large: {bytes} bytes"),
                });
            }
        }
        let current = state
            .groups
            .get(&membership.group)
            .filter(|g| g.members.contains_key(&membership.member))
            .map(|g| g.generation);
        if current != Some(membership.generation) {
            return Err(CommitError::Fenced(format!("generation {} is over", membership.generation)));
        }
        for (partition, progress) in &commit.progress {
            let bytes = progress.metadata.len();
            assert!(bytes <= MAX_METADATA_BYTES, "{bytes} bytes of metadata for {partition}");
        }
        let Faults { aborted, answer_lost, most_records, .. } = state.faults;
        if state.random.random_bool(aborted) || most_records.is_some_and(|most| commit.publish.len() > most) {
            return Err(CommitError::Aborted("injected: aborted".into()));
        }
        for record in &commit.publish {
            state.append(record.clone());
        }
        let progress = commit.progress.clone();
        state.groups.entry(membership.group.clone()).or_default().committed.extend(progress);
        if state.random.random_bool(answer_lost) {
            return Err(CommitError::Aborted("injected: the answer was lost".into()));
        }
        Ok(())
    }
}

impl State {
    fn append(&mut self, record: Record) -> Position {
        let timestamp_ms = 1_790_000_000_000 + self.time.as_millis() as i64;
        let count = self.topics[&record.topic].len();
        let partition = match &record.key {
            Some(key) => {
                let mut hasher = DefaultHasher::new();
                key.hash(&mut hasher);
                (hasher.finish() % count as u64) as usize
            }
            None => self.random.random_range(0..count),
        };
        let topic = record.topic.clone();
        let Some(log) = self.topics.get_mut(&topic).map(|partitions| &mut partitions[partition]) else {
            unreachable!("the topic was found above")
        };
        log.push((record, timestamp_ms));
        Position { topic, partition: partition as i32, offset: log.len() as i64 - 1 }
    }
}

fn size(record: &Record) -> usize {
    let headers: usize = record.headers.iter().map(|h| h.name.len() + h.value.len()).sum();
    record.key.as_ref().map_or(0, |k| k.len()) + record.payload.as_ref().map_or(0, |p| p.len()) + headers
}
