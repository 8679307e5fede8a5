//! How every client is configured, and where its log lines and errors go.
//!
//! The user's librdkafka properties come after our defaults and before what correctness depends on; the
//! latter can't be overridden, only refused with the reason.

use std::error::Error;
use std::fmt::Display;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::config::{ClientConfig, FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::BaseConsumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::ProducerContext;
use tracing::{debug, error, info, warn};

use super::{ConnectError, PropertyFault, property_faults, token};
use crate::config::plan::KafkaPlan;

/// The properties that are ours, and why nobody else may set them.
pub(super) const OURS: &[(&str, &str)] = &[
    ("bootstrap.servers", "the broker list is `kafka.brokers`"),
    ("metadata.broker.list", "the broker list is `kafka.brokers`"),
    ("group.id", "it is made from the pipeline's and the handler's name"),
    ("group.instance.id", "it is made from `kafka.instance`"),
    ("group.protocol", "static membership and fencing rely on the classic protocol"),
    ("transactional.id", "it is made from the pipeline, the handler and `kafka.instance`"),
    ("transaction.timeout.ms", "how soon another host takes over depends on it"),
    ("enable.auto.commit", "offsets are committed with the outputs, in one transaction"),
    ("auto.commit.interval.ms", "offsets are committed with the outputs, in one transaction"),
    ("enable.auto.offset.store", "offsets are committed with the outputs, in one transaction"),
    ("enable.partition.eof", "the host relies on its own setting"),
    ("auto.offset.reset", "without a committed offset, the host goes to the beginning"),
    (
        "partition.assignment.strategy",
        "the host takes assignments as a whole, which the cooperative one does not give",
    ),
    (
        "enable.sasl.oauthbearer.unsecure.jwt",
        "tokens come from the file that `sasl.oauthbearer.config` names",
    ),
    ("sasl.oauthbearer.method", "tokens come from the file that `sasl.oauthbearer.config` names"),
    ("message.timeout.ms", "nobody waits longer than the host does for an answer"),
    ("delivery.timeout.ms", "nobody waits longer than the host does for an answer"),
    ("isolation.level", "exactly once needs read_committed"),
    ("enable.idempotence", "exactly once needs it"),
    ("acks", "nothing counts as published before all replicas have it"),
    ("request.required.acks", "nothing counts as published before all replicas have it"),
    ("max.in.flight", "the order of records depends on it"),
    ("max.in.flight.requests.per.connection", "the order of records depends on it"),
    ("retries", "the order of records depends on it"),
    ("message.send.max.retries", "the order of records depends on it"),
    ("delivery.report.only.error", "the host relies on its own setting"),
    ("queuing.strategy", "the order of records depends on it"),
];

/// The most that a producer sends in one record, and that a dead-letter topic takes: what other topics take at
/// most (1,048,588 bytes unless told otherwise) and room for the headers of a failure. Larger outputs are
/// refused by their topics.
pub(super) const MAX_RECORD_BYTES: &str = "2097152";

/// What every client starts from. The values may hold credentials: never logged.
#[derive(Clone)]
pub(super) struct Base {
    bootstrap: String,
    embedded: bool,
    properties: Vec<(String, String)>,
}

impl Base {
    pub(super) fn new(bootstrap: &str, plan: &KafkaPlan, embedded: bool) -> Result<Self, ConnectError> {
        if let Some(PropertyFault { name, reason, .. }) = property_faults(&plan.properties).into_iter().next()
        {
            return Err(ConnectError::Property { name, reason });
        }
        let properties =
            plan.properties.iter().map(|(name, value)| (name.clone(), value.expose().to_string())).collect();
        Ok(Self { bootstrap: bootstrap.into(), embedded, properties })
    }

    /// For another process's broker, without credentials.
    pub(super) fn plain(bootstrap: &str, embedded: bool) -> Self {
        Self { bootstrap: bootstrap.into(), embedded, properties: Vec::new() }
    }

    pub(super) fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// `defaults`, then what the user sets, then `fixed`.
    fn config(&self, defaults: &[(&str, &str)], fixed: &[(&str, &str)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("client.id", "wasmill");
        // A broker that went away is tried again soon, without a storm.
        config.set("reconnect.backoff.ms", "50").set("reconnect.backoff.max.ms", "1000");
        config.set("topic.metadata.refresh.interval.ms", "30000");
        // New metadata of a topic that was missing a moment ago is believed after this long.
        config.set("topic.metadata.propagation.max.ms", "4000");
        for (name, value) in defaults {
            config.set(*name, *value);
        }
        for (name, value) in &self.properties {
            config.set(name, value);
        }
        config.set("bootstrap.servers", &self.bootstrap);
        for (name, value) in fixed {
            config.set(*name, *value);
        }
        // librdkafka's `debug` property says what to tell, its log level whether to.
        let told = config.get("debug").is_some();
        config.set_log_level(if told { RDKafkaLogLevel::Debug } else { RDKafkaLogLevel::Info });
        config
    }

    pub(super) fn consumer(&self, group: &str) -> ClientConfig {
        let mut config = self.config(
            &[
                // After its own queue ran full, librdkafka waits this long before it fetches again (1000 by default).
                ("fetch.queue.backoff.ms", "10"),
                // 100,000 by default, which costs 80-90 MB a consumer and is no faster.
                ("queued.min.messages", "20000"),
                // Apache Kafka answers as soon as there is a record; the embedded broker only when this is over.
                ("fetch.wait.max.ms", if self.embedded { "10" } else { "100" }),
                // How long a killed member blocks its partitions.
                ("session.timeout.ms", "10000"),
                ("heartbeat.interval.ms", "2000"),
            ],
            &[
                ("auto.offset.reset", "earliest"),
                ("enable.auto.commit", "false"),
                ("enable.auto.offset.store", "false"),
                ("isolation.level", "read_committed"),
            ],
        );
        config.set("group.id", group);
        config
    }

    pub(super) fn producer(&self) -> ClientConfig {
        self.config(
            &[
                ("linger.ms", "2"),
                ("message.max.bytes", MAX_RECORD_BYTES),
                ("retry.backoff.ms", "1"),
                ("retry.backoff.max.ms", "100"),
                // Java's, so that all producers of a topic agree where a key lives.
                ("partitioner", "murmur2_random"),
            ],
            &[("enable.idempotence", "true"), ("acks", "all")],
        )
    }

    pub(super) fn plain_client(&self) -> ClientConfig {
        self.config(&[], &[])
    }
}

/// Creates a client; failing is a matter of configuration, since nothing is connected yet.
pub(super) fn create<C: ClientContext, T: FromClientConfigAndContext<C>>(
    config: &ClientConfig,
    context: C,
) -> Result<T, ConnectError> {
    config.create_with_context(context).map_err(|e| match e {
        // Its text would show the value, which may be a credential.
        KafkaError::ClientConfig(_, reason, name, _) => ConnectError::Property { name, reason },
        other => ConnectError::Fatal(format!("can't make a Kafka client: {other}")),
    })
}

/// What the callbacks of one client need: a name for its log lines.
pub(super) struct Voice {
    name: String,
    /// Why brokers turn this client away: a wrong password, a certificate that nobody vouches for. What waits for
    /// them only learns that time has run out.
    turned_away: Mutex<Option<String>>,
}

impl Voice {
    pub(super) fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), turned_away: Mutex::default() }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        let client = &self.name;
        match level {
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

/// Serves a client's log lines and errors, up to and after those of a request that failed just now.
pub(super) fn listen(consumer: &BaseConsumer<Plain>) {
    while consumer.poll(Duration::from_millis(20)).is_some() {}
}

/// The context of clients without callbacks of their own.
pub(super) struct Plain(pub(super) Voice);

impl ClientContext for Plain {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, config: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        Ok(token::read(config)?)
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.0.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.0.error(&error, reason);
    }
}

impl rdkafka::consumer::ConsumerContext for Plain {}

impl ProducerContext for Plain {
    type DeliveryOpaque = ();

    fn delivery(&self, _: &DeliveryResult<'_>, (): ()) {}
}
