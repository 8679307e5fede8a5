//! The pipeline's topics, as the verbs that read them from outside see them.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use miette::{IntoDiagnostic, miette};

use super::host::Host;
use crate::config::plan::{Brokers, Plan};
use crate::event::{Event, Position, TopicPartition};
use crate::log::LogError;
use crate::log::kafka::{Cluster, ConnectError, Start, Tail};

/// How long no record may come before the broker counts as gone.
const PATIENCE: Duration = Duration::from_secs(30);
/// Records of one batch where the caller doesn't mind.
const BATCH: usize = 10_000;

/// The brokers of the pipeline. Of an embedded one only the host that runs it knows the address: no other is asked.
pub(super) fn connect(url: Option<&str>, plan: &Plan) -> miette::Result<Cluster> {
    match &plan.kafka.brokers {
        Brokers::Addresses(_) => Cluster::connect(&plan.kafka, &plan.name).into_diagnostic(),
        Brokers::Embedded => {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().into_diagnostic()?;
            runtime.block_on(async { Host::new(url, plan)?.running(plan).await })?.cluster(plan)
        }
    }
}

/// The topics of the cluster, from `start` on.
pub(super) fn tail(cluster: &Cluster, topics: &[Arc<str>], start: &Start) -> miette::Result<Tail> {
    cluster.tail(topics, start).map_err(|error| refused(cluster, error))
}

/// These offsets of these partitions.
pub(super) fn within(
    cluster: &Cluster,
    ranges: &BTreeMap<TopicPartition, Range<i64>>,
) -> miette::Result<Tail> {
    cluster.tail_within(ranges).map_err(|error| refused(cluster, error))
}

/// Sees every record that was there when the tail was made. Tells how many, on a terminal, while it reads.
pub(super) fn read_to_the_end(
    tail: &mut Tail,
    cluster: &Cluster,
    mut see: impl FnMut(Event),
) -> miette::Result<u64> {
    let spinner = ProgressBar::new_spinner().with_message("reading");
    let mut read = 0;
    while let Some(events) = batch(tail, cluster, BATCH)? {
        read += events.len() as u64;
        spinner.set_position(read);
        events.into_iter().for_each(&mut see);
    }
    spinner.finish_and_clear();
    Ok(read)
}

/// The next records, at most so many; none once the end was reached that stood when the tail was made.
pub(super) fn batch(tail: &mut Tail, cluster: &Cluster, most: usize) -> miette::Result<Option<Vec<Event>>> {
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
    Err(away(cluster, "the topics' ends can't be reached (if one does answer, a transaction is open there)"))
}

/// The record at this very position, if there is one. The tail gives up what it was reading.
pub(super) fn record(
    tail: &mut Tail,
    cluster: &Cluster,
    position: &Position,
) -> miette::Result<Option<Event>> {
    let alone = BTreeMap::from([(position.topic_partition(), position.offset..position.offset + 1)]);
    tail.turn_to(&alone).map_err(|error| refused(cluster, error))?;
    Ok(batch(tail, cluster, 1)?.and_then(|mut records| records.pop()))
}

/// Why the cluster doesn't do what it was asked for.
pub(super) fn refused(cluster: &Cluster, error: ConnectError) -> miette::Report {
    match error {
        ConnectError::Unavailable(reason) => away(cluster, &reason),
        error => miette!("{error}"),
    }
}

/// The cluster gives no answer.
pub(super) fn away(cluster: &Cluster, reason: &str) -> miette::Report {
    let help = if cluster.is_embedded() {
        "it is the embedded one, and goes with its host: does `wasmill run` still run?"
    } else {
        "start it, or name another with --brokers host:port; TLS and logins stand under [kafka.properties] in \
         pipeline.toml"
    };
    miette!(help = help, "no broker answers at {}: {reason}", cluster.bootstrap())
}
