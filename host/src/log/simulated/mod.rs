//! A log in memory, for tests that replay from a seed: topics, consumer groups, transactions, and faults.
//!
//! Small but honest: it refuses what Kafka refuses (a commit from an old generation of the group, from a
//! fenced producer, to a topic that is not there, of a record too large), and it goes wrong in the ways
//! that Kafka goes wrong: it can abort, be away, and commit without saying so. Time is simulated as well:
//! it passes only while somebody waits for events, or when the test says so.

mod broker;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::mem;
use std::sync::Arc;
use std::time::Duration;

pub use broker::{Broker, Faults, Stored};

use super::overlapped::Open;
use crate::event::TopicPartition;
use crate::log::{
    Answer, Commit, CommitError, Commits, Committer, LogError, Polled, Progress, Source, Waker,
};

/// A member of a simulated consumer group. Dropped without [`Source::close`] it has crashed: its partitions
/// stay taken until [`Broker::expire`].
pub struct SimulatedSource {
    broker: Broker,
    member: Membership,
    positions: BTreeMap<TopicPartition, i64>,
    paused: BTreeSet<TopicPartition>,
    /// Not told yet.
    progress: BTreeMap<TopicPartition, Progress>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    pub(super) group: String,
    pub(super) member: String,
    pub(super) generation: u64,
}

impl SimulatedSource {
    pub fn join(broker: &Broker, group: &str, member: &str, topics: &[&str]) -> Self {
        broker.join(group, member, topics);
        // Generation 0 is never current: the first poll finds the assignment.
        let member = Membership { group: group.into(), member: member.into(), generation: 0 };
        Self {
            broker: broker.clone(),
            member,
            positions: BTreeMap::new(),
            paused: BTreeSet::new(),
            progress: BTreeMap::new(),
        }
    }
}

impl Source for SimulatedSource {
    type Membership = Membership;

    fn poll(&mut self, max_events: usize, wait: Duration) -> Result<Polled, LogError> {
        self.broker.stumble().map_err(LogError::Unavailable)?;
        let mut forgotten = Vec::new();
        let generation = self.broker.generation(&self.member);
        if generation != self.member.generation {
            forgotten.extend(self.positions.keys().cloned());
            self.member.generation = generation;
            self.progress = self.broker.assigned(&self.member);
            self.positions = positions(&self.progress);
            self.paused.clear();
        }
        let fetching = self.positions.iter_mut().filter(|(id, _)| !self.paused.contains(id));
        let events = self.broker.fetch(fetching, max_events);
        if events.is_empty() {
            self.broker.pass(wait);
        }
        Ok(Polled { events, forgotten, progress: mem::take(&mut self.progress) })
    }

    /// Its polls don't wait.
    fn waker(&self) -> Waker {
        Arc::new(|| ())
    }

    fn membership(&self) -> Membership {
        self.member.clone()
    }

    fn positions(&self) -> BTreeMap<TopicPartition, Option<i64>> {
        self.positions.iter().map(|(id, offset)| (id.clone(), Some(*offset))).collect()
    }

    fn pause(&mut self, partitions: &[TopicPartition]) -> Result<(), LogError> {
        if !partitions.is_empty() {
            self.broker.stumble().map_err(LogError::Unavailable)?;
        }
        self.paused.extend(partitions.iter().cloned());
        Ok(())
    }

    fn resume(&mut self, partitions: &[TopicPartition]) -> Result<(), LogError> {
        if !partitions.is_empty() {
            self.broker.stumble().map_err(LogError::Unavailable)?;
        }
        self.paused.retain(|id| !partitions.contains(id));
        Ok(())
    }

    fn rewind(&mut self) -> Result<(), LogError> {
        self.broker.stumble().map_err(LogError::Unavailable)?;
        self.paused.clear();
        let group = &self.member.group;
        let committed = |id: &TopicPartition| (id.clone(), self.broker.committed(group, id));
        self.progress = self.positions.keys().map(committed).collect();
        self.positions = positions(&self.progress);
        Ok(())
    }

    fn close(self, _deadline: Duration) {
        self.broker.leave(&self.member);
    }
}

fn positions(progress: &BTreeMap<TopicPartition, Progress>) -> BTreeMap<TopicPartition, i64> {
    progress.iter().map(|(id, progress)| (id.clone(), progress.offset)).collect()
}

/// A simulated transactional producer. A new one with the same id fences this one.
pub struct SimulatedCommitter {
    broker: Broker,
    transactional_id: String,
    epoch: u64,
}

impl SimulatedCommitter {
    pub fn init(broker: &Broker, transactional_id: &str) -> Self {
        let epoch = broker.init_transactions(transactional_id);
        Self { broker: broker.clone(), transactional_id: transactional_id.into(), epoch }
    }
}

impl Committer for SimulatedCommitter {
    type Membership = Membership;

    /// A simulated transaction is never left open: it ends with its commit.
    fn recover(&mut self) -> Result<(), LogError> {
        Ok(())
    }

    fn commit(&mut self, commit: &Commit, membership: &Membership) -> Result<(), CommitError> {
        let result = self.broker.commit(commit, membership, &self.transactional_id, self.epoch);
        if let Err(CommitError::Fenced(_)) = &result {
            self.epoch = self.broker.init_transactions(&self.transactional_id);
        }
        result
    }

    fn release(&mut self) {}

    fn close(self, _deadline: Duration) {}
}

/// Commits at any time between the submission and the moment when somebody waits for it, and tells of it at any time
/// after that, as [`Faults::late`] says.
pub struct SimulatedCommits {
    committer: SimulatedCommitter,
    open: Option<Open<Membership>>,
    answers: VecDeque<Answer>,
    has_failed: bool,
}

impl SimulatedCommits {
    pub fn init(broker: &Broker, transactional_id: &str) -> Self {
        let committer = SimulatedCommitter::init(broker, transactional_id);
        Self { committer, open: None, answers: VecDeque::new(), has_failed: false }
    }

    fn commit(&mut self) {
        let Some(open) = self.open.take() else { return };
        let result = self.committer.commit(&open.commit, &open.membership);
        self.has_failed = result.is_err();
        self.answers.push_back(open.answered(result));
    }
}

impl Commits for SimulatedCommits {
    type Membership = Membership;

    fn submit(&mut self, commit: Commit, membership: &Membership) {
        if self.open.is_some() && !self.committer.broker.is_late() {
            self.commit();
        }
        if self.has_failed {
            return;
        }
        let left = match &mut self.open {
            Some(open) => open.add(commit, membership).err(),
            None => Some(commit),
        };
        if let Some(commit) = left {
            self.commit();
            if !self.has_failed {
                self.open = Some(Open::new(commit, membership.clone()));
            }
        }
    }

    fn answer(&mut self) -> Option<Answer> {
        if !self.committer.broker.is_late() {
            self.commit();
        }
        if self.committer.broker.is_late() { None } else { self.answers.pop_front() }
    }

    fn settle(&mut self) {
        self.commit();
    }

    fn recover(&mut self) -> Result<(), LogError> {
        self.has_failed = false;
        self.committer.recover()
    }

    fn close(mut self, deadline: Duration) {
        self.settle();
        self.committer.close(deadline);
    }
}
