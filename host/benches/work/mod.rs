//! Work on the way of events, without a broker: measured in time by `micro.rs`, in instructions by `instructions.rs`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use wasmill::config::plan::{Allow, HandlerPlan, LimitsPlan, RetryPlan};
use wasmill::event::{Event, Handler, Outcome, Output, Position, Record};
use wasmill::guest::{CodeCache, ComponentFile, ComponentHandler, Engine, EngineLimits, Version};
use wasmill::log::Progress;
use wasmill::log::simulated::{Broker, SimulatedCommits, SimulatedSource};
use wasmill::shard::{Beyond, Identity, Shard, Turn};

/// The order-formatter, and orders for it.
pub(crate) struct Guest {
    handler: ComponentHandler,
    events: Vec<Event>,
}

impl Guest {
    /// Of a component that `just components` has built.
    pub(crate) fn new(component: &Path, code: &CodeCache) -> Self {
        let plan = HandlerPlan {
            name: "guest".into(),
            group: "guest".into(),
            component: component.into(),
            sha256: None,
            allow: Allow::all(),
            keep: 1,
            subscribe: vec!["in".into()],
            publish: vec!["out".into()],
            dead_letter: "guest.dlq".into(),
            env: BTreeMap::new(),
            retry: RetryPlan { attempts: Some(1), backoff_min: Duration::ZERO, backoff_max: Duration::ZERO },
            limits: LimitsPlan { memory: 64 << 20, time: Duration::from_secs(60), batch: 1000 },
            shards: 1,
            log: None,
        };
        let engine = Engine::new(EngineLimits { instances: 1 }).expect("an engine");
        let file = ComponentFile::read(component).expect("a component: run `just components`");
        let (version, _compiled) = Version::compile(&engine, &file, &plan, code).expect("a version");
        let handler = ComponentHandler::new(version, &plan).expect("a handler");
        Self { handler, events: (0..1000).map(event).collect() }
    }

    /// One batch.
    pub(crate) fn call(&mut self, count: usize) -> Vec<Outcome> {
        let events: Vec<&Event> = self.events[..count].iter().collect();
        let outcomes = self.handler.handle(&events, &vec![1; count]);
        assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
        outcomes
    }
}

/// What the component does to orders, in a native loop.
pub(crate) fn natively(orders: &[String]) {
    for order in orders {
        std::hint::black_box(wasmill_anchors::details(order.as_bytes()).expect("an order"));
    }
}

/// Different ones.
pub(crate) fn orders(count: u64) -> Vec<String> {
    (0..count).map(|number| wasmill_anchors::order(number, 1_790_000_000_000_000, 313).1).collect()
}

fn event(number: i64) -> Event {
    let (key, payload) = wasmill_anchors::order(number.unsigned_abs(), 1_790_000_000_000_000, 313);
    Event {
        position: Position { topic: "in".into(), partition: 0, offset: number },
        timestamp_ms: Some(1_790_000_000_000),
        key: Some(key.into()),
        payload: Some(payload.into()),
        headers: Vec::new(),
    }
}

/// Copies its events.
struct Copy;

impl Handler for Copy {
    fn handle(&mut self, events: &[&Event], _attempts: &[u32]) -> Vec<Outcome> {
        let copy = |event: &&Event| Output {
            topic: None,
            key: event.key.clone(),
            payload: event.payload.clone(),
            headers: Vec::new(),
        };
        events.iter().map(|event| Ok(vec![copy(event)])).collect()
    }

    fn digest(&self) -> Arc<str> {
        "c0ffee".into()
    }
}

/// A shard over a log in memory: poll, window, decide and commit, with next to nothing to run.
pub(crate) struct Turns {
    broker: Broker,
    shard: Shard<SimulatedSource, SimulatedCommits, Copy>,
    /// Made before anything is measured: to write orders is no work of the host's.
    records: Vec<Record>,
}

impl Turns {
    /// Of so many events.
    pub(crate) fn new(events: u64) -> Self {
        let broker = Broker::new(1, &[("in", 1), ("out", 1), ("copy.dlq", 1)]);
        let identity = Identity {
            name: "copy".into(),
            digest: "".into(),
            publish: vec!["out".into()],
            dead_letter: "copy.dlq".into(),
            retry: RetryPlan { attempts: Some(1), backoff_min: Duration::ZERO, backoff_max: Duration::ZERO },
        };
        let commits = SimulatedCommits::init(&broker, "copy");
        let source = SimulatedSource::join(&broker, "copy", "copy", &["in"]);
        let topic: Arc<str> = "in".into();
        let record = |number| {
            let (key, payload) = wasmill_anchors::order(number, 1_790_000_000_000_000, 313);
            let (key, payload) = (Some(key.into()), Some(payload.into()));
            Record { topic: topic.clone(), key, payload, headers: Vec::new() }
        };
        let records = (0..events).map(record).collect();
        Self { shard: Shard::new(identity, 1000, source, commits, Copy, 1), broker, records }
    }

    /// Takes all of them through, once more with each call.
    pub(crate) fn take(&mut self) {
        for record in &self.records {
            self.broker.produce(record.clone());
        }
        while !self.broker.drained("copy") {
            let turn = self.shard.turn(&|| self.broker.now()).expect("a turn");
            assert!(matches!(turn, Turn::Went(_)), "{turn:?}");
        }
    }
}

/// What stands beside an offset where every third of 3,000 events beyond it is done.
pub(crate) fn offsets(noted: &Progress) -> Beyond {
    Beyond::of(noted).expect("notes")
}

/// For [`offsets`]: bits, as the runs would be longer.
pub(crate) fn noted() -> Progress {
    // 01001001… from the lowest bit on, in base64.
    Progress { offset: 7, metadata: format!("w1b{}", "kiRJ".repeat(125)) }
}
