//! What the running host says about itself: shards write it, `/status`, `/readyz`, `/metrics` and the log read it.
//!
//! Counters are since the process started.

mod lag;
mod report;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

pub use lag::{Extents, Lag, Owned};
pub use report::{
    Answers, BrokerStatus, ConfigStatus, MailFigures, Parked, ParkedKey, ParkedReport, Report, ShardReport,
    ShardState, SubscriberKind, SubscriberReport, SubscriberStatus, VersionStatus,
};

use crate::event::{TopicPartition, now_ms};
use crate::shard::Reached;
use crate::telemetry::traces::Tracer;

/// Shared by the whole process; cheap to clone.
#[derive(Clone)]
pub struct Status {
    inner: Arc<Mutex<Inner>>,
    /// Whether the broker is known to be away, for those who wait for it.
    away: watch::Sender<bool>,
    tracer: Tracer,
}

struct Inner {
    started: Instant,
    pipeline: String,
    broker: BrokerStatus,
    /// Questions in a row that the broker did not answer.
    unanswered: u32,
    /// Why what is to run can't begin yet.
    starting: Option<String>,
    /// Nothing was in its way once, so that requests are taken.
    has_started: bool,
    config: ConfigStatus,
    subscribers: BTreeMap<String, Subscriber>,
    extents: Extents,
    requests: BTreeMap<String, BTreeMap<&'static str, Answers>>,
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
    /// Of the partitions that it owns.
    reached: BTreeMap<TopicPartition, Reached>,
    peak_memory: Option<usize>,
}

impl Inner {
    /// Why the broker can't be reached, if so it is.
    fn unreachable(&self) -> Option<String> {
        let BrokerStatus { brokers, error, reachable, .. } = &self.broker;
        error.as_ref().filter(|_| !reachable).map(|error| format!("broker {brokers}: {error}"))
    }
}

impl Shard {
    fn report(&self) -> ShardReport {
        ShardReport {
            state: self.state.clone(),
            digest: self.digest.clone(),
            parked_keys: self.parked.count,
            partitions: self.reached.keys().map(TopicPartition::to_string).collect(),
            full_partitions: self.parked.full.clone(),
            peak_memory_bytes: self.peak_memory,
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
                has_started: false,
                config: ConfigStatus::default(),
                subscribers: BTreeMap::new(),
                extents: Extents::default(),
                requests: BTreeMap::new(),
            })),
            away: watch::Sender::new(false),
            tracer: Tracer::default(),
        }
    }

    /// For a host whose traces are on.
    pub fn traced(self, tracer: Tracer) -> Self {
        Self { tracer, ..self }
    }

    pub fn tracer(&self) -> Tracer {
        self.tracer.clone()
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
        let mut inner = self.lock();
        inner.starting = None;
        inner.has_started = true;
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
                reached: BTreeMap::new(),
                peak_memory: None,
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

    /// Where a shard stands in the partitions that it owns.
    pub fn reached(
        &self,
        subscriber: &str,
        shard: u32,
        reached: BTreeMap<TopicPartition, Reached>,
        peak_memory: Option<usize>,
    ) {
        self.shard(subscriber, shard, |shard| (shard.reached, shard.peak_memory) = (reached, peak_memory));
    }

    /// The partitions whose extents are worth knowing.
    pub fn owned(&self) -> Vec<Owned> {
        let inner = self.lock();
        let of = |(name, subscriber): (&String, &Subscriber)| {
            let reached = subscriber.shards.values().flat_map(|shard| &shard.reached);
            Owned {
                subscriber: name.clone(),
                group: subscriber.report.group.clone(),
                partitions: reached.map(|(partition, reached)| (partition.clone(), reached.next)).collect(),
            }
        };
        inner.subscribers.iter().map(of).filter(|owned| !owned.partitions.is_empty()).collect()
    }

    /// What brokers say of them by now.
    pub fn extents(&self, extents: Extents) {
        self.lock().extents = extents;
    }

    /// A request for a resource was answered. The method is one of few.
    pub fn answered(&self, resource: &str, method: &'static str, status: u16, took: Duration) {
        let mut inner = self.lock();
        if !inner.requests.contains_key(resource) {
            inner.requests.insert(resource.into(), BTreeMap::new());
        }
        if let Some(answers) = inner.requests.get_mut(resource) {
            answers.entry(method).or_default().count(status, took);
        }
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

    /// Why requests can't be taken; nothing when they can. What becomes of shards, and of the topics of those that come
    /// later, is not among it: events wait in Kafka.
    pub fn takes_no_requests(&self) -> Vec<String> {
        let inner = self.lock();
        let starting = inner.starting.clone().filter(|_| !inner.has_started);
        inner.unreachable().into_iter().chain(starting).collect()
    }

    pub fn report(&self) -> Report {
        let inner = self.lock();
        let mut not_ready: Vec<String> =
            inner.unreachable().into_iter().chain(inner.starting.clone()).collect();
        for (name, subscriber) in &inner.subscribers {
            for (number, shard) in &subscriber.shards {
                let what = match &shard.state {
                    ShardState::Starting => "is starting".to_string(),
                    ShardState::Waiting(reason) => format!("is waiting: {reason}"),
                    ShardState::Failed(reason) => format!("has failed: {reason}"),
                    // Not for how long: who has it read aloud would hear each second of it.
                    ShardState::Running if shard.beat.elapsed() > shard.stuck_after => {
                        format!("is stuck: nothing was heard of it for more than {:?}", shard.stuck_after)
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
            spans_dropped: self.tracer.dropped(),
            subscribers: inner
                .subscribers
                .iter()
                .map(|(name, s)| SubscriberReport {
                    status: s.report.clone(),
                    lag: lag::lag(name, s.shards.values().flat_map(|shard| &shard.reached), &inner.extents),
                    shards: s.shards.values().map(Shard::report).collect(),
                })
                .collect(),
            requests: inner.requests.clone(),
        }
    }
}
