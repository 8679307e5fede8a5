//! The clients, with the settings that both loops share, and the steps that rdkafka takes too slowly.

use std::time::{Duration, Instant};

use rdkafka::bindings::rd_kafka_flush;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerGroupMetadata};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer};
use rdkafka::{Offset, TopicPartitionList};

use crate::{Ended, Task, details};

const CALL: Duration = Duration::from_secs(10);

/// A key and what is to be published under it.
pub(crate) type Output = (Option<Vec<u8>>, Vec<u8>);

pub(crate) fn consumer(task: &Task) -> Result<BaseConsumer, KafkaError> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &task.brokers)
        .set("group.id", &task.name)
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("isolation.level", "read_committed")
        .set("fetch.queue.backoff.ms", "10")
        .set("queued.min.messages", "20000")
        .set("fetch.wait.max.ms", "100")
        .create()?;
    consumer.subscribe(&[&task.input])?;
    Ok(consumer)
}

pub(crate) fn producer(task: &Task, number: u32) -> Result<BaseProducer, KafkaError> {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", &task.brokers)
        .set("transactional.id", format!("{}.{number}", task.name))
        .set("acks", "all")
        .set("linger.ms", "2")
        .set("retry.backoff.ms", "1")
        .set("delivery.report.only.error", "true")
        .set("partitioner", "murmur2_random")
        .create()?;
    producer.init_transactions(CALL)?;
    Ok(producer)
}

/// Events polled, and what is made of them.
pub(crate) struct Batch {
    pub(crate) outputs: Vec<Output>,
    pub(crate) offsets: TopicPartitionList,
    pub(crate) group: ConsumerGroupMetadata,
}

impl Batch {
    /// One that was polled later.
    pub(crate) fn add(&mut self, later: Self) -> Result<(), KafkaError> {
        self.outputs.extend(later.outputs);
        self.group = later.group;
        for element in later.offsets.elements() {
            if let Offset::Offset(next) = element.offset() {
                set(&mut self.offsets, element.topic(), element.partition(), next)?;
            }
        }
        Ok(())
    }
}

/// Takes what is there, at most `task.batch`, and waits only while there is nothing.
pub(crate) fn poll(consumer: &BaseConsumer, task: &Task) -> Result<Option<Batch>, Ended> {
    let mut outputs = Vec::with_capacity(task.batch);
    let mut offsets = TopicPartitionList::new();
    let mut wait = Duration::from_millis(100);
    // They come partition by partition.
    let mut last: Option<(i32, i64)> = None;
    while outputs.len() < task.batch {
        let Some(message) = consumer.poll(wait) else { break };
        let message = message?;
        wait = Duration::ZERO;
        let (partition, next) = (message.partition(), message.offset() + 1);
        if let Some((before, offset)) = last.replace((partition, next))
            && before != partition
        {
            set(&mut offsets, &task.input, before, offset)?;
        }
        outputs.push(handle(&message)?);
    }
    let Some((partition, next)) = last else { return Ok(None) };
    set(&mut offsets, &task.input, partition, next)?;
    let Some(group) = consumer.group_metadata() else { unreachable!("it has a group.id") };
    Ok(Some(Batch { outputs, offsets, group }))
}

fn set(offsets: &mut TopicPartitionList, topic: &str, partition: i32, next: i64) -> Result<(), KafkaError> {
    match offsets.find_partition(topic, partition) {
        Some(mut known) => known.set_offset(Offset::Offset(next)),
        None => offsets.add_partition_offset(topic, partition, Offset::Offset(next)),
    }
}

fn handle(message: &BorrowedMessage<'_>) -> Result<Output, Ended> {
    let details = details(message.payload().unwrap_or_default())?;
    Ok((message.key().map(<[u8]>::to_vec), details))
}

/// One transaction.
pub(crate) fn commit(producer: &BaseProducer, task: &Task, batch: &Batch) -> Result<(), Ended> {
    producer.begin_transaction()?;
    for (key, payload) in &batch.outputs {
        let mut record = BaseRecord::<[u8], [u8]>::to(&task.output).payload(payload);
        if let Some(key) = key {
            record = record.key(key);
        }
        producer.send(record).map_err(|(error, _)| error)?;
    }
    producer.send_offsets_to_transaction(&batch.offsets, &batch.group, CALL)?;
    flush(producer)?;
    producer.commit_transaction(CALL)?;
    Ok(())
}

/// rdkafka's own flush sleeps through steps of 100 ms; the native one wakes on the last acknowledgement.
fn flush(producer: &BaseProducer<DefaultProducerContext>) -> Result<(), Ended> {
    let until = Instant::now() + CALL;
    while producer.in_flight_count() > 0 {
        // SAFETY: the pointer is the live producer's; the call is thread-safe.
        unsafe { rd_kafka_flush(producer.client().native_ptr(), 20) };
        producer.poll(Duration::ZERO);
        if Instant::now() > until {
            return Err(Ended::Stalled);
        }
    }
    Ok(())
}
