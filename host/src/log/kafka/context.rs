//! What librdkafka tells a client, whichever it is: log lines, errors, and that a token is due.

use std::error::Error;
use std::fmt::Display;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::ProducerContext;
use tracing::{debug, error, info, warn};

use super::token;

/// A client's voice, and what its own callbacks need.
pub struct Context<T = ()> {
    pub(super) voice: Voice,
    pub(super) own: T,
}

/// Of clients without callbacks of their own.
pub(super) type Plain = Context<()>;

impl<T: Default> Context<T> {
    pub(super) fn new(name: impl Into<String>) -> Self {
        Self::with(name, T::default())
    }
}

impl<T> Context<T> {
    pub(super) fn with(name: impl Into<String>, own: T) -> Self {
        Self { voice: Voice::new(name), own }
    }
}

impl<T: Send + Sync> ClientContext for Context<T> {
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

impl ConsumerContext for Plain {}

impl ProducerContext for Plain {
    type DeliveryOpaque = ();

    fn delivery(&self, _: &DeliveryResult<'_>, (): ()) {}
}

/// Serves a client's log lines and errors, up to and after those of a request that failed just now.
pub(super) fn listen(consumer: &BaseConsumer<Plain>) {
    while consumer.poll(Duration::from_millis(20)).is_some() {}
}

/// Whose log lines these are.
pub(super) struct Voice {
    name: String,
    /// Why brokers turn this client away: a wrong password, a certificate that nobody vouches for. What waits for
    /// them only learns that time has run out.
    turned_away: Mutex<Option<String>>,
}

impl Voice {
    fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), turned_away: Mutex::default() }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        let client = &self.name;
        match level {
            // The call that meets it returns it, and who called says what comes of it: a member that was fenced joins anew.
            RDKafkaLogLevel::Emerg if facility == "FATAL" => {
                debug!(target: "wasmill::kafka", client, facility, "{message}");
            }
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
                error!(target: "wasmill::kafka", client, facility, "{message}");
            }
            // librdkafka calls every lost connection an error, though it heals by itself.
            RDKafkaLogLevel::Error if matches!(facility, "FAIL" | "ERROR") => {
                debug!(target: "wasmill::kafka", client, facility, "{message}");
            }
            RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning => {
                warn!(target: "wasmill::kafka", client, facility, "{message}");
            }
            RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => {
                debug!(target: "wasmill::kafka", client, facility, "{message}");
            }
        }
    }

    pub(super) fn error(&self, error: &KafkaError, reason: &str) {
        let client = &self.name;
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::PartitionEOF) => {}
            // Every client has its own, heard late by those that are idle. Who watches the broker says it once.
            Some(RDKafkaErrorCode::AllBrokersDown | RDKafkaErrorCode::BrokerTransportFailure) => {
                debug!(target: "wasmill::kafka", client, "{reason}");
            }
            Some(
                RDKafkaErrorCode::Authentication
                | RDKafkaErrorCode::SaslAuthenticationFailed
                | RDKafkaErrorCode::UnsupportedSASLMechanism
                | RDKafkaErrorCode::SSL,
            ) => {
                let mut turned_away = self.turned_away.lock().unwrap_or_else(PoisonError::into_inner);
                // It is tried again and again.
                if turned_away.is_none() {
                    warn!(target: "wasmill::kafka", client, "{reason}");
                }
                *turned_away = Some(reason.to_string());
            }
            _ => warn!(target: "wasmill::kafka", client, "{reason}"),
        }
    }

    /// `error`, and why, if that is known.
    pub(super) fn explain(&self, error: &dyn Display) -> String {
        match self.turned_away.lock().unwrap_or_else(PoisonError::into_inner).as_deref() {
            Some(reason) => format!("{error}: {reason}"),
            None => error.to_string(),
        }
    }

    pub(super) fn works(&self) {
        if self.turned_away.lock().unwrap_or_else(PoisonError::into_inner).take().is_some() {
            info!(target: "wasmill::kafka", client = self.name, "a broker lets it in again");
        }
    }
}
