//! What a source's client is told between two polls: by the group, which gives and takes partitions, and by
//! librdkafka, which says what went wrong.
//!
//! All of it is heard inside `poll`, on the caller's thread, and left in [`GroupState`] for it.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, ConsumerGroupMetadata, Rebalance};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use tracing::{debug, info, warn};

use super::committer::TRANSACTION;
use super::context::{Context, Voice};
use super::record::Topics;
use crate::event::TopicPartition;
use crate::log::{Departure, LogError};

pub(super) type GroupConsumer = BaseConsumer<Context<Group>>;

/// Proof of one generation of the group.
#[derive(Clone)]
pub enum Membership {
    /// Between two assignments: nothing that was polled may be committed.
    None,
    /// For a transaction. Its generation is that of the last assignment.
    Generation(Arc<ConsumerGroupMetadata>),
    /// The embedded broker stores offsets only if the member itself commits them, so this is the member.
    Member(Weak<GroupConsumer>),
}

impl PartialEq for Membership {
    /// Of the same generation.
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::None, Self::None) => true,
            (Self::Generation(one), Self::Generation(other)) => Arc::ptr_eq(one, other),
            (Self::Member(one), Self::Member(other)) => one.ptr_eq(other),
            (Self::None | Self::Generation(_) | Self::Member(_), _) => false,
        }
    }
}

/// What the group's callbacks leave for `poll`.
#[derive(Default)]
pub struct Group {
    state: Mutex<GroupState>,
    /// What is on its way to be committed.
    departure: Option<Arc<Departure>>,
}

#[derive(Default)]
pub(super) struct GroupState {
    pub(super) generation: Option<Arc<ConsumerGroupMetadata>>,
    pub(super) owned: BTreeSet<TopicPartition>,
    pub(super) forgotten: HashSet<TopicPartition>,
    /// Since when the present assignment has given nothing. Perhaps there is nothing, perhaps its committed offsets
    /// can't be read, which librdkafka keeps to itself.
    pub(super) silent_since: Option<Instant>,
}

impl Group {
    pub(super) fn new(departure: Option<Arc<Departure>>) -> Self {
        Self { departure, ..Self::default() }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, GroupState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ConsumerContext for Context<Group> {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Revoke(partitions) => {
                let lost = consumer.assignment_lost();
                let client = self.voice.name();
                info!(target: "wasmill::kafka", client, partitions = partitions.count(), lost, "partitions revoked");
                // The generation is good until this returns. Of partitions that are lost it is over already.
                if let Some(departure) = self.own.departure.as_ref().filter(|_| !lost) {
                    departure.wait(TRANSACTION);
                }
                let mut state = self.own.state();
                // From here to the next assignment, no generation vouches for anything.
                state.generation = None;
                state.silent_since = None;
                let partitions = Topics::default().partitions(partitions);
                partitions.iter().for_each(|partition| _ = state.owned.remove(partition));
                state.forgotten.extend(partitions);
            }
            Rebalance::Assign(partitions) => {
                let client = self.voice.name();
                info!(target: "wasmill::kafka", client, partitions = partitions.count(), "partitions assigned");
            }
            Rebalance::Error(error) => debug!(target: "wasmill::kafka", "rebalance failed: {error}"),
        }
    }

    fn post_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Assign(partitions) => {
                // librdkafka keeps a pause over the rebalance, and whoever asked for it has forgotten it.
                if let Err(error) = consumer.resume(partitions) {
                    let client = self.voice.name();
                    warn!(target: "wasmill::kafka", client, "can't resume what was assigned: {error}");
                }
                let generation = consumer.group_metadata().map(Arc::new);
                let mut state = self.own.state();
                state.generation = generation;
                state.silent_since = (partitions.count() > 0).then(Instant::now);
                let partitions = Topics::default().partitions(partitions);
                state.owned.extend(partitions.iter().cloned());
                state.forgotten.extend(partitions);
            }
            Rebalance::Revoke(_) | Rebalance::Error(_) => {}
        }
    }

    fn main_queue_min_poll_interval(&self) -> rdkafka::util::Timeout {
        rdkafka::util::Timeout::After(Duration::from_millis(500))
    }
}

/// What an error in place of a record means; `None` when librdkafka mends it without us.
pub(super) fn fate(error: &KafkaError, voice: &Voice) -> Option<LogError> {
    let code = error.rdkafka_error_code()?;
    match code {
        Code::TopicAuthorizationFailed => {
            Some(LogError::Fatal(format!("{code}: grant this client Read and Describe on the topic")))
        }
        Code::GroupAuthorizationFailed => {
            Some(LogError::Fatal(format!("{code}: grant this client Read on the consumer group")))
        }
        Code::ClusterAuthorizationFailed => Some(LogError::Fatal(code.to_string())),
        Code::PollExceeded => Some(LogError::Unavailable(
            "a batch took longer than max.poll.interval.ms, so the group went on without this member; \
             it joins again"
                .into(),
        )),
        Code::Authentication
        | Code::SaslAuthenticationFailed
        | Code::UnsupportedSASLMechanism
        | Code::SSL
        | Code::UnknownTopicOrPartition
        | Code::UnknownTopic => Some(LogError::Unavailable(voice.explain(error))),
        // Lost connections, a moved leader, a coordinator on its way: the error callback has logged it. There is
        // one of these for each attempt to connect, and records wait behind them: none may cost a pause.
        passing => {
            debug!(target: "wasmill::kafka", "{passing}");
            None
        }
    }
}
