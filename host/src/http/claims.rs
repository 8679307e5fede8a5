//! Claims: which of several hosts publishes for an idempotency key, decided by the order of one log.
//!
//! Whoever is about to publish for a key appends a claim to the claims topic and reads it back. Claims of one key have
//! one order there, the same for everybody. A claim is void when it is older than its life. So the rule:
//!
//! **A claim holds if every other claim of its key before it in the log was void when it was sent.**
//!
//! No clocks are compared, but for where a host that starts begins to read: far enough back for clocks that differ by
//! two minutes. A host takes an earlier claim for void when it has known of it for longer than its
//! life, by its own monotonic clock; so it was appended longer ago than that, and who made it, knowing its age from
//! before it was sent, has stopped publishing under it. Two claims of a key never hold at a time.
//!
//! Where a claim is known that may be alive, none is sent: otherwise hosts whose clients repeat would
//! keep each other from ever holding one.
//!
//! What this doesn't cover is a record that reaches its topic after the claim it was sent under is void: a process
//! that stands still between its last look at the clock and the network, or a broker or network that delivers a
//! record it was sent long before.

mod table;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::{oneshot, watch};

use super::idempotency::Fingerprint;
use crate::event::{Event, Record};
use table::{Known, Pending, Table};

/// How long a claim is remembered beyond its life: so long the view may take to show the record of who held it,
/// with nobody asking for more than what is read.
const REMEMBERED: Duration = Duration::from_secs(60);
/// The most that any host may wait for the broker (`http.body_timeout`).
const LONGEST_TIMEOUT: Duration = Duration::from_secs(600);
/// By how much the clocks of hosts and brokers may differ, for a host that looks where to begin to read.
const CLOCKS_DIFFER: Duration = Duration::from_secs(120);

/// The claims of all hosts, as far as they were read. Cheap to clone; one for the process, over reloads.
#[derive(Clone)]
pub struct Claims {
    shared: Arc<Shared>,
}

struct Shared {
    topic: Arc<str>,
    table: Mutex<Table>,
    /// All that the topic had has been read.
    known: watch::Sender<bool>,
}

/// What became of a claim, or would become of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Holds {
        /// There was an earlier one, which is void now; its record may be in the topic.
        contested: bool,
    },
    /// Another one may be alive.
    Lost,
    /// Another one, for another request.
    Taken,
}

/// Why there is no claim.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unclaimed {
    Lost,
    Taken,
    /// More claims than this process can remember are alive.
    TooMany,
}

/// On its way, or in the log. Dropped, it stands for nothing any more, unless it was told to stand.
pub(super) struct Claim {
    shared: Arc<Shared>,
    hash: u128,
    claimant: u64,
    /// Before the record was.
    pub(super) sent: Instant,
    pub(super) standing: oneshot::Receiver<Standing>,
    /// Something may have been published under it.
    stands: bool,
}

/// A claim on the wire. The record's key is what is claimed.
#[derive(Serialize, Deserialize)]
struct Written {
    claimant: u64,
    fingerprint: u64,
    life_ms: u64,
}

impl Claims {
    /// `life` is that of the claims to come, as far as it is known.
    pub fn new(topic: Arc<str>, life: Duration) -> Self {
        let shared = Shared { topic, table: Mutex::new(Table::new(life)), known: watch::Sender::new(false) };
        Self { shared: Arc::new(shared) }
    }

    /// How long claims stand of a host that waits this long for the broker.
    pub fn life(timeout: Duration) -> Duration {
        // Until the claim must have been read back, then until the record is given up, and then some: librdkafka looks
        // only once a second what to give up, and what it has sent has to arrive. With 30 s it is 45 s.
        time_to_claim(timeout) + timeout + Duration::from_secs(2) + timeout / 10
    }

    pub fn topic(&self) -> Arc<str> {
        self.shared.topic.clone()
    }

    /// From how long ago on the topic has to be read.
    pub fn lookback(&self) -> Duration {
        // Another host may wait longer than this one.
        Self::life(LONGEST_TIMEOUT) + CLOCKS_DIFFER
    }

    /// A record of the claims topic, in offset order within its partition; repeated reading changes nothing.
    pub fn apply(&self, event: &Event) {
        let (Some(key), Some(payload)) = (&event.key, &event.payload) else { return };
        let Ok(Written { claimant, fingerprint, life_ms }) = serde_json::from_slice(payload) else { return };
        let now = Instant::now();
        // Whoever may write there can't take a key for ever.
        let life = Duration::from_millis(life_ms).min(Self::life(LONGEST_TIMEOUT));
        let known = Known { claimant, fingerprint, seen: now, life, over: false };
        self.shared.lock().read(hash(key), known, now);
    }

    /// All that was in the topic when the reader began has been applied.
    pub fn caught_up(&self) {
        self.shared.known.send_replace(true);
    }

    pub(super) async fn until_known(&self) {
        let mut known = self.shared.known.subscribe();
        // Fails only when the sender is gone, and `self` holds it.
        let _ = known.wait_for(|known| *known).await;
    }

    /// A claim of the key, and the record to publish it by, if none is known that may be alive.
    pub(super) fn attempt(
        &self,
        topic: &str,
        key: &str,
        fingerprint: Fingerprint,
        timeout: Duration,
    ) -> Result<(Claim, Record), Unclaimed> {
        let claimed = Bytes::from(format!("{topic}/{key}"));
        let (hash, claimant, life) = (hash(&claimed), rand::random(), Self::life(timeout));
        let fingerprint = short(fingerprint);
        let (sender, standing) = oneshot::channel();
        let sent = Instant::now();
        let pending = Pending { sent, fingerprint, standing: Some(sender) };
        self.shared.lock().send(hash, claimant, pending, life)?;
        let claim = Claim { shared: self.shared.clone(), hash, claimant, sent, standing, stands: false };
        let written = Written { claimant, fingerprint, life_ms: life.as_millis() as u64 };
        let payload = serde_json::to_vec(&written).unwrap_or_default();
        let record = Record {
            topic: self.shared.topic.clone(),
            key: Some(claimed),
            payload: Some(payload.into()),
            headers: Vec::new(),
        };
        Ok((claim, record))
    }
}

/// How old a claim may be for something to be published under it.
pub(super) fn time_to_claim(timeout: Duration) -> Duration {
    timeout / 3
}

impl Claim {
    /// Something is about to be published under it.
    pub(super) fn stands(&mut self) {
        self.stands = true;
    }

    /// What was to be published surely wasn't.
    pub(super) fn ends(&mut self) {
        self.stands = false;
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if !self.stands {
            self.shared.lock().is_over(self.hash, self.claimant);
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Table> {
        // Nothing panics while it holds the lock.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn hash(claimed: &[u8]) -> u128 {
    let digest = super::idempotency::fingerprint(b"claim", claimed);
    u128::from_be_bytes(std::array::from_fn(|i| digest[i]))
}

fn short(fingerprint: Fingerprint) -> u64 {
    u64::from_be_bytes(std::array::from_fn(|i| fingerprint[i]))
}
