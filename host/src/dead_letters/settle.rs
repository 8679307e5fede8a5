//! Dead letters are put back, or let go: which, how many, how fast.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::thread;
use std::time::{Duration, Instant};

use miette::miette;

use super::letter::Failed;
pub(crate) use super::settling::Report;
use super::settling::Settling;
use super::{Subscriber, marks};
use crate::config::plan::{TopicKind, TopicPlan};
use crate::event::{Event, Position, TopicPartition};
use crate::log::Committer as _;
use crate::log::kafka::Cluster;
use crate::reading;

/// Letters of one transaction, at most.
const BATCH: usize = 100;
/// How often an event is put back, if nothing else is said.
pub(crate) const MAX_REDRIVES: u32 = 3;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// What was put back `max` times already stays.
    Redrive { max: u32 },
    /// The reason is kept beside the letter's position.
    Discard { reason: String },
}

/// Which dead letters of a handler or sink: those that all of it chooses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// That failed so.
    pub cause: Option<String>,
    /// Of this key, as text.
    pub key: Option<String>,
    /// That stand there; anywhere if there are none.
    pub at: Vec<Position>,
    /// So many, at most.
    pub limit: Option<usize>,
    /// Changes nothing.
    pub dry_run: bool,
    /// A second, at most.
    pub rate: Option<u32>,
}

impl Wanted {
    /// # Errors
    ///
    /// When one that is asked for by its position is somebody else's.
    pub(crate) fn are_of(&self, subscriber: &Subscriber<'_>) -> miette::Result<()> {
        match self.at.iter().find(|position| position.topic != *subscriber.dead_letter) {
            Some(elsewhere) => Err(miette!(
                help = "`wasmill dlq ls` tells where dead letters stand",
                "{elsewhere} is no dead letter of `{}`: those are in {}",
                subscriber.name,
                subscriber.dead_letter
            )),
            None => Ok(()),
        }
    }

    fn takes(&self, letter: &Event) -> bool {
        self.cause.as_ref().is_none_or(|cause| Failed::of(letter).cause() == cause)
            && self.key.as_ref().is_none_or(|key| letter.key.as_deref() == Some(key.as_bytes()))
            && (self.at.is_empty() || self.at.contains(&letter.position))
    }
}

/// Of the letters in `ranges` those that `takes` lets through, and `wanted` wants. `goes_on` hears how many are done so far, and
/// tells whether to go on.
pub(crate) fn settle(
    cluster: &Cluster,
    subscriber: &Subscriber<'_>,
    act: &Act,
    wanted: &Wanted,
    ranges: &BTreeMap<TopicPartition, Range<i64>>,
    takes: impl Fn(&Event) -> bool,
    goes_on: impl Fn(u64) -> bool,
) -> miette::Result<Report> {
    let marks = marks::topic(subscriber.dead_letter);
    let refused = |error| reading::refused(cluster, error);
    let committer = if wanted.dry_run {
        None
    } else {
        let (name, replication) = (marks.clone(), subscriber.replication);
        let topic = TopicPlan { name, partitions: 1, replication, kind: TopicKind::Marks };
        cluster.ensure_topics(&[topic]).map_err(refused)?;
        Some(cluster.only_committer(&marks).map_err(refused)?)
    };
    let mut settling = Settling::begin(cluster, marks, ranges, subscriber, act, committer)?;
    let mut tail = reading::within(cluster, ranges)?;
    let mut unmet: BTreeSet<&Position> = wanted.at.iter().collect();
    let mut left = wanted.limit.unwrap_or(usize::MAX);
    let batch = wanted.rate.map_or(BATCH, |rate| (rate as usize / 10).clamp(1, BATCH));
    while let Some(letters) = reading::batch(&mut tail, cluster, batch)? {
        if !goes_on(settling.report.count) {
            settling.report.stopped = true;
            break;
        }
        let (chosen, others): (Vec<Event>, Vec<Event>) = letters
            .into_iter()
            .partition(|letter| takes(letter) && wanted.takes(letter) && subscriber.has(letter));
        for letter in &chosen {
            unmet.remove(&letter.position);
        }
        for letter in &others {
            if unmet.remove(&letter.position) {
                let why = if subscriber.has(letter) {
                    "it is none of those that the other options choose"
                } else {
                    "it is another handler's or sink's"
                };
                settling.report.fail(&letter.position, why);
            }
        }
        let (begun, before) = (Instant::now(), settling.report.count);
        settling.settle(chosen.into_iter(), left)?;
        let done = settling.report.count - before;
        left -= usize::try_from(done).unwrap_or(left).min(left);
        if left == 0 {
            break;
        }
        if let Some(rate) = wanted.rate.filter(|_| !wanted.dry_run) {
            let due = Duration::from_secs_f64(done as f64 / f64::from(rate));
            thread::sleep(due.saturating_sub(begun.elapsed()));
        }
    }
    let Settling { mut report, committer, .. } = settling;
    if left > 0 && !report.stopped {
        unmet.into_iter().for_each(|position| report.fail(position, "there is no such record there"));
    }
    report.dry_run = wanted.dry_run;
    if let Some(committer) = committer {
        committer.close(Duration::from_secs(4));
    }
    Ok(report)
}
