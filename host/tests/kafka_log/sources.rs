//! The polling half on Apache Kafka: what a member gets, keeps and hands over.

use std::time::{Duration, Instant};

use bytes::Bytes;
use wasmill::event::{Header, Record, TopicPartition};
use wasmill::log::kafka::Membership;
use wasmill::log::{LogError, Source as _};

use crate::common::{DEADLINE, kafka, wait_for};
use crate::foreign;
use crate::{Topics, payloads, poll_until, publish, read_all, record};

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
fn a_poll_is_bounded_in_bytes_too_be_they_payload_or_headers() {
    let megabyte = || Bytes::from(vec![b'x'; 1_000_000]);
    let in_payload = |record: Record| Record { payload: Some(megabyte()), ..record };
    let in_header = |record: Record| Record { headers: vec![Header::new("h", megabyte())], ..record };
    bounds_a_poll(in_payload);
    bounds_a_poll(in_header);
}

fn bounds_a_poll(large: impl Fn(Record) -> Record) {
    let t = Topics::new(kafka::broker(), 1);
    // Room for all of them: it is the poll that has a bound.
    let cluster = t.cluster_with("one", &[("queued.max.messages.kbytes", "65536")]);
    publish(&cluster, &(0..40).map(|n| large(record(&t.input, n))).collect::<Vec<_>>());
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
fn a_poll_does_not_wait_to_fill_a_batch() {
    let t = Topics::new(kafka::broker(), 1);
    let cluster = t.cluster("one");
    publish(&cluster, &[record(&t.input, 1)]);
    let (_committer, mut source) = t.shard(&cluster, 0);
    poll_until(&mut source, 1);
    publish(&cluster, &[record(&t.input, 2)]);
    let started = Instant::now();
    let polled = source.poll(1000, DEADLINE).expect("a poll");
    assert_eq!(payloads(&polled.events), ["2"]);
    assert!(started.elapsed() < DEADLINE / 2, "{:?}", started.elapsed());
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
    // Below the session timeout of 6 s.
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
fn a_partition_that_comes_back_after_a_rebalance_is_not_paused_any_more() {
    let t = Topics::new(kafka::broker(), 1);
    let (_c1, mut first) = t.shard(&t.cluster("a"), 0);
    publish(&t.cluster("a"), &[record(&t.input, 0)]);
    poll_until(&mut first, 1);
    first.pause(&[TopicPartition { topic: t.input.clone(), partition: 0 }]).expect("a pause");

    // Another member makes all partitions be given away anew.
    let (_c2, mut second) = t.shard(&t.cluster("b"), 0);
    let mut events = 0;
    wait_for("a rebalance", || {
        let polled = first.poll(10, Duration::from_millis(50)).expect("a poll");
        events +=
            polled.events.len() + second.poll(10, Duration::from_millis(50)).expect("a poll").events.len();
        !polled.forgotten.is_empty()
    });
    // Nothing was committed, so whoever has the partition by now gets its event.
    wait_for("the event", || {
        for source in [&mut first, &mut second] {
            events += source.poll(10, Duration::from_millis(50)).expect("a poll").events.len();
        }
        events > 0
    });
}

/// Of partitions of which nothing was committed yet, nothing would tell what is missing.
#[test]
fn what_a_rebalance_gives_in_the_middle_of_a_rewind_is_read_from_its_beginning() {
    let t = Topics::new(kafka::broker(), 2);
    let (_c1, mut first) = t.shard(&t.cluster("a"), 0);
    publish(&t.cluster("a"), &(0..20).map(|n| record(&t.input, n)).collect::<Vec<_>>());
    poll_until(&mut first, 20);

    let (_c2, mut second) = t.shard(&t.cluster("b"), 0);
    wait_for("one each", || {
        second.poll(1, Duration::from_millis(50)).expect("a poll");
        first.rewind().is_ok() && first.positions().len() == 1
    });
    let (kept, _) = first.positions().pop_first().expect("a partition");
    let all = read_all(&t.cluster("a"), &t.input).into_iter().map(|event| event.position);
    let all: Vec<_> = all.filter(|position| position.partition == kept.partition).collect();
    assert!(all.len() > 3, "{all:?}");
    let mut told = Vec::new();
    wait_for("its events", || {
        let polled = first.poll(3, Duration::from_millis(50)).expect("a poll");
        told.extend(polled.events.into_iter().map(|event| event.position));
        told.len() >= all.len()
    });
    assert_eq!(told, all);
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
