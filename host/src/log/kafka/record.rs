//! Between librdkafka's messages and the host's plain data.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Header as NativeHeader, Message, OwnedHeaders};
use rdkafka::producer::BaseRecord;
use rdkafka::util::IntoOpaque;
use rdkafka::{Offset, TopicPartitionList};

use super::native;
use crate::event::{Event, Position, Record, TopicPartition};
use crate::log::Progress;

/// The topics' names, one allocation each instead of one per event.
#[derive(Default)]
pub(super) struct Topics(HashSet<Arc<str>>);

impl Topics {
    pub(super) fn intern(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.0.get(name) {
            return known.clone();
        }
        let name: Arc<str> = name.into();
        self.0.insert(name.clone());
        name
    }

    pub(super) fn event(&mut self, message: &BorrowedMessage<'_>) -> Event {
        Event {
            position: Position {
                topic: self.intern(message.topic()),
                partition: message.partition(),
                offset: message.offset(),
            },
            timestamp_ms: message.timestamp().to_millis(),
            key: message.key().map(Bytes::copy_from_slice),
            payload: message.payload().map(Bytes::copy_from_slice),
            headers: native::headers_of(message),
        }
    }

    /// Of those that have a committed offset. An error says that it isn't known of one.
    pub(super) fn progress(
        &mut self,
        committed: &TopicPartitionList,
    ) -> Result<BTreeMap<TopicPartition, Progress>, KafkaError> {
        let mut progress = BTreeMap::new();
        for element in committed.elements() {
            element.error()?;
            match element.offset() {
                Offset::Offset(offset) => {
                    let topic = self.intern(element.topic());
                    let id = TopicPartition { topic, partition: element.partition() };
                    progress.insert(id, Progress { offset, metadata: element.metadata().to_string() });
                }
                Offset::Invalid
                | Offset::Beginning
                | Offset::End
                | Offset::Stored
                | Offset::OffsetTail(_) => {}
            }
        }
        Ok(progress)
    }

    pub(super) fn partitions(&mut self, list: &TopicPartitionList) -> Vec<TopicPartition> {
        list.elements()
            .iter()
            .map(|e| TopicPartition { topic: self.intern(e.topic()), partition: e.partition() })
            .collect()
    }
}

/// Of those that have one. An error says that it isn't known of one.
pub(super) fn offsets(list: &TopicPartitionList) -> Result<BTreeMap<TopicPartition, i64>, KafkaError> {
    let mut offsets = BTreeMap::new();
    let mut topics = Topics::default();
    for element in list.elements() {
        element.error()?;
        match element.offset() {
            Offset::Offset(offset) => {
                let topic = topics.intern(element.topic());
                offsets.insert(TopicPartition { topic, partition: element.partition() }, offset);
            }
            Offset::Invalid | Offset::Beginning | Offset::End | Offset::Stored | Offset::OffsetTail(_) => {}
        }
    }
    Ok(offsets)
}

/// `opaque` comes back with the record's delivery report.
pub(super) fn base_record<D: IntoOpaque>(record: &Record, opaque: D) -> BaseRecord<'_, [u8], [u8], D> {
    let mut base = BaseRecord::with_opaque_to(&record.topic, opaque);
    base.key = record.key.as_deref();
    base.payload = record.payload.as_deref();
    if !record.headers.is_empty() {
        let headers = OwnedHeaders::new_with_capacity(record.headers.len());
        base.headers = Some(record.headers.iter().fold(headers, |headers, h| {
            headers.insert(NativeHeader { key: &h.name, value: Some(h.value.as_ref()) })
        }));
    }
    base
}

pub(super) fn list<'a>(
    partitions: impl IntoIterator<Item = (&'a TopicPartition, Offset)>,
) -> Result<TopicPartitionList, rdkafka::error::KafkaError> {
    let mut list = TopicPartitionList::new();
    for (partition, offset) in partitions {
        list.add_partition_offset(&partition.topic, partition.partition, offset)?;
    }
    Ok(list)
}
