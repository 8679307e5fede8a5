//! The user's librdkafka properties, judged before any client is made of them.
//!
//! Nothing that is said here shows a value: it may be a credential.

use std::collections::BTreeMap;

use rdkafka::config::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaConfRes;

use super::token::{self, TokenError};
use crate::config::plan::Secret;

/// The properties that are ours, and why nobody else may set them.
const OURS: &[(&str, &str)] = &[
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

const REFERENCE: &str = "https://github.com/confluentinc/librdkafka/blob/master/CONFIGURATION.md";

/// Why one of `kafka.properties` can't be set, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PropertyFault {
    pub name: String,
    pub reason: String,
    pub help: String,
}

/// Every fault that shows without a broker.
pub fn property_faults(properties: &BTreeMap<String, Secret>) -> Vec<PropertyFault> {
    let mut faults: Vec<_> =
        properties.iter().filter_map(|(name, value)| fault(name, value.expose())).collect();
    let mut config = ClientConfig::new();
    config.extend(properties.iter().map(|(name, value)| (name.clone(), value.expose().to_string())));
    if token::needed(&config)
        && let Err(error) = token::read(config.get(token::PROPERTY))
    {
        faults.push(PropertyFault {
            name: token::PROPERTY.into(),
            reason: match error {
                TokenError::Unreadable { error, .. } => format!("can't read its file: {error}"),
                TokenError::NoJwt { .. } => "its file holds no JWT with the claims `sub` and `exp`".into(),
                error @ (TokenError::NoFile | TokenError::Refused(_)) => error.to_string(),
            },
            help: "write `file:PATH`, the path of a file that holds the token and that this user may read"
                .into(),
        });
    }
    faults
}

/// One at a time, so that librdkafka's verdict is about this one.
fn fault(name: &str, value: &str) -> Option<PropertyFault> {
    let refused =
        |reason: &str, help: String| PropertyFault { name: name.into(), reason: reason.into(), help };
    if let Some((_, reason)) = OURS.iter().find(|(ours, _)| *ours == name) {
        return Some(refused(reason, "leave it out of [kafka.properties]".into()));
    }
    match ClientConfig::new().set(name, value).create_native_config() {
        Ok(_) => None,
        Err(KafkaError::ClientConfig(RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN, ..)) => {
            Some(refused("librdkafka has no such property", format!("those that it has: {REFERENCE}")))
        }
        Err(error) => {
            // It quotes values, and of lists their items.
            let quotes = |reason: &str| {
                value.split([',', ';']).any(|item| !item.is_empty() && reason.contains(item.trim()))
            };
            let reason = match &error {
                KafkaError::ClientConfig(_, reason, ..) if !quotes(reason) => reason,
                _ => "librdkafka refuses the value",
            };
            Some(refused(reason, format!("what it takes: {REFERENCE}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(properties: &[(&str, &str)]) -> Vec<PropertyFault> {
        property_faults(&properties.iter().map(|(n, v)| (n.to_string(), Secret::new(*v))).collect())
    }

    #[test]
    fn all_that_is_wrong_is_told_and_no_value_is_shown() {
        let faults = faults(&[
            ("acks", "hunter2"),
            ("compression.type", "hunter2"),
            ("debug", "broker,hunter2"),
            ("hunter.two", "hunter2"),
            ("linger.ms", "hunter2"),
            ("sasl.mechanism", "OAUTHBEARER"),
            ("sasl.oauthbearer.config", "file:/hunter2"),
            ("sasl.password", "hunter2"),
        ]);
        let told: Vec<_> = faults.iter().map(|fault| (fault.name.as_str(), fault.reason.as_str())).collect();
        let named: Vec<_> = told.iter().map(|(name, _)| *name).collect();
        let expected =
            ["acks", "compression.type", "debug", "hunter.two", "linger.ms", "sasl.oauthbearer.config"];
        assert_eq!(named, expected, "{told:?}");
        assert_eq!(told[3].1, "librdkafka has no such property");
        assert!(!format!("{faults:?}").contains("hunter2"), "{faults:?}");
    }

    #[test]
    fn a_token_is_asked_for_only_where_it_is_needed() {
        assert!(faults(&[("sasl.oauthbearer.config", "file:/nowhere")]).is_empty());
        assert_eq!(faults(&[("sasl.mechanisms", "OAUTHBEARER")])[0].name, "sasl.oauthbearer.config");
    }
}
