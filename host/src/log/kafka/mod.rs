//! Kafka, real or embedded: the only room that names rdkafka.
//!
//! A [`Cluster`] is a broker list and how to speak to it. A shard takes a [`Source`] and its commits from it; the HTTP
//! ingress takes a [`Publisher`]; whoever only looks takes a [`Tail`]. All of them but the publisher belong to the
//! thread that calls them.

mod admin;
mod bell;
mod client;
mod closing;
mod committer;
mod context;
mod deliveries;
mod embedded;
mod failed;
mod fencing;
mod group;
mod member;
mod native;
mod offset_sender;
mod offsets;
mod properties;
mod publisher;
mod record;
mod source;
mod tail;
mod token;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use thiserror::Error;

pub use committer::Committer;
pub use group::Membership;
pub use offsets::{End, Offsets};
pub use properties::{PropertyFault, property_faults};
pub use publisher::Publisher;
pub use source::Source;
pub use tail::{Start, Tail};

use crate::config::plan::{Brokers, KafkaPlan, TopicPlan};
use crate::event::TopicPartition;
use crate::log::{Departure, Overlapped, Progress};
use client::Base;
use closing::Closing;
use committer::Guard;
use context::Plain;
use embedded::Embedded;

/// The limit of one blocking request to the broker.
const CALL: Duration = Duration::from_secs(4);

/// Cheap to clone. The embedded broker lives as long as any clone.
#[derive(Clone)]
pub struct Cluster {
    base: Base,
    embedded: bool,
    /// Only in the process that runs it.
    broker: Option<Arc<Embedded>>,
    pipeline: Arc<str>,
    instance: Arc<str>,
}

/// Why a client can't be made.
#[derive(Debug, Error)]
pub enum ConnectError {
    #[error("kafka.properties: `{name}` can't be set: {reason}")]
    Property { name: String, reason: String },
    /// Heals by trying again.
    #[error("the broker can't be reached: {0}")]
    Unavailable(String),
    #[error("{0}")]
    Fatal(String),
}

impl Cluster {
    /// Starts the embedded broker if the plan says so. Connects to nothing else yet; refuses properties
    /// that would break what is promised.
    pub fn connect(plan: &KafkaPlan, pipeline: &str) -> Result<Self, ConnectError> {
        let (bootstrap, broker) = match &plan.brokers {
            Brokers::Addresses(addresses) => (addresses.clone(), None),
            Brokers::Embedded => {
                let broker = Embedded::start()
                    .map_err(|e| ConnectError::Fatal(format!("can't start the embedded broker: {e}")))?;
                (broker.bootstrap(), Some(Arc::new(broker)))
            }
        };
        Ok(Self {
            base: Base::new(&bootstrap, plan, broker.is_some())?,
            embedded: broker.is_some(),
            broker,
            pipeline: pipeline.into(),
            instance: plan.instance.as_str().into(),
        })
    }

    /// Another process's broker, by the address that it prints: for `trace` and `simulate`. `embedded` says
    /// that it is librdkafka's.
    pub fn attach(bootstrap: &str, embedded: bool) -> Self {
        Self {
            base: Base::plain(bootstrap, embedded),
            embedded,
            broker: None,
            pipeline: "attached".into(),
            instance: format!("pid-{}", std::process::id()).into(),
        }
    }

    pub fn bootstrap(&self) -> &str {
        self.base.bootstrap()
    }

    pub fn is_embedded(&self) -> bool {
        self.embedded
    }

    /// Creates the topics that are missing and returns their names. A topic that exists keeps its
    /// partitions; where the plan says otherwise, a warning is logged. Blocks, some seconds at most.
    pub fn ensure_topics(&self, topics: &[TopicPlan]) -> Result<Vec<Arc<str>>, ConnectError> {
        match &self.broker {
            Some(broker) => admin::create_embedded(broker, topics),
            None if self.embedded => Ok(Vec::new()),
            None => admin::create_missing(&self.base, topics),
        }
    }

    /// The two halves of a shard. `subscriber` is the handler's or the sink's name, `shard` its thread's number.
    ///
    /// The producers come first: they end what their predecessors left open before anything is polled.
    pub fn shard(
        &self,
        group: &str,
        subscriber: &str,
        shard: u32,
        topics: &[Arc<str>],
    ) -> Result<(Overlapped<Committer>, Source), ConnectError> {
        let mut committers = vec![self.committer(subscriber, shard)?];
        if let Some(id) = self.transactional_id(subscriber, shard) {
            let name = format!("{subscriber}/{shard} second committer");
            committers.push(Committer::new(&self.base, Some(format!("{id}.second")), name, Guard::Group)?);
        }
        let commits = Overlapped::new(committers, format!("{subscriber}/{shard} commits"))
            .map_err(|error| ConnectError::Unavailable(format!("can't start a thread: {error}")))?;
        let source = self.source_with(group, subscriber, shard, topics, Some(commits.departure()))?;
        Ok((commits, source))
    }

    /// One of the producers of a shard, alone.
    pub fn committer(&self, subscriber: &str, shard: u32) -> Result<Committer, ConnectError> {
        let id = self.transactional_id(subscriber, shard);
        Committer::new(&self.base, id, format!("{subscriber}/{shard} committer"), Guard::Group)
    }

    /// `None` on the embedded broker.
    fn transactional_id(&self, subscriber: &str, shard: u32) -> Option<String> {
        let (pipeline, instance) = (&self.pipeline, &self.instance);
        (!self.embedded).then(|| format!("wasmill.{pipeline}.{subscriber}.{instance}.{shard}"))
    }

    /// The one of the pipeline for this purpose, wherever it is made: a new one fences the one before.
    pub fn only_committer(&self, purpose: &str) -> Result<Committer, ConnectError> {
        let transactional_id = (!self.embedded).then(|| format!("wasmill.{}.{purpose}", self.pipeline));
        Committer::new(&self.base, transactional_id, format!("{purpose} committer"), Guard::Producer)
    }

    /// Those of the topics that there are.
    pub fn existing(&self, topics: &[Arc<str>]) -> Result<Vec<Arc<str>>, ConnectError> {
        admin::existing(&self.base, topics)
    }

    /// A member of `group`, alone. Make the [`Committer`] first.
    pub fn source(
        &self,
        group: &str,
        subscriber: &str,
        shard: u32,
        topics: &[Arc<str>],
    ) -> Result<Source, ConnectError> {
        self.source_with(group, subscriber, shard, topics, None)
    }

    fn source_with(
        &self,
        group: &str,
        subscriber: &str,
        shard: u32,
        topics: &[Arc<str>],
        departure: Option<Departure>,
    ) -> Result<Source, ConnectError> {
        let instance = (!self.embedded).then(|| format!("{}.{subscriber}.{shard}", self.instance));
        let name = format!("{subscriber}/{shard} source");
        Source::new(&self.base, group, instance.as_deref(), name, topics, departure)
    }

    /// Gives up on a record that has not been acknowledged after `give_up`.
    pub fn publisher(&self, give_up: Duration) -> Result<Publisher, ConnectError> {
        Publisher::new(&self.base, give_up)
    }

    /// Follows all partitions of `topics`, outside any group. The embedded broker finds no records by their time, and has
    /// few: there [`Start::Time`] begins at the beginning.
    pub fn tail(&self, topics: &[Arc<str>], start: &Start) -> Result<Tail, ConnectError> {
        let start = match start {
            Start::Time(_) if self.embedded => &Start::Beginning,
            start => start,
        };
        Tail::new(&self.base, topics, start)
    }

    /// Reads these offsets of these partitions, and nothing else.
    pub fn tail_within(&self, ranges: &BTreeMap<TopicPartition, Range<i64>>) -> Result<Tail, ConnectError> {
        Tail::within(&self.base, ranges)
    }

    /// Asks how far topics reach.
    pub fn offsets(&self, end: End) -> Result<Offsets, ConnectError> {
        Offsets::new(&self.base, end)
    }

    /// What the group has committed of these partitions, without joining it.
    pub fn progress(
        &self,
        group: &str,
        partitions: impl Iterator<Item = TopicPartition>,
    ) -> Result<BTreeMap<TopicPartition, Progress>, ConnectError> {
        offsets::progress(&self.base, group, partitions)
    }

    /// Asks whether a broker answers, again and again by one connection.
    pub fn prober(&self) -> Result<Prober, ConnectError> {
        let consumer = client::create(&self.base.plain_client(), Plain::new("prober"))?;
        Ok(Prober { consumer: Closing::new(consumer) })
    }
}

/// Asks the broker for a sign of life.
pub struct Prober {
    consumer: Closing<BaseConsumer<Plain>>,
}

impl Prober {
    /// A metadata request without topics' details. Blocks up to `timeout`.
    pub fn ping(&self, timeout: Duration) -> Result<(), String> {
        context::serve(&self.consumer);
        // Naming a topic keeps the answer small; it need not exist, and none is created by a consumer.
        match self.consumer.fetch_metadata(Some("__consumer_offsets"), timeout) {
            Ok(_) => {
                self.consumer.context().voice.works();
                Ok(())
            }
            Err(error) => {
                context::listen(&self.consumer);
                Err(self.consumer.context().voice.explain(&error))
            }
        }
    }
}
