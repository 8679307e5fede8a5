//! The group's coordinator can't be found in the midst of a transaction.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use wasmill::log::kafka::Membership;
use wasmill::log::{Commit, Committer as _, Progress, Source as _};

use crate::common::wait_for;
use crate::proxied::Proxied;
use crate::proxy::{FIND_COORDINATOR, Weather};

/// librdkafka would wait for ever (its issue 5456).
#[test]
fn a_commit_is_refused_in_time_when_nobody_says_where_the_groups_coordinator_is() {
    let kafka = Proxied::start(1);
    let (proxy, behind) = (&kafka.proxy, &kafka.cluster);
    let mut committer = behind.committer("h", 0).unwrap();
    let mut source = behind.source("g", "h", 0, &["in".into()]).unwrap();
    let mut commit = Commit::default();
    wait_for("the event", || {
        for event in source.poll(10, Duration::from_millis(100)).unwrap().events {
            let done = Progress { offset: event.position.offset + 1, metadata: String::new() };
            commit.progress = BTreeMap::from([(event.position.topic_partition(), done)]);
        }
        !commit.is_empty()
    });
    let membership = source.membership();
    assert!(matches!(membership, Membership::Generation(_)));
    let before = proxy.lost();
    proxy.weather(Weather::Without(FIND_COORDINATOR));
    let started = Instant::now();
    let refused = committer.commit(&commit, &membership).unwrap_err();
    assert!(started.elapsed() < Duration::from_secs(25), "{refused} after {:?}", started.elapsed());
    assert!(proxy.lost() > before, "{refused}");

    proxy.weather(Weather::Fair);
    wait_for("a commit", || {
        committer.recover().is_ok() && committer.commit(&commit, &source.membership()).is_ok()
    });
}
