//! The pipeline's topics, read from outside: no consumer group, and not past the end that stood at the beginning.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use miette::{IntoDiagnostic, miette};

use crate::event::{Event, Position, TopicPartition};
use crate::log::LogError;
use crate::log::kafka::{Cluster, ConnectError, Start, Tail};

/// How long no record may come before the broker counts as gone.
const PATIENCE: Duration = Duration::from_secs(30);
/// Records of one batch where the caller doesn't mind.
const BATCH: usize = 10_000;

/// The topics of the cluster, from `start` on.
pub(crate) fn tail(cluster: &Cluster, topics: &[Arc<str>], start: &Start) -> miette::Result<Tail> {
    cluster.tail(topics, start).map_err(|error| refused(cluster, error))
}

/// These offsets of these partitions.
pub(crate) fn within(
    cluster: &Cluster,
    ranges: &BTreeMap<TopicPartition, Range<i64>>,
) -> miette::Result<Tail> {
    cluster.tail_within(ranges).map_err(|error| refused(cluster, error))
}

/// Sees every record that was there when the tail was made, and tells how many there were so far.
pub(crate) fn read_to_the_end(
    tail: &mut Tail,
    cluster: &Cluster,
    mut see: impl FnMut(Event),
    progress: impl Fn(u64),
) -> miette::Result<u64> {
    let mut read = 0;
    while let Some(events) = batch(tail, cluster, BATCH)? {
        read += events.len() as u64;
        progress(read);
        events.into_iter().for_each(&mut see);
    }
    Ok(read)
}

/// The next records, at most so many; none once the end was reached that stood when the tail was made.
pub(crate) fn batch(tail: &mut Tail, cluster: &Cluster, most: usize) -> miette::Result<Option<Vec<Event>>> {
    let started = Instant::now();
    while started.elapsed() < PATIENCE {
        // The poll that meets the end may bring records all the same.
        if tail.caught_up() {
            return Ok(None);
        }
        match tail.poll(most, Duration::from_millis(100)) {
            Ok(events) if !events.is_empty() => return Ok(Some(events)),
            Ok(_) | Err(LogError::Unavailable(_)) => {}
            Err(error @ LogError::Fatal(_)) => return Err(error).into_diagnostic(),
        }
    }
    match cluster.existing(&[]) {
        Ok(_) => Err(miette!(
            help = "whoever began it ends it, or the broker does, after its transaction.timeout.ms",
            "the ends of the topics can't be reached: a transaction is open there"
        )),
        Err(error) => Err(refused(cluster, error)),
    }
}

/// This one offset.
pub(crate) fn alone(position: &Position) -> BTreeMap<TopicPartition, Range<i64>> {
    BTreeMap::from([(position.topic_partition(), position.offset..position.offset + 1)])
}

/// The record at this very position, if there is one. The tail gives up what it was reading.
pub(crate) fn record(
    tail: &mut Tail,
    cluster: &Cluster,
    position: &Position,
) -> miette::Result<Option<Event>> {
    tail.turn_to(&alone(position)).map_err(|error| refused(cluster, error))?;
    Ok(batch(tail, cluster, 1)?.and_then(|mut records| records.pop()))
}

/// Why the cluster doesn't do what it was asked for.
pub(crate) fn refused(cluster: &Cluster, error: ConnectError) -> miette::Report {
    match error {
        ConnectError::Unavailable(reason) => away(cluster, &reason),
        error => miette!("{error}"),
    }
}

/// The cluster gives no answer.
pub(crate) fn away(cluster: &Cluster, reason: &str) -> miette::Report {
    let help = if cluster.is_embedded() {
        "it is the embedded one, and goes with its host: does `wasmill run` still run?"
    } else {
        "start it, or name another with --brokers host:port; TLS and logins stand under [kafka.properties] in \
         pipeline.toml"
    };
    miette!(help = help, "no broker answers at {}: {reason}", cluster.bootstrap())
}
