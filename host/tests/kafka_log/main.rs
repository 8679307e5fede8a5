//! What the shard relies on, held against a real Apache Kafka and against the embedded broker.

#[path = "../common/mod.rs"]
mod common;

mod clusters;
mod embedded;
mod foreign;
mod sources;
mod tails;
mod transactions;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::{DEADLINE, wait_for};
use wasmill::config::plan::{Brokers, KafkaPlan, Secret, TopicKind, TopicPlan};
use wasmill::event::{Event, Header, Record, TopicPartition};
use wasmill::log::kafka::{Cluster, Committer, Membership, Source, Start};
use wasmill::log::{Commit, Committer as _, Progress, Publish, Source as _};

/// Topics and a group that no other test uses.
struct Topics {
    brokers: Brokers,
    pipeline: String,
    input: Arc<str>,
    output: Arc<str>,
}

impl Topics {
    fn new(broker: &str, partitions: i32) -> Self {
        let t = Self::named(Brokers::Addresses(broker.into()));
        t.cluster("setup").ensure_topics(&t.plan(partitions)).expect("topics");
        t
    }

    fn named(brokers: Brokers) -> Self {
        let id = uuid::Uuid::now_v7().simple().to_string();
        Self {
            brokers,
            input: format!("in-{id}").into(),
            output: format!("out-{id}").into(),
            pipeline: format!("p-{id}"),
        }
    }

    fn plan(&self, partitions: i32) -> [TopicPlan; 2] {
        [&self.input, &self.output].map(|name| topic(name, partitions))
    }

    fn cluster(&self, instance: &str) -> Cluster {
        self.cluster_with(instance, &[])
    }

    fn cluster_with(&self, instance: &str, properties: &[(&str, &str)]) -> Cluster {
        let properties = properties.iter().map(|(k, v)| ((*k).to_string(), Secret::new(*v))).collect();
        let plan = KafkaPlan { brokers: self.brokers.clone(), properties, instance: instance.into() };
        Cluster::connect(&plan, &self.pipeline).expect("a cluster")
    }

    fn shard(&self, cluster: &Cluster, shard: u32) -> (Committer, Source) {
        let committer = cluster.committer("h", shard).expect("a committer");
        let topics = std::slice::from_ref(&self.input);
        let source = cluster.source(&self.group(), "h", shard, topics).expect("a source");
        (committer, source)
    }

    fn group(&self) -> String {
        format!("wasmill.{}.h", self.pipeline)
    }
}

fn topic(name: &str, partitions: i32) -> TopicPlan {
    TopicPlan { name: name.into(), partitions, replication: 1, kind: TopicKind::Events }
}

fn round_trip(t: &Topics, cluster: &Cluster) {
    let records = [
        Record { topic: t.output.clone(), key: None, payload: None, headers: vec![] },
        Record {
            topic: t.output.clone(),
            key: Some(Bytes::new()),
            payload: Some(Bytes::new()),
            headers: vec![Header::new("empty", "")],
        },
        Record {
            topic: t.output.clone(),
            key: Some("k".into()),
            payload: Some(Bytes::from_static(b"\x00\xff")),
            headers: vec![Header::new("a", "1"), Header::new("b", &b"\x00"[..]), Header::new("a", "2")],
        },
    ];
    let mut committer = cluster.committer("h", 9).expect("a committer");
    let commit = Commit { publish: records.to_vec(), progress: BTreeMap::new() };
    committer.commit(&commit, &Membership::None).expect("a commit");

    let mut source = cluster.source("g", "g", 0, std::slice::from_ref(&t.output)).expect("a source");
    let (polled, _) = poll_until(&mut source, 3);
    for seen in [polled, read_all(cluster, &t.output)] {
        assert!(seen.iter().all(|e| e.timestamp_ms.is_some()));
        assert_eq!(seen.iter().map(copy).collect::<Vec<_>>(), records);
    }
}

async fn the_publisher_answers(t: &Topics, cluster: &Cluster) {
    let publisher = cluster.publisher(DEADLINE).expect("a publisher");
    for n in 0..3 {
        let position = publisher.publish(record(&t.output, n), DEADLINE).await.expect("an acknowledgement");
        assert_eq!((&*position.topic, position.offset), (&*t.output, n));
    }
    drop(publisher);
    assert_eq!(read_all(cluster, &t.output).len(), 3);
}

fn record(topic: &Arc<str>, n: i64) -> Record {
    Record {
        topic: topic.clone(),
        key: Some(format!("k{n}").into()),
        payload: Some(n.to_string().into()),
        headers: vec![],
    }
}

fn copy(event: &Event) -> Record {
    Record {
        topic: event.position.topic.clone(),
        key: event.key.clone(),
        payload: event.payload.clone(),
        headers: event.headers.clone(),
    }
}

fn publish(cluster: &Cluster, records: &[Record]) {
    let mut committer = cluster.committer("test-input", 0).expect("a committer");
    let commit = Commit { publish: records.to_vec(), progress: BTreeMap::new() };
    committer.commit(&commit, &Membership::None).expect("a commit");
    committer.close(DEADLINE);
}

fn poll_until(source: &mut Source, count: usize) -> (Vec<Event>, Membership) {
    let mut events = Vec::new();
    wait_for("events", || {
        let polled = source.poll(count - events.len(), Duration::from_millis(100)).expect("a poll");
        events.extend(polled.events);
        events.len() >= count
    });
    (events, source.membership())
}

fn read_all(cluster: &Cluster, topic: &Arc<str>) -> Vec<Event> {
    let mut tail = cluster.tail(std::slice::from_ref(topic), &Start::Beginning).expect("a tail");
    let mut events = Vec::new();
    wait_for("the end of the topic", || {
        events.extend(tail.poll(1000, Duration::from_millis(100)).expect("a poll"));
        tail.caught_up()
    });
    events
}

fn done(events: &[Event]) -> BTreeMap<TopicPartition, Progress> {
    let progress = |offset| Progress { offset, metadata: String::new() };
    events.iter().map(|e| (e.position.topic_partition(), progress(e.position.offset + 1))).collect()
}

fn sorted(mut events: Vec<Event>) -> Vec<Event> {
    events.sort_by(|a, b| a.position.cmp(&b.position));
    events
}

fn payloads(events: &[Event]) -> Vec<String> {
    events.iter().map(|e| String::from_utf8_lossy(e.payload.as_deref().unwrap_or(b"-")).into()).collect()
}
