//! The committing half on Apache Kafka: all or nothing, fenced when it must be, and every refusal by its name.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use wasmill::event::Record;
use wasmill::log::kafka::{Membership, Source};
use wasmill::log::{Commit, CommitError, Committer as _, Progress, Source as _};

use crate::common::{DEADLINE, kafka, wait_for};
use crate::foreign;
use crate::{Topics, copy, done, payloads, poll_until, publish, read_all, record, round_trip, sorted};

#[test]
fn a_transaction_becomes_visible_as_a_whole_with_its_offsets() {
    let t = Topics::new(kafka::broker(), 2);
    let cluster = t.cluster("one");
    publish(&cluster, &(0..10).map(|n| record(&t.input, n)).collect::<Vec<_>>());

    let (mut committer, mut source) = t.shard(&cluster, 0);
    let (events, membership) = poll_until(&mut source, 10);
    let commit = Commit {
        publish: events.iter().map(|e| Record { topic: t.output.clone(), ..copy(e) }).collect(),
        progress: done(&events),
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
    let bad = Commit { publish: publish_one_bad, progress: done(&events) };
    match committer.commit(&bad, &membership) {
        Err(CommitError::Unpublishable { record: 1, .. }) => {}
        other => panic!("not the record's index: {other:?}"),
    }
    assert_eq!(read_all(&cluster, &t.output).len(), 0);

    source.rewind().expect("a rewind");
    let (again, membership) = poll_until(&mut source, 5);
    assert_eq!(payloads(&sorted(again.clone())), payloads(&sorted(events)));

    let good = Commit { publish: vec![record(&t.output, 7)], progress: done(&again) };
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
    let commit = Commit { publish: records, progress: BTreeMap::new() };
    let started = Instant::now();
    match committer.commit(&commit, &Membership::None) {
        // Kafka refuses whole batches of records: its neighbours must not be blamed.
        Err(CommitError::Unpublishable { record: 2, too_large: true, .. }) => {}
        other => panic!("not the record's index: {other:?}"),
    }
    // What else the transaction holds never settles: it must not be waited for, which takes 6 s.
    assert!(started.elapsed() < Duration::from_secs(6), "{:?}", started.elapsed());
    let commit = Commit { publish: vec![record(&t.output, 9)], progress: BTreeMap::new() };
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
    let commit = Commit { publish: records.clone(), progress: BTreeMap::new() };
    match committer.commit(&commit, &Membership::None) {
        Err(CommitError::Unpublishable { record: 1, .. }) => {}
        other => panic!("not the record's index: {other:?}"),
    }
    records.remove(1);
    let commit = Commit { publish: records, progress: BTreeMap::new() };
    committer.commit(&commit, &Membership::None).expect("the committer works on");
    assert_eq!(payloads(&read_all(&cluster, &compacted)), ["0", "2"]);
}

#[test]
fn a_committer_that_let_go_of_its_producer_makes_it_anew() {
    let t = Topics::new(kafka::broker(), 1);
    let cluster = t.cluster("one");
    publish(&cluster, &[record(&t.input, 0), record(&t.input, 1)]);
    let (mut committer, mut source) = t.shard(&cluster, 0);
    for n in 0..2 {
        let (events, membership) = poll_until(&mut source, 1);
        let commit = Commit { publish: vec![record(&t.output, n)], progress: done(&events) };
        committer.commit(&commit, &membership).expect("a commit");
        committer.release();
        source.rewind().expect("offsets that no transaction holds");
    }
    assert_eq!(payloads(&read_all(&cluster, &t.output)), ["0", "1"]);
}

#[test]
fn a_zombie_is_fenced_by_its_successor_which_goes_on() {
    let t = Topics::new(kafka::broker(), 1);
    let cluster = t.cluster("same-name");
    let mut zombie = cluster.committer("h", 0).expect("a committer");
    let commit = |n| Commit { publish: vec![record(&t.output, n)], progress: BTreeMap::new() };
    zombie.commit(&commit(1), &Membership::None).expect("alone");

    let mut successor = cluster.committer("h", 0).expect("a committer");
    match zombie.commit(&commit(2), &Membership::None) {
        Err(CommitError::Fenced(_)) => {}
        other => panic!("not fenced: {other:?}"),
    }
    successor.commit(&commit(3), &Membership::None).expect("the successor goes on");
    assert_eq!(payloads(&read_all(&cluster, &t.output)), ["1", "3"]);
}

#[test]
fn two_processes_with_one_instance_name_are_told_so() {
    let t = Topics::new(kafka::broker(), 1);
    let cluster = t.cluster("same-name");
    let mut one = cluster.committer("h", 0).expect("a committer");
    let mut other = cluster.committer("h", 0).expect("a committer");
    let commit = Commit { publish: vec![record(&t.output, 1)], progress: BTreeMap::new() };
    let mut said = String::new();
    // Who was fenced takes the name back with its next commit.
    for _ in 0..12 {
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

    let commit = Commit { publish: vec![record(&t.output, 1)], progress: done(&events) };
    match committer.commit(&commit, &membership) {
        Err(CommitError::Fenced(_)) => {}
        other => panic!("not fenced: {other:?}"),
    }
    new_committer.commit(&commit, &new_membership).expect("the new owner commits");
    assert_eq!(read_all(&old, &t.output).len(), 1);
}

#[test]
fn an_unknown_topic_ends_the_shard_with_a_remedy() {
    let t = Topics::new(kafka::broker(), 1);
    let cluster = t.cluster("one");
    let mut committer = cluster.committer("h", 0).expect("a committer");
    let commit = Commit { publish: vec![record(&"no-such-topic".into(), 1)], progress: BTreeMap::new() };
    let started = Instant::now();
    match committer.commit(&commit, &Membership::None) {
        Err(CommitError::Fatal(reason)) => assert!(reason.contains("create the topic"), "{reason}"),
        other => panic!("not fatal: {other:?}"),
    }
    assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
}

#[test]
fn keys_payloads_and_headers_survive_the_trip_nulls_included() {
    let t = Topics::new(kafka::broker(), 1);
    round_trip(&t, &t.cluster("one"));
}

#[test]
fn what_is_noted_beside_an_offset_travels_with_it_and_an_abort_leaves_the_notes_before() {
    let t = Topics::new(kafka::broker(), 1);
    let cluster = t.cluster("one");
    publish(&cluster, &(0..5).map(|n| record(&t.input, n)).collect::<Vec<_>>());
    let (mut committer, mut source) = t.shard(&cluster, 0);
    let (events, membership) = poll_until(&mut source, 5);
    let id = events[0].position.topic_partition();
    let mut noted = |metadata: String, publish: Vec<Record>| {
        let progress = BTreeMap::from([(id.clone(), Progress { offset: 2, metadata })]);
        committer.commit(&Commit { publish, progress }, &membership)
    };
    // As much as Kafka takes.
    let most = "n".repeat(4096);
    noted(most.clone(), vec![record(&t.output, 1)]).expect("a commit");
    let mut huge = record(&t.output, 2);
    huge.payload = Some(Bytes::from(vec![b'x'; 3_000_000]));
    noted("of an abort".into(), vec![huge]).expect_err("too large");

    let told = |source: &mut Source| {
        let mut progress = BTreeMap::new();
        let mut events = Vec::new();
        wait_for("events", || {
            let polled = source.poll(10, Duration::from_millis(100)).expect("a poll");
            // Before or with the first event of a partition.
            progress.extend(polled.progress);
            assert!(polled.events.is_empty() || progress.contains_key(&id));
            events.extend(polled.events);
            events.len() == 3
        });
        assert_eq!(payloads(&events), ["2", "3", "4"]);
        progress
    };
    let expected = BTreeMap::from([(id.clone(), Progress { offset: 2, metadata: most })]);
    source.rewind().expect("a rewind");
    assert_eq!(told(&mut source), expected);
    source.close(DEADLINE);
    committer.close(DEADLINE);
    let (_committer, mut successor) = t.shard(&t.cluster("two"), 0);
    assert_eq!(told(&mut successor), expected);
}
