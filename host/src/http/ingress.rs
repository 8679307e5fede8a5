//! From a checked request to an acknowledged record, once.
//!
//! # What is promised
//! - A success means that the broker has acknowledged the record, at the position in the answer.
//! - Requests with one `Idempotency-Key` and one body publish one record, however many come at once or
//!   later, as long as the key is remembered: the newest `view_keys` ones, over restarts too, because they are
//!   read back from the topic. While that reading lasts, requests with a key wait, then get 503.
//! - After an unknown outcome (503: no acknowledgement in time) the record may be in the topic or not. A
//!   repetition publishes only if the topic hasn't shown the record by then. One case stays open: the
//!   record was written, and the repetition comes before it has been read back. Then it is in the topic twice,
//!   with equal key, payload and `wasmill-idempotency-key`, never as two ids: an id that the client
//!   didn't choose is derived from the idempotency key.
//!
//! # What is not
//! Two processes that get the same key at the same moment publish it twice: each learns of the other's
//! record from the topic only. Send repetitions to the same one, or accept the same open case.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use thiserror::Error;
use tokio::sync::{Semaphore, watch};

use super::idempotency::{Claim, Fingerprint, Outcome};
use super::view::View;
use crate::event::{Position, Record};
use crate::log::{Publish, PublishError};
use crate::status::Status;

/// Records on their way to the broker, at most; more requests get 503 at once.
const SLOTS: u32 = 2048;

pub(super) struct Ingress {
    publisher: Arc<dyn Publish>,
    status: Status,
    view: View,
    timeout: Duration,
    /// Those of every ingress of this process: the last one's [`drained`](Ingress::drained) waits for all.
    slots: Arc<Semaphore>,
}

pub(super) struct Submission {
    pub(super) resource: usize,
    pub(super) id: String,
    pub(super) record: Record,
    pub(super) idempotency: Option<(String, Fingerprint)>,
}

pub(super) struct Receipt {
    pub(super) position: Position,
    /// An earlier request with this key published it.
    pub(super) replayed: bool,
}

#[derive(Debug, Error)]
pub(super) enum SubmitError {
    #[error(transparent)]
    Publish(#[from] PublishError),
    #[error("the idempotency key belongs to another request")]
    KeyTaken,
    #[error("idempotency keys are still being read back from the topics")]
    Rebuilding,
    /// Nothing was published, because the broker does not answer.
    #[error("the broker is away")]
    Away,
}

impl Ingress {
    pub(super) fn new(publisher: Arc<dyn Publish>, view: View, status: Status, timeout: Duration) -> Self {
        Self { publisher, view, status, timeout, slots: Arc::new(Semaphore::new(SLOTS as usize)) }
    }

    /// For a plan that takes this one's place.
    pub(super) fn succeed(&self, publisher: Arc<dyn Publish>, view: View, timeout: Duration) -> Self {
        Self { publisher, view, timeout, status: self.status.clone(), slots: self.slots.clone() }
    }

    pub(super) async fn submit(&self, submission: Submission) -> Result<Receipt, SubmitError> {
        // A record would wait in the producer's queue, and its client in the dark.
        if self.status.broker_away() {
            return Err(SubmitError::Away);
        }
        let fresh = |position| Receipt { position, replayed: false };
        let Some((key, fingerprint)) = submission.idempotency.clone() else {
            let (done, outcome) = watch::channel(None);
            self.publish(submission, done)?;
            return Ok(settled(outcome).await.map(fresh)?);
        };
        if tokio::time::timeout(self.timeout, self.view.until_keys_are_known(submission.resource))
            .await
            .is_err()
        {
            return Err(SubmitError::Rebuilding);
        }
        match self.view.claim(submission.resource, &key, fingerprint) {
            Claim::Publish(done) => {
                let outcome = done.subscribe();
                let resource = submission.resource;
                if let Err(error) = self.publish(submission, done) {
                    return Ok(self.view.settle(resource, &key, Err(error)).map(fresh)?);
                }
                Ok(settled(outcome).await.map(fresh)?)
            }
            Claim::Wait(outcome) => {
                Ok(settled(outcome).await.map(|position| Receipt { position, replayed: true })?)
            }
            Claim::Published(position) => Ok(Receipt { position, replayed: true }),
            Claim::Taken => Err(SubmitError::KeyTaken),
        }
    }

    /// In a task of its own, which a client that hangs up does not take along: its repetition must find
    /// out what became of the first try. The slot shows [`drained`](Self::drained) when the task has ended.
    fn publish(
        &self,
        submission: Submission,
        done: watch::Sender<Option<Outcome>>,
    ) -> Result<(), PublishError> {
        let slot = self.slots.clone().try_acquire_owned().map_err(|_| PublishError::Overloaded)?;
        let (publisher, view, timeout) = (self.publisher.clone(), self.view.clone(), self.timeout);
        tokio::spawn(async move {
            let Submission { resource, id, record, idempotency } = submission;
            let mut outcome = publisher.publish(record, timeout).await;
            if let Some((key, _)) = idempotency {
                outcome = view.settle(resource, &key, outcome);
            }
            if let Ok(position) = &outcome {
                view.acknowledged(resource, &id, position);
            }
            done.send_replace(Some(outcome));
            drop(slot);
        });
        Ok(())
    }

    /// Completes when nothing is on its way; from then on nothing new is taken.
    pub(super) async fn drained(&self) {
        if let Ok(all) = self.slots.acquire_many(SLOTS).await {
            all.forget();
        }
    }
}

async fn settled(mut outcome: watch::Receiver<Option<Outcome>>) -> Outcome {
    match outcome.wait_for(Option::is_some).await.as_deref() {
        Ok(Some(outcome)) => outcome.clone(),
        Ok(None) | Err(_) => Err(PublishError::Unavailable("the publication was cut off".into())),
    }
}

/// The id of a body without one whose request has an idempotency key: a UUIDv8 (RFC 9562, section 5.8) of the
/// two, so that a repetition after an unknown outcome means the same thing as the first try.
pub(super) fn derived_id(resource: &str, idempotency_key: &str) -> String {
    let digest = super::idempotency::fingerprint(resource.as_bytes(), idempotency_key.as_bytes());
    let mut half = [0; 16];
    half.copy_from_slice(&digest[..16]);
    uuid::Builder::from_custom_bytes(half).into_uuid().to_string()
}

/// The key of a record, as an id: also what the view finds ids by.
pub(super) fn id_of(key: &Option<Bytes>) -> Option<&str> {
    key.as_deref().and_then(|key| std::str::from_utf8(key).ok()).filter(|id| check_id(id).is_ok())
}

/// What may be an id: it is a path segment and a record key.
pub(super) fn check_id(id: &str) -> Result<(), &'static str> {
    match id {
        "" => Err("must not be empty"),
        // Clients resolve these segments away, percent-encoded or not.
        "." | ".." => Err("must not be a dot segment"),
        id if id.len() > 255 => Err("must not be longer than 255 bytes"),
        id if id.chars().any(char::is_control) => Err("must not contain control characters"),
        _ => Ok(()),
    }
}
