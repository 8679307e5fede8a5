//! What the status shows: plain data, which serialises as `/status` prints it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::Lag;
use crate::histogram::Histogram;
use crate::shard::Figures;

/// What waits in a shard for its next try.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parked {
    /// How many keys; an event without a key counts as one.
    pub count: usize,
    /// The first [`MOST_SHOWN`](Self::MOST_SHOWN) of them.
    pub keys: Vec<ParkedKey>,
    /// Partitions, as `topic/partition`, that are paused because so much of them waits behind parked keys.
    pub full: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ParkedKey {
    /// As text; null without one.
    pub key: Option<String>,
    /// The event that is to be tried again, as `topic/partition/offset`.
    pub event: String,
    /// The number of the next try; the first one was 1.
    pub attempt: u32,
    /// Milliseconds since the epoch.
    pub first_failed_ms: i64,
    /// Milliseconds since the epoch.
    pub next_try_ms: i64,
    /// Events of the key that wait behind it.
    pub behind: usize,
}

impl Parked {
    /// Of one shard.
    pub const MOST_SHOWN: usize = 100;
}

#[derive(Clone, Debug, Serialize)]
pub struct BrokerStatus {
    /// The bootstrap list, so that kcat and `wasmill trace` can attach to an embedded broker too.
    pub brokers: String,
    pub embedded: bool,
    pub reachable: bool,
    /// Why it isn't, for people.
    pub error: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SubscriberKind {
    #[default]
    Handler,
    Sink,
}

/// A handler or a sink.
#[derive(Clone, Debug, Default, Serialize)]
pub struct SubscriberStatus {
    pub name: String,
    pub kind: SubscriberKind,
    pub group: String,
    pub subscribe: Vec<String>,
    /// Where its outputs may go; of a sink, its receipts.
    pub publish: Vec<String>,
    pub dead_letter: String,
    /// Of what is to run: a component's sha-256, in hex. Each shard says whether it does already.
    pub digest: String,
    pub version: VersionStatus,
    /// Since the process started, as all that follows: events that ran, each try counted.
    pub events: u64,
    /// Records published, dead letters not counted.
    pub outputs: u64,
    pub dead_letters: u64,
    /// How often an event was put off for another try.
    pub retries: u64,
    /// Transactions.
    pub commits: u64,
    /// Turns of its shards that the log refused: aborted transactions, a broker that is away.
    pub refusals: u64,
    pub figures: Figures,
    /// Of a sink that sends mails.
    pub mail: Option<MailFigures>,
    /// Which event and what kind; the words are in the log and in the dead letter.
    pub last_failure: Option<String>,
}

/// What became of mails, each try counted, whether the event was committed then or not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MailFigures {
    /// The server, or the folder, has taken so many.
    pub sent: u64,
    /// The server put them off.
    pub deferred: u64,
    /// The server refused them for good.
    pub refused: u64,
    /// No server, no answer, no login.
    pub blocked: u64,
    /// Connections that were opened for them.
    pub connections: u64,
    /// Microseconds that one try took.
    pub delivery_us: Histogram,
}

/// How requests were answered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Answers {
    /// How many, by the class of their status: `2xx`.
    pub by_status: BTreeMap<&'static str, u64>,
    /// Microseconds until the answer began.
    pub took_us: Histogram,
}

impl Answers {
    pub(super) fn count(&mut self, status: u16, took: Duration) {
        let class = match status {
            ..200 => "1xx",
            200..300 => "2xx",
            300..400 => "3xx",
            400..500 => "4xx",
            500.. => "5xx",
        };
        *self.by_status.entry(class).or_default() += 1;
        self.took_us.record_time(took);
    }
}

/// What became of pipeline.toml.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ConfigStatus {
    /// Since the Unix epoch: when what runs was read.
    pub loaded_at_ms: Option<i64>,
    /// Why the file, as it is now, is not what runs.
    pub error: Option<String>,
    /// Changes that were taken.
    pub reloads: u64,
    /// Changes that were refused.
    pub refused: u64,
}

/// How a handler came to the version that it runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct VersionStatus {
    /// The digest of the one before.
    pub previous: Option<String>,
    /// Since the process started.
    pub swaps: u64,
    /// Milliseconds until its code was there, compiled or read from the cache.
    pub compile_ms: Option<f64>,
    /// Milliseconds since the epoch.
    pub swapped_at_ms: Option<i64>,
    /// The first event that it ran of each partition, as `topic/partition`.
    pub first_offsets: BTreeMap<String, i64>,
    /// Why the handler's file, as it is now, doesn't run.
    pub refused: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "state", content = "reason")]
pub enum ShardState {
    Starting,
    Running,
    /// The broker can't be reached or refuses; the shard tries on.
    Waiting(String),
    /// Ended by an error that no repetition mends; the supervisor starts it over with growing waits.
    Failed(String),
}

#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub pipeline: String,
    pub uptime_seconds: u64,
    pub ready: bool,
    /// Why not, one line each.
    pub not_ready: Vec<String>,
    pub broker: BrokerStatus,
    pub config: ConfigStatus,
    /// Spans that the collector didn't get.
    pub spans_dropped: u64,
    pub subscribers: Vec<SubscriberReport>,
    /// To resources that pipeline.toml has or had, by method.
    pub requests: BTreeMap<String, BTreeMap<&'static str, Answers>>,
}

#[derive(Clone, Debug, Serialize)]
pub struct SubscriberReport {
    #[serde(flatten)]
    pub status: SubscriberStatus,
    /// By topic: what waits in the partitions that this process owns.
    pub lag: BTreeMap<String, Lag>,
    pub shards: Vec<ShardReport>,
}

#[derive(Clone, Debug, Serialize)]
pub struct ShardReport {
    #[serde(flatten)]
    pub state: ShardState,
    /// Of the version that it runs. After a swap it takes the new one up with its next batch.
    pub digest: Option<String>,
    /// Keys that wait for the next try of an event; `wasmill parked` lists them.
    pub parked_keys: usize,
    /// Those that it reads, as `topic/partition`.
    pub partitions: Vec<String>,
    /// Partitions, as `topic/partition`, that are paused because so much of them waits behind parked keys.
    pub full_partitions: Vec<String>,
    /// The most memory that an instance of its version has had here, in bytes.
    pub peak_memory_bytes: Option<usize>,
}

/// Which keys of a subscriber wait.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ParkedReport {
    pub subscriber: String,
    pub count: usize,
    /// Of each shard the first 100.
    pub keys: Vec<ParkedKey>,
    /// Partitions, as `topic/partition`, that are paused because so much of them waits behind parked keys.
    pub full_partitions: Vec<String>,
}
