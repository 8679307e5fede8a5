//! How far topics reach, and how far a group has got in them: asked from outside.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use rdkafka::Offset;
use rdkafka::consumer::{BaseConsumer, Consumer};

use super::client::Base;
use super::closing::Closing;
use super::context::{self, Plain};
use super::record::{self, Topics};
use super::tail::{connected, partitions, unavailable};
use super::token::Renewal;
use super::{CALL, ConnectError};
use crate::event::TopicPartition;
use crate::log::Progress;

/// What counts as the end of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Of what is committed: where an open transaction begins.
    Committed,
    /// Of all that was written, in transactions that are open yet, too.
    Written,
}

/// Asks how far topics reach, again and again by one connection.
pub struct Offsets {
    consumer: Closing<BaseConsumer<Plain>>,
    renewal: Renewal,
}

impl Offsets {
    pub(super) fn new(base: &Base, end: End) -> Result<Self, ConnectError> {
        let mut config = base.consumer("wasmill.offsets");
        if end == End::Written {
            config.set("isolation.level", "read_uncommitted");
        }
        let (consumer, renewal) = connected(&config, "offsets")?;
        Ok(Self { consumer, renewal })
    }

    /// From the first offset of each partition of `topics` to its end. Blocks, for some seconds at most.
    pub fn extents(
        &mut self,
        topics: &[Arc<str>],
    ) -> Result<BTreeMap<TopicPartition, Range<i64>>, ConnectError> {
        let consumer = self.ready()?;
        let mut extents = BTreeMap::new();
        for topic in topics {
            for partition in 0..partitions(consumer, topic)? {
                let (low, high) = consumer.fetch_watermarks(topic, partition, CALL).map_err(unavailable)?;
                extents.insert(TopicPartition { topic: topic.clone(), partition }, low..high);
            }
        }
        Ok(extents)
    }

    /// The first record of each partition at or after this time, in milliseconds since the epoch; none of a partition
    /// without such a record. The embedded broker knows of no times, and has none. Blocks, for some seconds at most.
    pub fn since(
        &mut self,
        partitions: impl Iterator<Item = TopicPartition>,
        timestamp_ms: i64,
    ) -> Result<BTreeMap<TopicPartition, i64>, ConnectError> {
        let partitions: Vec<TopicPartition> = partitions.collect();
        self.ask(&partitions, Offset::Offset(timestamp_ms))
    }

    /// The first offset of each of these partitions. Blocks, for some seconds at most.
    pub fn beginnings(
        &mut self,
        partitions: &[TopicPartition],
    ) -> Result<BTreeMap<TopicPartition, i64>, ConnectError> {
        self.ask(partitions, Offset::Beginning)
    }

    /// The end of each of these partitions, by one request to each broker. Blocks, for some seconds at most.
    pub fn ends(
        &mut self,
        partitions: &[TopicPartition],
    ) -> Result<BTreeMap<TopicPartition, i64>, ConnectError> {
        self.ask(partitions, Offset::End)
    }

    /// Where the protocol has a time, it takes the beginning and the end as well.
    fn ask(
        &mut self,
        partitions: &[TopicPartition],
        time: Offset,
    ) -> Result<BTreeMap<TopicPartition, i64>, ConnectError> {
        let asked = record::list(partitions.iter().map(|partition| (partition, time)));
        let asked = asked.map_err(unavailable)?;
        let answered = self.ready()?.offsets_for_times(asked, CALL).map_err(unavailable)?;
        record::offsets(&answered).map_err(unavailable)
    }

    fn ready(&mut self) -> Result<&BaseConsumer<Plain>, ConnectError> {
        context::serve(&self.consumer);
        self.renewal.renew(self.consumer.client()).map_err(|e| ConnectError::Unavailable(e.to_string()))?;
        Ok(&self.consumer)
    }
}

pub(super) fn progress(
    base: &Base,
    group: &str,
    partitions: impl Iterator<Item = TopicPartition>,
) -> Result<BTreeMap<TopicPartition, Progress>, ConnectError> {
    // It has no subscription: so it does not join, and the group's members don't notice.
    let (consumer, _) = connected(&base.consumer(group), "progress")?;
    let partitions: Vec<TopicPartition> = partitions.collect();
    let asked = record::list(partitions.iter().map(|partition| (partition, Offset::Invalid)));
    let committed = consumer.committed_offsets(asked.map_err(unavailable)?, CALL).map_err(unavailable)?;
    Topics::default().progress(&committed).map_err(unavailable)
}
