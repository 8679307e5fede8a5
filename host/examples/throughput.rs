//! What the sandbox costs: a hand-written loop and a shard with a component, exactly once, on the same broker, in
//! the same run, each on one thread.
//!
//!     kafka/start &
//!     cargo run --release --example throughput -- 127.0.0.1:9092 components/order-formatter.wasm [EVENTS] [BATCH]
//!
//! The hand-written loop copies its events; the component may do more.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use wasmill::config::plan::{
    Allow, Brokers, HandlerPlan, KafkaPlan, LimitsPlan, RetryPlan, TopicKind, TopicPlan,
};
use wasmill::event::{Now, Record};
use wasmill::guest::{CodeCache, ComponentFile, ComponentHandler, Engine, EngineLimits, Version};
use wasmill::log::kafka::{Cluster, Membership};
use wasmill::log::{Commit, Committer as _, Progress, Source as _};
use wasmill::shard::{Identity, Shard, Turn};

const CLOSE: Duration = Duration::from_secs(5);

struct Bench {
    cluster: Cluster,
    run: String,
    input: Arc<str>,
    output: Arc<str>,
    count: u64,
    batch: usize,
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let usage = "usage: throughput BROKERS COMPONENT [EVENTS] [BATCH]";
    let (brokers, component) = (arguments.next().ok_or(usage)?, arguments.next().ok_or(usage)?);
    let count: u64 = arguments.next().map_or(Ok(300_000), |n| n.parse())?;
    let batch: usize = arguments.next().map_or(Ok(1000), |n| n.parse())?;

    let run = uuid::Uuid::now_v7().simple().to_string();
    let plan = KafkaPlan {
        brokers: Brokers::Addresses(brokers),
        properties: BTreeMap::new(),
        instance: run.clone(),
    };
    let cluster = Cluster::connect(&plan, "throughput")?;
    let [input, output]: [Arc<str>; 2] = ["in", "out"].map(|side| format!("throughput-{run}-{side}").into());
    let topic = |name: &Arc<str>| TopicPlan {
        name: name.clone(),
        partitions: 1,
        replication: 1,
        kind: TopicKind::Events,
    };
    cluster.ensure_topics(&[topic(&input), topic(&output)])?;
    let bench = Bench { cluster, run, input, output, count, batch };
    bench.fill()?;
    for _ in 0..3 {
        let native = bench.native()?;
        let shard = bench.shard(component.as_ref())?;
        println!("native {native:.0} events/s, shard {shard:.0} events/s, ratio {:.2}", shard / native);
    }
    Ok(())
}

impl Bench {
    fn fill(&self) -> Result<(), Box<dyn Error>> {
        let mut producer = self.cluster.committer("input", 0)?;
        for start in (0..self.count).step_by(10_000) {
            let end = self.count.min(start + 10_000);
            let publish = (start..end).map(|n| order(&self.input, n)).collect();
            producer.commit(&Commit { publish, progress: BTreeMap::new() }, &Membership::None)?;
        }
        Ok(())
    }

    fn group(&self) -> String {
        format!("throughput-{}-{}", self.run, uuid::Uuid::now_v7().simple())
    }

    /// Events a second, from the first ones on: joining the group is not part of the figure.
    fn native(&self) -> Result<f64, Box<dyn Error>> {
        let mut committer = self.cluster.committer("native", 0)?;
        let mut source =
            self.cluster.source(&self.group(), "native", 0, std::slice::from_ref(&self.input))?;
        let (mut done, mut started) = (0, None);
        while done < self.count {
            let polled = source.poll(self.batch, Duration::from_millis(100))?;
            if polled.events.is_empty() {
                continue;
            }
            started.get_or_insert_with(Instant::now);
            let mut commit = Commit::default();
            for event in polled.events {
                let progress = Progress { offset: event.position.offset + 1, metadata: String::new() };
                commit.progress.insert(event.position.topic_partition(), progress);
                commit.publish.push(Record {
                    topic: self.output.clone(),
                    key: event.key,
                    payload: event.payload,
                    headers: event.headers,
                });
            }
            committer.commit(&commit, &source.membership())?;
            done += commit.publish.len() as u64;
        }
        source.close(CLOSE);
        Ok(rate(done, started))
    }

    fn shard(&self, component: &Path) -> Result<f64, Box<dyn Error>> {
        let plan = HandlerPlan {
            name: "shard".into(),
            group: self.group(),
            component: component.into(),
            sha256: None,
            allow: Allow::all(),
            keep: 1,
            subscribe: vec![self.input.clone()],
            publish: vec![self.output.clone()],
            dead_letter: "shard.dlq".into(),
            env: BTreeMap::new(),
            retry: RetryPlan { attempts: Some(1), backoff_min: CLOSE, backoff_max: CLOSE },
            limits: LimitsPlan { memory: 64 << 20, time: Duration::from_secs(1), batch: self.batch },
            shards: 1,
        };
        let engine = Engine::new(EngineLimits { instances: 1 })?;
        let file = ComponentFile::read(component)?;
        let (version, _compiled) = Version::compile(&engine, &file, &plan, &CodeCache::none())?;
        let identity = Identity::of_handler(&plan, version.digest().clone());
        let (commits, source) = self.cluster.shard(&plan.group, "shard", 0, &plan.subscribe)?;
        let handler = ComponentHandler::new(version, &plan)?;
        let mut shard = Shard::new(identity, self.batch, source, commits, handler, 0);
        let clock = Instant::now();
        let now = || Now { monotonic: clock.elapsed(), wall_ms: 0 };
        let (mut done, mut started) = (0, None);
        while done < self.count {
            let before = Instant::now();
            match shard.turn(&now)? {
                Turn::Went(tally) if tally.dead_letters > 0 => return Err(format!("{tally:?}").into()),
                Turn::Went(tally) => done += tally.events,
                Turn::Refused { reason, .. } => eprintln!("refused: {reason}"),
            }
            if done > 0 {
                started.get_or_insert(before);
            }
        }
        shard.close(CLOSE);
        Ok(rate(done, started))
    }
}

fn rate(done: u64, started: Option<Instant>) -> f64 {
    done as f64 / started.map_or(f64::INFINITY, |started| started.elapsed().as_secs_f64())
}

/// 314 bytes, like those of the pipeline that ships.
fn order(topic: &Arc<str>, n: u64) -> Record {
    let id = format!("o-{n:08}");
    let body = format!(
        r#"{{"order_id":"{id}","customer":{{"id":"c-00042","name":"Ada Park","email":"c42@example.com"}},"items":[{{"sku":"margherita","name":"Pizza Margherita","quantity":2,"unit_price_cents":1150}},{{"sku":"tiramisu","name":"Tiramisu of the house","quantity":1,"unit_price_cents":650}}],"currency":"EUR","placed_at_us":1790000000000000}}"#
    );
    Record { topic: topic.clone(), key: Some(id.into()), payload: Some(body.into()), headers: Vec::new() }
}
