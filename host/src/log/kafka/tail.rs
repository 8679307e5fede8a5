//! Following topics from some point on, outside any group: for views, `trace`, `simulate` and tests.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::{Offset, TopicPartitionList};

use super::client::{self, Base};
use super::closing::Closing;
use super::context::Plain;
use super::native::{self, Next};
use super::record::{self, Topics};
use super::source::BATCH_BYTES;
use super::token::Renewal;
use super::{CALL, ConnectError};
use crate::event::{Event, Position, TopicPartition};
use crate::log::LogError;

/// Without an event for so long, it may be that there is no broker to ask for one.
const QUIET: Duration = Duration::from_secs(5);

/// Where a tail begins.
#[derive(Clone, Debug)]
pub enum Start {
    Beginning,
    /// Only what comes from now on.
    End,
    /// The first record of each partition at or after this time, in milliseconds since the epoch.
    Time(i64),
    /// This record, or the first one after it; of its partition alone.
    At(Position),
}

/// Reads committed records only. The partitions are those that exist when it is made.
pub struct Tail {
    consumer: Closing<BaseConsumer<Plain>>,
    topics: Topics,
    renewal: Renewal,
    /// The topics, and how many partitions each of them had.
    followed: Vec<(Arc<str>, i32)>,
    /// Partitions whose end was not reached yet.
    behind: HashSet<TopicPartition>,
    /// Of those that are read up to an offset and no further; a partition that is not among them has the end that it
    /// has when the tail gets there.
    ends: HashMap<TopicPartition, i64>,
    /// The offset before which all of a partition was polled.
    reached: HashMap<TopicPartition, i64>,
    quiet_since: Instant,
}

impl Tail {
    pub(super) fn new(base: &Base, topics: &[Arc<str>], start: &Start) -> Result<Self, ConnectError> {
        let (consumer, renewal) = reader(base, &[])?;
        let mut behind = HashSet::new();
        let mut followed = Vec::new();
        for topic in topics {
            let count = partitions(&consumer, topic)?;
            followed.push((topic.clone(), count));
            behind.extend((0..count).map(|partition| TopicPartition { topic: topic.clone(), partition }));
        }
        if let Start::At(position) = start {
            let id = position.topic_partition();
            if !behind.contains(&id) {
                return Err(ConnectError::Fatal(format!("there is no partition {id}")));
            }
            behind.retain(|partition| *partition == id);
        }
        let assignment = assignment(&consumer, &behind, start).map_err(unavailable)?;
        consumer.assign(&assignment).map_err(unavailable)?;
        let (topics, ends, reached) = Default::default();
        Ok(Self { consumer, topics, renewal, followed, behind, ends, reached, quiet_since: Instant::now() })
    }

    /// Reads these offsets of these partitions, and nothing else.
    pub(super) fn within(
        base: &Base,
        ranges: &BTreeMap<TopicPartition, Range<i64>>,
    ) -> Result<Self, ConnectError> {
        // What is asked for is there: an answer that comes late for want of records only holds up the next question.
        let (consumer, renewal) = reader(base, &[("fetch.wait.max.ms", "5")])?;
        let (topics, followed) = (Topics::default(), Vec::new());
        let (behind, ends, reached) = Default::default();
        let mut tail =
            Self { consumer, topics, renewal, followed, behind, ends, reached, quiet_since: Instant::now() };
        tail.turn_to(ranges)?;
        Ok(tail)
    }

    /// Reads these from now on, instead of what it was reading. Not after it has read several partitions to their ends:
    /// librdkafka leaves those paused that are assigned anew.
    pub fn turn_to(&mut self, ranges: &BTreeMap<TopicPartition, Range<i64>>) -> Result<(), ConnectError> {
        let some = || ranges.iter().filter(|(_, range)| !range.is_empty());
        let starts = some().map(|(partition, range)| (partition, Offset::Offset(range.start)));
        self.consumer.assign(&record::list(starts).map_err(unavailable)?).map_err(unavailable)?;
        self.ends = some().map(|(partition, range)| (partition.clone(), range.end)).collect();
        self.behind = self.ends.keys().cloned().collect();
        Ok(())
    }

    /// Takes what is there, at most `max` events; waits up to `wait` while there is nothing.
    pub fn poll(&mut self, max: usize, wait: Duration) -> Result<Vec<Event>, LogError> {
        if let Err(error) = self.renewal.renew(self.consumer.client()) {
            tracing::warn!(target: "wasmill::kafka", client = "tail", "no new token: {error}");
        }
        let mut events = Vec::new();
        let mut bytes = 0;
        let mut wait = wait;
        while events.len() < max && bytes < BATCH_BYTES {
            match native::next(&self.consumer, wait, &mut self.topics) {
                Next::Event(event) => {
                    self.reached.insert(event.position.topic_partition(), event.position.offset + 1);
                    let due = self.is_due(&event.position)?;
                    if due {
                        bytes += event.bytes();
                        events.push(event);
                    }
                    if !due && self.behind.is_empty() {
                        break;
                    }
                }
                Next::End(partition, offset) => {
                    self.reached.insert(partition.clone(), offset);
                    // What stands behind it is in a transaction that is open yet.
                    if self.ends.get(&partition).is_some_and(|end| offset < *end) {
                        continue;
                    }
                    // The end is news to a caller who waits for it.
                    if self.behind.remove(&partition) && self.behind.is_empty() {
                        break;
                    }
                }
                Next::Nothing => break,
                Next::Failed(code) => match code {
                    Code::TopicAuthorizationFailed => {
                        return Err(LogError::Fatal(format!(
                            "{code}: grant this client Read and Describe on the topics"
                        )));
                    }
                    Code::AllBrokersDown if events.is_empty() => {
                        return Err(LogError::Unavailable(code.to_string()));
                    }
                    // It heals by itself; and the group, which is only a name, need not be permitted.
                    passing => tracing::debug!(target: "wasmill::kafka", client = "tail", "{passing}"),
                },
            }
            if !events.is_empty() {
                wait = Duration::ZERO;
            }
        }
        if events.is_empty() {
            self.reach_again();
        } else {
            self.quiet_since = Instant::now();
        }
        Ok(events)
    }

    /// As [`Voice::reach_again`](super::context::Voice::reach_again): nothing tells a consumer that is polled natively that
    /// all its brokers are gone, so it is seen by the answer to a question for which nobody waits.
    fn reach_again(&mut self) {
        if self.quiet_since.elapsed() < QUIET {
            return;
        }
        self.quiet_since = Instant::now();
        let asked = self.consumer.fetch_metadata(Some("__consumer_offsets"), Duration::from_millis(1));
        if asked.is_err_and(|error| error.rdkafka_error_code() == Some(Code::BrokerTransportFailure)) {
            native::add_bootstrap_brokers(self.consumer.client());
        }
    }

    /// Whether the record there is to be read. A partition that was read up to its last offset is paused, while others
    /// are not.
    fn is_due(&mut self, position: &Position) -> Result<bool, LogError> {
        if self.ends.is_empty() {
            return Ok(true);
        }
        let partition = position.topic_partition();
        let Some(end) = self.ends.get(&partition) else { return Ok(false) };
        if position.offset + 1 >= *end && self.behind.remove(&partition) && !self.behind.is_empty() {
            let paused = record::list([(&partition, Offset::Invalid)]).and_then(|l| self.consumer.pause(&l));
            paused.map_err(|error| LogError::Fatal(error.to_string()))?;
        }
        Ok(position.offset < *end)
    }

    /// Whether a topic has partitions by now that this tail doesn't follow. Asks the broker.
    pub fn is_outgrown(&self) -> Result<bool, ConnectError> {
        for (topic, followed) in &self.followed {
            if partitions(&self.consumer, topic)? > *followed {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether everything before these has been polled.
    pub fn has_reached(&self, extents: &BTreeMap<TopicPartition, Range<i64>>) -> bool {
        extents.iter().all(|(id, extent)| self.reached.get(id).is_some_and(|reached| *reached >= extent.end))
    }

    /// Whether every partition's end has been reached at least once, so that all that was there at the
    /// start has been polled.
    pub fn caught_up(&self) -> bool {
        self.behind.is_empty()
    }
}

/// A consumer that joins no group, and commits nothing: without a subscription the group is only a name.
fn reader(
    base: &Base,
    properties: &[(&str, &str)],
) -> Result<(Closing<BaseConsumer<Plain>>, Renewal), ConnectError> {
    let mut config = base.consumer("wasmill.tail");
    config.set("enable.partition.eof", "true");
    for (name, value) in properties {
        config.set(*name, *value);
    }
    // What librdkafka logs would go to stderr past our callback, since `native::next` polls without it.
    config.set_log_level(RDKafkaLogLevel::Emerg);
    connected(&config, "tail")
}

/// Such a consumer, and what keeps it permitted.
pub(super) fn connected(
    config: &ClientConfig,
    name: &str,
) -> Result<(Closing<BaseConsumer<Plain>>, Renewal), ConnectError> {
    let consumer: Closing<BaseConsumer<Plain>> = Closing::new(client::create(config, Plain::new(name))?);
    let mut renewal = Renewal::new(config);
    renewal.renew(consumer.client()).map_err(|e| ConnectError::Unavailable(e.to_string()))?;
    Ok((consumer, renewal))
}

pub(super) fn partitions(consumer: &BaseConsumer<Plain>, topic: &str) -> Result<i32, ConnectError> {
    let metadata = consumer.fetch_metadata(Some(topic), CALL).map_err(unavailable)?;
    let Some(metadata) = metadata.topics().first() else {
        return Err(ConnectError::Fatal(format!("topic {topic} does not exist")));
    };
    match metadata.error().map(Code::from) {
        None => Ok(i32::try_from(metadata.partitions().len()).unwrap_or(i32::MAX)),
        Some(code @ (Code::LeaderNotAvailable | Code::RequestTimedOut)) => {
            Err(ConnectError::Unavailable(format!("topic {topic}: {code}")))
        }
        Some(code) => Err(ConnectError::Fatal(format!("topic {topic}: {code}"))),
    }
}

fn assignment(
    consumer: &BaseConsumer<Plain>,
    partitions: &HashSet<TopicPartition>,
    start: &Start,
) -> Result<TopicPartitionList, KafkaError> {
    let mut list = TopicPartitionList::new();
    for partition in partitions {
        let offset = match start {
            Start::Beginning => Offset::Beginning,
            Start::End => Offset::End,
            Start::Time(ms) => Offset::Offset(*ms),
            Start::At(position) => Offset::Offset(position.offset),
        };
        list.add_partition_offset(&partition.topic, partition.partition, offset)?;
    }
    match start {
        Start::Time(_) => {
            // "The end", for a partition without a record that late, would be whatever is the end when the first fetch
            // begins: what comes until then would be left out.
            let mut ends = HashMap::new();
            for TopicPartition { topic, partition } in partitions {
                let (_, end) = consumer.fetch_watermarks(topic, *partition, CALL)?;
                ends.insert((&**topic, *partition), end);
            }
            let starts = consumer.offsets_for_times(list, CALL)?;
            for (id, end) in ends {
                if let Some(mut start) = starts.find_partition(id.0, id.1)
                    && start.offset() == Offset::End
                {
                    start.set_offset(Offset::Offset(end))?;
                }
            }
            Ok(starts)
        }
        Start::Beginning | Start::End | Start::At(_) => Ok(list),
    }
}

pub(super) fn unavailable(error: KafkaError) -> ConnectError {
    ConnectError::Unavailable(error.to_string())
}
