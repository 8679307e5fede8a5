//! What a shard needs from a log: poll a source, commit a transaction.
//!
//! Two halves on purpose: a [`Source`] polls and a [`Committer`] commits, and all that travels between
//! them is data ([`Commit`] and the source's membership). A shard hands its commits over ([`Commits`]) and goes on:
//! they are made on a thread of their own ([`Overlapped`]). Two adapters: [`kafka`] for brokers, real or embedded, and
//! [`simulated`] for deterministic tests.

pub mod kafka;
mod overlapped;
pub mod simulated;

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

pub use overlapped::{Departure, Overlapped};
use thiserror::Error;

use crate::event::{Event, Position, Record, TopicPartition};

/// The consuming half: one member of one consumer group.
pub trait Source {
    /// Proof of membership in one generation of the group, for the commit's fencing (KIP-447).
    type Membership: Clone;

    /// Takes what is there, at most `max_events`, and never waits to fill a batch: it waits, at most
    /// `wait`, only while there is nothing at all. Events of one partition come in offset order, without
    /// repeats until [`rewind`](Self::rewind). Also what keeps the group membership alive.
    ///
    /// Events of partitions that were revoked meanwhile are not in the answer.
    fn poll(&mut self, max_events: usize, wait: Duration) -> Result<Polled, LogError>;

    /// Ends a poll that waits, or else the next one, from any thread.
    fn waker(&self) -> Waker;

    /// The membership that events polled so far were polled under.
    fn membership(&self) -> Self::Membership;

    /// The partitions that this member owns, and of each the offset of what it gives next, where that is known: from the
    /// first event, or marker of a transaction, on. Asks nobody.
    fn positions(&self) -> BTreeMap<TopicPartition, Option<i64>>;

    /// Stops fetching these partitions until [`resume`](Self::resume). Their position stays.
    fn pause(&mut self, partitions: &[TopicPartition]) -> Result<(), LogError>;

    fn resume(&mut self, partitions: &[TopicPartition]) -> Result<(), LogError>;

    /// Goes back to the committed offsets of every assigned partition (their beginning where there is
    /// none), and resumes them all. What was polled and not committed comes again, and their progress with it.
    fn rewind(&mut self) -> Result<(), LogError>;

    /// Leaves the group, so that others take over at once; gives up after `deadline`.
    fn close(self, deadline: Duration);
}

pub type Waker = Arc<dyn Fn() + Send + Sync>;

#[derive(Debug, Default)]
pub struct Polled {
    pub events: Vec<Event>,
    /// Partitions that this member no longer owns, or owns anew: whatever the shard holds of them must
    /// be forgotten before it looks at `events`. None of them is paused any more.
    pub forgotten: Vec<TopicPartition>,
    /// What was committed of partitions whose first events since their assignment, or since a rewind, come now.
    pub progress: BTreeMap<TopicPartition, Progress>,
}

/// How far a partition is done, as it is committed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Of the next event to handle: all before it are done.
    pub offset: i64,
    /// What the shard notes beside it: what is done beyond it. At most 4,096 bytes.
    pub metadata: String,
}

/// What becomes visible together: a batch's outputs, its dead letters, and how far its partitions are done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Commit {
    pub publish: Vec<Record>,
    pub progress: BTreeMap<TopicPartition, Progress>,
}

impl Commit {
    pub fn is_empty(&self) -> bool {
        self.publish.is_empty() && self.progress.is_empty()
    }

    /// Of the records to publish.
    fn bytes(&self) -> usize {
        self.publish.iter().map(Record::bytes).sum()
    }
}

/// Where a shard hands its commits over, to go on while they are made: in this order, and none after one that failed.
pub trait Commits {
    type Membership;

    /// Hands over what is to be committed next, by the membership that its events were polled under. Waits while there is
    /// no room for it. After a commit that failed it's dropped, until [`recover`](Self::recover).
    fn submit(&mut self, commit: Commit, membership: &Self::Membership);

    /// What came of the next commit, if it is known by now. Several that were handed over may have been committed as one.
    fn answer(&mut self) -> Option<Answer>;

    /// Waits until nothing is on its way.
    fn settle(&mut self);

    /// As [`Committer::recover`].
    fn recover(&mut self) -> Result<(), LogError>;

    /// As [`Committer::close`], once what was handed over is committed.
    fn close(self, deadline: Duration);
}

/// What came of a commit.
#[derive(Debug)]
pub struct Answer {
    /// How many that were handed over it held.
    pub submissions: usize,
    /// Why it failed, and what it was.
    pub result: Result<(), (CommitError, Commit)>,
}

/// The publishing half: one producer, one transaction at a time.
pub trait Committer {
    type Membership;

    /// Ends what a failed commit left open, where [`commit`](Self::commit) could not: until then, committed offsets
    /// are unstable and a [`Source::rewind`] waits for them.
    fn recover(&mut self) -> Result<(), LogError>;

    /// All of `commit` or nothing. Returns when the broker has answered; after an error the transaction
    /// is aborted (or will be, by [`recover`](Self::recover) or by the broker at its timeout) and the committer is
    /// ready for another.
    fn commit(&mut self, commit: &Commit, membership: &Self::Membership) -> Result<(), CommitError>;

    /// Lets go of what costs something while nothing is to be committed. The next [`commit`](Self::commit) makes it anew. Only
    /// for who commits for a consumer group.
    fn release(&mut self);

    /// Ends an open transaction and lets go of the producer; gives up after `deadline`.
    fn close(self, deadline: Duration);
}

/// Why a poll, a rewind or a recovery failed. `Unavailable` heals by trying on; `Fatal` stops the shard.
#[derive(Debug, Error)]
pub enum LogError {
    #[error("the broker can't be reached: {0}")]
    Unavailable(String),
    #[error("{0}")]
    Fatal(String),
}

/// Why nothing of a commit became visible, and so what to do.
#[derive(Debug, Error)]
pub enum CommitError {
    /// Passing: rewind and run the batch again.
    #[error("the transaction was aborted: {0}")]
    Aborted(String),
    /// The group has moved on, or another producer has taken this transactional.id: what was polled
    /// belongs to someone else. Rewind; [`recover`](Committer::recover) takes the transactional.id back.
    #[error("fenced: {0}")]
    Fenced(String),
    /// Its topic refuses `publish[record]`, now and for ever: too large, or without a key where there must be
    /// one. The others may be fine.
    #[error("record {record} can't be published: {reason}")]
    Unpublishable { record: usize, too_large: bool, reason: String },
    /// No repetition will help (no permission, a topic that is gone): the shard stops and says so.
    #[error("{0}")]
    Fatal(String),
}

/// Publishing single records from async code, outside any transaction: what the HTTP ingress needs.
pub trait Publish: Send + Sync + 'static {
    /// Answers when the broker has acknowledged the record. Otherwise after `timeout`, or later: not before it is sure that
    /// the record isn't tried any more.
    fn publish(&self, record: Record, timeout: Duration) -> Publishing<'_>;
}

pub type Publishing<'a> = Pin<Box<dyn Future<Output = Result<Position, PublishError>> + Send + 'a>>;

/// Why there is no acknowledgement, and so what the client may do.
#[derive(Clone, Debug, Error)]
pub enum PublishError {
    /// No answer in time: the record may have been written nevertheless.
    #[error("the broker didn't acknowledge: {0}")]
    Unavailable(String),
    /// Not written: larger than brokers take.
    #[error("the record is too large: {0}")]
    TooLarge(String),
    /// Not written: too much is on its way already.
    #[error("too much is on its way to the broker")]
    Overloaded,
    /// Not written: no permission, no such topic.
    #[error("the broker refused the record: {0}")]
    Refused(String),
}

impl PublishError {
    /// The word for it in traces.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Unavailable(_) => "unavailable",
            Self::TooLarge(_) => "too-large",
            Self::Overloaded => "overloaded",
            Self::Refused(_) => "refused",
        }
    }
}
