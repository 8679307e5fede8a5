//! How every client is configured.
//!
//! The user's librdkafka properties come after our defaults and before what correctness depends on; the
//! latter can't be overridden, only refused with the reason.

use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::error::KafkaError;

use super::{ConnectError, PropertyFault, property_faults};
use crate::config::plan::KafkaPlan;

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
        // Who asks for the first time while no broker leads a topic asks again only then.
        config.set("topic.metadata.refresh.interval.ms", "5000");
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
                ("queued.min.messages", "3000"),
                // Of all its partitions; 64 MiB by default. What the fastest consumer that was measured does in a tenth of a
                // second: many times what an answer of the broker takes.
                ("queued.max.messages.kbytes", "2048"),
                // Apache Kafka answers as soon as there is a record; the embedded broker only when this is over.
                ("fetch.wait.max.ms", if self.embedded { "10" } else { "500" }),
                // How long a killed member blocks its partitions.
                ("session.timeout.ms", "6000"),
                ("heartbeat.interval.ms", "1500"),
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
