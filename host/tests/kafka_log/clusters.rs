//! What else a cluster gives: topics, the publisher, tails; and what becomes of all when its broker is away.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rdkafka::mocking::MockCluster;
use wasmill::config::plan::{Brokers, KafkaPlan, Secret, TopicKind, TopicPlan};
use wasmill::event::Record;
use wasmill::log::kafka::{Cluster, ConnectError, Membership, Start};
use wasmill::log::{Commit, CommitError, Committer as _, LogError, Publish, PublishError, Source as _};

use crate::common::{DEADLINE, kafka, wait_for};
use crate::foreign;
use crate::{Topics, copy, done, payloads, poll_until, read_all, record, the_publisher_answers, topic};

#[test]
fn topics_are_created_once_and_existing_ones_stay_as_they_are() {
    let t = Topics::named(Brokers::Addresses(kafka::broker().into()));
    let cluster = t.cluster("one");
    let mut created = cluster.ensure_topics(&t.plan(2)).expect("topics");
    created.sort();
    assert_eq!(created, [t.input.clone(), t.output.clone()]);
    let other_plan = [topic(&t.input, 5)];
    assert_eq!(cluster.ensure_topics(&other_plan).expect("topics"), Vec::<Arc<str>>::new());
    assert_eq!(foreign::partitions(kafka::broker(), &t.input), 2);
}

/// As the table in docs/how-to/kafka.md says, for who makes them by hand.
#[test]
fn topics_are_created_with_what_keeps_their_records() {
    let t = Topics::named(Brokers::Addresses(kafka::broker().into()));
    for (kind, expected) in [
        (
            TopicKind::DeadLetters,
            &[("max.message.bytes", "2097152"), ("retention.ms", "-1"), ("retention.bytes", "-1")][..],
        ),
        (TopicKind::Marks, &[("cleanup.policy", "compact")]),
        (TopicKind::Claims, &[("message.timestamp.type", "LogAppendTime"), ("retention.ms", "3600000")]),
    ] {
        let name = format!("{}-{kind:?}", t.input);
        let plan = TopicPlan { kind, ..topic(&name, 1) };
        t.cluster("one").ensure_topics(&[plan]).expect("a topic");
        for (setting, value) in expected {
            assert_eq!(foreign::setting(kafka::broker(), &name, setting), *value, "{setting} of {name}");
        }
    }
}

#[test]
fn a_topic_whose_leader_is_away_is_not_taken_for_absent() {
    // A lone broker leads all there is: only a mock can take a leader away.
    let brokers = MockCluster::new(1).expect("a mock");
    brokers.create_topic("there", 1, 1).expect("a topic");
    let t = Topics::named(Brokers::Addresses(brokers.bootstrap_servers()));
    let (cluster, asked) = (t.cluster("one"), ["there".into(), "absent".into()]);
    assert_eq!(cluster.existing(&asked).expect("topics"), ["there".into()]);
    brokers.partition_leader("there", 0, None).expect("no leader");
    let answer = cluster.existing(&asked);
    assert!(
        matches!(&answer, Err(ConnectError::Unavailable(reason)) if reason.contains("there")),
        "{answer:?}"
    );
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
    let commit = Commit { publish: vec![record(&t.output, 1)], progress: done(&events) };

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
        let commit = Commit { publish, progress: done(&polled.events) };
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
        let commit = Commit { publish: vec![record(&t.output, n)], progress: BTreeMap::new() };
        committer.commit(&commit, &Membership::None).expect("a commit");
    }
    assert_eq!(read_all(&cluster, &t.output).len(), 5);

    let mut late = cluster.tail(std::slice::from_ref(&t.output), &Start::End).expect("a tail");
    wait_for("the end", || {
        assert!(late.poll(10, Duration::from_millis(100)).expect("a poll").is_empty());
        late.caught_up()
    });
    let commit = Commit { publish: vec![record(&t.output, 5)], progress: BTreeMap::new() };
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
