//! What the shards of a handler run: put in by the deployer, taken up by each shard between two batches.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::signal::Signal;
use crate::config::plan::HandlerPlan;
use crate::guest::Version;

/// A component, and what the plan says about running it.
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
    deployed: Mutex<Arc<Deployed>>,
}

impl Slot {
    pub(super) fn new(deployed: Deployed) -> Self {
        Self(Arc::new(Inner { count: AtomicU64::new(1), deployed: Mutex::new(Arc::new(deployed)) }))
    }

    pub(super) fn put(&self, deployed: Deployed) {
        *self.0.deployed.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(deployed);
        self.0.count.fetch_add(1, Ordering::Release);
    }

    /// A reader that has taken nothing yet.
    pub(super) fn reader(&self) -> Reader {
        Reader { slot: self.clone(), taken: 0 }
    }
}

/// One shard's view of a slot.
pub(super) struct Reader {
    slot: Slot,
    taken: u64,
}

impl Reader {
    /// What was put in since the last time, if anything was.
    pub(super) fn take_new(&mut self) -> Option<Arc<Deployed>> {
        // Counted before it is read: what is put in between is taken twice, never left out.
        let count = self.slot.0.count.load(Ordering::Acquire);
        if count == self.taken {
            return None;
        }
        let deployed = self.slot.0.deployed.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if !deployed.topics.given() {
            return None;
        }
        self.taken = count;
        Some(deployed)
    }
}
