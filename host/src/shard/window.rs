//! What a shard has polled and not done, partition by partition, in offset order.
//!
//! An event that waits for its next try has its **key parked**: later events of that key wait behind it, in order,
//! those of all other keys go on. What is done beyond the committed offset goes into the commit ([`Beyond`]). An
//! event without a key parks nobody but itself.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;

use super::beyond::{Beyond, Fit};
use crate::event::{Event, Header, Position, Record, TopicPartition};
use crate::log::Commit;

/// Events held of one partition, at most, before it is paused.
const MOST_EVENTS: usize = 10_000;
/// Bytes of all partitions together. Each has the same share, so that none that waits holds up another.
const MOST_BYTES: usize = 32 * 1024 * 1024;
/// Bytes of a share, at least: from 32 partitions on they may be more in all.
const LEAST_SHARE: usize = 1024 * 1024;

#[derive(Default)]
pub(super) struct Window {
    /// A shard owns few partitions: a scan beats a map.
    partitions: Vec<Partition>,
    /// Of an odd number of entries to run, one more is fresh: every other time.
    fresh_first: bool,
}

struct Partition {
    id: TopicPartition,
    /// What was committed when it began, or one past the last that came. Nothing before it comes, unless the topic is
    /// another one by now.
    next: i64,
    /// Polled, and not done.
    entries: VecDeque<Entry>,
    /// Below `end`, and neither polled again yet nor done, by the progress that was committed.
    awaited: VecDeque<i64>,
    /// All offsets below it that are in neither of the two are done.
    end: i64,
    /// One past the last event that is done.
    done: i64,
    /// Entries that wait for their next try.
    waiting: usize,
    /// Of the entries.
    bytes: usize,
    /// Whether the source was told to pause it.
    paused: bool,
}

struct Entry {
    event: Event,
    state: State,
}

pub(super) enum State {
    /// To run as soon as possible, for the first time.
    Fresh,
    Waiting(Waiting),
    /// Done: these records are to be published, perhaps none.
    Settled(Vec<Record>),
}

/// An event that asked for another try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Waiting {
    /// The number of the next try; the first one was 1.
    pub(super) attempt: u32,
    pub(super) due: Duration,
    pub(super) first_failed_ms: i64,
}

/// Names an entry; good until the window changes its entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Slot {
    pub(super) partition: usize,
    entry: usize,
}

/// A key that waits behind an event of it, or an event that waits alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parked {
    pub position: Position,
    pub key: Option<Bytes>,
    /// The number of the next try; the first one was 1.
    pub attempt: u32,
    pub first_failed_ms: i64,
    /// Until the next try.
    pub wait: Duration,
    /// Events that wait behind it.
    pub behind: usize,
}

/// What is done, and goes.
#[derive(Default)]
pub(super) struct Settled {
    pub(super) commit: Commit,
    /// The event that each record of `commit.publish` came from.
    pub(super) origins: Vec<Position>,
    /// Of the events that go back to an HTTP request: when it came, in microseconds since the epoch.
    pub(super) ingress_us: Vec<i64>,
}

/// What to tell the source.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Flow {
    pub(super) pause: Vec<TopicPartition>,
    pub(super) resume: Vec<TopicPartition>,
}

impl Window {
    /// A partition goes on from here.
    pub(super) fn begin(&mut self, id: TopicPartition, beyond: Beyond) {
        let Beyond { undone, end } = beyond;
        let next = undone.first().copied().unwrap_or(end);
        self.partitions.retain(|partition| partition.id != id);
        self.partitions.push(Partition { next, awaited: undone.into(), ..Partition::new(id, end) });
    }

    /// Takes events up, but for those that are done already.
    pub(super) fn admit(&mut self, events: Vec<Event>) {
        let mut at = 0;
        for event in events {
            let same = |p: &Partition| {
                p.id.partition == event.position.partition && p.id.topic == event.position.topic
            };
            if !self.partitions.get(at).is_some_and(same) {
                at = self.partitions.iter().position(same).unwrap_or_else(|| {
                    let Position { offset, .. } = event.position;
                    self.partitions.push(Partition::new(event.position.topic_partition(), offset));
                    self.partitions.len() - 1
                });
            }
            self.partitions[at].admit(event);
        }
    }

    pub(super) fn forget(&mut self, partitions: &[TopicPartition]) {
        self.partitions.retain(|p| !partitions.contains(&p.id));
    }

    pub(super) fn clear(&mut self) {
        self.partitions.clear();
    }

    /// How long until some event is to run; `None` when none waits for that.
    pub(super) fn next_due(&self, now: Duration) -> Option<Duration> {
        let waits = self.partitions.iter().flat_map(Partition::open).map(|(_, entry)| entry.wait(now));
        waits.min()
    }

    /// The entries to run now, at most `limit`: fresh ones, and those whose wait is over. However many wait and are due, half
    /// of the room is for what is fresh.
    pub(super) fn ready(&mut self, now: Duration, limit: usize) -> Vec<Slot> {
        let (mut fresh, mut due) = (Vec::new(), Vec::new());
        for (partition, p) in self.partitions.iter().enumerate() {
            for (entry, Entry { state, .. }) in p.open().filter(|(_, entry)| entry.wait(now).is_zero()) {
                let slots = if matches!(state, State::Waiting(_)) { &mut due } else { &mut fresh };
                if slots.len() < limit {
                    slots.push(Slot { partition, entry });
                }
            }
        }
        self.fresh_first = !self.fresh_first;
        let half = (limit + usize::from(self.fresh_first)) / 2;
        due.truncate(limit - fresh.len().min(half));
        fresh.truncate(limit - due.len());
        fresh.append(&mut due);
        fresh.sort_unstable();
        fresh
    }

    /// The events of these slots, and the number of the try that each is at.
    pub(super) fn events(&self, slots: &[Slot]) -> (Vec<&Event>, Vec<u32>) {
        slots.iter().map(|&slot| (self.event(slot), self.attempt(slot))).unzip()
    }

    /// The number of the try that it is at.
    pub(super) fn attempt(&self, slot: Slot) -> u32 {
        self.waiting(slot).map_or(1, |w| w.attempt)
    }

    /// From now on the event has one more.
    pub(super) fn add_header(&mut self, slot: Slot, header: Header) {
        let partition = &mut self.partitions[slot.partition];
        let event = &mut partition.entries[slot.entry].event;
        partition.bytes -= event.bytes();
        event.headers.push(header);
        partition.bytes += event.bytes();
    }

    pub(super) fn event(&self, slot: Slot) -> &Event {
        &self.entry(slot).event
    }

    pub(super) fn waiting(&self, slot: Slot) -> Option<&Waiting> {
        match &self.entry(slot).state {
            State::Waiting(waiting) => Some(waiting),
            State::Fresh | State::Settled(_) => None,
        }
    }

    fn entry(&self, slot: Slot) -> &Entry {
        &self.partitions[slot.partition].entries[slot.entry]
    }

    pub(super) fn set(&mut self, slot: Slot, state: State) {
        let partition = &mut self.partitions[slot.partition];
        let entry = &mut partition.entries[slot.entry];
        partition.waiting += usize::from(matches!(state, State::Waiting(_)));
        partition.waiting -= usize::from(matches!(entry.state, State::Waiting(_)));
        entry.state = state;
    }

    /// Of each partition that these slots are in, the first event.
    pub(super) fn first_of_each_partition(&self, slots: &[Slot]) -> Vec<Position> {
        let mut first: Vec<Slot> = Vec::new();
        for slot in slots {
            match first.iter_mut().find(|other| other.partition == slot.partition) {
                Some(other) => other.entry = other.entry.min(slot.entry),
                None => first.push(*slot),
            }
        }
        first.into_iter().map(|slot| self.event(slot).position.clone()).collect()
    }

    /// Takes out what is settled, as one commit; the origins say which event each record to publish came from.
    pub(super) fn take_settled(&mut self) -> Settled {
        let mut settled = Settled::default();
        let Settled { commit, origins, ingress_us } = &mut settled;
        for partition in &mut self.partitions {
            let before = partition.entries.len();
            partition.entries.retain_mut(|Entry { event, state }| {
                let State::Settled(records) = state else { return true };
                partition.done = partition.done.max(event.position.offset + 1);
                partition.bytes -= event.bytes();
                origins.extend(std::iter::repeat_n(&event.position, records.len()).cloned());
                commit.publish.append(records);
                ingress_us.extend(event.ingress_us());
                false
            });
            if partition.entries.len() < before {
                commit.progress.insert(partition.id.clone(), partition.beyond().progress());
            }
        }
        settled
    }

    /// How many keys are parked.
    pub(super) fn parked_keys(&self) -> usize {
        self.partitions.iter().map(|partition| partition.waiting).sum()
    }

    /// Of each partition: the offset before which all was polled or is done, and how many events before it are not done.
    pub(super) fn undone(&self) -> impl Iterator<Item = (&TopicPartition, i64, usize)> {
        self.partitions.iter().map(|p| (&p.id, p.end, p.entries.len() + p.awaited.len()))
    }

    /// The first `most` keys that are parked, partition by partition.
    pub(super) fn parked(&self, now: Duration, most: usize) -> Vec<Parked> {
        let mut parked: Vec<Parked> = Vec::new();
        for partition in self.partitions.iter().filter(|partition| partition.waiting > 0) {
            let mut of_key: HashMap<&[u8], usize> = HashMap::new();
            for Entry { event, state } in &partition.entries {
                let key = event.key.as_deref();
                match state {
                    State::Waiting(Waiting { attempt, due, first_failed_ms }) if parked.len() < most => {
                        key.map(|key| of_key.insert(key, parked.len()));
                        parked.push(Parked {
                            position: event.position.clone(),
                            key: event.key.clone(),
                            attempt: *attempt,
                            first_failed_ms: *first_failed_ms,
                            wait: due.saturating_sub(now),
                            behind: 0,
                        });
                    }
                    State::Fresh => {
                        if let Some(&head) = key.and_then(|key| of_key.get(key)) {
                            parked[head].behind += 1;
                        }
                    }
                    State::Waiting(_) | State::Settled(_) => {}
                }
            }
        }
        parked
    }

    /// Partitions whose windows are full, and not only of what is about to run.
    pub(super) fn full(&self) -> Vec<TopicPartition> {
        let share = self.share();
        self.partitions.iter().filter(|p| p.waiting > 0 && p.is_full(share)).map(|p| p.id.clone()).collect()
    }

    /// The bytes of a partition, at most.
    fn share(&self) -> usize {
        (MOST_BYTES / self.partitions.len().max(1)).max(LEAST_SHARE)
    }

    /// A partition is paused while it has events to run, and while its window is full.
    pub(super) fn flow(&mut self) -> Flow {
        let mut flow = Flow::default();
        let share = self.share();
        for partition in &mut self.partitions {
            let paused = partition.is_full(share) || partition.open().any(|(_, entry)| entry.is_fresh());
            match (partition.paused, paused) {
                (false, true) => flow.pause.push(partition.id.clone()),
                (true, false) => flow.resume.push(partition.id.clone()),
                (true, true) | (false, false) => {}
            }
            partition.paused = paused;
        }
        flow
    }
}

impl Partition {
    fn new(id: TopicPartition, end: i64) -> Self {
        let (entries, awaited) = (VecDeque::new(), VecDeque::new());
        Self { id, next: end, entries, awaited, end, done: end, waiting: 0, bytes: 0, paused: false }
    }

    fn admit(&mut self, event: Event) {
        let offset = event.position.offset;
        if offset < self.next {
            // The topic was made anew, and its offsets begin anew: what was noted is of the old one.
            *self = Self { paused: self.paused, ..Self::new(self.id.clone(), offset) };
        }
        self.next = offset + 1;
        // What is gone from the topic doesn't come any more.
        while self.awaited.front().is_some_and(|awaited| *awaited < offset) {
            self.awaited.pop_front();
        }
        if self.awaited.front() == Some(&offset) {
            self.awaited.pop_front();
        } else if offset < self.end {
            return;
        } else {
            self.end = offset + 1;
        }
        self.bytes += event.bytes();
        self.entries.push_back(Entry { event, state: State::Fresh });
    }

    /// The entries that wait for nobody: the first of each key that has one parked, and all of the others; and only so
    /// far that what comes of them can be committed.
    fn open(&self) -> impl Iterator<Item = (usize, &Entry)> {
        let mut fit = Fit::default();
        let mut parked: HashSet<&[u8]> = HashSet::new();
        let fitting =
            self.entries.iter().enumerate().take_while(move |(_, e)| fit.takes(e.event.position.offset));
        fitting.filter(move |(_, entry)| match (&entry.event.key, &entry.state) {
            (_, State::Settled(_)) => false,
            (None, _) => true,
            (Some(_), State::Fresh) if self.waiting == 0 => true,
            (Some(key), State::Fresh) => !parked.contains(&**key),
            (Some(key), State::Waiting(_)) => parked.insert(key),
        })
    }

    fn beyond(&self) -> Beyond {
        let entries = self.entries.iter().map(|entry| entry.event.position.offset);
        let undone = entries.chain(self.awaited.iter().copied());
        Beyond { undone: undone.take_while(|offset| *offset < self.done).collect(), end: self.done }
    }

    fn is_full(&self, share: usize) -> bool {
        let mut fit = Fit::default();
        self.entries.len() >= MOST_EVENTS
            || self.bytes >= share
            || self.waiting > 0 && !self.entries.iter().all(|entry| fit.takes(entry.event.position.offset))
    }
}

impl Entry {
    fn is_fresh(&self) -> bool {
        matches!(self.state, State::Fresh)
    }

    /// Until it is to run.
    fn wait(&self, now: Duration) -> Duration {
        match &self.state {
            State::Fresh => Duration::ZERO,
            State::Waiting(waiting) => waiting.due.saturating_sub(now),
            State::Settled(_) => Duration::MAX,
        }
    }
}
