//! Who waits for its client: connections for the next request, requests for the rest of their bodies.
//!
//! Each takes one of a bounded number of places, and clients that send slowly or not at all could hold them all
//! until their deadlines. So where a place is wanted and none is free, the one that has waited longest is cut, if it has
//! had its fair chance.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// So long nobody is cut: far longer than a client takes that means to send.
const CHANCE: Duration = Duration::from_secs(1);

/// Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Waiting(Arc<Mutex<All>>);

#[derive(Default)]
struct All {
    next: u64,
    /// In the order in which they began.
    waits: BTreeMap<u64, (Instant, Arc<Notify>)>,
}

/// One that waits, until it is dropped.
pub(super) struct Wait {
    all: Waiting,
    number: u64,
    cut: Arc<Notify>,
}

impl Waiting {
    pub(super) fn begin(&self) -> Wait {
        let cut = Arc::new(Notify::new());
        let mut all = self.lock();
        let number = all.next;
        all.next += 1;
        all.waits.insert(number, (Instant::now(), cut.clone()));
        drop(all);
        Wait { all: self.clone(), number, cut }
    }

    /// Whether there was one to cut.
    pub(super) fn cut_longest(&self) -> bool {
        let mut all = self.lock();
        match all.waits.first_entry() {
            Some(first) if first.get().0.elapsed() >= CHANCE => {
                let (_, cut) = first.remove();
                cut.notify_one();
                true
            }
            Some(_) | None => false,
        }
    }

    fn lock(&self) -> MutexGuard<'_, All> {
        // Nothing panics while it holds the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wait {
    /// Completes when its place is wanted.
    pub(super) async fn cut(&self) {
        self.cut.notified().await;
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        self.all.lock().waits.remove(&self.number);
    }
}
