//! How a host's threads learn that something is over: that it is time to end, or that another one has ended.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::watch;

use crate::log::Waker;

/// How late a stop is noticed by who waits for something else.
const GLANCE: Duration = Duration::from_millis(100);

/// Given once, seen by everyone who holds a clone. What is given to a signal is given to those that came from it.
#[derive(Clone)]
pub(super) struct Signal(Arc<Inner>);

struct Inner {
    state: Mutex<State>,
    /// For threads that wait; the channel is for tasks.
    changed: Condvar,
    told: watch::Sender<bool>,
}

#[derive(Default)]
struct State {
    given: bool,
    children: Vec<Weak<Inner>>,
    wakers: Vec<Weak<dyn Fn() + Send + Sync>>,
}

impl Default for Signal {
    fn default() -> Self {
        let (state, changed) = (Mutex::default(), Condvar::new());
        Self(Arc::new(Inner { state, changed, told: watch::Sender::new(false) }))
    }
}

impl Signal {
    /// For what there is nothing to wait for.
    pub(super) fn already_given() -> Self {
        let signal = Self::default();
        signal.give();
        signal
    }

    /// One that is given alone, or with this one.
    pub(super) fn child(&self) -> Self {
        let child = Self::default();
        let mut state = self.lock();
        state.children.retain(|child| child.strong_count() > 0);
        state.children.push(Arc::downgrade(&child.0));
        if state.given {
            child.give();
        }
        drop(state);
        child
    }

    /// Who waits for something else is woken by this when it is given, as long as somebody holds it.
    pub(super) fn wakes(&self, waker: &Waker) {
        let mut state = self.lock();
        state.wakers.retain(|waker| waker.strong_count() > 0);
        state.wakers.push(Arc::downgrade(waker));
        if state.given {
            drop(state);
            waker();
        }
    }

    pub(super) fn give(&self) {
        let mut state = self.lock();
        state.given = true;
        let children = std::mem::take(&mut state.children);
        let wakers = std::mem::take(&mut state.wakers);
        drop(state);
        self.0.told.send_replace(true);
        self.0.changed.notify_all();
        wakers.iter().filter_map(Weak::upgrade).for_each(|waker| waker());
        for child in children.iter().filter_map(Weak::upgrade) {
            Self(child).give();
        }
    }

    pub(super) fn given(&self) -> bool {
        self.lock().given
    }

    /// Waits until it is given, or `timeout` is over; tells which.
    pub(super) fn wait(&self, timeout: Duration) -> bool {
        let (state, _) = self
            .0
            .changed
            .wait_timeout_while(self.lock(), timeout, |state| !state.given)
            .unwrap_or_else(PoisonError::into_inner);
        state.given
    }

    /// Waits until it is given, or `stop` is; tells whether it was. For what comes in its own time.
    pub(super) fn wait_unless(&self, stop: &Self) -> bool {
        while !self.wait(GLANCE) {
            if stop.given() {
                return false;
            }
        }
        true
    }

    /// Completes when it is given.
    pub(super) async fn come(self) {
        let mut told = self.0.told.subscribe();
        // Fails only when the sender is gone, and `self` holds it.
        let _ = told.wait_for(|given| *given).await;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn what_is_given_is_given_to_those_that_came_from_it_and_to_no_others() {
        let root = Signal::default();
        let (one, other) = (root.child(), root.child());
        one.give();
        assert!(one.given() && !other.given() && !root.given());
        root.give();
        assert!(other.given() && root.child().given());
        assert!(root.wait(Duration::from_secs(60)));
    }

    #[test]
    fn who_waits_for_something_else_is_woken_also_when_it_comes_late() {
        let woken = Arc::new(AtomicU32::new(0));
        let counts = woken.clone();
        let waker: Waker = Arc::new(move || _ = counts.fetch_add(1, Ordering::Relaxed));
        let (root, given) = (Signal::default(), Signal::already_given());
        root.child().wakes(&waker);
        let child = root.child();
        child.wakes(&waker);
        root.give();
        assert_eq!(woken.load(Ordering::Relaxed), 1, "the first child is gone");
        given.wakes(&waker);
        assert_eq!(woken.load(Ordering::Relaxed), 2);
    }
}
