//! What a shard has polled and not yet committed, partition by partition, in offset order.
//!
//! A partition's offset moves over its settled prefix only, and its outputs leave in offset order; so an
//! event that waits for its next try holds back the later ones of its partition, and no others.

use std::collections::VecDeque;
use std::time::Duration;

use crate::event::{Event, Position, Record, TopicPartition};
use crate::log::Commit;

#[derive(Default)]
pub(super) struct Window {
    /// A shard owns few partitions: a scan beats a map.
    partitions: Vec<Partition>,
}

struct Partition {
    id: TopicPartition,
    entries: VecDeque<Entry>,
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
#[derive(Clone, Copy)]
pub(super) struct Slot {
    partition: usize,
    entry: usize,
}

impl Window {
    pub(super) fn admit(&mut self, events: Vec<Event>) {
        let mut at = 0;
        for event in events {
            let same = |p: &Partition| {
                p.id.partition == event.position.partition && p.id.topic == event.position.topic
            };
            if !self.partitions.get(at).is_some_and(same) {
                at = self.partitions.iter().position(same).unwrap_or_else(|| {
                    let id = event.position.topic_partition();
                    self.partitions.push(Partition { id, entries: VecDeque::new(), paused: false });
                    self.partitions.len() - 1
                });
            }
            self.partitions[at].entries.push_back(Entry { event, state: State::Fresh });
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
        let waiting = self.partitions.iter().flat_map(|p| &p.entries).filter_map(|e| match &e.state {
            State::Fresh => Some(Duration::ZERO),
            State::Waiting(waiting) => Some(waiting.due.saturating_sub(now)),
            State::Settled(_) => None,
        });
        waiting.min()
    }

    /// The entries to run now, at most `limit`: fresh ones, and those whose wait is over.
    pub(super) fn ready(&self, now: Duration, limit: usize) -> Vec<Slot> {
        let mut ready = Vec::new();
        for (partition, p) in self.partitions.iter().enumerate() {
            for (entry, e) in p.entries.iter().enumerate() {
                let run = match &e.state {
                    State::Fresh => true,
                    State::Waiting(waiting) => waiting.due <= now,
                    State::Settled(_) => false,
                };
                if run && ready.len() < limit {
                    ready.push(Slot { partition, entry });
                }
            }
        }
        ready
    }

    /// The events of these slots, and the number of the try that each is at.
    pub(super) fn events(&self, slots: &[Slot]) -> (Vec<&Event>, Vec<u32>) {
        slots.iter().map(|&slot| (self.event(slot), self.waiting(slot).map_or(1, |w| w.attempt))).unzip()
    }

    pub(super) fn event(&self, slot: Slot) -> &Event {
        &self.partitions[slot.partition].entries[slot.entry].event
    }

    pub(super) fn waiting(&self, slot: Slot) -> Option<&Waiting> {
        match &self.partitions[slot.partition].entries[slot.entry].state {
            State::Waiting(waiting) => Some(waiting),
            State::Fresh | State::Settled(_) => None,
        }
    }

    pub(super) fn set(&mut self, slot: Slot, state: State) {
        self.partitions[slot.partition].entries[slot.entry].state = state;
    }

    /// What is settled and still here is to run again.
    pub(super) fn unsettle(&mut self) {
        for entry in self.partitions.iter_mut().flat_map(|p| &mut p.entries) {
            match entry.state {
                State::Settled(_) => entry.state = State::Fresh,
                State::Fresh | State::Waiting(_) => {}
            }
        }
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

    /// Takes every partition's settled prefix out, as one commit; the origins say which event each record
    /// to publish came from.
    pub(super) fn take_settled(&mut self) -> (Commit, Vec<Position>) {
        let mut commit = Commit::default();
        let mut origins = Vec::new();
        for partition in &mut self.partitions {
            while let Some(Entry { state: State::Settled(_), .. }) = partition.entries.front() {
                let Some(Entry { event, state: State::Settled(records) }) = partition.entries.pop_front()
                else {
                    unreachable!("the front entry is settled")
                };
                commit.offsets.insert(partition.id.clone(), event.position.offset + 1);
                origins.extend(std::iter::repeat_n(event.position, records.len()));
                commit.publish.extend(records);
            }
        }
        (commit, origins)
    }

    /// Partitions that hold events back and are not paused yet, and those that are paused and hold none
    /// any more. Partitions that are neither leave the window.
    pub(super) fn held(&mut self) -> (Vec<TopicPartition>, Vec<TopicPartition>) {
        let (mut held, mut free) = (Vec::new(), Vec::new());
        for partition in &mut self.partitions {
            match (partition.entries.is_empty(), partition.paused) {
                (false, false) => held.push(partition.id.clone()),
                (true, true) => free.push(partition.id.clone()),
                (true, false) | (false, true) => {}
            }
            partition.paused = !partition.entries.is_empty();
        }
        self.partitions.retain(|p| p.paused);
        (held, free)
    }
}
