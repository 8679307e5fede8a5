//! One record, published: at once where its request has no idempotency key, else under a claim of the key.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};

use super::claims::{Claims, Standing, Unclaimed, time_to_claim};
use super::idempotency::{Fingerprint, Outcome, Shown};
use super::ingress::{Receipt, SubmitError};
use super::view::View;
use crate::event::Record;
use crate::log::{Publish, PublishError};
use crate::telemetry::traces::Tracer;

#[derive(Clone)]
pub(super) struct Publication {
    pub(super) publisher: Arc<dyn Publish>,
    pub(super) view: View,
    pub(super) claims: Claims,
    /// For the broker's acknowledgement.
    pub(super) timeout: Duration,
    pub(super) tracer: Tracer,
}

/// What the record is published for.
pub(super) struct Key {
    pub(super) key: String,
    pub(super) fingerprint: Fingerprint,
    pub(super) shown: watch::Receiver<Option<Shown>>,
}

impl Publication {
    pub(super) async fn publish(&self, mut record: Record) -> Outcome {
        let span = self.tracer.publication(&mut record);
        let published = self.publisher.publish(record, self.timeout).await;
        match &published {
            Ok(position) => span.acknowledged(position),
            Err(error) => span.failed(error.as_str()),
        }
        Ok(Receipt { position: published?, replayed: false })
    }

    /// If this host holds the key; else what the topic shows of the one that does.
    pub(super) async fn publish_once(&self, record: Record, key: Key) -> Outcome {
        let attempt = self.claims.attempt(&record.topic, &key.key, key.fingerprint, self.timeout);
        let (mut claim, written) = match attempt {
            Ok(attempt) => attempt,
            Err(Unclaimed::Lost) => return self.until_shown(key).await,
            Err(Unclaimed::Taken) => return Err(SubmitError::KeyTaken),
            Err(Unclaimed::TooMany) => return Err(PublishError::Overloaded.into()),
        };
        let too_old = Instant::from_std(claim.sent) + time_to_claim(self.timeout);
        let late = || SubmitError::Unclaimed("the claim was not read back in time".into());

        let claiming = async {
            match self.publisher.publish(written, self.timeout).await {
                Ok(_) => (&mut claim.standing).await.map_err(|_| late()),
                Err(PublishError::Unavailable(reason)) => Err(SubmitError::Unclaimed(reason)),
                Err(refused) => Err(refused.into()),
            }
        };
        match timeout_at(too_old, claiming).await.map_err(|_| late())?? {
            Standing::Holds { contested: false } => {}
            Standing::Holds { contested: true } => {
                timeout_at(too_old, self.view.until_current()).await.map_err(|_| late())?;
            }
            Standing::Lost => return self.until_shown(key).await,
            Standing::Taken => return Err(SubmitError::KeyTaken),
        }
        let shown = key.shown.borrow().clone();
        if let Some(shown) = shown {
            return key.receipt(shown);
        }
        if Instant::now() >= too_old {
            return Err(late());
        }
        claim.stands();
        let outcome = self.publish(record).await;
        match &outcome {
            Ok(_) | Err(SubmitError::Publish(PublishError::Unavailable(_))) => {}
            Err(_) => claim.ends(),
        }
        outcome
    }

    async fn until_shown(&self, mut key: Key) -> Outcome {
        let shown = timeout(self.timeout, key.shown.wait_for(Option::is_some)).await;
        match shown.map(|shown| shown.ok().and_then(|shown| shown.clone())) {
            Ok(Some(shown)) => key.receipt(shown),
            Ok(None) | Err(_) => Err(SubmitError::UnderWay),
        }
    }
}

impl Key {
    fn receipt(&self, shown: Shown) -> Outcome {
        if shown.fingerprint == self.fingerprint {
            Ok(Receipt { position: shown.position, replayed: true })
        } else {
            Err(SubmitError::KeyTaken)
        }
    }
}
