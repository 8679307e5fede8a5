//! Reading some offsets of some partitions, from outside of any group, on Apache Kafka.

use std::collections::BTreeMap;
use std::time::Duration;

use wasmill::event::{Event, TopicPartition};
use wasmill::log::kafka::{End, Tail};

use crate::common::{kafka, wait_for};
use crate::foreign;
use crate::{Topics, publish, record};

fn read(tail: &mut Tail, events: &mut Vec<Event>) {
    events.extend(tail.poll(1000, Duration::from_millis(100)).expect("a poll"));
}

fn offsets(events: &[Event], partition: i32) -> Vec<i64> {
    let of_it = events.iter().filter(|event| event.position.partition == partition);
    of_it.map(|event| event.position.offset).collect()
}

#[test]
fn what_was_written_is_waited_for_until_its_transaction_ends_and_what_is_committed_is_there() {
    let t = Topics::new(kafka::broker(), 1);
    let cluster = t.cluster("one");
    publish(&cluster, &[record(&t.input, 1)]);
    let held = foreign::hold_record(kafka::broker(), &t.input);
    let extents = |end| {
        cluster
            .offsets(end)
            .and_then(|mut offsets| offsets.extents(std::slice::from_ref(&t.input)))
            .expect("extents")
    };
    let id = TopicPartition { topic: t.input.clone(), partition: 0 };
    // A transaction ends with a marker, which takes an offset.
    let (committed, written) = (extents(End::Committed), extents(End::Written));
    assert_eq!((&committed[&id], &written[&id]), (&(0..2), &(0..3)));

    let mut seen = Vec::new();
    let mut tail = cluster.tail_within(&committed).expect("a tail");
    wait_for("the end", || {
        read(&mut tail, &mut seen);
        tail.caught_up()
    });
    assert_eq!(offsets(&seen, 0), [0]);

    let mut seen = Vec::new();
    let mut tail = cluster.tail_within(&written).expect("a tail");
    wait_for("the first", || {
        read(&mut tail, &mut seen);
        !seen.is_empty()
    });
    for _ in 0..5 {
        read(&mut tail, &mut seen);
    }
    assert!(!tail.caught_up() && seen.len() == 1);
    held.commit();
    wait_for("the end", || {
        read(&mut tail, &mut seen);
        tail.caught_up()
    });
    assert_eq!(offsets(&seen, 0), [0, 2]);
}

#[test]
fn each_partition_is_read_within_its_range_and_no_further() {
    let t = Topics::new(kafka::broker(), 3);
    let cluster = t.cluster("one");
    publish(&cluster, &(0..90).map(|n| record(&t.input, n)).collect::<Vec<_>>());
    let id = |partition| TopicPartition { topic: t.input.clone(), partition };
    let ranges = BTreeMap::from([(id(0), 2..5), (id(1), 0..0), (id(2), 7..9)]);
    let mut seen = Vec::new();
    let mut tail = cluster.tail_within(&ranges).expect("a tail");
    wait_for("the ends", || {
        read(&mut tail, &mut seen);
        tail.caught_up()
    });
    read(&mut tail, &mut seen);
    assert_eq!([0, 1, 2].map(|partition| offsets(&seen, partition)), [vec![2, 3, 4], vec![], vec![7, 8]]);

    let mut alone = cluster.tail_within(&BTreeMap::new()).expect("a tail");
    assert!(alone.caught_up());
    // Forth and back, and the same again.
    for offset in [3, 9, 1, 1, 4] {
        let mut seen = Vec::new();
        alone.turn_to(&BTreeMap::from([(id(0), offset..offset + 1)])).expect("another range");
        wait_for("the record", || {
            read(&mut alone, &mut seen);
            alone.caught_up()
        });
        assert_eq!(offsets(&seen, 0), [offset]);
    }
}
