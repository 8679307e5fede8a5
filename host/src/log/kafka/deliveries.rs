//! What a committer's client is told while records are on their way.

use std::error::Error;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rdkafka::ClientContext;
use rdkafka::client::OAuthToken;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::ProducerContext;

use super::client::Voice;
use super::token;

/// Remembers the first record of a commit that the broker did not take.
pub(super) struct Deliveries {
    pub(super) voice: Voice,
    failed: Mutex<Option<(usize, Code)>>,
}

impl Deliveries {
    pub(super) fn new(name: String) -> Self {
        Self { voice: Voice::new(name), failed: Mutex::default() }
    }

    fn failed(&self) -> MutexGuard<'_, Option<(usize, Code)>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn take(&self) -> Option<(usize, Code)> {
        self.failed().take()
    }
}

impl ClientContext for Deliveries {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, config: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        Ok(token::read(config)?)
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.voice.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.voice.error(&error, reason);
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, index: usize) {
        if let Err((error, _)) = result {
            let code = error.rdkafka_error_code().unwrap_or(Code::Fail);
            let mut failed = self.failed();
            match *failed {
                // One record's fault purges its neighbours: keep the fault.
                None | Some((_, Code::PurgeQueue | Code::PurgeInflight)) => *failed = Some((index, code)),
                Some(_) => {}
            }
        }
    }
}
