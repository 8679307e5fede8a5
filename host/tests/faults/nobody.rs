//! A broker says that there are no brokers, as the only one of a cluster does while its controller takes it for gone.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use wasmill::event::Record;
use wasmill::log::kafka::Start;
use wasmill::log::{Publish as _, Source as _};

use crate::common::wait_for;
use crate::proxied::Proxied;
use crate::proxy::Weather;

/// librdkafka would reach nobody any more (its issue 5301).
#[test]
fn who_is_told_that_there_is_no_broker_finds_it_again() {
    // While librdkafka reads of so many partitions, its thread for the broker ends: that order of the two is the deadly one.
    let kafka = Proxied::start(300);
    let (proxy, behind) = (&kafka.proxy, &kafka.cluster);
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
    // A member that nobody heard of for a while is assigned its partitions anew, and gets again what it hasn't committed.
    let (mut polled, mut tailed) = (BTreeSet::new(), 0);
    let mut reads = |what: &str, count: usize| {
        wait_for(what, || {
            let events =
                source.poll(10, Duration::from_millis(50)).map_or_else(|_| vec![], |polled| polled.events);
            polled.extend(events.into_iter().map(|event| event.position));
            tailed += tail.poll(10, Duration::from_millis(50)).map_or(0, |events| events.len());
            (polled.len(), tailed) == (count, count)
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
