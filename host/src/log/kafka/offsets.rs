//! How far topics reach, and how far a group has got in them: asked from outside.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use rdkafka::Offset;
use rdkafka::consumer::Consumer;

use super::client::Base;
use super::record::{self, Topics};
use super::tail::{connected, partitions, unavailable};
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

pub(super) fn extents(
    base: &Base,
    topics: &[Arc<str>],
    end: End,
) -> Result<BTreeMap<TopicPartition, Range<i64>>, ConnectError> {
    let mut config = base.consumer("wasmill.offsets");
    if end == End::Written {
        config.set("isolation.level", "read_uncommitted");
    }
    let (consumer, _) = connected(&config, "offsets")?;
    let mut extents = BTreeMap::new();
    for topic in topics {
        for partition in 0..partitions(&consumer, topic)? {
            let (low, high) = consumer.fetch_watermarks(topic, partition, CALL).map_err(unavailable)?;
            extents.insert(TopicPartition { topic: topic.clone(), partition }, low..high);
        }
    }
    Ok(extents)
}

pub(super) fn since(
    base: &Base,
    partitions: impl Iterator<Item = TopicPartition>,
    timestamp_ms: i64,
) -> Result<BTreeMap<TopicPartition, i64>, ConnectError> {
    let (consumer, _) = connected(&base.consumer("wasmill.offsets"), "offsets")?;
    let partitions: Vec<TopicPartition> = partitions.collect();
    let asked = record::list(partitions.iter().map(|partition| (partition, Offset::Offset(timestamp_ms))));
    let answered = consumer.offsets_for_times(asked.map_err(unavailable)?, CALL).map_err(unavailable)?;
    let mut offsets = BTreeMap::new();
    for element in answered.elements() {
        element.error().map_err(unavailable)?;
        match element.offset() {
            Offset::Offset(offset) => {
                let id = TopicPartition { topic: element.topic().into(), partition: element.partition() };
                offsets.insert(id, offset);
            }
            Offset::End | Offset::Beginning | Offset::Invalid | Offset::Stored | Offset::OffsetTail(_) => {}
        }
    }
    Ok(offsets)
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
