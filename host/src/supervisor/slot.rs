//! What the shards of a handler run: put in by the deployer, taken up by each shard between two batches.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::signal::Signal;
use crate::config::plan::HandlerPlan;
use crate::guest::Version;

/// A component, and what the plan says about running it.
#[derive(Clone)]
pub(super) struct Deployed {
    pub(super) plan: HandlerPlan,
    pub(super) version: Version,
    /// Given when the topics that it publishes to are there: until then the one before goes on.
    pub(super) topics: Signal,
}

/// Shared by the shards of a handler.
#[derive(Clone)]
pub(super) struct Slot(Arc<Inner>);

struct Inner {
    /// Counts what was put in, so that a shard sees at a glance that there is nothing new.
    count: AtomicU64,
    held: Mutex<Held>,
}

struct Held {
    runs: Arc<Deployed>,
    /// What takes its place when its topics are there.
    next: Option<Arc<Deployed>>,
}

impl Slot {
    pub(super) fn new(deployed: Deployed) -> Self {
        let held = Mutex::new(Held { runs: Arc::new(deployed), next: None });
        Self(Arc::new(Inner { count: AtomicU64::new(1), held }))
    }

    pub(super) fn put(&self, deployed: Deployed) {
        let mut held = self.0.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.next = Some(Arc::new(deployed));
        held.settle();
        self.0.count.fetch_add(1, Ordering::Release);
    }

    /// A reader that has taken nothing yet.
    pub(super) fn reader(&self) -> Reader {
        Reader { slot: self.clone(), seen: 0, taken: None }
    }
}

impl Held {
    fn settle(&mut self) {
        if let Some(next) = self.next.take_if(|next| next.topics.given()) {
            self.runs = next;
        }
    }
}

/// One shard's view of a slot.
pub(super) struct Reader {
    slot: Slot,
    seen: u64,
    taken: Option<Arc<Deployed>>,
}

impl Reader {
    /// What is to run, if that is not what was taken the last time.
    pub(super) fn take_new(&mut self) -> Option<Arc<Deployed>> {
        // Counted before it is read: what is put in between is looked at twice, never left out.
        let count = self.slot.0.count.load(Ordering::Acquire);
        if count == self.seen {
            return None;
        }
        let mut held = self.slot.0.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.settle();
        if held.next.is_none() {
            self.seen = count;
        }
        if self.taken.as_ref().is_some_and(|taken| Arc::ptr_eq(taken, &held.runs)) {
            return None;
        }
        self.taken = Some(held.runs.clone());
        self.taken.clone()
    }
}
