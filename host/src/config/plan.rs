//! The plan: pipeline.toml, validated and complete. The only form of it that the runtime sees.
//!
//! Every default is filled in, every path is absolute, every reference is resolved; a `Plan` that
//! exists can be run. What only Kafka's client library and the linker can tell, of properties and of
//! components, every verb has asked them before it runs one.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use lettre::transport::smtp::client::Certificate;
use tracing::level_filters::LevelFilter;

pub use super::allow::{Allow, INTERFACES, NO_NETWORK};
use crate::schema::Schema;

#[derive(Clone, Debug)]
pub struct Plan {
    /// The pipeline's name, part of every consumer group: `wasmill.<name>.<handler>`.
    pub name: String,
    /// The folder of pipeline.toml, which relative paths in it start from.
    pub root: PathBuf,
    pub kafka: KafkaPlan,
    pub http: Option<HttpPlan>,
    pub handlers: Vec<HandlerPlan>,
    pub sinks: Vec<SinkPlan>,
    /// Every topic that anything here names, dead-letter topics included, sorted by name.
    pub topics: Vec<TopicPlan>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KafkaPlan {
    pub brokers: Brokers,
    /// Extra librdkafka properties, for every client. They may hold credentials.
    pub properties: BTreeMap<String, Secret>,
    /// Names this process among those that share the pipeline; the hostname by default. Part of
    /// transactional.id and group.instance.id, so it must be stable over restarts and unique per process.
    pub instance: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Brokers {
    /// librdkafka's MockCluster, inside this process: in memory, at-least-once.
    Embedded,
    /// A `host:port,…` bootstrap list.
    Addresses(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicPlan {
    pub name: Arc<str>,
    pub partitions: i32,
    /// -1 leaves it to the broker (KIP-464).
    pub replication: i32,
    pub kind: TopicKind,
}

/// What a topic is for, where that says how it is to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopicKind {
    Events,
    /// Holds records as they were and what is known of their failure on top: it takes larger ones.
    DeadLetters,
    /// Holds a note for each dead letter that was settled, for ever: else it would be put back twice.
    Marks,
    /// Holds what hosts tell each other of requests under way, which is void within minutes.
    Claims,
}

#[derive(Clone, Debug, PartialEq)]
pub struct HttpPlan {
    pub listen: SocketAddr,
    /// Bytes of a request body; more gets 413.
    pub body_limit: usize,
    /// From the connection's opening (or the last answer) to the end of the request's headers.
    pub header_timeout: Duration,
    /// From the end of the headers to the end of the body, and separately from there to the broker's
    /// acknowledgement.
    pub body_timeout: Duration,
    pub resources: Vec<ResourcePlan>,
    /// Where hosts claim the idempotency keys that they are about to publish for: one topic of the pipeline.
    pub claims: Arc<str>,
}

/// `[http.resources.NAME]`: served as `/NAME` and `/NAME/{id}`.
#[derive(Clone, Debug, PartialEq)]
pub struct ResourcePlan {
    pub name: String,
    /// Where POST and PUT publish.
    pub topic: Arc<str>,
    /// The top-level string property of the body that is the record's key and the id in the path.
    pub key: String,
    /// What bodies must satisfy.
    pub schema: Option<Arc<Schema>>,
    /// The topics whose latest record per key GET shows, in this order.
    pub view: Vec<Arc<str>>,
    /// Where those end who fail on the way: of every handler and sink that reads a topic of the view. GET shows
    /// them after the view's own topics.
    pub dead_letters: Vec<Arc<str>>,
    /// The most keys that the view keeps; beyond it the least recently updated go.
    pub view_keys: usize,
}

impl ResourcePlan {
    /// All topics that GET shows, in this order.
    pub fn shown(&self) -> impl Iterator<Item = &Arc<str>> {
        self.view.iter().chain(&self.dead_letters)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandlerPlan {
    pub name: Arc<str>,
    pub group: String,
    pub component: PathBuf,
    /// The only file that may stand there, by its sha-256: 64 lower-case hex digits.
    pub sha256: Option<Arc<str>>,
    /// What the component may import.
    pub allow: Allow,
    /// Versions of the component to keep, the running one included.
    pub keep: usize,
    pub subscribe: Vec<Arc<str>>,
    /// May be empty; the first one is the default topic of outputs.
    pub publish: Vec<Arc<str>>,
    pub dead_letter: Arc<str>,
    /// The component's whole environment.
    pub env: BTreeMap<String, Secret>,
    pub retry: RetryPlan,
    pub limits: LimitsPlan,
    /// Threads in this process.
    pub shards: u32,
    /// Which of the lines about it the log shows; without it, those that the host's own filter does.
    pub log: Option<LevelFilter>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryPlan {
    /// Tries in all, the first one included; `None` tries for ever.
    pub attempts: Option<u32>,
    /// The wait before the second try; it doubles from there, with jitter, up to `backoff_max`.
    pub backoff_min: Duration,
    pub backoff_max: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitsPlan {
    /// Bytes of linear memory (and tables) of one instance.
    pub memory: usize,
    /// The deadline of one call. A batch takes several, if its events are large.
    pub time: Duration,
    /// Events of one batch, at most.
    pub batch: usize,
}

/// `[sinks.NAME]`: sends each event of its topics out of Kafka, at least once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkPlan {
    pub name: Arc<str>,
    pub group: String,
    pub subscribe: Vec<Arc<str>>,
    /// Where a receipt of each delivered event is published, if anywhere, in the transaction that
    /// commits the event's offset.
    pub receipts: Option<Arc<str>>,
    pub dead_letter: Arc<str>,
    pub mail: MailPlan,
    pub retry: RetryPlan,
    /// Events sent between two commits, at most: also the most that a crash can send twice.
    pub batch: usize,
    pub shards: u32,
    /// The deadline of one send.
    pub timeout: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MailPlan {
    /// A folder that gets one .eml file for each message; made when missing.
    Folder(PathBuf),
    Smtp(SmtpPlan),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SmtpPlan {
    pub host: String,
    pub port: u16,
    pub encryption: SmtpEncryption,
    pub credentials: Option<(String, Secret)>,
    /// To trust besides the system's; what `ca_file` holds.
    pub ca: Trusted,
}

impl SmtpPlan {
    /// What is sent there doesn't leave the machine, encrypted or not.
    pub fn is_local(&self) -> bool {
        self.host == "localhost" || self.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }
}

/// Certificates, and the text that they were read from, by which they are compared.
#[derive(Clone, Default)]
pub struct Trusted {
    pub pem: String,
    pub certificates: Vec<Certificate>,
}

impl PartialEq for Trusted {
    fn eq(&self, other: &Self) -> bool {
        self.pem == other.pem
    }
}

impl Eq for Trusted {}

impl fmt::Debug for Trusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} certificates", self.certificates.len())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SmtpEncryption {
    /// `smtp://…`: plain text, and STARTTLS when the server offers it... never with credentials
    /// unless the server is on loopback.
    Opportunistic,
    /// `smtp://…?tls=required`: STARTTLS or nothing.
    StartTls,
    /// `smtps://…`: TLS from the first byte.
    Tls,
}

/// A value that may hold a credential: it never shows itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value, for the one place that needs it. Never log what this returns.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}
