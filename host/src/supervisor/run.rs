//! Runs a shard on the calling thread until it is stopped, and tells the status how it goes.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tracing::{debug, info, warn};

use super::stop::Stop;
use crate::event::{Failure, Handler, Now};
use crate::log::{Committer, Source};
use crate::shard::{Fatal, Shard, Tally, Turn};
use crate::status::{ShardState, Status, SubscriberStatus};

/// A shard that failed before is believed when it commits, or has gone this long without failing again.
const PROOF: Duration = Duration::from_secs(30);

/// Turns the shard until `stop`, finishing the turn it is in. The shard is the caller's to close.
/// `doubt` says why it failed the last time: until it proves well, that is how it stands.
pub(super) fn run<S, C, H>(
    shard: &mut Shard<S, C, H>,
    name: &str,
    number: u32,
    stuck_after: Duration,
    mut doubt: Option<&str>,
    status: &Status,
    stop: &Stop,
) -> Result<(), Fatal>
where
    S: Source,
    C: Committer<Membership = S::Membership>,
    H: Handler,
{
    let started = Instant::now();
    let now = || Now { monotonic: started.elapsed(), wall_ms: wall_ms() };
    // The same refusal is said once, not with every try.
    let mut last_refusal = None;
    while !stop.stopped() {
        match shard.turn(&now)? {
            Turn::Went(tally) => {
                // A turn without events proves nothing: librdkafka waits for a broker in silence.
                if tally.events > 0 && last_refusal.take().is_some() {
                    info!(handler = %name, shard = number, "goes on");
                }
                if let Some((position, Failure { kind, message, .. })) = &tally.failure {
                    let (retries, dead_letters) = (tally.retries, tally.dead_letters);
                    warn!(handler = %name, retries, dead_letters, "{position}: {kind}: {message}");
                }
                let committed = tally.committed;
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
    }
    Ok(())
}

fn count(status: &mut SubscriberStatus, tally: Tally) {
    status.events += tally.events;
    status.outputs += tally.outputs;
    status.dead_letters += tally.dead_letters;
    status.retries += tally.retries;
    status.commits += u64::from(tally.committed);
    if let Some((position, failure)) = tally.failure {
        status.last_failure = Some(format!("{position}: {}", failure.kind));
    }
}

fn wall_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64)
}
