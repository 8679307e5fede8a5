//! What librdkafka tells a client, whichever it is: log lines, errors, and that a token is due.

use std::error::Error;
use std::fmt::Display;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rdkafka::client::{Client, ClientContext, OAuthToken};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::ProducerContext;
use tracing::{debug, error, info, warn};

use super::{native, token};

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

/// Serves the log lines, errors and tokens of a client that gets no records, before it asks for something.
pub(super) fn serve(consumer: &BaseConsumer<Plain>) {
    hear(consumer, Duration::ZERO);
    consumer.context().voice.reach_again(consumer.client());
}

/// Serves a client's log lines and errors, up to and after those of a request that failed just now.
pub(super) fn listen(consumer: &BaseConsumer<Plain>) {
    hear(consumer, Duration::from_millis(20));
}

fn hear(consumer: &BaseConsumer<Plain>, wait: Duration) {
    while let Some(told) = consumer.poll(wait) {
        if let Err(error) = told {
            consumer.context().voice.heard(&error);
        }
    }
}

/// Whose log lines these are.
pub(super) struct Voice {
    name: String,
    /// Why brokers turn this client away: a wrong password, a certificate that nobody vouches for. What waits for
    /// them only learns that time has run out.
    turned_away: Mutex<Option<String>>,
    /// Told by librdkafka, and not dealt with yet.
    has_lost_all_brokers: AtomicBool,
}

impl Voice {
    fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            turned_away: Mutex::default(),
            has_lost_all_brokers: AtomicBool::new(false),
        }
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
                self.heard(error);
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

    /// An error that a consumer's poll returned: a producer's come by [`Voice::error`].
    pub(super) fn heard(&self, error: &KafkaError) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown) {
            self.has_lost_all_brokers.store(true, Ordering::Relaxed);
        }
    }

    /// Tells a client that has lost all of its brokers those again that it began with: to be called again and again while
    /// it lives.
    ///
    /// librdkafka would do so by itself (KIP-1102), but not when it is a broker's answer that says there are none, as the
    /// only one of a cluster answers while its controller takes it for gone: then the client would reach nobody any
    /// more, for ever (librdkafka issue 5301).
    pub(super) fn reach_again<C: ClientContext>(&self, client: &Client<C>) {
        if self.has_lost_all_brokers.swap(false, Ordering::Relaxed) {
            debug!(target: "wasmill::kafka", client = self.name, "looks for brokers anew");
            native::add_bootstrap_brokers(client);
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
