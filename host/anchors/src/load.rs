//! Orders for all who are measured.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use crate::{Ended, order};

const CALL: Duration = Duration::from_secs(30);
/// Between two sendings of a pace.
const TICK: Duration = Duration::from_millis(1);

pub(crate) fn producer(brokers: &str, more: &[(&str, &str)]) -> Result<BaseProducer, KafkaError> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("acks", "all").set("partitioner", "murmur2_random");
    config.set("delivery.report.only.error", "true");
    more.iter().for_each(|(name, value)| _ = config.set(*name, *value));
    config.create()
}

/// Now, in microseconds since the Unix epoch.
pub fn micros() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_micros()).unwrap_or_default()
}

/// Waits for room in the queue, unless it is to stop.
fn send(
    producer: &BaseProducer,
    topic: &str,
    number: u64,
    placed_at_us: u64,
    bytes: usize,
    stop: &AtomicBool,
) -> Result<(), KafkaError> {
    let (key, payload) = order(number, placed_at_us, bytes);
    let mut record = BaseRecord::to(topic).key(&key).payload(&payload);
    while let Err((error, refused)) = producer.send(record) {
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) {
            return Err(error);
        }
        if stop.load(Ordering::Relaxed) {
            break;
        }
        producer.poll(TICK);
        record = refused;
    }
    Ok(())
}

/// Publishes these, of so many bytes each, in one transaction: they become visible at once. Tells when, in microseconds since
/// the Unix epoch.
///
/// # Errors
///
/// When the broker can't be reached, or refuses them, or is too slow. Unless it is the commit that got no answer, none of them
/// becomes visible.
pub fn fill(brokers: &str, topic: &str, numbers: Range<u64>, bytes: usize) -> Result<u64, Ended> {
    let never = AtomicBool::new(false);
    let id = format!("{topic}-{}", numbers.start);
    let producer =
        producer(brokers, &[("transactional.id", &id), ("linger.ms", "20"), ("batch.size", "500000")])?;
    producer.init_transactions(CALL)?;
    producer.begin_transaction()?;
    numbers.into_iter().try_for_each(|number| send(&producer, topic, number, micros(), bytes, &never))?;
    producer.flush(CALL)?;
    producer.commit_transaction(CALL)?;
    // Now, and not when the producer is gone as well.
    Ok(micros())
}

/// So many a second, evenly, from this number on, until the time is over or it is to stop. A sending that is late is made up
/// for, and its order is placed when it was due: to wait for a slow broker is part of what an event takes.
///
/// # Errors
///
/// When the broker refuses an order at once, or has not acknowledged all of them half a minute after the last one. What it
/// refuses later is told by nobody: who reads the outputs counts them.
pub fn pace(
    brokers: &str,
    topic: &str,
    first: u64,
    rate: u32,
    duration: Duration,
    bytes: usize,
    stop: &AtomicBool,
) -> Result<(), Ended> {
    let producer = producer(brokers, &[("linger.ms", "0.5"), ("enable.idempotence", "true")])?;
    let (started, started_us) = (Instant::now(), micros());
    let mut next = first;
    while !stop.load(Ordering::Relaxed) {
        let elapsed = started.elapsed().min(duration);
        let due = first + (elapsed.as_secs_f64() * f64::from(rate)) as u64;
        while next < due {
            let due_us = ((next - first + 1) as f64 / f64::from(rate) * 1e6) as u64;
            send(&producer, topic, next, started_us + due_us, bytes, stop)?;
            next += 1;
        }
        if elapsed == duration {
            producer.flush(CALL)?;
            break;
        }
        producer.poll(Duration::ZERO);
        thread::sleep(TICK);
    }
    Ok(())
}
