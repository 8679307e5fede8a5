//! What a failed commit means: which fate its error code stands for, and what to tell the user.

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

pub(super) struct Failed {
    pub(super) fate: Fate,
    pub(super) reason: String,
    /// The index in `Commit::publish`, where one record is to blame.
    pub(super) record: Option<usize>,
    /// The broker refused the record, not librdkafka before it.
    pub(super) by_broker: bool,
}

impl Failed {
    pub(super) fn of(what: &'static str) -> impl Fn(KafkaError) -> Self {
        move |error| Self {
            fate: Fate::of(&error),
            reason: format!("could not {what}: {error}"),
            record: None,
            by_broker: false,
        }
    }

    /// There is no producer, or none of use, and why.
    pub(super) fn unsure(reason: impl ToString) -> Self {
        Self { fate: Fate::Unsure, reason: reason.to_string(), record: None, by_broker: false }
    }

    pub(super) fn moved() -> Self {
        Self {
            fate: Fate::Moved,
            reason: "this member has no assignment at the moment".into(),
            record: None,
            by_broker: false,
        }
    }
}

pub(super) enum Fate {
    /// A newer producer holds this transactional.id.
    Fenced,
    /// The group has moved on to another generation.
    Moved,
    /// The topic refuses a record of the batch.
    Unpublishable,
    /// The same, for the record's size.
    TooLarge,
    /// No repetition helps: what is wrong and what to do.
    Refused(String),
    /// The broker's state is unknown, or the producer is broken: it must be replaced.
    Unsure,
    /// The transaction was aborted for a reason that passes.
    Passing,
}

impl Fate {
    pub(super) fn of(error: &KafkaError) -> Self {
        let code = error.rdkafka_error_code().unwrap_or(Code::Fail);
        match code {
            Code::Fenced
            | Code::ProducerFenced
            | Code::InvalidProducerEpoch
            | Code::TransactionCoordinatorFenced => Self::Fenced,
            Code::IllegalGeneration
            | Code::UnknownMemberId
            | Code::FencedInstanceId
            | Code::RebalanceInProgress
            | Code::AssignmentLost => Self::Moved,
            Code::MessageSizeTooLarge | Code::InvalidMessageSize => Self::TooLarge,
            Code::InvalidRecord | Code::InvalidDifferentRecord | Code::PolicyViolation => Self::Unpublishable,
            // Every record is stamped when it is published, so it is no record's fault (KIP-937).
            Code::InvalidTimestamp => Self::Refused(format!(
                "{error}: set this machine's clock, or the topic's `message.timestamp.after.max.ms` and \
                 `message.timestamp.before.max.ms`"
            )),
            Code::TopicAuthorizationFailed => Self::Refused(format!(
                "{error}: grant this client Write and Describe on the topics of `publish`"
            )),
            Code::GroupAuthorizationFailed => {
                Self::Refused(format!("{error}: grant this client Read on the consumer group"))
            }
            Code::TransactionalIdAuthorizationFailed => {
                Self::Refused(format!("{error}: grant this client Write on its transactional.id (wasmill.*)"))
            }
            Code::ClusterAuthorizationFailed => {
                Self::Refused(format!("{error}: grant this client IdempotentWrite on the cluster"))
            }
            Code::UnknownTopic
            | Code::UnknownTopicOrPartition
            | Code::UnknownPartition
            | Code::InvalidTopic => {
                Self::Refused(format!("{error}: create the topic, or name the right one in pipeline.toml"))
            }
            Code::OffsetMetadataTooLarge => Self::Refused(format!(
                "{error}: set the broker's `offset.metadata.max.bytes` to 4096, its default"
            )),
            Code::UnsupportedForMessageFormat | Code::UnsupportedFeature => {
                Self::Refused(format!("{error}: Apache Kafka 3 or later is needed"))
            }
            _ => match error {
                KafkaError::Transaction(error) if error.txn_requires_abort() && !error.is_fatal() => {
                    Self::Passing
                }
                KafkaError::MessageProduction(_) => Self::Passing,
                // Timeouts, broken connections, fatal errors.
                _ => Self::Unsure,
            },
        }
    }
}
