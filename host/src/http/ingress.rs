//! From a checked request to an acknowledged record, once.
//!
//! # What is promised
//! - A success means that the broker has acknowledged the record, at the position in the answer.
//! - Requests with one `Idempotency-Key` and one body publish one record, however many come at once or
//!   later, to this process or to others of the pipeline, and whichever of them are killed and started again. Within
//!   one process the first one publishes; of several processes the one whose claim comes first in the claims topic
//!   ([`claims`](super::claims)).
//! - That holds as long as the key is remembered: the newest `view_keys` ones of a resource, over restarts too,
//!   because they are read back from the topic. While that reading lasts, requests with a key wait, then get 503.
//! - After an unknown outcome (503: no acknowledgement in time) the record may be in the topic or not. A
//!   repetition waits until the topic shows the record, or until the claim is void that it was sent under
//!   and all that the topic has by then is read: only then it publishes.
//! - Every request is answered: within [`timeout`](Publication::timeout) and two seconds from the end of its body,
//!   or as soon as the broker is known to be away. What is under way goes on after that answer.
//!
//! # What is not
//! Two records where a record reaches its topic after its claim is void, which `Claims::life` says: a process
//! that is suspended between its last look at the clock and the network, or a network or broker that delivers what it
//! was sent long before. They have equal key, payload and `wasmill-idempotency-key`, and never two ids: an
//! id that the client didn't choose is derived from the idempotency key.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use thiserror::Error;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use super::idempotency::{Fingerprint, Outcome, Turn};
use super::publication::{Key, Publication};
use super::view::View;
use crate::event::{Position, Record};
use crate::log::{Publish, PublishError};
use crate::status::Status;

/// Records on their way to the broker, at most; more requests get 503 at once.
const SLOTS: u32 = 2048;
/// Longer than the broker has for its acknowledgement a request isn't left without an answer: for the report
/// of a record that was given up.
const GRACE: Duration = Duration::from_secs(2);

pub(super) struct Ingress {
    publication: Publication,
    status: Status,
    /// Those of every ingress of this process: the last one's [`drained`](Ingress::drained) waits for all.
    slots: Arc<Semaphore>,
}

pub(super) struct Submission {
    pub(super) resource: usize,
    pub(super) id: String,
    pub(super) record: Record,
    pub(super) idempotency: Option<(String, Fingerprint)>,
}

#[derive(Clone, Debug)]
pub(super) struct Receipt {
    pub(super) position: Position,
    /// An earlier request with this key published it.
    pub(super) replayed: bool,
}

#[derive(Clone, Debug, Error)]
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
    /// Nothing was published, because the broker did not take the claim.
    #[error("the idempotency key was not claimed: {0}")]
    Unclaimed(String),
    /// Nothing was published: another request with the key may be about to, or did and the topic doesn't show it yet.
    #[error("another request with the idempotency key may be under way")]
    UnderWay,
}

impl Ingress {
    pub(super) fn new(publication: Publication, status: Status) -> Self {
        Self { publication, status, slots: Arc::new(Semaphore::new(SLOTS as usize)) }
    }

    /// For a plan that takes this one's place.
    pub(super) fn succeed(&self, publisher: Arc<dyn Publish>, view: View, timeout: Duration) -> Self {
        let publication = Publication { publisher, view, timeout, ..self.publication.clone() };
        Self { publication, status: self.status.clone(), slots: self.slots.clone() }
    }

    pub(super) async fn submit(&self, submission: Submission) -> Outcome {
        let until = Instant::now() + self.publication.timeout + GRACE;
        // A record would wait in the producer's queue, and its client in the dark.
        if self.status.broker_away() {
            return Err(SubmitError::Away);
        }
        let Some((key, fingerprint)) = submission.idempotency.clone() else {
            let (done, outcome) = watch::channel(None);
            self.start(submission, None, done)?;
            return self.answer(outcome, until).await;
        };
        let Publication { view, claims, timeout, .. } = &self.publication;
        let known = async {
            view.until_keys_are_known(submission.resource).await;
            claims.until_known().await;
        };
        tokio::select! {
            () = known => {}
            () = tokio::time::sleep(*timeout) => return Err(SubmitError::Rebuilding),
            () = self.status.until_broker_away() => return Err(SubmitError::Away),
        }
        match view.turn(submission.resource, &key, fingerprint) {
            Turn::Publish { done, shown } => {
                let outcome = done.subscribe();
                let resource = submission.resource;
                let its_key = Key { key: key.clone(), fingerprint, shown };
                if let Err(error) = self.start(submission, Some(its_key), done) {
                    return view.settle(resource, &key, Err(error));
                }
                self.answer(outcome, until).await
            }
            Turn::Wait(outcome) => {
                self.answer(outcome, until).await.map(|receipt| Receipt { replayed: true, ..receipt })
            }
            Turn::Published(position) => Ok(Receipt { position, replayed: true }),
            Turn::Taken => Err(SubmitError::KeyTaken),
        }
    }

    /// In a task of its own, which a client that hangs up does not take along: its repetition must find
    /// out what became of the first try. The slot shows [`drained`](Self::drained) when the task has ended.
    fn start(
        &self,
        submission: Submission,
        key: Option<Key>,
        done: watch::Sender<Option<Outcome>>,
    ) -> Result<(), SubmitError> {
        let slot = self.slots.clone().try_acquire_owned().map_err(|_| PublishError::Overloaded)?;
        let publication = self.publication.clone();
        tokio::spawn(async move {
            let Submission { resource, id, record, idempotency } = submission;
            let mut outcome = match key {
                None => publication.publish(record).await,
                Some(key) => publication.publish_once(record, key).await,
            };
            if let Some((key, _)) = idempotency {
                outcome = publication.view.settle(resource, &key, outcome);
            }
            if let Ok(Receipt { position, replayed: false }) = &outcome {
                publication.view.acknowledged(resource, &id, position);
            }
            done.send_replace(Some(outcome));
            drop(slot);
        });
        Ok(())
    }

    /// The outcome, or that it isn't known in time.
    async fn answer(&self, mut outcome: watch::Receiver<Option<Outcome>>, until: Instant) -> Outcome {
        let unknown = |why: &str| Err(PublishError::Unavailable(why.into()).into());
        tokio::select! {
            biased;
            outcome = outcome.wait_for(Option::is_some) => match outcome.as_deref() {
                Ok(Some(outcome)) => outcome.clone(),
                Ok(None) | Err(_) => unknown("the publication was cut off"),
            },
            () = self.status.until_broker_away() => unknown("the broker is away"),
            () = tokio::time::sleep_until(until) => unknown("no answer in time"),
        }
    }

    /// Completes when nothing is on its way; from then on nothing new is taken.
    pub(super) async fn drained(&self) {
        if let Ok(all) = self.slots.acquire_many(SLOTS).await {
            all.forget();
        }
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
