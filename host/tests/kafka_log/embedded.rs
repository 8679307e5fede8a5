//! The embedded broker, which holds less: plain commits, at least once.

use std::collections::BTreeMap;
use std::time::Duration;

use wasmill::config::plan::Brokers;
use wasmill::log::kafka::Cluster;
use wasmill::log::{Commit, Committer as _, Progress, Source as _};

use crate::common::{DEADLINE, wait_for};
use crate::{
    Topics, done, payloads, poll_until, publish, read_all, record, round_trip, the_publisher_answers,
};

fn embedded(partitions: i32) -> (Topics, Cluster) {
    let t = Topics::named(Brokers::Embedded);
    let cluster = t.cluster("one");
    let plan = t.plan(partitions);
    assert_eq!(cluster.ensure_topics(&plan).expect("topics").len(), 2);
    assert_eq!(cluster.ensure_topics(&plan).expect("topics").len(), 0);
    (t, cluster)
}

#[test]
fn the_embedded_broker_resumes_at_the_committed_offset() {
    let (t, cluster) = embedded(2);
    publish(&cluster, &(0..6).map(|n| record(&t.input, n)).collect::<Vec<_>>());
    let (mut committer, mut source) = t.shard(&cluster, 0);
    let (events, membership) = poll_until(&mut source, 6);
    let commit = Commit { publish: vec![record(&t.output, 1)], progress: done(&events) };
    committer.commit(&commit, &membership).expect("a commit");
    assert_eq!(payloads(&read_all(&cluster, &t.output)), ["1"]);
    source.rewind().expect("a rewind");
    assert!(source.poll(10, Duration::from_millis(300)).expect("a poll").events.is_empty());
    source.close(DEADLINE);
    committer.close(DEADLINE);

    publish(&cluster, &[record(&t.input, 6)]);
    let (_committer, mut successor) = t.shard(&cluster, 0);
    let (events, _) = poll_until(&mut successor, 1);
    assert_eq!(payloads(&events), ["6"]);
}

#[test]
fn what_was_not_committed_on_the_embedded_broker_comes_again() {
    let (t, cluster) = embedded(1);
    publish(&cluster, &(0..3).map(|n| record(&t.input, n)).collect::<Vec<_>>());
    let (mut committer, mut source) = t.shard(&cluster, 0);
    let (events, membership) = poll_until(&mut source, 3);
    committer
        .commit(&Commit { publish: vec![], progress: done(&events[..1]) }, &membership)
        .expect("a commit");
    source.rewind().expect("a rewind");
    let (again, _) = poll_until(&mut source, 2);
    assert_eq!(payloads(&again), ["1", "2"]);
}

#[test]
fn the_embedded_broker_keeps_what_is_noted_beside_an_offset() {
    let (t, cluster) = embedded(1);
    publish(&cluster, &(0..3).map(|n| record(&t.input, n)).collect::<Vec<_>>());
    let (mut committer, mut source) = t.shard(&cluster, 0);
    let (events, membership) = poll_until(&mut source, 3);
    let noted = Progress { offset: 1, metadata: "noted".into() };
    let progress = BTreeMap::from([(events[0].position.topic_partition(), noted)]);
    committer.commit(&Commit { publish: vec![], progress: progress.clone() }, &membership).expect("a commit");
    source.close(DEADLINE);
    committer.close(DEADLINE);
    let (_committer, mut successor) = t.shard(&cluster, 0);
    let mut told = BTreeMap::new();
    wait_for("the notes", || {
        told.extend(successor.poll(10, Duration::from_millis(100)).expect("a poll").progress);
        !told.is_empty()
    });
    assert_eq!(told, progress);
}

#[test]
fn the_embedded_broker_keeps_nulls_and_headers_and_can_be_attached_to() {
    let (t, cluster) = embedded(1);
    round_trip(&t, &cluster);
    let other = Cluster::attach(cluster.bootstrap(), true);
    assert!(!read_all(&other, &t.output).is_empty());
    other.prober().expect("a prober").ping(DEADLINE).expect("an answer");
}

#[tokio::test]
async fn the_publisher_works_on_the_embedded_broker() {
    let (t, cluster) = embedded(1);
    the_publisher_answers(&t, &cluster).await;
}
