//! What the shard relies on, held against a real Apache Kafka and against the embedded broker.

#[path = "common/kafka.rs"]
mod kafka;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use wasmill::config::plan::{Brokers, KafkaPlan, Secret, TopicPlan};
use wasmill::event::{Event, Header, Record, TopicPartition};
use wasmill::log::kafka::{Cluster, Committer, ConnectError, Membership, Source, Start};
use wasmill::log::{Commit, CommitError, Committer as _, LogError, Publish, PublishError, Source as _};

const DEADLINE: Duration = Duration::from_secs(30);

#[test]
fn a_transaction_becomes_visible_as_a_whole_with_its_offsets() {
    let t = Topics::new(kafka::broker(), 2);
    let cluster = t.cluster("one");
    publish(&cluster, &(0..10).map(|n| record(&t.input, n)).collect::<Vec<_>>());

    let (mut committer, mut source) = t.shard(&cluster, 0);
    let (events, membership) = poll_until(&mut source, 10);
    let commit = Commit {
        publish: events.iter().map(|e| Record { topic: t.output.clone(), ..copy(e) }).collect(),
        offsets: done(&events),
    };
    committer.commit(&commit, &membership).expect("a commit");
    assert_eq!(read_all(&cluster, &t.output).len(), 10);

    // The offsets are last + 1, so that a successor begins with what comes next.
    source.close(DEADLINE);
    committer.close(DEADLINE);
    publish(&cluster, &[record(&t.input, 10)]);
    let (_committer, mut successor) = t.shard(&t.cluster("two"), 0);
    let (events, _) = poll_until(&mut successor, 1);
    assert_eq!(payloads(&events), ["10"]);
}

#[test]
fn an_aborted_batch_leaves_nothing_and_comes_again_after_a_rewind() {
    let t = Topics::new(kafka::broker(), 2);
    let cluster = t.cluster("one");
    publish(&cluster, &(0..5).map(|n| record(&t.input, n)).collect::<Vec<_>>());
    let (mut committer, mut source) = t.shard(&cluster, 0);
    let (events, membership) = poll_until(&mut source, 5);

    let mut publish_one_bad: Vec<Record> = (0..3).map(|n| record(&t.output, n)).collect();
    publish_one_bad[1].payload = Some(Bytes::from(vec![b'x'; 3_000_000]));
    let bad = Commit { publish: publish_one_bad, offsets: done(&events) };
    match committer.commit(&bad, &membership) {
        Err(CommitError::Unpublishable { record: 1, .. }) => {}
        other => panic!("not the record's index: {other:?}"),
    }
    assert_eq!(read_all(&cluster, &t.output).len(), 0);

    source.rewind().expect("a rewind");
    let (again, membership) = poll_until(&mut source, 5);
    assert_eq!(payloads(&sorted(again.clone())), payloads(&sorted(events)));

    let good = Commit { publish: vec![record(&t.output, 7)], offsets: done(&again) };
    committer.commit(&good, &membership).expect("the committer works on");
    assert_eq!(payloads(&read_all(&cluster, &t.output)), ["7"]);
}

#[test]
fn a_record_that_only_the_broker_finds_too_large_is_named_too() {
    let t = Topics::new(kafka::broker(), 1);
    // The client's own limits lifted, the broker's (1 MB) is what counts, and all go in one batch.
    let limits = [("message.max.bytes", "5000000"), ("batch.size", "5000000"), ("linger.ms", "50")];
    let cluster = t.cluster_with("one", &limits);
    let mut committer = cluster.committer("h", 0).expect("a committer");
    let mut records: Vec<Record> = (0..3).map(|n| record(&t.output, n)).collect();
    records[2].payload = Some(Bytes::from(vec![b'x'; 3_000_000]));
    let commit = Commit { publish: records, offsets: BTreeMap::new() };
    match committer.commit(&commit, &Membership::None) {
        // Kafka refuses whole batches of records: its neighbours must not be blamed.
        Err(CommitError::Unpublishable { record: 2, .. }) => {}
        other => panic!("not the record's index: {other:?}"),
    }
    let commit = Commit { publish: vec![record(&t.output, 9)], offsets: BTreeMap::new() };
    committer.commit(&commit, &Membership::None).expect("the committer works on");
    assert_eq!(payloads(&read_all(&cluster, &t.output)), ["9"]);
}

#[test]
fn a_record_that_its_topic_refuses_is_named() {
    let t = Topics::new(kafka::broker(), 1);
    let cluster = t.cluster("one");
    let compacted: Arc<str> = format!("compacted-{}", t.output).into();
    foreign::create_topic(kafka::broker(), &compacted, ("cleanup.policy", "compact"));
    let mut committer = cluster.committer("h", 0).expect("a committer");
    let mut records: Vec<Record> = (0..3).map(|n| record(&compacted, n)).collect();
    records[1].key = None;
    let commit = Commit { publish: records.clone(), offsets: BTreeMap::new() };
    match committer.commit(&commit, &Membership::None) {
        Err(CommitError::Unpublishable { record: 1, .. }) => {}
        other => panic!("not the record's index: {other:?}"),
    }
    records.remove(1);
    let commit = Commit { publish: records, offsets: BTreeMap::new() };
    committer.commit(&commit, &Membership::None).expect("the committer works on");
    assert_eq!(payloads(&read_all(&cluster, &compacted)), ["0", "2"]);
}

#[test]
fn a_header_s_name_need_not_be_utf_8() {
    let t = Topics::new(kafka::broker(), 1);
    let cluster = t.cluster("one");
    foreign::publish_with_header(kafka::broker(), &t.input, c"\xff", b"1");
    let (_committer, mut source) = t.shard(&cluster, 0);
    let (polled, _) = poll_until(&mut source, 1);
    for seen in [polled, read_all(&cluster, &t.input)] {
        assert_eq!(seen[0].headers, [Header::new("\u{fffd}", "1")]);
    }
}

#[test]
fn a_poll_is_bounded_in_bytes_too() {
    let t = Topics::new(kafka::broker(), 1);
    let cluster = t.cluster("one");
    let large = |n| Record { payload: Some(Bytes::from(vec![b'x'; 1_000_000])), ..record(&t.input, n) };
    publish(&cluster, &(0..40).map(large).collect::<Vec<_>>());
    let (_committer, mut source) = t.shard(&cluster, 0);
    // Meanwhile librdkafka fetches ahead, so that the next poll could take all.
    let (first, _) = poll_until(&mut source, 1);
    assert_eq!(read_all(&cluster, &t.input).len(), 40);
    let (mut seen, mut most) = (first.len(), 0);
    wait_for("all events", || {
        let count = source.poll(1000, Duration::from_millis(100)).expect("a poll").events.len();
        seen += count;
        most = most.max(count);
        seen == 40
    });
    assert!((2..=17).contains(&most), "{most} MB at once");
}

#[test]
fn a_zombie_is_fenced_by_its_successor_which_goes_on() {
    let t = Topics::new(kafka::broker(), 1);
    let cluster = t.cluster("same-name");
    let mut zombie = cluster.committer("h", 0).expect("a committer");
    let commit = |n| Commit { publish: vec![record(&t.output, n)], offsets: BTreeMap::new() };
    zombie.commit(&commit(1), &Membership::None).expect("alone");

    let mut successor = cluster.committer("h", 0).expect("a committer");
    match zombie.commit(&commit(2), &Membership::None) {
        Err(CommitError::Fenced(_)) => {}
        other => panic!("not fenced: {other:?}"),
    }
    // The zombie was given a new producer, which fences the successor in turn: once.
    match successor.commit(&commit(3), &Membership::None) {
        Err(CommitError::Fenced(_)) => {}
        other => panic!("not fenced: {other:?}"),
    }
    drop(zombie);
    successor.commit(&commit(4), &Membership::None).expect("the last one goes on");
    assert_eq!(payloads(&read_all(&cluster, &t.output)), ["1", "4"]);
}

#[test]
fn two_processes_with_one_instance_name_are_told_so() {
    let t = Topics::new(kafka::broker(), 1);
    let cluster = t.cluster("same-name");
    let mut one = cluster.committer("h", 0).expect("a committer");
    let mut other = cluster.committer("h", 0).expect("a committer");
    let commit = Commit { publish: vec![record(&t.output, 1)], offsets: BTreeMap::new() };
    let mut said = String::new();
    for _ in 0..5 {
        for committer in [&mut one, &mut other] {
            if let Err(CommitError::Fenced(reason)) = committer.commit(&commit, &Membership::None) {
                said = reason;
            }
        }
    }
    assert!(said.contains("kafka.instance"), "{said}");
}

#[test]
fn a_rebalance_between_poll_and_commit_fences_and_the_new_owner_gets_the_event() {
    let t = Topics::new(kafka::broker(), 1);
    let old = t.cluster("a-old");
    publish(&old, &[record(&t.input, 1)]);
    let (mut committer, mut source) = t.shard(&old, 0);
    let (events, membership) = poll_until(&mut source, 1);

    // The member leaves without its shard knowing: what it polled now belongs to the other.
    source.close(DEADLINE);
    let (mut new_committer, mut new_source) = t.shard(&t.cluster("b-new"), 0);
    let (again, new_membership) = poll_until(&mut new_source, 1);
    assert_eq!(payloads(&again), ["1"]);

    let commit = Commit { publish: vec![record(&t.output, 1)], offsets: done(&events) };
    match committer.commit(&commit, &membership) {
        Err(CommitError::Fenced(_)) => {}
        other => panic!("not fenced: {other:?}"),
    }
    new_committer.commit(&commit, &new_membership).expect("the new owner commits");
    assert_eq!(read_all(&old, &t.output).len(), 1);
}

#[test]
fn partitions_that_move_to_a_second_member_are_forgotten_by_the_first() {
    let t = Topics::new(kafka::broker(), 2);
    let (_c1, mut first) = t.shard(&t.cluster("a"), 0);
    wait_for("all partitions", || {
        first.poll(10, Duration::from_millis(100)).expect("a poll").forgotten.len() == 2
    });

    let (_c2, mut second) = t.shard(&t.cluster("b"), 0);
    let (mut lost, mut won) = (0, 0);
    wait_for("one each", || {
        lost += first.poll(10, Duration::from_millis(50)).expect("a poll").forgotten.len();
        won += second.poll(10, Duration::from_millis(50)).expect("a poll").forgotten.len();
        lost > 0 && won > 0
    });
    assert!(matches!(second.membership(), Membership::Generation(_)));
}

#[test]
fn a_member_that_closes_hands_over_at_once() {
    let t = Topics::new(kafka::broker(), 1);
    let cluster = t.cluster("a");
    publish(&cluster, &[record(&t.input, 1)]);
    let (_committer, mut source) = t.shard(&cluster, 0);
    poll_until(&mut source, 1);
    source.close(DEADLINE);

    let started = Instant::now();
    let (_committer, mut next) = t.shard(&t.cluster("b"), 0);
    poll_until(&mut next, 1);
    // Well below the session timeout of 10 s.
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}

#[test]
fn of_two_members_with_one_instance_name_one_stops_and_says_why() {
    let t = Topics::new(kafka::broker(), 1);
    let cluster = t.cluster("same-name");
    let (_c1, mut older) = t.shard(&cluster, 0);
    wait_for("an assignment", || {
        !older.poll(1, Duration::from_millis(100)).expect("a poll").forgotten.is_empty()
    });
    let (_c2, mut newer) = t.shard(&cluster, 0);
    let mut said = None;
    wait_for("an end", || {
        for source in [&mut newer, &mut older] {
            if let Err(LogError::Fatal(reason)) = source.poll(1, Duration::from_millis(50)) {
                said = Some(reason);
            }
        }
        said.is_some()
    });
    assert!(said.expect("a reason").contains("kafka.instance"));
}

#[test]
fn paused_partitions_wait_and_a_rewind_resumes_them() {
    let t = Topics::new(kafka::broker(), 1);
    let cluster = t.cluster("one");
    publish(&cluster, &(0..3).map(|n| record(&t.input, n)).collect::<Vec<_>>());
    let (_committer, mut source) = t.shard(&cluster, 0);
    let (events, _) = poll_until(&mut source, 1);
    assert_eq!(payloads(&events)[0], "0");

    let input = [TopicPartition { topic: t.input.clone(), partition: 0 }];
    source.pause(&input).expect("a pause");
    let quiet = source.poll(10, Duration::from_millis(500)).expect("a poll");
    assert_eq!(payloads(&quiet.events), Vec::<String>::new());
    source.rewind().expect("a rewind");
    let (again, _) = poll_until(&mut source, 3);
    assert_eq!(payloads(&again), ["0", "1", "2"]);

    source.pause(&input).expect("a pause");
    publish(&cluster, &[record(&t.input, 3)]);
    source.resume(&input).expect("a resume");
    let (next, _) = poll_until(&mut source, 1);
    assert_eq!(payloads(&next), ["3"]);
}

#[test]
fn offsets_that_a_transaction_holds_for_long_are_told_with_a_remedy() {
    let t = Topics::new(kafka::broker(), 1);
    let cluster = t.cluster("one");
    publish(&cluster, &[record(&t.input, 1)]);
    let held = foreign::hold_offsets(kafka::broker(), &t.group(), &t.input);
    let (_committer, mut source) = t.shard(&cluster, 0);
    let mut said = None;
    wait_for("a complaint", || match source.poll(10, Duration::from_millis(100)) {
        Ok(polled) => {
            assert!(polled.events.is_empty(), "where to begin is not known yet");
            false
        }
        Err(error) => {
            said = Some(error.to_string());
            true
        }
    });
    let said = said.expect("a reason");
    assert!(said.contains(&t.group()) && said.contains("kafka-transactions.sh"), "{said}");
    held.abort();
    let mut events = Vec::new();
    wait_for("the event", || {
        events = source.poll(1, Duration::from_millis(100)).map_or(vec![], |polled| polled.events);
        !events.is_empty()
    });
    assert_eq!(payloads(&events), ["1"]);
}

#[test]
fn keys_payloads_and_headers_survive_the_trip_nulls_included() {
    let t = Topics::new(kafka::broker(), 1);
    round_trip(&t, &t.cluster("one"));
}

#[test]
fn an_unknown_topic_ends_the_shard_with_a_remedy() {
    let t = Topics::new(kafka::broker(), 1);
    let cluster = t.cluster("one");
    let mut committer = cluster.committer("h", 0).expect("a committer");
    let commit = Commit { publish: vec![record(&"no-such-topic".into(), 1)], offsets: BTreeMap::new() };
    let started = Instant::now();
    match committer.commit(&commit, &Membership::None) {
        Err(CommitError::Fatal(reason)) => assert!(reason.contains("create the topic"), "{reason}"),
        other => panic!("not fatal: {other:?}"),
    }
    assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
}

#[test]
fn topics_are_created_once_and_existing_ones_stay_as_they_are() {
    let t = Topics::new(kafka::broker(), 2);
    let cluster = t.cluster("one");
    let plan = [topic(&t.input, 5)];
    assert_eq!(cluster.ensure_topics(&plan).expect("topics"), Vec::<Arc<str>>::new());
    cluster.prober().expect("a prober").ping(DEADLINE).expect("an answer");
}

#[tokio::test]
async fn the_publisher_answers_with_the_offset_or_the_reason() {
    let t = Topics::new(kafka::broker(), 1);
    let cluster = t.cluster("one");
    the_publisher_answers(&t, &cluster).await;
    let publisher = cluster.publisher(DEADLINE).expect("a publisher");
    let mut large = record(&t.output, 1);
    large.payload = Some(Bytes::from(vec![b'x'; 3_000_000]));
    assert!(matches!(publisher.publish(large, DEADLINE).await, Err(PublishError::TooLarge(_))));
}

#[tokio::test]
async fn a_broker_that_is_not_there_fails_everything_in_bounded_time() {
    // Bound and never accepted from: connections are neither refused nor answered.
    let hole = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = hole.local_addr().expect("an address").to_string();
    let plan = KafkaPlan {
        brokers: Brokers::Addresses(address),
        properties: BTreeMap::new(),
        instance: "one".into(),
    };
    let cluster = Cluster::connect(&plan, "p").expect("nothing is contacted yet");
    let started = Instant::now();
    let prober = cluster.prober().expect("a prober");
    assert!(prober.ping(Duration::from_secs(1)).is_err());
    let plan = ["a", "b", "c"].map(|name| topic(name, 1));
    assert!(matches!(cluster.ensure_topics(&plan), Err(ConnectError::Unavailable(_))));
    let publisher = cluster.publisher(Duration::from_secs(1)).expect("a publisher");
    let answer = publisher.publish(record(&"t".into(), 1), Duration::from_secs(1)).await;
    assert!(matches!(answer, Err(PublishError::Unavailable(_))));
    drop(publisher);
    assert!(matches!(cluster.committer("h", 0), Err(ConnectError::Unavailable(_))));
    let source = cluster.source("g", "h", 0, &["t".into()]).expect("a source");
    source.close(Duration::from_secs(1));
    assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_broker_that_dies_fails_commits_in_bounded_time_and_nothing_is_lost_when_it_is_back() {
    let data = tempfile::tempdir().expect("a folder");
    let port = kafka::free_port();
    let broker = kafka::Broker::start_with(data.path(), port);
    let t = Topics::new(&broker.address, 1);
    let cluster = t.cluster("one");
    let prober = cluster.prober().expect("a prober");
    let publisher = cluster.publisher(Duration::from_secs(5)).expect("a publisher");
    publisher.publish(record(&t.input, 1), DEADLINE).await.expect("an acknowledgement");
    let (mut committer, mut source) = t.shard(&cluster, 0);
    let (events, membership) = poll_until(&mut source, 1);
    let commit = Commit { publish: vec![record(&t.output, 1)], offsets: done(&events) };

    broker.kill();
    let started = Instant::now();
    match committer.commit(&commit, &membership) {
        Err(CommitError::Aborted(_)) => {}
        other => panic!("not aborted: {other:?}"),
    }
    assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
    let started = Instant::now();
    let answer = publisher.publish(record(&t.input, 2), Duration::from_secs(1)).await;
    assert!(matches!(answer, Err(PublishError::Unavailable(_))), "{answer:?}");
    assert!(matches!(source.rewind(), Err(LogError::Unavailable(_))));
    assert!(prober.ping(Duration::from_secs(1)).is_err());
    assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());

    let _broker = kafka::Broker::start_with(data.path(), port);
    prober.ping(DEADLINE).expect("an answer by the connection that was lost");
    // What the publisher gave up on must not come after its repetition.
    publisher.publish(record(&t.input, 3), DEADLINE).await.expect("an acknowledgement");
    let mut handled = 0;
    let mut rewound = false;
    wait_for("both events", || {
        if !rewound {
            rewound = source.rewind().is_ok();
            return false;
        }
        let Ok(polled) = source.poll(10, Duration::from_millis(500)) else { return false };
        let publish = polled.events.iter().map(|e| Record { topic: t.output.clone(), ..copy(e) }).collect();
        let commit = Commit { publish, offsets: done(&polled.events) };
        match committer.commit(&commit, &source.membership()) {
            Ok(()) => handled += polled.events.len(),
            Err(_) => rewound = false,
        }
        handled >= 2
    });
    assert_eq!(payloads(&read_all(&cluster, &t.output)), ["1", "3"]);
}

#[test]
fn properties_that_would_break_a_promise_are_refused_by_name() {
    for (name, value) in [
        ("enable.auto.commit", "true"),
        ("no.such.property", "1"),
        ("acks", "0"),
        ("auto.offset.reset", "latest"),
    ] {
        let plan = KafkaPlan {
            brokers: Brokers::Addresses("localhost:1".into()),
            properties: BTreeMap::from([(name.to_string(), Secret::new(value))]),
            instance: "one".into(),
        };
        match Cluster::connect(&plan, "p") {
            Err(ConnectError::Property { name: named, .. }) => assert_eq!(named, name),
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("{name} was accepted"),
        }
    }
}

#[test]
fn a_tail_catches_up_behind_transaction_markers_and_begins_where_it_is_told() {
    let t = Topics::new(kafka::broker(), 3);
    let cluster = t.cluster("one");
    let mut committer = cluster.committer("h", 0).expect("a committer");
    for n in 0..5 {
        let commit = Commit { publish: vec![record(&t.output, n)], offsets: BTreeMap::new() };
        committer.commit(&commit, &Membership::None).expect("a commit");
    }
    assert_eq!(read_all(&cluster, &t.output).len(), 5);

    let mut late = cluster.tail(std::slice::from_ref(&t.output), &Start::End).expect("a tail");
    wait_for("the end", || {
        assert!(late.poll(10, Duration::from_millis(100)).expect("a poll").is_empty());
        late.caught_up()
    });
    let commit = Commit { publish: vec![record(&t.output, 5)], offsets: BTreeMap::new() };
    committer.commit(&commit, &Membership::None).expect("a commit");
    let mut seen = Vec::new();
    wait_for("the news", || {
        seen.extend(late.poll(10, Duration::from_millis(100)).expect("a poll"));
        !seen.is_empty()
    });
    assert_eq!(payloads(&seen), ["5"]);

    let mut past = cluster.tail(std::slice::from_ref(&t.output), &Start::Time(0)).expect("a tail");
    let mut seen = Vec::new();
    wait_for("the past", || {
        seen.extend(past.poll(10, Duration::from_millis(100)).expect("a poll"));
        past.caught_up()
    });
    assert_eq!(seen.len(), 6);
}

#[test]
fn the_embedded_broker_resumes_at_the_committed_offset() {
    let (t, cluster) = embedded(2);
    publish(&cluster, &(0..6).map(|n| record(&t.input, n)).collect::<Vec<_>>());
    let (mut committer, mut source) = t.shard(&cluster, 0);
    let (events, membership) = poll_until(&mut source, 6);
    let commit = Commit { publish: vec![record(&t.output, 1)], offsets: done(&events) };
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
        .commit(&Commit { publish: vec![], offsets: done(&events[..1]) }, &membership)
        .expect("a commit");
    source.rewind().expect("a rewind");
    let (again, _) = poll_until(&mut source, 2);
    assert_eq!(payloads(&again), ["1", "2"]);
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

// ---

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

fn embedded(partitions: i32) -> (Topics, Cluster) {
    let t = Topics::named(Brokers::Embedded);
    let cluster = t.cluster("one");
    let plan = t.plan(partitions);
    assert_eq!(cluster.ensure_topics(&plan).expect("topics").len(), 2);
    assert_eq!(cluster.ensure_topics(&plan).expect("topics").len(), 0);
    (t, cluster)
}

fn topic(name: &str, partitions: i32) -> TopicPlan {
    TopicPlan { name: name.into(), partitions, replication: 1, dead_letters: false }
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
    let commit = Commit { publish: records.to_vec(), offsets: BTreeMap::new() };
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

/// What no host does, and other programs do.
mod foreign {
    use std::ffi::{CStr, CString, c_void};
    use std::ptr;

    use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
    use rdkafka::bindings::{self as native, rd_kafka_vtype_t as vtype};
    use rdkafka::client::DefaultClientContext;
    use rdkafka::consumer::{BaseConsumer, Consumer};
    use rdkafka::error::IsError;
    use rdkafka::producer::{BaseProducer, Producer};
    use rdkafka::{ClientConfig, Offset, TopicPartitionList, config::FromClientConfig};

    use super::DEADLINE;

    fn client<T: FromClientConfig>(broker: &str) -> T {
        ClientConfig::new().set("bootstrap.servers", broker).create().expect("a client")
    }

    pub(super) fn create_topic(broker: &str, name: &str, (key, value): (&str, &str)) {
        let admin: AdminClient<DefaultClientContext> = client(broker);
        let topic = NewTopic::new(name, 1, TopicReplication::Fixed(1)).set(key, value);
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let created = runtime.block_on(admin.create_topics([&topic], &AdminOptions::new()));
        created.expect("an answer").remove(0).expect("a topic");
    }

    /// An open transaction that has moved a group's offset.
    pub(super) struct Held(BaseProducer);

    impl Held {
        pub(super) fn abort(self) {
            self.0.abort_transaction(DEADLINE).expect("an answer");
        }
    }

    pub(super) fn hold_offsets(broker: &str, group: &str, topic: &str) -> Held {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", broker);
        let member: BaseConsumer = config.clone().set("group.id", group).create().expect("a consumer");
        let producer: BaseProducer =
            config.set("transactional.id", format!("holds-{group}")).create().expect("a producer");
        let mut offsets = TopicPartitionList::new();
        offsets.add_partition_offset(topic, 0, Offset::Offset(1)).expect("an offset");
        producer.init_transactions(DEADLINE).expect("a start");
        producer.begin_transaction().expect("a transaction");
        let metadata = member.group_metadata().expect("a group");
        producer.send_offsets_to_transaction(&offsets, &metadata, DEADLINE).expect("an answer");
        Held(producer)
    }

    /// By the native interface, because rdkafka's takes only UTF-8.
    pub(super) fn publish_with_header(broker: &str, topic: &str, name: &CStr, value: &[u8]) {
        let producer: BaseProducer = client(broker);
        let topic = CString::new(topic).expect("a name");
        // SAFETY: all pointers live through the call, which copies what they point to; it takes the list over.
        let answer = unsafe {
            let headers = native::rd_kafka_headers_new(1);
            let (length, size) = (name.count_bytes() as isize, value.len() as isize);
            native::rd_kafka_header_add(headers, name.as_ptr(), length, value.as_ptr().cast(), size);
            native::rd_kafka_producev(
                producer.client().native_ptr(),
                vtype::RD_KAFKA_VTYPE_TOPIC,
                topic.as_ptr(),
                vtype::RD_KAFKA_VTYPE_VALUE,
                ptr::null_mut::<c_void>(),
                0_usize,
                vtype::RD_KAFKA_VTYPE_HEADERS,
                headers,
                vtype::RD_KAFKA_VTYPE_END,
            )
        };
        assert!(!answer.is_error(), "{answer:?}");
        producer.flush(DEADLINE).expect("an acknowledgement");
    }
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
    let commit = Commit { publish: records.to_vec(), offsets: BTreeMap::new() };
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

fn done(events: &[Event]) -> BTreeMap<TopicPartition, i64> {
    events.iter().map(|e| (e.position.topic_partition(), e.position.offset + 1)).collect()
}

fn sorted(mut events: Vec<Event>) -> Vec<Event> {
    events.sort_by(|a, b| a.position.cmp(&b.position));
    events
}

fn payloads(events: &[Event]) -> Vec<String> {
    events.iter().map(|e| String::from_utf8_lossy(e.payload.as_deref().unwrap_or(b"-")).into()).collect()
}

fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < DEADLINE, "no {what} within {DEADLINE:?}");
    }
}
