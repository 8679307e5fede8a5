//! What a committer's client is told while records are on their way.

use std::sync::{Mutex, MutexGuard, PoisonError};

use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::message::DeliveryResult;
use rdkafka::producer::ProducerContext;

use super::context::Context;

/// Remembers the first record of a commit that the broker did not take.
#[derive(Default)]
pub(super) struct Deliveries(Mutex<Option<(usize, Code)>>);

impl Deliveries {
    fn failed(&self) -> MutexGuard<'_, Option<(usize, Code)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a record was refused for itself, and not purged for another's sake.
    pub(super) fn has_refusal(&self) -> bool {
        match *self.failed() {
            None | Some((_, Code::PurgeQueue | Code::PurgeInflight)) => false,
            Some(_) => true,
        }
    }

    pub(super) fn take(&self) -> Option<(usize, Code)> {
        self.failed().take()
    }
}

impl ProducerContext for Context<Deliveries> {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, index: usize) {
        if let Err((error, _)) = result {
            let code = error.rdkafka_error_code().unwrap_or(Code::Fail);
            let mut failed = self.own.failed();
            match *failed {
                // One record's fault purges its neighbours: keep the fault.
                None | Some((_, Code::PurgeQueue | Code::PurgeInflight)) => *failed = Some((index, code)),
                Some(_) => {}
            }
        }
    }
}
