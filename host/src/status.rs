//! What the running host says about itself: shards write it, `/status`, `/readyz`, `/metrics` and the log read it.
//!
//! Counters are since the process started.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use tokio::sync::watch;

use crate::shard::Figures;

/// Shared by the whole process; cheap to clone.
#[derive(Clone)]
pub struct Status {
    inner: Arc<Mutex<Inner>>,
    /// Whether the broker is known to be away, for those who wait for it.
    away: watch::Sender<bool>,
}

struct Inner {
    started: Instant,
    pipeline: String,
    broker: BrokerStatus,
    /// Questions in a row that the broker did not answer.
    unanswered: u32,
    /// Why what is to run can't begin yet.
    starting: Option<String>,
    config: ConfigStatus,
    subscribers: BTreeMap<String, Subscriber>,
}

struct Subscriber {
    report: SubscriberStatus,
    /// It is not in the plan any more, and goes with its last shard.
    leaving: bool,
    shards: BTreeMap<u32, Shard>,
}

struct Shard {
    state: ShardState,
    /// Of what it runs.
    digest: Option<String>,
    /// How many threads there are of it: of two the one waits for the other to leave.
    threads: u32,
    /// When the shard's loop last came round.
    beat: Instant,
    stuck_after: Duration,
    parked: Parked,
}

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
    pub events: u64,
    pub outputs: u64,
    pub dead_letters: u64,
    pub retries: u64,
    pub commits: u64,
    /// Turns of its shards that the log refused: aborted transactions, a broker that is away.
    pub refusals: u64,
    pub figures: Figures,
    /// Which event and what kind; the words are in the log and in the dead letter.
    pub last_failure: Option<String>,
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
    /// Reading its code from the cache counts.
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
    pub subscribers: Vec<SubscriberReport>,
}

#[derive(Clone, Debug, Serialize)]
pub struct SubscriberReport {
    #[serde(flatten)]
    pub status: SubscriberStatus,
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
    /// Partitions, as `topic/partition`, that are paused because so much of them waits behind parked keys.
    pub full_partitions: Vec<String>,
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

impl Shard {
    fn report(&self) -> ShardReport {
        ShardReport {
            state: self.state.clone(),
            digest: self.digest.clone(),
            parked_keys: self.parked.count,
            full_partitions: self.parked.full.clone(),
        }
    }
}

impl Status {
    pub fn new(pipeline: &str, brokers: &str, embedded: bool) -> Self {
        Self {
            inner: Arc::new(Mutex::new(Inner {
                started: Instant::now(),
                pipeline: pipeline.into(),
                broker: BrokerStatus {
                    brokers: brokers.into(),
                    embedded,
                    reachable: false,
                    error: Some("not contacted yet".into()),
                },
                unanswered: 0,
                starting: Some("the topics are not ready yet".into()),
                config: ConfigStatus::default(),
                subscribers: BTreeMap::new(),
            })),
            away: watch::Sender::new(false),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing panics while it holds the lock; if something did, stale figures beat no /status.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn broker_answered(&self, answer: Result<(), String>) {
        let mut inner = self.lock();
        inner.broker.reachable = answer.is_ok();
        inner.unanswered = if answer.is_ok() { 0 } else { inner.unanswered + 1 };
        inner.broker.error = answer.err();
        drop(inner);
        self.away.send_replace(self.broker_away());
    }

    /// Completes when the broker is known to be away.
    pub async fn until_broker_away(&self) {
        let mut away = self.away.subscribe();
        // Fails only when the sender is gone, and `self` holds it.
        let _ = away.wait_for(|away| *away).await;
    }

    /// Whether the broker is known to be away. One question without an answer is no proof.
    pub fn broker_away(&self) -> bool {
        self.lock().unanswered >= 2
    }

    /// Why what is to run can't begin yet.
    pub fn starting(&self, reason: &str) {
        self.lock().starting = Some(reason.into());
    }

    /// Nothing more is in its way.
    pub fn started(&self) {
        self.lock().starting = None;
    }

    /// What pipeline.toml says is what runs.
    pub fn config_loaded(&self) {
        let mut inner = self.lock();
        inner.config.error = None;
        let reloaded = inner.config.loaded_at_ms.replace(now_ms()).is_some();
        inner.config.reloads += u64::from(reloaded);
    }

    pub fn config_refused(&self, error: &str) {
        let mut inner = self.lock();
        inner.config.error = Some(error.into());
        inner.config.refused += 1;
    }

    /// One that is there already keeps its counters.
    pub fn add_subscriber(&self, report: SubscriberStatus) {
        let mut inner = self.lock();
        match inner.subscribers.get_mut(&report.name) {
            Some(subscriber) => {
                let SubscriberStatus { kind, group, subscribe, publish, dead_letter, digest, .. } = report;
                let known = &mut subscriber.report;
                (known.kind, known.group, known.digest) = (kind, group, digest);
                (known.subscribe, known.publish, known.dead_letter) = (subscribe, publish, dead_letter);
                subscriber.leaving = false;
            }
            None => {
                let name = report.name.clone();
                let subscriber = Subscriber { report, leaving: false, shards: BTreeMap::new() };
                inner.subscribers.insert(name, subscriber);
            }
        }
    }

    /// It is shown until its shards are gone.
    pub fn retire(&self, subscriber: &str) {
        let mut inner = self.lock();
        if let Some(retired) = inner.subscribers.get_mut(subscriber) {
            retired.leaving = true;
            if retired.shards.is_empty() {
                inner.subscribers.remove(subscriber);
            }
        }
    }

    /// A thread of this shard is about to start.
    pub fn shard_comes(&self, subscriber: &str, shard: u32) {
        if let Some(of) = self.lock().subscribers.get_mut(subscriber) {
            let starting = || Shard {
                state: ShardState::Starting,
                digest: None,
                threads: 0,
                beat: Instant::now(),
                stuck_after: Duration::MAX,
                parked: Parked::default(),
            };
            of.shards.entry(shard).or_insert_with(starting).threads += 1;
        }
    }

    pub fn shard_is_gone(&self, subscriber: &str, shard: u32) {
        let mut inner = self.lock();
        if let Some(of) = inner.subscribers.get_mut(subscriber) {
            if let Some(gone) = of.shards.get_mut(&shard) {
                gone.threads = gone.threads.saturating_sub(1);
            }
            of.shards.retain(|_, shard| shard.threads > 0);
            if of.leaving && of.shards.is_empty() {
                inner.subscribers.remove(subscriber);
            }
        }
    }

    /// Why the file of a handler doesn't run.
    pub fn refused(&self, subscriber: &str) -> Option<String> {
        self.lock().subscribers.get(subscriber)?.report.version.refused.clone()
    }

    /// Adds to a subscriber's counters, or changes what else it shows.
    pub fn update(&self, subscriber: &str, change: impl FnOnce(&mut SubscriberStatus)) {
        if let Some(subscriber) = self.lock().subscribers.get_mut(subscriber) {
            change(&mut subscriber.report);
        }
    }

    /// A shard says that its loop came round; it looks stuck when that lies `stuck_after` back.
    pub fn beat(&self, subscriber: &str, shard: u32, state: ShardState, stuck_after: Duration) {
        self.shard(subscriber, shard, |shard| {
            (shard.state, shard.beat, shard.stuck_after) = (state, Instant::now(), stuck_after);
        });
    }

    /// A shard has taken up another version.
    pub fn shard_runs(&self, subscriber: &str, shard: u32, digest: &str) {
        self.shard(subscriber, shard, |shard| shard.digest = Some(digest.into()));
    }

    pub fn parked(&self, subscriber: &str, shard: u32, parked: Parked) {
        self.shard(subscriber, shard, |shard| shard.parked = parked);
    }

    /// What waits for its next try, by subscriber.
    pub fn parked_report(&self) -> Vec<ParkedReport> {
        let inner = self.lock();
        let of = |(name, subscriber): (&String, &Subscriber)| {
            let parked = || subscriber.shards.values().map(|shard| &shard.parked);
            ParkedReport {
                subscriber: name.clone(),
                count: parked().map(|parked| parked.count).sum(),
                keys: parked().flat_map(|parked| parked.keys.clone()).collect(),
                full_partitions: parked().flat_map(|parked| parked.full.clone()).collect(),
            }
        };
        inner.subscribers.iter().map(of).collect()
    }

    fn shard(&self, subscriber: &str, shard: u32, change: impl FnOnce(&mut Shard)) {
        if let Some(subscriber) = self.lock().subscribers.get_mut(subscriber)
            && let Some(shard) = subscriber.shards.get_mut(&shard)
        {
            change(shard);
        }
    }

    pub fn report(&self) -> Report {
        let inner = self.lock();
        let mut not_ready = Vec::new();
        if let (false, Some(error)) = (inner.broker.reachable, &inner.broker.error) {
            not_ready.push(format!("broker {}: {error}", inner.broker.brokers));
        }
        not_ready.extend(inner.starting.clone());
        for (name, subscriber) in &inner.subscribers {
            for (number, shard) in &subscriber.shards {
                let what = match &shard.state {
                    ShardState::Starting => "is starting".to_string(),
                    ShardState::Waiting(reason) => format!("is waiting: {reason}"),
                    ShardState::Failed(reason) => format!("has failed: {reason}"),
                    ShardState::Running if shard.beat.elapsed() > shard.stuck_after => {
                        format!("has been stuck for {} s", shard.beat.elapsed().as_secs())
                    }
                    ShardState::Running => continue,
                };
                not_ready.push(format!("{name}, shard {number}: {what}"));
            }
        }
        Report {
            pipeline: inner.pipeline.clone(),
            uptime_seconds: inner.started.elapsed().as_secs(),
            ready: not_ready.is_empty(),
            not_ready,
            broker: inner.broker.clone(),
            config: inner.config.clone(),
            subscribers: inner
                .subscribers
                .values()
                .map(|s| SubscriberReport {
                    status: s.report.clone(),
                    shards: s.shards.values().map(Shard::report).collect(),
                })
                .collect(),
        }
    }
}

/// Milliseconds since the Unix epoch.
pub fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64)
}
