//! The publishing half: one producer, which publishes a batch's records and commits its offsets together.
//!
//! On Apache Kafka that is a transaction; the embedded broker forgets transactional offsets, so there it
//! is the records, acknowledged, and then the offsets. Every call has a limit in time. A producer that
//! was fenced, broke or ran into a limit is thrown away and made anew under the same transactional.id,
//! which also ends what the old one left open (librdkafka lacks KIP-890, so its own state can't be trusted
//! after a timeout).

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::producer::{BaseProducer, Producer, PurgeConfig};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use super::closing::Closing;
use super::context::Context;
use super::deliveries::Deliveries;
use super::failed::{Failed, Fate};
use super::fencing::{Fencing, TWO_OF_A_NAME};
use super::group::Membership;
use super::offset_sender::{OffsetSender, Patience};
use super::{CALL, ConnectError, client, native, record};
use crate::log::{self, Commit, CommitError, LogError, Progress};

/// How long a dangling transaction may block readers, and the longest that a commit can take.
pub(super) const TRANSACTION: Duration = Duration::from_secs(10);
/// Records are given up when none of them is acknowledged for this long.
const STALL: Duration = Duration::from_secs(6);
const ABORT: Duration = Duration::from_secs(3);

type Producing = BaseProducer<Context<Deliveries>>;

struct Client {
    /// `None` on the embedded broker. Before the producer, which ends when nobody else has it.
    offsets: Option<OffsetSender>,
    producer: Closing<Arc<Producing>>,
}

pub struct Committer {
    config: ClientConfig,
    name: String,
    guard: Guard,
    /// `None` on the embedded broker.
    transactional_id: Option<String>,
    /// `None` after a release, and after a failure that could not be mended at once; `recover` makes it anew.
    client: Option<Client>,
    fenced: Fencing,
    patience: Patience,
    /// That a topic takes no batches: said once.
    told_slow: bool,
}

/// What keeps two of a transactional.id from doing the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Guard {
    /// The generation of the consumer group, which goes along with each commit.
    Group,
    /// The transactional.id alone. Whoever takes it back must look anew at what the other one did, and so no commit is tried
    /// again in here: each record is a batch by itself from the start, so that a refusal is its own.
    Producer,
}

impl Committer {
    /// Ends whatever an earlier producer of this transactional.id left open, so that a source made after
    /// this finds stable offsets.
    pub(super) fn new(
        base: &client::Base,
        transactional_id: Option<String>,
        name: String,
        guard: Guard,
    ) -> Result<Self, ConnectError> {
        let mut config = base.producer();
        if guard == Guard::Producer {
            config.set("batch.num.messages", "1");
        }
        config.set("delivery.report.only.error", "true");
        if let Some(id) = &transactional_id {
            config.set("transactional.id", id);
            config.set("transaction.timeout.ms", TRANSACTION.as_millis().to_string());
            // librdkafka waits almost as long as the transaction may last for an answer that was lost.
            if config.get("socket.timeout.ms").is_none() {
                config.set("socket.timeout.ms", CALL.as_millis().to_string());
            }
        }
        let mut committer = Self {
            config,
            name,
            guard,
            transactional_id,
            client: None,
            fenced: Fencing::default(),
            patience: Patience::default(),
            told_slow: false,
        };
        committer.replace()?;
        Ok(committer)
    }

    fn replace(&mut self) -> Result<(), ConnectError> {
        // First the old one goes, and its connections.
        self.client = None;
        self.client = Some(self.make(&self.config)?);
        Ok(())
    }

    fn make(&self, config: &ClientConfig) -> Result<Client, ConnectError> {
        let context = Context::new(self.name.clone());
        let producer: Closing<Arc<Producing>> = Closing::new(Arc::new(client::create(config, context)?));
        // Who needs a token to log in asks for it by this queue.
        producer.poll(Duration::ZERO);
        if self.transactional_id.is_some()
            && let Err(error) = producer.init_transactions(CALL)
        {
            return Err(match Fate::of(&error) {
                Fate::Refused(reason) => ConnectError::Fatal(reason),
                Fate::Fenced
                | Fate::Moved
                | Fate::Unpublishable
                | Fate::TooLarge
                | Fate::Unsure
                | Fate::Passing => {
                    producer.poll(Duration::from_millis(50));
                    let error = producer.context().voice.explain(&error);
                    ConnectError::Unavailable(format!("can't begin with transactions: {error}"))
                }
            });
        }
        let offsets = self.transactional_id.is_some().then(|| OffsetSender::new(Arc::clone(&*producer)));
        let offsets = offsets
            .transpose()
            .map_err(|error| ConnectError::Unavailable(format!("can't start a thread: {error}")))?;
        Ok(Client { offsets, producer })
    }

    fn attempt(&mut self, commit: &Commit, membership: &Membership) -> Result<(), Failed> {
        let Some(Client { offsets, producer }) = &mut self.client else {
            return Err(Failed::of("publish")(KafkaError::Canceled));
        };
        // After a long pause, a new token may be due, or its brokers be gone.
        producer.poll(Duration::ZERO);
        producer.context().voice.reach_again(producer.client());
        match offsets {
            Some(offsets) => transact(producer, offsets, &mut self.patience, commit, membership),
            None => publish_then_commit(producer, commit, membership),
        }
    }

    /// The broker refuses a whole batch of records, be it for one of them or because a topic takes only small
    /// batches. With one record a batch, it is the one to blame or there is none.
    fn attempt_one_by_one(&mut self, commit: &Commit, membership: &Membership) -> Result<(), Failed> {
        let mut config = self.config.clone();
        config.set("batch.num.messages", "1");
        self.client = None;
        self.client = Some(self.make(&config).map_err(Failed::unsure)?);
        let answer = self.attempt(commit, membership);
        self.client = None;
        if answer.is_ok() && !mem::replace(&mut self.told_slow, true) {
            tracing::warn!(
                target: "wasmill::kafka",
                client = self.name,
                "a topic takes no batch of this size, though each record alone: this is slow; lower \
                 `batch.size` in kafka.properties or raise the topic's max.message.bytes"
            );
        }
        answer
    }

    /// What the shard hears of a failed commit, once the producer is in order again.
    fn mend(&mut self, failed: Failed) -> CommitError {
        let Failed { fate, reason, record, .. } = failed;
        // Only when the broker has refused no record does librdkafka keep its sequence numbers straight.
        let sound = matches!(fate, Fate::Moved) && self.abort();
        if matches!(fate, Fate::Fenced) {
            // A new one would fence the one that fenced this: whether to is for the caller to say, by `recover`.
            self.client = None;
        } else if !sound && let Err(error) = self.replace() {
            // `recover` tries again. Until then the broker ends what is open, at its timeout.
            tracing::warn!(target: "wasmill::kafka", client = self.name, "no new producer yet: {error}");
        }
        match (fate, record) {
            (Fate::Fenced, _) => CommitError::Fenced(self.fenced_again(reason)),
            (Fate::Moved, _) => CommitError::Fenced(reason),
            (Fate::Unpublishable, Some(record)) => {
                CommitError::Unpublishable { record, too_large: false, reason }
            }
            (Fate::TooLarge, Some(record)) => CommitError::Unpublishable { record, too_large: true, reason },
            (Fate::Refused(remedy), _) => CommitError::Fatal(remedy),
            (Fate::Unpublishable | Fate::TooLarge | Fate::Passing | Fate::Unsure, _) => {
                CommitError::Aborted(reason)
            }
        }
    }

    /// Whether the producer can be used on.
    fn abort(&self) -> bool {
        let Some(Client { producer, .. }) = &self.client else { return false };
        // With records outstanding abort_transaction hangs; purged, they fail at once.
        producer.purge(PurgeConfig::default().queue().inflight());
        if !native::flush(producer, ABORT, ABORT, || false) {
            return false;
        }
        producer.context().own.take();
        self.transactional_id.is_none() || producer.abort_transaction(ABORT).is_ok()
    }

    fn fenced_again(&mut self, reason: String) -> String {
        if self.fenced.again() { format!("{reason}, again and again: {TWO_OF_A_NAME}") } else { reason }
    }
}

impl log::Committer for Committer {
    type Membership = Membership;

    fn recover(&mut self) -> Result<(), LogError> {
        if self.client.is_some() {
            return Ok(());
        }
        self.replace().map_err(|e| match e {
            ConnectError::Unavailable(reason) => LogError::Unavailable(reason),
            ConnectError::Fatal(reason) => LogError::Fatal(reason),
            property @ ConnectError::Property { .. } => LogError::Fatal(property.to_string()),
        })
    }

    fn commit(&mut self, commit: &Commit, membership: &Membership) -> Result<(), CommitError> {
        if commit.is_empty() {
            return Ok(());
        }
        if self.guard == Guard::Producer && self.client.is_none() {
            return Err(CommitError::Aborted("the producer is gone".into()));
        }
        self.recover().map_err(|e| match e {
            LogError::Unavailable(reason) => CommitError::Aborted(reason),
            LogError::Fatal(reason) => CommitError::Fatal(reason),
        })?;
        let answer = match self.attempt(commit, membership) {
            Err(Failed { fate: Fate::Unpublishable | Fate::TooLarge, by_broker: true, .. })
                if self.guard == Guard::Group =>
            {
                self.attempt_one_by_one(commit, membership)
            }
            answer => answer,
        };
        answer.map_err(|failed| self.mend(failed))
    }

    /// Nothing is open between two commits.
    fn release(&mut self) {
        self.client = None;
    }

    fn close(mut self, deadline: Duration) {
        // Nothing is open between two commits.
        if let Some(client) = &mut self.client {
            client.producer.deadline = deadline;
        }
    }
}

fn transact(
    producer: &Producing,
    sender: &mut OffsetSender,
    patience: &mut Patience,
    commit: &Commit,
    membership: &Membership,
) -> Result<(), Failed> {
    let offsets = offsets(commit)?;
    producer.begin_transaction().map_err(Failed::of("begin"))?;
    publish(producer, commit)?;
    if offsets.count() > 0 {
        match membership {
            Membership::Generation(generation) => sender.send(offsets, generation.clone(), patience)?,
            Membership::None | Membership::Member(_) => return Err(Failed::moved()),
        }
    }
    settle(producer)?;
    // A timeout leaves it open whether the broker has committed: the next producer's start settles it,
    // and the committed offsets, which the source rewinds to, tell which it was.
    producer.commit_transaction(CALL).map_err(Failed::of("commit"))
}

fn publish_then_commit(producer: &Producing, commit: &Commit, membership: &Membership) -> Result<(), Failed> {
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
    let mut list = TopicPartitionList::new();
    for (partition, Progress { offset, metadata }) in &commit.progress {
        let mut element = list.add_partition(&partition.topic, partition.partition);
        element.set_offset(Offset::Offset(*offset)).map_err(Failed::of("name offsets"))?;
        if !metadata.is_empty() {
            element.set_metadata(metadata);
        }
    }
    Ok(list)
}

fn publish(producer: &Producing, commit: &Commit) -> Result<(), Failed> {
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
fn settle(producer: &Producing) -> Result<(), Failed> {
    // After a refusal the rest of the transaction never settles.
    let refused = || producer.context().own.has_refusal();
    let settled = native::flush(producer, STALL, TRANSACTION, refused);
    match producer.context().own.take() {
        None if settled => {
            producer.context().voice.works();
            Ok(())
        }
        None => Err(Failed::of("publish")(KafkaError::Flush(Code::OperationTimedOut))),
        // It fell with the transaction, which knows why, and says so when it is asked to begin again.
        Some((_, Code::PurgeQueue | Code::PurgeInflight)) => {
            let reason = producer.begin_transaction().err();
            Err(Failed::of("publish")(reason.unwrap_or(KafkaError::Flush(Code::PurgeQueue))))
        }
        Some((index, code)) => Err(Failed {
            record: Some(index),
            by_broker: true,
            ..Failed::of("publish")(KafkaError::MessageProduction(code))
        }),
    }
}
