//! Events, outputs and failures: the plain data that every room of the host passes around.
//!
//! Nothing here knows Kafka's client library or wasmtime.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use serde::Serialize;
use thiserror::Error;

use crate::text::cut;

/// A topic and one of its partitions.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    pub topic: Arc<str>,
    pub partition: i32,
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

/// Where one event stands: `topic/partition/offset`, which is also how users name it on the command line.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Position {
    pub topic: Arc<str>,
    pub partition: i32,
    pub offset: i64,
}

impl Position {
    pub fn topic_partition(&self) -> TopicPartition {
        TopicPartition { topic: self.topic.clone(), partition: self.partition }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.topic, self.partition, self.offset)
    }
}

/// Not a `topic/partition/offset`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("give it as TOPIC/PARTITION/OFFSET, such as alarm.dlq/0/17")]
pub struct NoPosition;

impl FromStr for Position {
    type Err = NoPosition;

    fn from_str(text: &str) -> Result<Self, NoPosition> {
        // Without the signs that parsing would take.
        let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
        let (rest, offset) = text.rsplit_once('/').filter(|(_, offset)| digits(offset)).ok_or(NoPosition)?;
        let (topic, partition) =
            rest.rsplit_once('/').filter(|(_, number)| digits(number)).ok_or(NoPosition)?;
        let partition = partition.parse().map_err(|_| NoPosition)?;
        let offset = offset.parse().map_err(|_| NoPosition)?;
        if topic.is_empty() { Err(NoPosition) } else { Ok(Self { topic: topic.into(), partition, offset }) }
    }
}

/// A record header. Names may repeat; a null value is kept as an empty one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    pub name: Cow<'static, str>,
    pub value: Bytes,
}

impl Header {
    pub fn new(name: impl Into<Cow<'static, str>>, value: impl Into<Bytes>) -> Self {
        Self { name: name.into(), value: value.into() }
    }
}

/// The value of the last header called `name`.
pub fn header<'a>(headers: &'a [Header], name: &str) -> Option<&'a [u8]> {
    headers.iter().rev().find(|h| h.name == name).map(|h| h.value.as_ref())
}

/// A moment, given from outside to code that reads no clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Since some fixed moment, never going back: what waits are measured with.
    pub monotonic: Duration,
    /// Milliseconds since the Unix epoch: what dead letters tell people.
    pub wall_ms: i64,
}

/// Milliseconds since the Unix epoch.
pub fn now_ms() -> i64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64)
}

/// The moment of a record's timestamp, in milliseconds since the Unix epoch; `None` for what no calendar holds.
pub fn moment(timestamp_ms: i64) -> Option<SystemTime> {
    const YEAR_10000_MS: u64 = 253_402_300_800_000;
    let since_epoch = u64::try_from(timestamp_ms).ok().filter(|ms| *ms < YEAR_10000_MS)?;
    Some(SystemTime::UNIX_EPOCH + Duration::from_millis(since_epoch))
}

/// A record's time, in milliseconds since the Unix epoch, by RFC 3339; none for what no calendar holds.
pub(crate) fn rfc3339_millis(timestamp_ms: i64) -> Option<String> {
    Some(humantime::format_rfc3339_millis(moment(timestamp_ms)?).to_string())
}

/// One consumed record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub position: Position,
    /// Milliseconds since the Unix epoch, if the record carries a timestamp.
    pub timestamp_ms: Option<i64>,
    pub key: Option<Bytes>,
    pub payload: Option<Bytes>,
    pub headers: Vec<Header>,
}

impl Event {
    /// Of key, payload and headers.
    pub fn bytes(&self) -> usize {
        bytes(&self.key, &self.payload, &self.headers)
    }

    /// When the HTTP request came that it goes back to, in microseconds since the Unix epoch.
    pub fn ingress_us(&self) -> Option<i64> {
        str::from_utf8(header(&self.headers, headers::INGRESS_TIME)?).ok()?.parse().ok()
    }
}

/// One record that a handler wants published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// `None` is the handler's default topic.
    pub topic: Option<String>,
    pub key: Option<Bytes>,
    pub payload: Option<Bytes>,
    pub headers: Vec<Header>,
}

impl Output {
    /// Of key, payload and headers.
    pub fn bytes(&self) -> usize {
        bytes(&self.key, &self.payload, &self.headers)
    }
}

/// Where an output goes: to the topic that it names, one of `publish`, or else to the first of them.
pub fn destination<'a>(
    wanted: Option<&str>,
    publish: &'a [Arc<str>],
    handler: &str,
) -> Result<&'a Arc<str>, Failure> {
    let found = match wanted {
        None => publish.first(),
        Some(wanted) => publish.iter().find(|topic| topic.as_ref() == wanted),
    };
    found.ok_or_else(|| {
        let message = match wanted {
            None => format!("published to its default topic, but `publish` of handler `{handler}` is empty"),
            Some(wanted) => format!(
                "published to topic {wanted:?}, which is not in `publish` of handler `{handler}`; add it in \
                 pipeline.toml"
            ),
        };
        // A component chooses the name, which may be as long as its memory.
        Failure::new(FailureKind::Contract, cut(&message, FAILURE_TEXT))
    })
}

/// One record on its way to a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub topic: Arc<str>,
    pub key: Option<Bytes>,
    pub payload: Option<Bytes>,
    pub headers: Vec<Header>,
}

impl Record {
    /// Of key, payload and headers.
    pub fn bytes(&self) -> usize {
        bytes(&self.key, &self.payload, &self.headers)
    }
}

fn bytes(key: &Option<Bytes>, payload: &Option<Bytes>, headers: &[Header]) -> usize {
    let of = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
    let headers: usize = headers.iter().map(|header| header.name.len() + header.value.len()).sum();
    of(key) + of(payload) + headers
}

/// Bytes of a failure's message, and of its backtrace, that a dead letter carries: it must fit where the event did.
pub const FAILURE_TEXT: usize = 4096;

/// Why an event has no outputs. Each kind has one fate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub kind: FailureKind,
    /// For people: what happened, in one or a few lines.
    pub message: String,
    /// The guest's wasm backtrace, where there is one.
    pub backtrace: Option<String>,
}

impl Failure {
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), backtrace: None }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FailureKind {
    /// The handler asked for another try. Becomes a dead letter when its attempts are used up.
    Retry,
    /// The handler said that the event will never work.
    Reject,
    /// The component trapped: a panic, an out-of-bounds access, an unreachable instruction.
    Trap,
    /// The component ran past its deadline.
    Timeout,
    /// The component ran into its memory cap.
    Memory,
    /// The component broke the contract: wrong number of results, an undeclared topic, an output
    /// that no broker would take.
    Contract,
}

impl FailureKind {
    pub const ALL: [Self; 6] =
        [Self::Retry, Self::Reject, Self::Trap, Self::Timeout, Self::Memory, Self::Contract];

    /// The word in dead-letter headers, logs and /status.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::Reject => "reject",
            Self::Trap => "trap",
            Self::Timeout => "timeout",
            Self::Memory => "memory",
            Self::Contract => "contract",
        }
    }
}

impl fmt::Display for FailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a handler asked of a program beyond Kafka for an event, for traces.
#[derive(Clone, Debug)]
pub struct Call {
    pub event: Position,
    /// Such as `smtp`.
    pub protocol: &'static str,
    pub server: Arc<str>,
    pub port: u16,
    pub began: SystemTime,
    pub ended: SystemTime,
    /// Why it failed, by a word that is one of few.
    pub error: Option<&'static str>,
}

/// What becomes of an event that has no outputs to be published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Retry(FailureKind),
    DeadLetter(FailureKind),
    /// It ran behind one of its key that is to be tried again: it runs once more, and what came of it doesn't count.
    Overtaken,
}

/// What became of one event.
pub type Outcome = Result<Vec<Output>, Failure>;

/// A batch that has taken this long is left where it stands, for the shard to commit what is done. A thousand
/// events that all run into a deadline would keep the shard from stopping, and past `max.poll.interval.ms`
/// from its consumer group: the commit would be refused, and everything done again, for ever.
pub const LONG_BATCH: Duration = Duration::from_secs(5);

/// What a shard runs over a batch: a component, or a sink such as the mail sender.
pub trait Handler {
    /// One outcome for each event, in the same order. When the batch takes longer than [`LONG_BATCH`] it
    /// leaves the last events out, but never the first: the shard commits what is done and hands over the rest again.
    /// `attempts[i]` is 1 when `events[i]` is handled for the first time.
    ///
    /// Outputs carry no headers of the host's, whose names start with [`headers::RESERVED_PREFIX`].
    fn handle(&mut self, events: &[&Event], attempts: &[u32]) -> Vec<Outcome>;

    /// What provenance headers and dead letters name as the version: a component's sha-256 in hex.
    fn digest(&self) -> Arc<str>;

    /// Whether a batch can be handled again, as if it had not been before. A shard commits what can't be before it goes on.
    fn can_be_repeated(&self) -> bool {
        true
    }

    /// The most memory that it has had at a time, in bytes, if it has any of its own.
    fn peak_memory(&self) -> Option<usize> {
        None
    }

    /// What it asked of other programs in the last batch.
    fn calls(&mut self) -> Vec<Call> {
        Vec::new()
    }

    /// How long to leave the processors to others before the next batch, because the calls since the last time
    /// burned them in vain.
    fn rest(&mut self) -> Duration {
        Duration::ZERO
    }
}

/// The names of the headers that the host sets. Handlers can't: theirs are dropped.
pub mod headers {
    pub const RESERVED_PREFIX: &str = "wasmill-";
    /// W3C Trace Context, passed on from event to output: as it is, or while traces are on with the event's own span.
    pub const TRACEPARENT: &str = "traceparent";
    /// On outputs: the handler that made this record.
    pub const HANDLER: &str = "wasmill-handler";
    /// On outputs and dead letters: the sha-256 of the component, in hex.
    pub const DIGEST: &str = "wasmill-digest";
    /// On outputs: the event it came from, as `topic/partition/offset`.
    pub const SOURCE: &str = "wasmill-source";
    /// Set by the HTTP ingress and carried through every hop: when the request came, in
    /// microseconds since the epoch, so that any hop can tell its distance from the start.
    pub const INGRESS_TIME: &str = "wasmill-ingress-us";
    /// On records from the HTTP ingress: the client's `Idempotency-Key`.
    pub const IDEMPOTENCY_KEY: &str = "wasmill-idempotency-key";

    // On dead letters, besides those of outputs.
    pub const SOURCE_TIMESTAMP_MS: &str = "wasmill-source-timestamp-ms";
    /// Tries in all, the first one included.
    pub const ATTEMPTS: &str = "wasmill-attempts";
    /// A [`FailureKind`](super::FailureKind).
    pub const FAILURE_KIND: &str = "wasmill-failure-kind";
    pub const FAILURE_MESSAGE: &str = "wasmill-failure-message";
    pub const FAILURE_BACKTRACE: &str = "wasmill-failure-backtrace";
    /// Milliseconds since the epoch.
    pub const FIRST_FAILED_MS: &str = "wasmill-first-failed-ms";
    pub const LAST_FAILED_MS: &str = "wasmill-last-failed-ms";
    // On events that were put back from the dead letters.
    /// How often the event was put back.
    pub const REDRIVES: &str = "wasmill-redrives";
    /// The handler or sink that failed: others leave the event out.
    pub const REDRIVE_FOR: &str = "wasmill-redrive-for";
    /// The dead letter, as `topic/partition/offset`.
    pub const REDRIVE_OF: &str = "wasmill-redrive-of";

    /// What stands before the rest of the name of a `wasmill-` header that the event itself had.
    pub const ORIGINAL_PREFIX: &str = "wasmill-original-";
}
