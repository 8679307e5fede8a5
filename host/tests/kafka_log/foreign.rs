//! What no host does, and other programs do.

use std::ffi::{CStr, CString, c_void};
use std::ptr;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::bindings::{self as native, rd_kafka_vtype_t as vtype};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::IsError;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList, config::FromClientConfig};

use crate::common::DEADLINE;

fn client<T: FromClientConfig>(broker: &str) -> T {
    ClientConfig::new().set("bootstrap.servers", broker).create().expect("a client")
}

pub(super) fn create_topic(broker: &str, name: &str, (key, value): (&str, &str)) {
    let admin: AdminClient<DefaultClientContext> = client(broker);
    let topic = NewTopic::new(name, 1, TopicReplication::Fixed(1)).set(key, value);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let created = runtime.block_on(admin.create_topics([&topic], &AdminOptions::new()));
    created.expect("an answer").remove(0).expect("a topic");
}

pub(super) fn partitions(broker: &str, topic: &str) -> usize {
    let consumer: BaseConsumer = client(broker);
    let metadata = consumer.fetch_metadata(Some(topic), DEADLINE).expect("an answer");
    metadata.topics()[0].partitions().len()
}

/// What the broker says of a topic's setting.
pub(super) fn setting(broker: &str, topic: &str, name: &str) -> String {
    let admin: AdminClient<DefaultClientContext> = client(broker);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let topic = ResourceSpecifier::Topic(topic);
    let described = runtime.block_on(admin.describe_configs([&topic], &AdminOptions::new()));
    let described = described.expect("an answer").remove(0).expect("a topic");
    described.get(name).and_then(|entry| entry.value.clone()).expect("a setting")
}

/// An open transaction.
pub(super) struct Held(BaseProducer);

impl Held {
    pub(super) fn abort(self) {
        self.0.abort_transaction(DEADLINE).expect("an answer");
    }

    pub(super) fn commit(self) {
        self.0.commit_transaction(DEADLINE).expect("an answer");
    }
}

/// One that has written a record.
pub(super) fn hold_record(broker: &str, topic: &str) -> Held {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", broker).set("transactional.id", format!("writes-{topic}"));
    let producer: BaseProducer = config.create().expect("a producer");
    producer.init_transactions(DEADLINE).expect("a start");
    producer.begin_transaction().expect("a transaction");
    producer.send(BaseRecord::<[u8], [u8]>::to(topic).payload(b"held")).map_err(|(e, _)| e).expect("a place");
    producer.flush(DEADLINE).expect("an acknowledgement");
    Held(producer)
}

/// One that has moved a group's offset.
pub(super) fn hold_offsets(broker: &str, group: &str, topic: &str) -> Held {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", broker);
    let member: BaseConsumer = config.clone().set("group.id", group).create().expect("a consumer");
    let producer: BaseProducer =
        config.set("transactional.id", format!("holds-{group}")).create().expect("a producer");
    let mut offsets = TopicPartitionList::new();
    offsets.add_partition_offset(topic, 0, Offset::Offset(1)).expect("an offset");
    producer.init_transactions(DEADLINE).expect("a start");
    producer.begin_transaction().expect("a transaction");
    let metadata = member.group_metadata().expect("a group");
    producer.send_offsets_to_transaction(&offsets, &metadata, DEADLINE).expect("an answer");
    Held(producer)
}

/// By the native interface, because rdkafka's takes only UTF-8.
pub(super) fn publish_with_header(broker: &str, topic: &str, name: &CStr, value: &[u8]) {
    let producer: BaseProducer = client(broker);
    let topic = CString::new(topic).expect("a name");
    // SAFETY: all pointers live through the call, which copies what they point to; it takes the list over.
    let answer = unsafe {
        let headers = native::rd_kafka_headers_new(1);
        let (length, size) = (name.count_bytes() as isize, value.len() as isize);
        native::rd_kafka_header_add(headers, name.as_ptr(), length, value.as_ptr().cast(), size);
        native::rd_kafka_producev(
            producer.client().native_ptr(),
            vtype::RD_KAFKA_VTYPE_TOPIC,
            topic.as_ptr(),
            vtype::RD_KAFKA_VTYPE_VALUE,
            ptr::null_mut::<c_void>(),
            0_usize,
            vtype::RD_KAFKA_VTYPE_HEADERS,
            headers,
            vtype::RD_KAFKA_VTYPE_END,
        )
    };
    assert!(!answer.is_error(), "{answer:?}");
    producer.flush(DEADLINE).expect("an acknowledgement");
}
