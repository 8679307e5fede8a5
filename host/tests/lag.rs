//! The lag that a host tells: what waits, and nothing once all is done, whatever markers transactions leave behind.

mod common;

use std::fs;

use common::host::{Host, Pipeline, subscriber};
use common::kafka::Broker;
use common::orders::{cluster, publish, read};
use common::{built_guest, http, wait_for};
use wasmill::event::Record;
use wasmill::log::kafka::{End, Membership};
use wasmill::log::{Commit, Committer};

/// Nothing is tried again while the test runs.
const PIPELINE: &str = r#"
name = "lag"
kafka = { brokers = "embedded", partitions = 2 }
http = { listen = "${WASMILL_LISTEN}" }

[handlers.fate]
component = "fate.wasm"
subscribe = ["in"]
publish = ["out"]
retry = { backoff = "5m..5m" }

[handlers.echo]
component = "echo.wasm"
subscribe = ["out"]
publish = ["end"]
"#;

/// More than is held of a partition before it is paused.
const MANY: u64 = 12_000;

#[test]
fn what_waits_is_counted_by_who_owns_it_and_what_is_done_by_nobody() {
    let kafka = Broker::start_empty();
    let pipeline = Pipeline::written(PIPELINE);
    for guest in ["fate", "echo"] {
        pipeline.put(&format!("{guest}.wasm"), &fs::read(built_guest(guest)).unwrap());
    }
    let start = |instance: &str| {
        let mut host = Host::start(&pipeline, &kafka.address, instance, &[]);
        host.ready();
        host
    };
    let one = start("one");
    let nothing = |host: &Host| lag(host, "fate", "in") == Some(0) && lag(host, "echo", "out") == Some(0);
    wait_for("knowledge that there is nothing", || nothing(&one));

    // All done: the topic between the two ends with markers.
    publish(&kafka.address, "in", (0..100).map(|n| (format!("k{}", n % 10), format!("{n}"))));
    wait_for("all events at the end", || read(&kafka.address, "end").len() == 100);
    let mut offsets = cluster(&kafka.address).offsets(End::Written).unwrap();
    let written: i64 = offsets.extents(&["out".into()]).unwrap().values().map(|extent| extent.end).sum();
    assert!(written > 100, "{written} offsets: no marker");
    wait_for("a lag of 0", || nothing(&one));

    // A key that waits, and what waits behind it.
    publish(&kafka.address, "in", [("stuck".into(), "retry".into())]);
    publish(&kafka.address, "in", (0..20).map(|n| ("stuck".into(), format!("{n}"))));
    publish(&kafka.address, "in", (0..20).map(|n| (format!("k{n}"), format!("{n}"))));
    wait_for("a lag of 21", || lag(&one, "fate", "in") == Some(21) && lag(&one, "echo", "out") == Some(0));

    // More of it than is held: the partition is paused, and its end moves on all the same.
    let record = |n| Record {
        topic: "in".into(),
        key: Some("stuck".into()),
        payload: Some(format!("{n}").into()),
        headers: vec![],
    };
    let commit = Commit { publish: (0..MANY).map(record).collect(), ..Commit::default() };
    let mut committer = cluster(&kafka.address).committer("test-input", 0).unwrap();
    committer.commit(&commit, &Membership::None).unwrap();
    // The marker of that transaction, if it is not read yet.
    let all = 21 + MANY..=22 + MANY;
    let is_all = |lag: Option<u64>| lag.is_some_and(|lag| all.contains(&lag));
    wait_for("the lag of a paused partition", || is_all(lag(&one, "fate", "in")));
    let sample = |name: &str| {
        let metrics = http::get(&one.url("/metrics")).unwrap().body;
        let line = metrics.lines().find(|line| line.starts_with(name) && line.contains("\"fate\"")).unwrap();
        line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap() as u64
    };
    assert!(is_all(Some(sample("wasmill_lag{"))) && is_all(Some(sample("wasmill_lag_largest_partition{"))));
    // What is full is told once a second, and the lag by somebody else.
    wait_for("the partition that is full", || sample("wasmill_full_partitions{") == 1);

    // Two hosts: each tells of its own partition.
    let two = start("two");
    wait_for("two lags that are one", || {
        let (one, two) = (lag(&one, "fate", "in"), lag(&two, "fate", "in"));
        one.is_some() && two.is_some() && is_all(Some(one.unwrap() + two.unwrap()))
    });
    assert!(lag(&one, "fate", "in") == Some(0) || lag(&two, "fate", "in") == Some(0));

    // Who begins anew knows how much is left before it has looked at it, and that nothing is.
    for host in [one, two] {
        assert!(host.stop("TERM").0.success());
    }
    let three = start("three");
    wait_for("the lag after a restart", || {
        is_all(lag(&three, "fate", "in")) && lag(&three, "echo", "out") == Some(0)
    });
}

/// None where it isn't known.
fn lag(host: &Host, name: &str, topic: &str) -> Option<u64> {
    subscriber(&host.status()?, name)["lag"][topic]["events"].as_u64()
}
