//! The threads of a running host: each ends by a [`Signal`], all are joined under one deadline, and a bug in
//! one costs that one a new start, not the process its life.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use miette::{IntoDiagnostic, WrapErr};
use tracing::error;

use super::signal::Signal;

/// Before a thread that panicked starts over.
const AGAIN: Duration = Duration::from_secs(1);

/// Cheap to clone: a thread may start others.
#[derive(Clone, Default)]
pub(super) struct Threads(Arc<Mutex<Vec<Running>>>);

struct Running {
    name: String,
    ended: Signal,
    thread: JoinHandle<()>,
}

/// A thread, to who needs to know of it.
#[derive(Clone)]
pub(super) struct Task {
    /// Ends it, unless the host does before.
    pub(super) stop: Signal,
    /// Given when it has ended.
    pub(super) ended: Signal,
}

impl Threads {
    /// Runs `body` on a thread of its own, again and again if it panics. It returns when `stop` is given, or
    /// before.
    pub(super) fn spawn(
        &self,
        name: String,
        stop: &Signal,
        body: impl Fn(&Signal) + Send + 'static,
    ) -> miette::Result<Task> {
        let task = Task { stop: stop.clone(), ended: Signal::default() };
        let (stop, over, its_name) = (stop.clone(), task.ended.clone(), name.clone());
        let thread = thread::Builder::new()
            .name(name.clone())
            .spawn(move || {
                while let Err(panic) = catch_unwind(AssertUnwindSafe(|| body(&stop))) {
                    error!(thread = its_name, "a bug: it panicked: {}; starting over", words(&*panic));
                    if stop.wait(AGAIN) {
                        break;
                    }
                }
                // What the thread owned is gone by then.
                drop(body);
                over.give();
            })
            .into_diagnostic()
            .wrap_err_with(|| format!("can't start the thread `{name}`"))?;
        let mut running = self.lock();
        running.retain(|thread| !thread.ended.given());
        running.push(Running { name, ended: task.ended.clone(), thread });
        Ok(task)
    }

    /// Waits for all threads to end, at most this long; gives the names of those that did not.
    pub(super) fn join(&self, within: Duration) -> Vec<String> {
        let deadline = Instant::now() + within;
        let mut late = Vec::new();
        // One that ends may have started others before.
        while let Some(Running { name, ended, thread }) = self.next() {
            if ended.wait(deadline.saturating_duration_since(Instant::now())) {
                // Panics were caught inside.
                let _ = thread.join();
            } else {
                late.push(name);
            }
        }
        late
    }

    fn next(&self) -> Option<Running> {
        self.lock().pop()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Running>> {
        // Plain data: a panic in between leaves nothing half-done that matters.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a panic said.
fn words(panic: &(dyn std::any::Any + Send)) -> &str {
    let owned = panic.downcast_ref::<String>().map(String::as_str);
    owned.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a word")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn a_thread_that_panics_starts_over() {
        let (threads, stop) = (Threads::default(), Signal::default());
        let starts = Arc::new(AtomicU32::new(0));
        let counted = starts.clone();
        threads
            .spawn("clumsy".into(), &stop, move |_| {
                assert!(counted.fetch_add(1, Ordering::Relaxed) > 0, "the first time");
            })
            .unwrap();
        assert!(threads.join(Duration::from_secs(30)).is_empty());
        assert_eq!(starts.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn a_thread_that_does_not_end_is_named_after_the_deadline() {
        let (threads, stop) = (Threads::default(), Signal::default());
        threads.spawn("quick".into(), &stop, |_| {}).unwrap();
        let released = Signal::default();
        let held = released.clone();
        threads.spawn("stuck".into(), &stop, move |_| assert!(held.wait(Duration::from_secs(60)))).unwrap();
        stop.give();
        assert_eq!(threads.join(Duration::from_millis(200)), ["stuck"]);
        released.give();
    }
}
