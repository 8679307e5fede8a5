//! The publishing half: one producer, which publishes a batch's records and commits its offsets together.
//!
//! On Apache Kafka that is a transaction; the embedded broker forgets transactional offsets, so there it
//! is the records, acknowledged, and then the offsets. Every call has a limit in time. A producer that
//! was fenced, broke or ran into a limit is thrown away and made anew under the same transactional.id,
//! which also ends what the old one left open (librdkafka lacks KIP-890, so its own state can't be trusted
//! after a timeout).

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, Producer, ProducerContext, PurgeConfig};
use rdkafka::{ClientConfig, ClientContext, Offset, TopicPartitionList};

use super::client::{self, Voice};
use super::source::Membership;
use super::{CALL, ConnectError, native, record, retire};
use crate::log::{self, Commit, CommitError};

/// How long a dangling transaction may block readers, and the longest that a commit can take.
pub(super) const TRANSACTION: Duration = Duration::from_secs(10);
/// Records are given up when none of them is acknowledged for this long.
const STALL: Duration = CALL;
const ABORT: Duration = Duration::from_secs(3);

pub struct Committer {
    config: ClientConfig,
    name: String,
    /// `None` on the embedded broker.
    transactional_id: Option<String>,
    /// `None` after a failure that could not be mended at once; the next commit tries again.
    producer: Option<BaseProducer<Deliveries>>,
    /// When this producer was fenced lately.
    fenced: VecDeque<Instant>,
}

impl Committer {
    /// Ends whatever an earlier producer of this transactional.id left open, so that a source made after
    /// this finds stable offsets.
    pub(super) fn new(
        base: &client::Base,
        transactional_id: Option<String>,
        name: String,
    ) -> Result<Self, ConnectError> {
        let mut config = base.producer();
        config.set("delivery.report.only.error", "true");
        if let Some(id) = &transactional_id {
            config.set("transactional.id", id);
            config.set("transaction.timeout.ms", TRANSACTION.as_millis().to_string());
        }
        let mut committer = Self { config, name, transactional_id, producer: None, fenced: VecDeque::new() };
        committer.producer = Some(committer.make()?);
        Ok(committer)
    }

    fn make(&self) -> Result<BaseProducer<Deliveries>, ConnectError> {
        let context = Deliveries { voice: Voice::new(self.name.clone()), failed: Mutex::default() };
        let producer: BaseProducer<Deliveries> = client::create(&self.config, context)?;
        if self.transactional_id.is_some()
            && let Err(error) = producer.init_transactions(CALL)
        {
            let fate = Fate::of(&error);
            retire("producer", ABORT, move || drop(producer));
            return Err(match fate {
                Fate::Refused(reason) => ConnectError::Fatal(reason),
                Fate::Fenced | Fate::Moved | Fate::TooLarge | Fate::Unsure | Fate::Passing => {
                    ConnectError::Unavailable(format!("can't begin with transactions: {error}"))
                }
            });
        }
        Ok(producer)
    }

    fn replace(&mut self) -> Result<(), ConnectError> {
        if let Some(old) = self.producer.take() {
            retire("producer", ABORT, move || drop(old));
        }
        self.producer = Some(self.make()?);
        Ok(())
    }

    /// What the shard hears of a failed commit, once the producer is in order again.
    fn mend(&mut self, failed: Failed) -> CommitError {
        let Failed { fate, reason, record } = failed;
        let sound = match fate {
            Fate::Fenced | Fate::Unsure => false,
            Fate::Moved | Fate::TooLarge | Fate::Passing | Fate::Refused(_) => self.abort(),
        };
        if !sound && let Err(error) = self.replace() {
            // The next commit tries again. Until then the broker ends what is open, at its timeout.
            tracing::warn!(target: "wasmill::kafka", client = self.name, "no new producer yet: {error}");
        }
        match (fate, record) {
            (Fate::Fenced, _) => CommitError::Fenced(self.fenced_again(reason)),
            (Fate::Moved, _) => CommitError::Fenced(reason),
            (Fate::TooLarge, Some(record)) => CommitError::TooLarge { record, reason },
            (Fate::Refused(remedy), _) => CommitError::Fatal(remedy),
            (Fate::TooLarge | Fate::Passing | Fate::Unsure, _) => CommitError::Aborted(reason),
        }
    }

    /// Whether the producer can be used on.
    fn abort(&self) -> bool {
        let Some(producer) = &self.producer else { return false };
        // With records outstanding abort_transaction hangs; purged, they fail at once.
        producer.purge(PurgeConfig::default().queue().inflight());
        if !native::flush(producer, ABORT, ABORT) {
            return false;
        }
        producer.context().take();
        self.transactional_id.is_none() || producer.abort_transaction(ABORT).is_ok()
    }

    /// Two processes of one instance name fence each other for ever, a few times a minute at the least.
    fn fenced_again(&mut self, reason: String) -> String {
        let now = Instant::now();
        self.fenced.push_back(now);
        while self.fenced.front().is_some_and(|&at| now - at > Duration::from_secs(60)) {
            self.fenced.pop_front();
        }
        if self.fenced.len() <= 3 {
            return reason;
        }
        format!(
            "{reason}; that was time {} within a minute: another process seems to run with the same instance \
             name. Give each process its own `kafka.instance`",
            self.fenced.len()
        )
    }
}

impl log::Committer for Committer {
    type Membership = Membership;

    fn commit(&mut self, commit: &Commit, membership: &Membership) -> Result<(), CommitError> {
        if commit.is_empty() {
            return Ok(());
        }
        if self.producer.is_none() {
            self.replace().map_err(|e| match e {
                ConnectError::Unavailable(reason) => CommitError::Aborted(reason),
                ConnectError::Fatal(reason) => CommitError::Fatal(reason),
                property @ ConnectError::Property { .. } => CommitError::Fatal(property.to_string()),
            })?;
        }
        let Some(producer) = &self.producer else {
            return Err(CommitError::Aborted("there is no producer".into()));
        };
        let answer = match self.transactional_id {
            Some(_) => transact(producer, commit, membership),
            None => publish_then_commit(producer, commit, membership),
        };
        answer.map_err(|failed| self.mend(failed))?;
        Ok(())
    }

    fn close(self, deadline: Duration) {
        // Nothing is open between two commits.
        if let Some(producer) = self.producer {
            retire("producer", deadline, move || drop(producer));
        }
    }
}

fn transact(
    producer: &BaseProducer<Deliveries>,
    commit: &Commit,
    membership: &Membership,
) -> Result<(), Failed> {
    let offsets = offsets(commit)?;
    producer.begin_transaction().map_err(Failed::of("begin"))?;
    publish(producer, commit)?;
    if offsets.count() > 0 {
        match membership {
            Membership::Generation(generation) => producer
                .send_offsets_to_transaction(&offsets, generation, CALL)
                .map_err(Failed::of("commit offsets"))?,
            Membership::None | Membership::Member(_) => return Err(Failed::moved()),
        }
    }
    settle(producer)?;
    // A timeout leaves it open whether the broker has committed: the next producer's start settles it,
    // and the committed offsets, which the source rewinds to, tell which it was.
    producer.commit_transaction(CALL).map_err(Failed::of("commit"))
}

fn publish_then_commit(
    producer: &BaseProducer<Deliveries>,
    commit: &Commit,
    membership: &Membership,
) -> Result<(), Failed> {
    let offsets = offsets(commit)?;
    let member = match membership {
        Membership::Member(member) => member.upgrade(),
        Membership::None | Membership::Generation(_) => None,
    };
    if offsets.count() > 0 && member.is_none() {
        return Err(Failed::moved());
    }
    publish(producer, commit)?;
    settle(producer)?;
    match member {
        Some(member) if offsets.count() > 0 => {
            member.commit(&offsets, CommitMode::Sync).map_err(Failed::of("commit offsets"))
        }
        Some(_) | None => Ok(()),
    }
}

fn offsets(commit: &Commit) -> Result<TopicPartitionList, Failed> {
    record::list(commit.offsets.iter().map(|(partition, offset)| (partition, Offset::Offset(*offset))))
        .map_err(Failed::of("name offsets"))
}

fn publish(producer: &BaseProducer<Deliveries>, commit: &Commit) -> Result<(), Failed> {
    for (index, record) in commit.publish.iter().enumerate() {
        let mut base = record::base_record(record, index);
        while let Err((error, refused)) = producer.send(base) {
            if error.rdkafka_error_code() != Some(Code::QueueFull) {
                return Err(Failed { record: Some(index), ..Failed::of("publish")(error) });
            }
            // Full at 100,000 records or 1 GB: let all of them go out.
            settle(producer)?;
            base = refused;
        }
    }
    Ok(())
}

/// Waits until every record is acknowledged.
fn settle(producer: &BaseProducer<Deliveries>) -> Result<(), Failed> {
    let settled = native::flush(producer, STALL, TRANSACTION);
    if let Some((index, code)) = producer.context().take() {
        return Err(Failed {
            record: Some(index),
            ..Failed::of("publish")(KafkaError::MessageProduction(code))
        });
    }
    if settled { Ok(()) } else { Err(Failed::of("publish")(KafkaError::Flush(Code::OperationTimedOut))) }
}

struct Failed {
    fate: Fate,
    reason: String,
    /// The index in `Commit::publish`, where one record is to blame.
    record: Option<usize>,
}

impl Failed {
    fn of(what: &'static str) -> impl Fn(KafkaError) -> Self {
        move |error| Self {
            fate: Fate::of(&error),
            reason: format!("could not {what}: {error}"),
            record: None,
        }
    }

    fn moved() -> Self {
        Self { fate: Fate::Moved, reason: "this member has no assignment at the moment".into(), record: None }
    }
}

enum Fate {
    /// A newer producer holds this transactional.id.
    Fenced,
    /// The group has moved on to another generation.
    Moved,
    TooLarge,
    /// No repetition helps: what is wrong and what to do.
    Refused(String),
    /// The broker's state is unknown, or the producer is broken: it must be replaced.
    Unsure,
    /// The transaction can be aborted, and the producer used on.
    Passing,
}

impl Fate {
    fn of(error: &KafkaError) -> Self {
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
            Code::PolicyViolation | Code::InvalidRecord => {
                Self::Refused(format!("{error}: the topic's policy refuses what the handler publishes"))
            }
            Code::OffsetMetadataTooLarge | Code::UnsupportedForMessageFormat | Code::UnsupportedFeature => {
                Self::Refused(format!("{error}: Apache Kafka 3 or later is needed"))
            }
            _ => match error {
                KafkaError::Transaction(error) if error.txn_requires_abort() && !error.is_fatal() => {
                    Self::Passing
                }
                // An unacknowledged record can be purged and the transaction aborted.
                KafkaError::MessageProduction(_) => Self::Passing,
                // Timeouts, broken connections, fatal errors.
                _ => Self::Unsure,
            },
        }
    }
}

/// Remembers the first record of a commit that the broker did not take.
struct Deliveries {
    voice: Voice,
    failed: Mutex<Option<(usize, Code)>>,
}

impl Deliveries {
    fn failed(&self) -> MutexGuard<'_, Option<(usize, Code)>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Option<(usize, Code)> {
        self.failed().take()
    }
}

impl ClientContext for Deliveries {
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
            self.failed().get_or_insert((index, code));
        }
    }
}
