//! Runs a shard on the calling thread until it is stopped, and tells the status how it goes. Before a batch runs,
//! its handler is exchanged for what was deployed meanwhile; after it, a handler that wasted time rests.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::{debug, info, trace, warn};

use super::signal::Signal;
use crate::event::{Failure, Handler, Now, Position, TopicPartition, now_ms};
use crate::log::{Commits, Source};
use crate::shard::{FailedEvent, Fatal, Identity, Shard, Tally, Turn};
use crate::status::{Parked, ParkedKey, ShardState, Status, SubscriberStatus};
use crate::text::{cut, one_line, short};

/// A shard that failed before is believed when it commits, or has gone this long without failing again.
const PROOF: Duration = Duration::from_secs(30);

/// How often the status is told where the shard stands.
const TELL_REACHED: Duration = Duration::from_millis(500);
/// How often the keys that wait are listed anew, while as many wait.
const TELL_PARKED: Duration = Duration::from_millis(500);
/// Bytes of a key that are shown, at most.
const KEY_TEXT: usize = 200;
/// Bytes of a failure's message in the log, at most: all of it is in the dead letter.
const MESSAGE_TEXT: usize = 1000;

/// What a shard goes on with.
pub(super) struct Next<H> {
    pub(super) identity: Identity,
    pub(super) max_events: usize,
    pub(super) stuck_after: Duration,
    pub(super) handler: H,
}

/// Whose shard it is, and how it stands.
pub(super) struct Place<'a> {
    pub(super) name: &'a str,
    pub(super) shard: u32,
    pub(super) stuck_after: Duration,
    /// Why it failed the last time: until it proves well, that is how it stands.
    pub(super) doubt: Option<&'a str>,
    pub(super) status: &'a Status,
}

/// Turns the shard until `stop`, finishing the turn it is in and what is on its way. The shard is the caller's to close. `next` is asked
/// before each batch.
pub(super) fn run<S, C, H>(
    shard: &mut Shard<S, C, H>,
    place: Place<'_>,
    next: &mut impl FnMut() -> Result<Option<Next<H>>, Fatal>,
    stop: &Signal,
) -> Result<(), Fatal>
where
    S: Source,
    C: Commits<Membership = S::Membership>,
    H: Handler,
{
    let Place { name, shard: number, mut stuck_after, mut doubt, status } = place;
    let started = Instant::now();
    let now = || Now { monotonic: started.elapsed(), wall_ms: now_ms() };
    status.shard_runs(name, number, shard.digest());
    // Of an earlier run, which may have broken.
    status.parked(name, number, Parked::default());
    // The same refusal is said once, not with every try.
    let mut last_refusal = None;
    let mut waiting = Waiting::default();
    let mut tell_reached = Duration::ZERO;
    while !stop.given() {
        let turned = shard.turn_with(&now, |shard| {
            // Who leaves ends by what it came with: the new one may be for other topics.
            if stop.given() {
                return Ok(());
            }
            if let Some(Next { identity, max_events, stuck_after: its_own, handler }) = next()? {
                shard.exchange(identity, max_events, handler);
                status.shard_runs(name, number, shard.digest());
                stuck_after = its_own;
            }
            Ok(())
        });
        waiting.tell(shard, now(), name, number, status);
        if now().monotonic >= tell_reached
            && let Some(reached) = shard.reached()
        {
            status.reached(name, number, reached, shard.peak_memory());
            tell_reached = now().monotonic + TELL_REACHED;
        }
        match turned? {
            Turn::Went(tally) => {
                let committed = tally.commits > 0;
                if committed {
                    trace!(handler = %name, shard = number, events = tally.events, "committed");
                }
                begun(name, number, &tally.begun, status);
                // A turn without events proves nothing: librdkafka waits for a broker in silence.
                if tally.events > 0 && last_refusal.take().is_some() {
                    info!(handler = %name, shard = number, "goes on");
                }
                if let Some(FailedEvent { position, trace, failure }) = &tally.failed {
                    let Failure { kind, message, .. } = failure;
                    let (retries, dead_letters) = (tally.retries, tally.dead_letters);
                    // What a handler says stays within its line.
                    let message = cut(&one_line(message), MESSAGE_TEXT);
                    warn!(handler = %name, trace, retries, dead_letters, "{position}: {kind}: {message}");
                }
                status.update(name, |s| count(s, tally));
                if committed || started.elapsed() > PROOF {
                    doubt = None;
                }
                let state = match doubt {
                    None => ShardState::Running,
                    Some(reason) => ShardState::Failed(reason.into()),
                };
                status.beat(name, number, state, stuck_after);
            }
            Turn::Refused { reason, wait, in_a_row } => {
                if last_refusal.as_ref() == Some(&reason) {
                    debug!(handler = %name, shard = number, "{reason}");
                } else {
                    warn!(handler = %name, shard = number, "{reason}; trying on, nothing is lost");
                }
                status.update(name, |s| s.refusals += 1);
                // One aborted transaction is a hiccup, and no reason to call the host unready.
                let state = match in_a_row {
                    0..3 => ShardState::Running,
                    3.. => ShardState::Waiting(reason.clone()),
                };
                status.beat(name, number, state, stuck_after);
                last_refusal = Some(reason);
                stop.wait(wait);
            }
        }
        stop.wait(shard.rest());
    }
    if let Turn::Went(tally) = shard.settle(&now)? {
        begun(name, number, &tally.begun, status);
        status.update(name, |s| count(s, tally));
    }
    Ok(())
}

/// What waits for its next try, as it was last told.
#[derive(Default)]
struct Waiting {
    told: Parked,
    at: Duration,
}

impl Waiting {
    /// Tells the status of it, and the log when a partition stands still for it.
    fn tell<S, C, H>(&mut self, shard: &Shard<S, C, H>, now: Now, name: &str, number: u32, status: &Status)
    where
        S: Source,
        C: Commits<Membership = S::Membership>,
        H: Handler,
    {
        let count = shard.parked_keys();
        // To list them takes a while.
        let is_known = count == self.told.count && (count == 0 || now.monotonic < self.at + TELL_PARKED);
        if is_known {
            return;
        }
        let keys = shard.parked(now, Parked::MOST_SHOWN).into_iter().map(|parked| ParkedKey {
            key: parked.key.map(|key| cut(&String::from_utf8_lossy(&key), KEY_TEXT)),
            event: parked.position.to_string(),
            attempt: parked.attempt,
            first_failed_ms: parked.first_failed_ms,
            next_try_ms: now.wall_ms + parked.wait.as_millis() as i64,
            behind: parked.behind,
        });
        let full = shard.full().iter().map(TopicPartition::to_string).collect();
        let parked = Parked { count, keys: keys.collect(), full };
        for partition in parked.full.iter().filter(|partition| !self.told.full.contains(partition)) {
            warn!(
                handler = %name, shard = number,
                "{partition} is paused until events that are tried again go through: too many wait behind them"
            );
        }
        for partition in self.told.full.iter().filter(|partition| !parked.full.contains(partition)) {
            info!(handler = %name, shard = number, "{partition} goes on");
        }
        status.parked(name, number, parked.clone());
        (self.told, self.at) = (parked, now.monotonic);
    }
}

/// Says where a version has begun.
fn begun(name: &str, shard: u32, begun: &[(Arc<str>, Position)], status: &Status) {
    for of_one in begun.chunk_by(|(one, _), (other, _)| one == other) {
        let digest = &*of_one[0].0;
        let places: Vec<String> = of_one.iter().map(|(_, position)| position.to_string()).collect();
        info!(handler = %name, shard, digest = short(digest), "runs from {}", places.join(", "));
        status.update(name, |s| {
            // Another one may have been deployed by now.
            if s.digest == digest {
                for (_, position) in of_one {
                    s.version
                        .first_offsets
                        .entry(position.topic_partition().to_string())
                        .or_insert(position.offset);
                }
            }
        });
    }
}

fn count(status: &mut SubscriberStatus, tally: Tally) {
    status.events += tally.events;
    status.outputs += tally.outputs;
    status.dead_letters += tally.dead_letters;
    status.retries += tally.retries;
    status.commits += tally.commits;
    status.figures.add(&tally.figures);
    if let Some(FailedEvent { position, failure, .. }) = tally.failed {
        status.last_failure = Some(format!("{position}: {}", failure.kind));
    }
}
