//! A shard: one thread, one consumer, one handler, and commits that are made while it goes on.
//!
//! [`Shard::turn`] is the loop's body and tells the story from top to bottom: poll, run, decide, commit.
//! It reads no clock and waits for nothing but the log, so a test can drive whole pipelines of shards from
//! a seed; the supervisor adds the clock, the stop signal and the status.
//!
//! A turn hands its commit over and doesn't wait for it: a later turn hears what came of it. Nothing is remembered
//! beyond a commit that failed: what was handed over after it is dropped with it, the shard rewinds to the committed
//! offsets and handles all of that again, which is what makes every failure the same failure.

mod beyond;
mod dead_letter;
mod decide;
mod pace;
mod reached;
mod retry;
mod tally;
mod traced;
mod window;

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;
use thiserror::Error;

pub use beyond::{Beyond, BeyondError};
pub use dead_letter::original;
pub use decide::{Identity, Stamp, records};
pub use reached::Reached;
pub use tally::{FailedEvent, Figures, Tally};
pub use window::Parked;

use crate::event::headers::REDRIVE_FOR;
use crate::event::{
    Event, Failure, FailureKind, Handler, Now, Outcome, Position, Record, TopicPartition, header,
};
use crate::log::{Answer, Commit, CommitError, Commits, LogError, Source, Waker};
use crate::telemetry::traces::{Batch, SubscriberTracer};
use decide::Decision;
use pace::Pace;
use window::{Flow, Slot, Window};

/// How long a poll waits for the first event, unless it is woken. It bounds how late another handler is noticed.
const POLL_WAIT: Duration = Duration::from_millis(200);
/// The same, once nothing has run for [`IDLE_AFTER`]: each poll wakes a thread.
const IDLE_WAIT: Duration = Duration::from_secs(1);
const IDLE_AFTER: Duration = Duration::from_secs(5);
/// Between two attempts at a broker that refuses; doubles from the first to the second.
const REFUSED_MIN: Duration = Duration::from_millis(10);
const REFUSED_MAX: Duration = Duration::from_secs(1);

pub struct Shard<S, C, H> {
    identity: Identity,
    pace: Pace,
    source: S,
    commits: C,
    /// Handed over, and not answered yet.
    submitted: VecDeque<Submitted>,
    handler: H,
    window: Window,
    /// Events whose outputs no broker takes, and why: dead letters when they come again.
    condemned: BTreeMap<Position, String>,
    /// The last commit failed, so that what the source would give next is not what is due next.
    rewind: bool,
    /// What the source refused at the end of a turn. It is told by the next one: this one's work counts.
    put_off: Option<LogError>,
    /// What is committed, and not told yet.
    done: Tally,
    /// Turns in a row that the log refused.
    refusals: u32,
    /// Partitions of which the present handler has run something.
    begun: HashSet<TopicPartition>,
    random: StdRng,
    /// While traces are on.
    tracer: Option<SubscriberTracer>,
    /// When the last turn began that had something to run.
    active: Duration,
}

/// A turn whose commit was handed over.
struct Submitted {
    /// Whose outputs they are.
    digest: Arc<str>,
    /// The event that each record of it came from.
    origins: Vec<Position>,
    /// When the requests came that its events go back to, in microseconds since the epoch.
    ingress_us: Vec<i64>,
    /// When it was handed over.
    at: Duration,
    tally: Tally,
    /// If any of its events is sampled.
    spans: Option<Batch>,
}

/// Whether the event was put back for another subscriber of its topic: this one has dealt with it before.
pub fn is_for_another(event: &Event, subscriber: &str) -> bool {
    header(&event.headers, REDRIVE_FOR).is_some_and(|meant| meant != subscriber.as_bytes())
}

/// What one turn did.
#[derive(Debug, PartialEq, Eq)]
pub enum Turn {
    /// Something was handled, or nothing was there to handle. The tally is of what was committed meanwhile.
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
    C: Commits<Membership = S::Membership>,
    H: Handler,
{
    /// `seed` drives the jitter of retries.
    pub fn new(identity: Identity, max_events: usize, source: S, commits: C, handler: H, seed: u64) -> Self {
        Self {
            identity: Identity { digest: handler.digest(), ..identity },
            pace: Pace::new(max_events),
            source,
            commits,
            submitted: VecDeque::new(),
            handler,
            window: Window::default(),
            condemned: BTreeMap::new(),
            rewind: false,
            put_off: None,
            done: Tally::default(),
            refusals: 0,
            begun: HashSet::new(),
            random: StdRng::seed_from_u64(seed),
            tracer: None,
            active: Duration::ZERO,
        }
    }

    /// Goes on with another handler, perhaps under other limits, from the next batch on. What waits for its next
    /// try goes on waiting, and then it is the new one's: so each key has the outputs of the one handler up to some
    /// offset, and from there on those of the other.
    pub fn exchange(&mut self, identity: Identity, max_events: usize, handler: H) {
        self.identity = Identity { digest: handler.digest(), ..identity };
        self.pace.set_limit(max_events);
        self.handler = handler;
        // Its outputs may be others.
        self.condemned.clear();
        self.begun.clear();
    }

    /// Of the present handler.
    pub fn digest(&self) -> &str {
        &self.identity.digest
    }

    /// Ends a turn that waits for events, from any thread.
    pub fn waker(&self) -> Waker {
        self.source.waker()
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

    /// Once round the loop. `now` is asked before the poll, before and after the handler runs, and when a commit is
    /// answered.
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
            // In this order: what is on its way decides where to rewind to, and the source waits for the offsets that an
            // open transaction holds.
            self.commits.settle();
            if let Some(refused) = self.hear(now)? {
                return Ok(refused);
            }
            match self.commits.recover().and_then(|()| self.source.rewind()) {
                Ok(()) => self.rewind = false,
                Err(error) => return self.log_refused(error),
            }
        }
        if let Some(refused) = self.hear(now)? {
            return Ok(refused);
        }

        // Poll.
        let begins = now().monotonic;
        let idle = self.submitted.is_empty() && begins.saturating_sub(self.active) > IDLE_AFTER;
        let most = if idle { IDLE_WAIT } else { POLL_WAIT };
        let wait = self.window.next_due(begins).unwrap_or(most).min(most);
        let taken = match self.source.poll(self.pace.events(), wait) {
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
        let ready = self.window.ready(now().monotonic, self.pace.events());
        if ready.is_empty() {
            if self.submitted.is_empty() {
                self.refusals = 0;
            }
            // What was polled may all wait behind something.
            self.steer();
            return Ok(Turn::Went(mem::take(&mut self.done)));
        }
        self.active = begins;
        let (decided, ready): (Vec<Slot>, Vec<Slot>) =
            ready.into_iter().partition(|slot| self.known(self.window.event(*slot)).is_some());
        let begun_at = now().monotonic;
        let began = self.tracer.as_ref().map(SubscriberTracer::begin);
        let mut handled_events = 0;
        let mut outcomes: Vec<Outcome> =
            decided.iter().filter_map(|slot| self.known(self.window.event(*slot))).collect();
        if !ready.is_empty() {
            let (events, attempts) = self.window.events(&ready);
            let handled = self.handler.handle(&events, &attempts);
            handled_events = handled.len();
            assert!(
                (1..=ready.len()).contains(&handled.len()),
                "a handler answers for the first of its events"
            );
            outcomes.extend(handled);
        }

        let ended = now();

        // Decide. What the handler left out has not run.
        let slots = [decided, ready].concat();
        let mut spans = self.spans(began, &slots, &mut outcomes);
        let mut outcomes: Vec<(Slot, Outcome)> = slots.into_iter().zip(outcomes).collect();
        outcomes.sort_by_key(|(slot, _)| *slot);
        let ran: Vec<Slot> = outcomes.iter().map(|(slot, _)| *slot).collect();
        let mut begun = self.window.first_of_each_partition(&ran);
        begun.retain(|position| !self.begun.contains(&position.topic_partition()));
        let Decision { commit, origins, ingress_us, mut tally, fates } =
            decide::decide(&mut self.window, outcomes, &self.identity, ended, &mut self.random);
        spans.iter_mut().for_each(|spans| spans.decided(&fates));
        self.begun.extend(begun.iter().map(Position::topic_partition));
        if handled_events > 0 {
            tally.figures.batch_events.record(handled_events as u64);
            tally.figures.handling_us.record_time(ended.monotonic.saturating_sub(begun_at));
        }
        tally.begun = begun.into_iter().map(|position| (self.identity.digest.clone(), position)).collect();

        // Commit.
        if commit.is_empty() {
            spans.into_iter().for_each(Batch::ended);
            self.done.add(tally);
        } else {
            let digest = self.identity.digest.clone();
            let at = ended.monotonic;
            self.submitted.push_back(Submitted { digest, origins, ingress_us, at, tally, spans });
            self.commits.submit(commit, &self.source.membership());
            let handed_over = self.submitted.iter().map(|submitted| submitted.tally.events).sum();
            if self.pace.is_full(handed_over) || !self.handler.can_be_repeated() {
                self.commits.settle();
            }
        }
        if let Some(refused) = self.hear(now)? {
            return Ok(refused);
        }
        self.steer();
        Ok(Turn::Went(mem::take(&mut self.done)))
    }

    /// Waits until all is committed that was handed over, and tells of it.
    pub fn settle(&mut self, now: &impl Fn() -> Now) -> Result<Turn, Fatal> {
        self.commits.settle();
        let refused = self.hear(now)?;
        Ok(refused.unwrap_or_else(|| Turn::Went(mem::take(&mut self.done))))
    }

    /// What came of the commits that were handed over: a refusal, if one failed.
    fn hear(&mut self, now: &impl Fn() -> Now) -> Result<Option<Turn>, Fatal> {
        while let Some(Answer { submissions, result }) = self.commits.answer() {
            let answered = self.submitted.drain(..submissions.min(self.submitted.len()));
            match result {
                Ok(()) => {
                    let now = now();
                    let mut handed_over = now.monotonic;
                    for Submitted { origins, ingress_us, at, tally, spans, .. } in answered {
                        spans.into_iter().for_each(Batch::ended);
                        self.condemned.retain(|position, _| !origins.contains(position));
                        self.done.add(tally);
                        handed_over = handed_over.min(at);
                        let since = |came: i64| now.wall_ms.saturating_mul(1000).saturating_sub(came);
                        for came in ingress_us {
                            self.done.figures.since_request_us.record(since(came).max(0).unsigned_abs());
                        }
                    }
                    self.done.figures.commit_us.record_time(now.monotonic.saturating_sub(handed_over));
                    self.done.commits += 1;
                    self.refusals = 0;
                    self.pace.went();
                }
                Err((error, Commit { publish, .. })) => {
                    let mut answered: Vec<Submitted> = answered.collect();
                    let dropped = answered.iter_mut().chain(&mut self.submitted);
                    traced::refused(dropped, &error);
                    return self.commit_failed(error, &publish, &answered).map(Some);
                }
            }
        }
        Ok(None)
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
        submitted: &[Submitted],
    ) -> Result<Turn, Fatal> {
        self.window.clear();
        self.rewind = true;
        // All of it runs again.
        for Submitted { tally, .. } in submitted.iter().chain(&self.submitted) {
            tally.begun.iter().for_each(|(_, position)| _ = self.begun.remove(&position.topic_partition()));
        }
        self.submitted.clear();
        let events = submitted.iter().map(|of| of.tally.events).sum();
        match error {
            CommitError::Aborted(reason) => {
                self.pace.failed(events);
                Ok(self.refused(reason))
            }
            CommitError::Fenced(reason) => Ok(self.refused(reason)),
            // What another version made says nothing of what the present one will make.
            CommitError::Unpublishable { reason, .. }
                if submitted.iter().any(|submitted| submitted.digest != self.identity.digest) =>
            {
                Ok(Turn::Refused { reason, wait: Duration::ZERO, in_a_row: 0 })
            }
            CommitError::Unpublishable { record: index, too_large, reason } => {
                let origins: Vec<&Position> = submitted.iter().flat_map(|of| &of.origins).collect();
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

    /// Leaves the group and lets go of the producers. What is not committed by then comes again, to this shard's
    /// successor. Each half gives up after `deadline`.
    pub fn close(self, deadline: Duration) {
        self.commits.close(deadline);
        self.source.close(deadline);
    }
}
