//! The few librdkafka calls that rdkafka lacks or wraps too slowly.

use std::ffi::{CStr, CString, c_void};
use std::time::{Duration, Instant};
use std::{ptr, slice};

use bytes::Bytes;
use rdkafka::TopicPartitionList;
use rdkafka::bindings as native;
use rdkafka::client::{Client, ClientContext, OAuthToken};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::BorrowedMessage;
use rdkafka::producer::{BaseProducer, Producer, ProducerContext};
use rdkafka::types::RDKafkaRespErr;

use super::record::Topics;
use crate::event::{Event, Header, Position, TopicPartition};

/// Waits until every record is acknowledged or has failed. Gives up when nothing moves for `stall`, after
/// `limit`, or when it is `hopeless`, and then says so with `false`.
///
/// rdkafka's own flush polls in steps that it always sleeps to their end, which makes each commit cost
/// 100 ms. The native one wakes on the last acknowledgement and overrides `linger.ms`; it leaves delivery
/// reports to us (`poll`), hence the loop.
pub(super) fn flush<C: ProducerContext>(
    producer: &BaseProducer<C>,
    stall: Duration,
    limit: Duration,
    hopeless: impl Fn() -> bool,
) -> bool {
    let started = Instant::now();
    let mut moved = started;
    let mut outstanding = i32::MAX;
    let mut step = 20;
    loop {
        // SAFETY: the pointer is the live producer's; the call is thread-safe.
        unsafe { native::rd_kafka_flush(producer.client().native_ptr(), step) };
        let left = serve(producer);
        let now = Instant::now();
        match left {
            0 => return true,
            count if count < outstanding => {
                outstanding = count;
                moved = now;
                step = 0;
            }
            _ => step = 20,
        }
        if now - moved >= stall || now - started >= limit || hopeless() {
            return false;
        }
    }
}

/// Serves what waits, and gives how much is left: records that are on their way, and what came meanwhile. A poll serves one
/// at a time, and not only delivery reports: with librdkafka's `debug` there is always another log line.
fn serve<C: ProducerContext>(producer: &BaseProducer<C>) -> i32 {
    let mut left = producer.in_flight_count();
    loop {
        let before = left;
        if before == 0 {
            return 0;
        }
        producer.poll(Duration::ZERO);
        left = producer.in_flight_count();
        if left >= before {
            return left;
        }
    }
}

/// Whether the group coordinator knows this consumer as a member. It stops to when the consumer has sent
/// its farewell.
pub(super) fn is_member<C: ConsumerContext>(consumer: &BaseConsumer<C>) -> bool {
    // SAFETY: the pointer is the live consumer's; the string is ours to free, with librdkafka's allocator.
    unsafe {
        let client = consumer.client().native_ptr();
        let id = native::rd_kafka_memberid(client);
        if id.is_null() {
            return false;
        }
        let empty = CStr::from_ptr(id).is_empty();
        native::rd_kafka_mem_free(client, id.cast());
        !empty
    }
}

/// Sets each offset of the list to where the consumer goes on: behind what it gave last, or behind the marker of a transaction
/// after that. Asks nobody; leaves none where nothing was given since the assignment or a seek.
pub(super) fn set_positions<C: ConsumerContext>(consumer: &BaseConsumer<C>, list: &TopicPartitionList) {
    // SAFETY: client and list live; the call fills the list.
    unsafe { native::rd_kafka_position(consumer.client().native_ptr(), list.ptr()) };
}

/// Gives the client this token for its next connections.
pub(super) fn set_token<C: ClientContext>(client: &Client<C>, token: &OAuthToken) -> Result<(), String> {
    let text = |text: &str| CString::new(text).map_err(|error| error.to_string());
    let (value, principal) = (text(&token.token)?, text(&token.principal_name)?);
    let mut reason = [0; 512];
    // SAFETY: the client lives; all pointers outlive the call, which copies; the reason ends with a null.
    unsafe {
        let code = native::rd_kafka_oauthbearer_set_token(
            client.native_ptr(),
            value.as_ptr(),
            token.lifetime_ms,
            principal.as_ptr(),
            ptr::null_mut(),
            0,
            reason.as_mut_ptr(),
            reason.len(),
        );
        match code {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(()),
            _ => Err(CStr::from_ptr(reason.as_ptr()).to_string_lossy().into_owned()),
        }
    }
}

/// Tells the client those brokers again that it began with. What it knows already it knows once.
pub(super) fn add_bootstrap_brokers<C: ClientContext>(client: &Client<C>) {
    let (mut addresses, mut size) = (Vec::<u8>::new(), 0);
    // SAFETY: the client lives, and its configuration with it. Without a buffer the call tells the size, with its null;
    // with one it fills so much of it; and the text is copied.
    unsafe {
        let (client, name) = (client.native_ptr(), c"bootstrap.servers".as_ptr());
        let configuration = native::rd_kafka_conf(client);
        native::rd_kafka_conf_get(configuration, name, ptr::null_mut(), &raw mut size);
        addresses.resize(size, 0);
        native::rd_kafka_conf_get(configuration, name, addresses.as_mut_ptr().cast(), &raw mut size);
        if let Ok(addresses) = CStr::from_bytes_until_nul(&addresses) {
            native::rd_kafka_brokers_add(client, addresses.as_ptr());
        }
    }
}

pub(super) enum Next {
    Event(Event),
    /// The end of this partition, for now, and its offset.
    End(TopicPartition, i64),
    Nothing,
    Failed(RDKafkaErrorCode),
}

/// One step of a consumer that was assigned its partitions. rdkafka's `poll` says that some partition is at
/// its end, and keeps to itself which topic's.
pub(super) fn next<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    wait: Duration,
    topics: &mut Topics,
) -> Next {
    let wait = i32::try_from(wait.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: the pointer is the live consumer's; the message is ours until it is destroyed below.
    let message = unsafe { native::rd_kafka_consumer_poll(consumer.client().native_ptr(), wait) };
    // SAFETY: null or valid until destroyed.
    let Some(fields) = (unsafe { message.as_ref() }) else { return Next::Nothing };
    let partition = |topics: &mut Topics| {
        // SAFETY: a message about a partition names its topic, which outlives the message.
        let name = unsafe { CStr::from_ptr(native::rd_kafka_topic_name(fields.rkt)) };
        TopicPartition { topic: topics.intern(&name.to_string_lossy()), partition: fields.partition }
    };
    let next = match fields.err {
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR => {
            let TopicPartition { topic, partition } = partition(topics);
            // SAFETY: a record's key and payload are null or point to as many bytes as it says.
            unsafe {
                Next::Event(Event {
                    position: Position { topic, partition, offset: fields.offset },
                    timestamp_ms: timestamp(message),
                    key: bytes(fields.key, fields.key_len),
                    payload: bytes(fields.payload, fields.len),
                    headers: headers(message),
                })
            }
        }
        RDKafkaRespErr::RD_KAFKA_RESP_ERR__PARTITION_EOF => Next::End(partition(topics), fields.offset),
        code => Next::Failed(code.into()),
    };
    // SAFETY: not used after this; everything was copied.
    unsafe { native::rd_kafka_message_destroy(message) };
    next
}

unsafe fn timestamp(message: *const native::rd_kafka_message_t) -> Option<i64> {
    let mut kind = native::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
    // SAFETY: the caller's message is valid.
    let ms = unsafe { native::rd_kafka_message_timestamp(message, &mut kind) };
    (kind != native::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE && ms >= 0).then_some(ms)
}

/// rdkafka's own reader panics at a name that is not UTF-8, which Kafka does not forbid.
pub(super) fn headers_of(message: &BorrowedMessage<'_>) -> Vec<Header> {
    // SAFETY: the pointer is the living message's.
    unsafe { headers(message.ptr()) }
}

unsafe fn headers(message: *const native::rd_kafka_message_t) -> Vec<Header> {
    let mut list = ptr::null_mut();
    let mut headers = Vec::new();
    // SAFETY: the caller's message is valid and owns the list; name and value live as long as it.
    unsafe {
        if native::rd_kafka_message_headers(message, &mut list) != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR
        {
            return headers;
        }
        let (mut name, mut value, mut size) = (ptr::null(), ptr::null(), 0);
        while native::rd_kafka_header_get_all(list, headers.len(), &mut name, &mut value, &mut size)
            == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR
        {
            let name = CStr::from_ptr(name).to_string_lossy().into_owned();
            headers.push(Header::new(name, bytes(value, size).unwrap_or_default()));
        }
    }
    headers
}

unsafe fn bytes(start: *const c_void, length: usize) -> Option<Bytes> {
    // SAFETY: the caller vouches for the range.
    (!start.is_null()).then(|| Bytes::copy_from_slice(unsafe { slice::from_raw_parts(start.cast(), length) }))
}
