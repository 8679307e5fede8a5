//! A link that is too slow for what the host would commit at once.

use std::time::{Duration, Instant};

use wasmill::config::plan::{TopicKind, TopicPlan};
use wasmill::event::{Now, now_ms};
use wasmill::shard::{Shard, Turn};

use crate::common::copies::{Copy, identity};
use crate::common::host::until;
use crate::common::orders::{publish, read};
use crate::proxied::Proxied;
use crate::proxy::Weather;

/// Of each event.
const BYTES: usize = 10_000;
const EVENTS: usize = 150;
/// librdkafka fetches 1 MB at once, which takes longer than the 6 s that records may stay without an acknowledgement.
const BYTES_PER_SECOND: u32 = 100_000;

#[test]
fn what_a_slow_link_does_not_take_at_once_goes_out_in_parts() {
    let kafka = Proxied::start(1);
    let topics = ["out", "copy.dlq"].map(|name| TopicPlan {
        name: name.into(),
        partitions: 1,
        replication: 1,
        kind: TopicKind::Events,
    });
    kafka.cluster.ensure_topics(&topics).unwrap();
    let payload = |number: usize| format!("{number} {}", "x".repeat(BYTES));
    publish(&kafka.direct, "in", (0..EVENTS).map(|number| ("k".into(), payload(number))));
    let (commits, source) = kafka.cluster.shard("g", "copy", 0, &["in".into()]).unwrap();
    let mut shard = Shard::new(identity(), 1000, source, commits, Copy, 1);
    kafka.proxy.weather(Weather::Narrow(BYTES_PER_SECOND));

    let (mut refused, mut done) = (Vec::new(), 0);
    let started = Instant::now();
    let now = || Now { monotonic: started.elapsed(), wall_ms: now_ms() };
    let all = until(Duration::from_secs(120), || {
        match shard.turn(&now).unwrap() {
            Turn::Went(tally) => done += tally.outputs,
            Turn::Refused { reason, .. } => refused.push(reason),
        }
        // And the one that `Proxied` has published.
        done > EVENTS as u64
    });
    assert!(all.is_ok(), "{done} went out, the rest was refused: {refused:#?}");
    assert!(!refused.is_empty(), "the link took all at once, which shows nothing");
    let outputs = read(&kafka.direct, "out");
    let numbers: Vec<usize> = outputs[1..]
        .iter()
        .map(|event| str::from_utf8(event.payload.as_deref().unwrap()).unwrap())
        .map(|payload| payload.split(' ').next().unwrap().parse().unwrap())
        .collect();
    assert_eq!(numbers, (0..EVENTS).collect::<Vec<_>>());
    println!("all out after {:.1?}; refused: {refused:#?}", started.elapsed());
}
