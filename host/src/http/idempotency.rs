//! `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header): a repeated request publishes nothing
//! and gets the first one's answer.
//!
//! What is remembered is not the answer but what it was made from: a fingerprint of the request and the
//! position of the record. Both can be read back from the topic, since the record carries the key as a
//! header and the request as its payload, so that a restarted process, or another one, knows them too.
//! Bounded: the newest `capacity` keys, plus those in flight.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sha2::{Digest, Sha256};
use tokio::sync::watch;

use super::ingress::{Receipt, SubmitError};
use super::recent::Recent;
use crate::event::Position;
use crate::log::PublishError;

pub(super) type Outcome = Result<Receipt, SubmitError>;

/// Tells one request from another: SHA-256 over the method and the payload as published.
pub(super) type Fingerprint = [u8; 32];

pub(super) fn fingerprint(method: &[u8], payload: &[u8]) -> Fingerprint {
    Sha256::new().chain_update(method).chain_update([0]).chain_update(payload).finalize().into()
}

/// The keys of one resource, for whoever serves it: a changed resource goes on with them, so that a request under
/// way and its repetition know of each other also when pipeline.toml is reloaded between the two.
pub(super) struct SharedKeys {
    keys: Mutex<Keys>,
    /// The topic has been read: a key that isn't here is new.
    complete: watch::Sender<bool>,
}

impl SharedKeys {
    pub(super) fn new(capacity: usize) -> Self {
        Self { keys: Mutex::new(Keys::new(capacity)), complete: watch::Sender::new(false) }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Keys> {
        // Nothing panics while it holds the lock.
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) async fn until_complete(&self) {
        let mut complete = self.complete.subscribe();
        // Fails only when the sender is gone, and `self` holds it.
        let _ = complete.wait_for(|complete| *complete).await;
    }

    /// The topic is read again from its beginning: it may have lost records since, or be another one of the name.
    pub(super) fn read_again(&self) {
        self.lock().reading += 1;
        self.complete.send_replace(false);
    }

    /// The topic has been read: keys whose record is not in it any more are free again.
    pub(super) fn caught_up(&self) {
        let mut keys = self.lock();
        let reading = keys.reading;
        keys.settled.retain(|_, settled| settled.reading == reading);
        drop(keys);
        self.complete.send_replace(true);
    }
}

pub(super) struct Keys {
    capacity: usize,
    /// No larger than the ingress's slots.
    in_flight: HashMap<Arc<str>, Flight>,
    settled: Recent<Settled>,
    /// How often the topic was begun to be read.
    reading: u64,
}

struct Flight {
    fingerprint: Fingerprint,
    outcome: watch::Receiver<Option<Outcome>>,
    /// The topic showed a record with the key before this one's outcome was known: this process's own, or
    /// another one's.
    shown: watch::Sender<Option<Shown>>,
}

/// A record that carries a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shown {
    pub(super) fingerprint: Fingerprint,
    pub(super) position: Position,
}

#[derive(Clone)]
struct Settled {
    fingerprint: Fingerprint,
    position: Position,
    /// The reading that showed the record, or during which it was acknowledged.
    reading: u64,
}

/// What a request with a key has to do.
pub(super) enum Turn {
    /// Publish, then [`Keys::settle`]. What the topic shows of the key meanwhile comes by `shown`.
    Publish {
        done: watch::Sender<Option<Outcome>>,
        shown: watch::Receiver<Option<Shown>>,
    },
    /// Wait for the one that publishes. A closed channel without an outcome means that it never will say.
    Wait(watch::Receiver<Option<Outcome>>),
    Published(Position),
    /// The key belongs to another request.
    Taken,
}

impl Keys {
    fn new(capacity: usize) -> Self {
        Self { capacity, in_flight: HashMap::new(), settled: Recent::new(), reading: 0 }
    }

    /// What is too much goes when the next key comes.
    pub(super) fn resize(&mut self, capacity: usize) {
        self.capacity = capacity;
    }

    pub(super) fn len(&self) -> usize {
        self.in_flight.len() + self.settled.len()
    }

    pub(super) fn turn(&mut self, key: &str, fingerprint: Fingerprint) -> Turn {
        if let Some(settled) = self.settled.get(key) {
            return if settled.fingerprint == fingerprint {
                Turn::Published(settled.position.clone())
            } else {
                Turn::Taken
            };
        }
        match self.in_flight.get(key) {
            Some(flight) if flight.fingerprint != fingerprint => Turn::Taken,
            Some(flight) if flight.outcome.has_changed().is_ok() => Turn::Wait(flight.outcome.clone()),
            // A closed channel in here is a publication that ended without settling.
            Some(_) | None => {
                let (done, outcome) = watch::channel(None);
                let shown = watch::Sender::new(None);
                let news = shown.subscribe();
                self.in_flight.insert(key.into(), Flight { fingerprint, outcome, shown });
                Turn::Publish { done, shown: news }
            }
        }
    }

    /// The outcome of the one that claimed `key`, as all who wait are to see it. A record that the topic
    /// has shown is published, whatever became of its acknowledgement; where it hasn't, the key is free
    /// again, and a repetition asks anew.
    pub(super) fn settle(&mut self, key: &str, outcome: Outcome, now_ms: i64) -> Outcome {
        let Some(flight) = self.in_flight.remove(key) else { return outcome };
        let shown = flight.shown.borrow().clone();
        let outcome = match (outcome, &shown) {
            (Err(SubmitError::Publish(PublishError::Unavailable(_))), Some(shown))
                if shown.fingerprint == flight.fingerprint =>
            {
                Ok(Receipt { position: shown.position.clone(), replayed: false })
            }
            (outcome, _) => outcome,
        };
        match (&outcome, shown) {
            (Ok(receipt), _) => self.remember(key, flight.fingerprint, receipt.position.clone(), now_ms),
            (Err(_), Some(shown)) => self.remember(key, shown.fingerprint, shown.position, now_ms),
            (Err(_), None) => {}
        }
        outcome
    }

    /// The topic shows a record that carries `key`. The first one stands.
    pub(super) fn seen(&mut self, key: &str, fingerprint: Fingerprint, position: &Position, time_ms: i64) {
        match self.in_flight.get_mut(key) {
            Some(flight) => {
                flight.shown.send_if_modified(|shown| {
                    let first = shown.is_none();
                    shown.get_or_insert_with(|| Shown { fingerprint, position: position.clone() });
                    first
                });
            }
            None => self.remember(key, fingerprint, position.clone(), time_ms),
        }
    }

    fn remember(&mut self, key: &str, fingerprint: Fingerprint, position: Position, time_ms: i64) {
        let reading = self.reading;
        let fresh = Settled { fingerprint, position, reading };
        let settled = self.settled.update(key, time_ms, || fresh.clone());
        if settled.reading != reading {
            *settled = fresh;
        }
        while self.settled.len() > self.capacity {
            self.settled.pop_oldest();
        }
    }
}
