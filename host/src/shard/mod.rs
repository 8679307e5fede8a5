//! A shard: one thread, one consumer, one transactional producer, one handler.
//!
//! [`Shard::turn`] is the loop's body and tells the story from top to bottom: poll, run, decide, commit.
//! It reads no clock and waits for nothing but the log, so a test can drive whole pipelines of shards from
//! a seed; the supervisor adds the clock, the stop signal and the status.
//!
//! Nothing of a batch is remembered beyond a failed commit: the shard rewinds to the committed offsets
//! and handles the batch again, which is what makes every failure the same failure.

mod beyond;
mod dead_letter;
mod decide;
mod retry;
mod window;

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;
use thiserror::Error;

pub use beyond::{Beyond, BeyondError};
pub use dead_letter::original;
pub use decide::{Identity, Tally, records};
pub use window::Parked;

use crate::event::headers::REDRIVE_FOR;
use crate::event::{
    Event, Failure, FailureKind, Handler, Now, Outcome, Position, Record, TopicPartition, header,
};
use crate::log::{CommitError, Committer, LogError, Source};
use window::{Flow, Slot, Window};

/// How long a poll waits for the first event. It bounds how late a stop or a rebalance is noticed.
const POLL_WAIT: Duration = Duration::from_millis(100);
/// Between two attempts at a broker that refuses; doubles from the first to the second.
const REFUSED_MIN: Duration = Duration::from_millis(10);
const REFUSED_MAX: Duration = Duration::from_secs(1);

pub struct Shard<S, C, H> {
    identity: Identity,
    max_events: usize,
    source: S,
    committer: C,
    handler: H,
    window: Window,
    /// Events whose outputs no broker takes, and why: dead letters when they come again.
    condemned: BTreeMap<Position, String>,
    /// The last commit failed, so that what the source would give next is not what is due next.
    rewind: bool,
    /// What the source refused after a commit. It is told by the next turn: this one's commit counts.
    put_off: Option<LogError>,
    /// Turns in a row that the log refused.
    refusals: u32,
    /// Partitions of which the present handler has run something.
    begun: HashSet<TopicPartition>,
    random: StdRng,
}

/// Whether the event was put back for another subscriber of its topic: this one has dealt with it before.
pub fn is_for_another(event: &Event, subscriber: &str) -> bool {
    header(&event.headers, REDRIVE_FOR).is_some_and(|meant| meant != subscriber.as_bytes())
}

/// What one turn did.
#[derive(Debug, PartialEq, Eq)]
pub enum Turn {
    /// Something was handled, or nothing was there to handle.
    Went(Tally),
    /// The log refused; nothing is lost. Wait this long before the next turn.
    Refused {
        reason: String,
        wait: Duration,
        /// How many turns in a row it has refused.
        in_a_row: u32,
    },
}

/// The shard can't go on: no repetition would help.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct Fatal(pub String);

impl<S, C, H> Shard<S, C, H>
where
    S: Source,
    C: Committer<Membership = S::Membership>,
    H: Handler,
{
    /// `seed` drives the jitter of retries.
    pub fn new(
        identity: Identity,
        max_events: usize,
        source: S,
        committer: C,
        handler: H,
        seed: u64,
    ) -> Self {
        Self {
            identity: Identity { digest: handler.digest(), ..identity },
            max_events: max_events.max(1),
            source,
            committer,
            handler,
            window: Window::default(),
            condemned: BTreeMap::new(),
            rewind: false,
            put_off: None,
            refusals: 0,
            begun: HashSet::new(),
            random: StdRng::seed_from_u64(seed),
        }
    }

    /// Goes on with another handler, perhaps under other limits, from the next batch on. What waits for its next
    /// try goes on waiting, and then it is the new one's: so each key has the outputs of the one handler up to some
    /// offset, and from there on those of the other.
    pub fn exchange(&mut self, identity: Identity, max_events: usize, handler: H) {
        self.identity = Identity { digest: handler.digest(), ..identity };
        self.max_events = max_events.max(1);
        self.handler = handler;
        // Its outputs may be others.
        self.condemned.clear();
        self.begun.clear();
    }

    /// Of the present handler.
    pub fn digest(&self) -> &str {
        &self.identity.digest
    }

    /// How many keys are parked.
    pub fn parked_keys(&self) -> usize {
        self.window.parked_keys()
    }

    /// The first `most` keys that are parked.
    pub fn parked(&self, now: Now, most: usize) -> Vec<Parked> {
        self.window.parked(now.monotonic, most)
    }

    /// Partitions that are paused because so much of them waits behind events that are tried again.
    pub fn full(&self) -> Vec<TopicPartition> {
        self.window.full()
    }

    /// How long to wait before the next turn, for the sake of others ([`Handler::rest`]).
    pub fn rest(&mut self) -> Duration {
        self.handler.rest()
    }

    /// Once round the loop. `now` is asked twice: before the poll, and after the handler has run.
    pub fn turn(&mut self, now: &impl Fn() -> Now) -> Result<Turn, Fatal> {
        self.turn_with(now, |_| Ok(()))
    }

    /// [`turn`](Self::turn), with a word between the poll and the run: the last moment for an
    /// [`exchange`](Self::exchange), since a poll may have waited for its events.
    pub fn turn_with(
        &mut self,
        now: &impl Fn() -> Now,
        polled: impl FnOnce(&mut Self) -> Result<(), Fatal>,
    ) -> Result<Turn, Fatal> {
        if let Some(error) = self.put_off.take() {
            return self.log_refused(error);
        }
        if self.rewind {
            // In this order: the source waits for the offsets that an open transaction holds.
            match self.committer.recover().and_then(|()| self.source.rewind()) {
                Ok(()) => self.rewind = false,
                Err(error) => return self.log_refused(error),
            }
        }

        // Poll.
        let wait = self.window.next_due(now().monotonic).unwrap_or(POLL_WAIT).min(POLL_WAIT);
        let taken = match self.source.poll(self.max_events, wait) {
            Ok(taken) => taken,
            Err(error) => return self.log_refused(error),
        };
        self.window.forget(&taken.forgotten);
        self.condemned.retain(|position, _| !taken.forgotten.contains(&position.topic_partition()));
        for (partition, progress) in taken.progress {
            let beyond = Beyond::of(&progress).map_err(|error| {
                Fatal(format!(
                    "the notes beside the committed offset {} of {partition} {error}",
                    progress.offset
                ))
            })?;
            self.window.begin(partition, beyond);
        }
        self.window.admit(taken.events);
        polled(self)?;

        // Run.
        let ready = self.window.ready(now().monotonic, self.max_events);
        if ready.is_empty() {
            self.refusals = 0;
            // What was polled may all wait behind something.
            self.steer();
            return Ok(Turn::Went(Tally::default()));
        }
        let (decided, ready): (Vec<Slot>, Vec<Slot>) =
            ready.into_iter().partition(|slot| self.known(self.window.event(*slot)).is_some());
        let mut outcomes: Vec<Outcome> =
            decided.iter().filter_map(|slot| self.known(self.window.event(*slot))).collect();
        if !ready.is_empty() {
            let (events, attempts) = self.window.events(&ready);
            let handled = self.handler.handle(&events, &attempts);
            assert!(
                (1..=ready.len()).contains(&handled.len()),
                "a handler answers for the first of its events"
            );
            outcomes.extend(handled);
        }

        // Decide. What the handler left out has not run.
        let slots = decided.into_iter().chain(ready);
        let mut outcomes: Vec<(Slot, Outcome)> = slots.zip(outcomes).collect();
        outcomes.sort_by_key(|(slot, _)| *slot);
        let ran: Vec<Slot> = outcomes.iter().map(|(slot, _)| *slot).collect();
        let mut begun = self.window.first_of_each_partition(&ran);
        begun.retain(|position| !self.begun.contains(&position.topic_partition()));
        let mut decision =
            decide::decide(&mut self.window, outcomes, &self.identity, now(), &mut self.random);

        // Commit.
        if !decision.commit.is_empty() {
            if let Err(error) = self.committer.commit(&decision.commit, &self.source.membership()) {
                return self.commit_failed(error, &decision.commit.publish, &decision.origins);
            }
            self.condemned.retain(|position, _| {
                let progress = decision.commit.progress.get(&position.topic_partition());
                progress.is_none_or(|progress| position.offset >= progress.offset)
            });
        }
        self.refusals = 0;

        self.steer();
        self.begun.extend(begun.iter().map(Position::topic_partition));
        decision.tally.begun = begun;
        Ok(Turn::Went(decision.tally))
    }

    /// Tells the source what to fetch on with, and what not.
    fn steer(&mut self) {
        let Flow { pause, resume } = self.window.flow();
        if let Err(error) = self.source.pause(&pause).and_then(|()| self.source.resume(&resume)) {
            // Which partitions are paused is not known any more. A rewind resumes all of them.
            self.window.clear();
            self.rewind = true;
            self.put_off = Some(error);
        }
    }

    /// The outcome of an event that need not run: no broker takes its outputs, or it was put back for somebody else,
    /// and this handler has dealt with it before.
    fn known(&self, event: &Event) -> Option<Outcome> {
        if let Some(reason) = self.condemned.get(&event.position) {
            return Some(Err(Failure::new(FailureKind::Contract, reason.clone())));
        }
        is_for_another(event, &self.identity.name).then(|| Ok(Vec::new()))
    }

    fn log_refused(&mut self, error: LogError) -> Result<Turn, Fatal> {
        match error {
            LogError::Unavailable(reason) => Ok(self.refused(reason)),
            LogError::Fatal(reason) => Err(Fatal(reason)),
        }
    }

    fn commit_failed(
        &mut self,
        error: CommitError,
        records: &[Record],
        origins: &[Position],
    ) -> Result<Turn, Fatal> {
        self.window.clear();
        self.rewind = true;
        match error {
            CommitError::Aborted(reason) | CommitError::Fenced(reason) => Ok(self.refused(reason)),
            CommitError::Unpublishable { record: index, too_large, reason } => {
                let origin = origins[index].clone();
                if self.condemned.contains_key(&origin) {
                    return Err(Fatal(format!(
                        "topic `{}` refuses the dead letter of {origin} ({reason}); raise its max.message.bytes, \
                         and take `compact` out of its cleanup.policy",
                        self.identity.dead_letter
                    )));
                }
                // What is too large for its topic proves as much of all that is larger.
                let record = &records[index];
                let larger = |other: &Record| other.topic == record.topic && other.bytes() > record.bytes();
                for (other, origin) in records.iter().zip(origins) {
                    if too_large && larger(other) {
                        self.condemned.entry(origin.clone()).or_insert_with(|| reason.clone());
                    }
                }
                self.condemned.insert(origin, reason.clone());
                Ok(Turn::Refused { reason, wait: Duration::ZERO, in_a_row: 0 })
            }
            CommitError::Fatal(reason) => Err(Fatal(reason)),
        }
    }

    fn refused(&mut self, reason: String) -> Turn {
        let wait = REFUSED_MIN.saturating_mul(1 << self.refusals.min(10)).min(REFUSED_MAX);
        self.refusals += 1;
        Turn::Refused { reason, wait, in_a_row: self.refusals }
    }

    /// Leaves the group and lets go of the producer. What is not committed comes again, to this shard's
    /// successor. Each half gives up after `deadline`.
    pub fn close(self, deadline: Duration) {
        self.committer.close(deadline);
        self.source.close(deadline);
    }
}
