//! What turns amounted to, for the status.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use crate::event::{Failure, FailureKind, Position};
use crate::histogram::Histogram;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Events that ran, each try counted.
    pub events: u64,
    pub retries: u64,
    /// Records in the commit, dead letters not counted.
    pub outputs: u64,
    pub dead_letters: u64,
    /// Transactions.
    pub commits: u64,
    /// Of each partition that a version had run nothing of before: its digest, and the first event that it ran. An earlier
    /// one may wait for its next try, which is that version's as well.
    pub begun: Vec<(Arc<str>, Position)>,
    /// The last one.
    pub failed: Option<FailedEvent>,
    pub figures: Box<Figures>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedEvent {
    pub position: Position,
    /// The id of its trace, if it has one.
    pub trace: Option<String>,
    pub failure: Failure,
}

/// How large things were, and how long they took.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Figures {
    /// Events of a batch that ran.
    pub batch_events: Histogram,
    /// Microseconds that the handler took for a batch.
    pub handling_us: Histogram,
    /// Microseconds from when a transaction was handed over to its answer.
    pub commit_us: Histogram,
    /// Microseconds from when an HTTP request came to when what came of its event was committed here.
    pub since_request_us: Histogram,
    /// Events that failed, each try counted.
    pub failures: BTreeMap<FailureKind, u64>,
}

impl Tally {
    /// What came after it.
    pub(super) fn add(&mut self, later: Self) {
        let Self { events, retries, outputs, dead_letters, commits, begun, failed, figures } = later;
        self.events += events;
        self.retries += retries;
        self.outputs += outputs;
        self.dead_letters += dead_letters;
        self.commits += commits;
        self.begun.extend(begun);
        self.failed = failed.or(self.failed.take());
        self.figures.add(&figures);
    }
}

impl Figures {
    pub fn add(&mut self, later: &Self) {
        let Self { batch_events, handling_us, commit_us, since_request_us, failures } = later;
        self.batch_events.add(batch_events);
        self.handling_us.add(handling_us);
        self.commit_us.add(commit_us);
        self.since_request_us.add(since_request_us);
        failures.iter().for_each(|(kind, count)| *self.failures.entry(*kind).or_default() += count);
    }
}
