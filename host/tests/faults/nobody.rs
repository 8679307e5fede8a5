//! A broker says that there are no brokers, as the only one of a cluster does while its controller takes it for gone.

use std::fs;
use std::time::{Duration, Instant};

use wasmill::config::plan::{TopicKind, TopicPlan};
use wasmill::event::Record;
use wasmill::log::kafka::Start;
use wasmill::log::{Publish as _, Source as _};

use crate::common::kafka::{Broker, free_port};
use crate::common::orders::{cluster, publish};
use crate::common::wait_for;
use crate::mill::listeners;
use crate::proxy::{Proxy, Weather};

/// librdkafka would reach nobody any more (its issue 5301).
#[test]
fn who_is_told_that_there_is_no_broker_finds_it_again() {
    let folder = tempfile::tempdir().unwrap();
    let (port, behind) = (free_port(), free_port());
    let proxy = Proxy::to(behind);
    let properties = folder.path().join("properties");
    fs::write(&properties, listeners(port, behind, &proxy)).unwrap();
    let kafka = Broker::start_with_properties(&folder.path().join("data"), port, &properties);
    // While librdkafka reads of so many partitions, its thread for the broker ends: that order of the two is the deadly one.
    let topic = TopicPlan { name: "in".into(), partitions: 300, replication: 1, kind: TopicKind::Events };
    cluster(&kafka.address).ensure_topics(&[topic]).unwrap();
    publish(&kafka.address, "in", [("k".into(), "1".into())]);

    let behind = cluster(&format!("127.0.0.1:{}", proxy.port));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let publisher = behind.publisher(Duration::from_secs(20)).unwrap();
    let publish = || {
        let (key, payload) = (Some("k".into()), Some("2".into()));
        let record = Record { topic: "in".into(), key, payload, headers: vec![] };
        runtime.block_on(publisher.publish(record, Duration::from_secs(20)))
    };
    let mut source = behind.source("g", "h", 0, &["in".into()]).unwrap();
    let mut tail = behind.tail(&["in".into()], &Start::Beginning).unwrap();
    let prober = behind.prober().unwrap();
    publish().unwrap();
    let (mut polled, mut tailed) = (0, 0);
    let mut reads = |what: &str, count: usize| {
        wait_for(what, || {
            polled += source.poll(10, Duration::from_millis(50)).map_or(0, |polled| polled.events.len());
            tailed += tail.poll(10, Duration::from_millis(50)).map_or(0, |events| events.len());
            (polled, tailed) == (count, count)
        });
    };
    reads("both events", 2);
    prober.ping(Duration::from_secs(5)).unwrap();

    proxy.weather(Weather::Nobody);
    // Each of them asks once in 5 s.
    let before = proxy.lost();
    let since = Instant::now();
    while since.elapsed() < Duration::from_secs(7) {
        let _ = prober.ping(Duration::from_millis(200));
    }
    assert!(proxy.lost() >= before + 4, "{} asked", proxy.lost() - before);
    proxy.weather(Weather::Fair);

    publish().unwrap();
    reads("the third event", 3);
    wait_for("the prober", || prober.ping(Duration::from_secs(1)).is_ok());
}
