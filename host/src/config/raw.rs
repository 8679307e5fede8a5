//! pipeline.toml as it is written: the one place that says which keys exist, of which type, with which
//! default. A default that depends on something else (the folder's name, the host's, the broker, another key) is
//! said here in words and filled in by `compile`.
//!
//! The doc comments are what users read: schemars turns these types into schemas/pipeline.schema.json,
//! which editors complete from, which the loader checks the file against, and whose descriptions
//! become the help of its errors. So durations and sizes stay strings here; `compile` reads them.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

/// A Wasmill pipeline: which components handle which Kafka topics. In every string, "${NAME}" is
/// replaced by an environment variable, "${NAME:-default}" has a default, "${file:PATH}" is replaced
/// by a file's content, and "$${" is a literal "${".
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Wasmill pipeline")]
pub(super) struct Pipeline {
    /// The pipeline's name, part of its consumer groups: another name reads all topics from their
    /// beginning. Lower-case letters, digits and hyphens; the folder's name by default.
    pub(super) name: Option<String>,
    /// The brokers, and what new topics look like.
    #[serde(default)]
    pub(super) kafka: Kafka,
    /// Topics that differ from the defaults in [kafka], by name.
    #[serde(default)]
    pub(super) topics: BTreeMap<String, Topic>,
    /// The HTTP side: requests in, what became of them out, health and status. Without it nothing listens.
    pub(super) http: Option<Http>,
    /// The components, by name. A name is part of the consumer group: another name starts anew.
    #[serde(default)]
    pub(super) handlers: BTreeMap<String, Handler>,
    /// What sends events out of Kafka, by name.
    #[serde(default)]
    pub(super) sinks: BTreeMap<String, Sink>,
}

/// The brokers, and what new topics look like.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Kafka {
    /// "host:9092,host:9092", or "embedded" for an in-memory broker inside the process, which is for
    /// trying things out. --brokers and $WASMILL_KAFKA_BROKERS override it.
    pub(super) brokers: Option<String>,
    /// Names this process among those that run the same pipeline; the hostname by default. It must
    /// outlive restarts and differ between processes.
    pub(super) instance: Option<String>,
    /// Partitions of the topics that Wasmill creates: from 1 to 10000, 3 by default.
    #[serde(default = "default_partitions")]
    #[schemars(range(min = 1, max = 10_000))]
    pub(super) partitions: i32,
    /// Replicas of the topics that Wasmill creates: from 1 to 100, the broker's own default if not given.
    #[schemars(range(min = 1, max = 100))]
    pub(super) replication: Option<i32>,
    /// librdkafka properties for every client: security.protocol, sasl.mechanism, ssl.ca.location, …
    #[serde(default)]
    pub(super) properties: BTreeMap<String, Scalar>,
}

impl Default for Kafka {
    fn default() -> Self {
        Self {
            brokers: None,
            instance: None,
            partitions: default_partitions(),
            replication: None,
            properties: BTreeMap::new(),
        }
    }
}

/// How Wasmill creates one topic when it is missing. A topic that exists stays as it is.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Topic {
    /// From 1 to 10000; the default is in [kafka].
    #[schemars(range(min = 1, max = 10_000))]
    pub(super) partitions: Option<i32>,
    /// From 1 to 100; the default is in [kafka].
    #[schemars(range(min = 1, max = 100))]
    pub(super) replication: Option<i32>,
}

/// The HTTP side: requests in, what became of them out, health and status. Without it nothing listens.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Http {
    /// The address and port to listen on: "127.0.0.1:8080", or "0.0.0.0:8080" for every interface.
    #[serde(default = "default_listen")]
    pub(super) listen: String,
    /// The largest request body, as "512 KiB". A record must fit the broker's message.max.bytes, 1 MB
    /// by default.
    #[serde(default = "default_body_limit")]
    pub(super) body_limit: String,
    /// How long a client may take to send a request's headers, as "10 s".
    #[serde(default = "default_header_timeout")]
    pub(super) header_timeout: String,
    /// How long a client may take to send a body, and then the broker to acknowledge it, as "30 s".
    #[serde(default = "default_body_timeout")]
    pub(super) body_timeout: String,
    /// What is served as /NAME and /NAME/{id}, by name.
    #[serde(default)]
    pub(super) resources: BTreeMap<String, Resource>,
}

/// POST /NAME, PUT /NAME/{id}, GET /NAME/{id} and GET /NAME.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Resource {
    /// The topic that POST and PUT publish to.
    pub(super) topic: String,
    /// The body's property that becomes the record's key and the id in the path. Wasmill makes one
    /// (UUIDv7) when a POST has none.
    pub(super) key: String,
    /// The file of a JSON Schema that bodies must satisfy.
    pub(super) schema: Option<String>,
    /// The topics whose latest record GET shows for each key, in this order; `topic` alone by default.
    /// After them it shows the dead letters of the handlers and sinks that read them.
    pub(super) view: Option<Vec<String>>,
    /// How many keys the view remembers, from 1 to 10000000; beyond it the least recently updated go.
    #[serde(default = "default_view_keys")]
    #[schemars(range(min = 1, max = 10_000_000))]
    pub(super) view_keys: usize,
}

/// A WebAssembly component that handles the events of some topics.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Handler {
    /// The component's .wasm file.
    pub(super) component: String,
    /// The SHA-256 of the only file that may run, 64 hex digits as `sha256sum` prints them. Any other file
    /// is refused; by default any file may run.
    pub(super) sha256: Option<String>,
    /// What the component may import: packages or interfaces of WASI 0.2, as "wasi:cli" or
    /// "wasi:clocks/monotonic-clock". A component that imports more is refused. By default all that the
    /// host has, because none of it reaches out of the sandbox: no files, no network, no environment but
    /// `env`. [] allows nothing.
    pub(super) allow: Option<Vec<String>>,
    /// How many versions of the component the host keeps to roll back to, the running one included: from 1
    /// to 100.
    #[serde(default = "default_keep")]
    #[schemars(range(min = 1, max = 100))]
    pub(super) keep: usize,
    /// The topics to read.
    #[schemars(length(min = 1))]
    pub(super) subscribe: Vec<String>,
    /// The topics it may write to. The first one is the default; any other topic is refused.
    #[serde(default)]
    pub(super) publish: Vec<String>,
    /// The component's environment variables; it sees no others.
    #[serde(default)]
    pub(super) env: BTreeMap<String, Scalar>,
    /// What happens after a failure that may pass.
    #[serde(default)]
    pub(super) retry: Retry,
    /// What one call may use.
    #[serde(default)]
    pub(super) limits: Limits,
    /// Threads in this process, from 1 to 256. More than the topics have partitions stay idle.
    #[serde(default = "default_shards")]
    #[schemars(range(min = 1, max = 256))]
    pub(super) shards: u32,
    /// The topic of events that failed for good; "<handler>.dlq" by default.
    pub(super) dead_letter: Option<String>,
    /// From which level on the log shows lines about this handler: "error", "warn", "info", "debug", "trace", or "off" for
    /// none. What its component prints counts: stdout as "info", stderr as "warn". By default WASMILL_LOG decides, as for
    /// all other lines.
    pub(super) log: Option<LogLevel>,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum LogLevel {
    Off,
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// What happens after a failure that may pass.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Retry {
    /// Tries in all, the first one included, from 1 to 1000000; or "forever". Then the event becomes a
    /// dead letter. 5 by default for a handler, "forever" for a sink.
    pub(super) attempts: Option<Attempts>,
    /// The first and the longest wait between two tries, from "1ms" to "1h", "200ms..30s" by default; it
    /// doubles in between.
    #[serde(default = "default_backoff")]
    pub(super) backoff: String,
}

impl Default for Retry {
    fn default() -> Self {
        Self { attempts: None, backoff: default_backoff() }
    }
}

impl Retry {
    pub(super) fn attempts_of_handler(&self) -> Attempts {
        self.attempts.unwrap_or(Attempts::Count(5))
    }

    pub(super) fn attempts_of_sink(&self) -> Attempts {
        self.attempts.unwrap_or(Attempts::Word(Forever::Forever))
    }
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum Attempts {
    Count(#[schemars(range(min = 1, max = 1_000_000))] u32),
    Word(Forever),
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Forever {
    Forever,
}

/// What one call may use.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Limits {
    /// Memory of one instance, from "1 MiB" to "4 GiB". One instruction may fill it all, which no deadline
    /// interrupts: half a second for each GiB.
    pub(super) memory: String,
    /// The deadline of one call: from "1 ms" to "1 min". A batch takes a call for each 80 KB of its events.
    pub(super) time: String,
    /// Events of one batch, at most: from 1 to 100000.
    #[schemars(range(min = 1, max = 100_000))]
    pub(super) batch: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { memory: "64 MiB".into(), time: "1 s".into(), batch: 1000 }
    }
}

/// Sends each event of its topics as an e-mail, at least once.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Sink {
    /// The topics to read.
    #[schemars(length(min = 1))]
    pub(super) subscribe: Vec<String>,
    /// The mail server: "smtp://host:25", "smtp://host:587?tls=required" or "smtps://host:465"; or
    /// "file:FOLDER" for a folder of .eml files.
    pub(super) smtp: String,
    /// The mail server's user; better "${SMTP_USERNAME}" than the name itself.
    pub(super) username: Option<String>,
    /// The mail server's password; better "${SMTP_PASSWORD}" or "${file:PATH}" than the password itself.
    pub(super) password: Option<String>,
    /// The file of a CA certificate (PEM) to trust besides the system's.
    pub(super) ca_file: Option<String>,
    /// The topic that gets a receipt of each delivered event.
    pub(super) receipts: Option<String>,
    /// What happens after a failure that may pass.
    #[serde(default)]
    pub(super) retry: Retry,
    /// Events sent between two commits, from 1 to 10000: the most that a crash can send twice.
    #[serde(default = "default_sink_batch")]
    #[schemars(range(min = 1, max = 10_000))]
    pub(super) batch: usize,
    /// The deadline of sending one event: from "100 ms" to "4 min".
    #[serde(default = "default_sink_timeout")]
    pub(super) timeout: String,
    /// Threads in this process, from 1 to 256. More than the topics have partitions stay idle.
    #[serde(default = "default_shards")]
    #[schemars(range(min = 1, max = 256))]
    pub(super) shards: u32,
    /// The topic of events that failed for good; "<sink>.dlq" by default.
    pub(super) dead_letter: Option<String>,
}

/// Text; whole numbers and true or false need no quotes.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum Scalar {
    Text(String),
    Integer(i64),
    Boolean(bool),
}

impl Scalar {
    pub(super) fn into_text(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::Integer(number) => number.to_string(),
            Self::Boolean(yes) => yes.to_string(),
        }
    }
}

fn default_partitions() -> i32 {
    3
}

fn default_backoff() -> String {
    "200ms..30s".into()
}

fn default_listen() -> String {
    "127.0.0.1:8080".into()
}

fn default_body_limit() -> String {
    "512 KiB".into()
}

fn default_header_timeout() -> String {
    "10 s".into()
}

fn default_body_timeout() -> String {
    "30 s".into()
}

fn default_view_keys() -> usize {
    10_000
}

fn default_keep() -> usize {
    5
}

fn default_shards() -> u32 {
    1
}

fn default_sink_batch() -> usize {
    1
}

fn default_sink_timeout() -> String {
    "30 s".into()
}
