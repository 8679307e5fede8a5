//! The threads of a running host: each ends by one [`Stop`], all are joined under one deadline, and a bug in
//! one costs that one a new start, not the process its life.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use miette::{IntoDiagnostic, WrapErr};
use tracing::error;

use super::stop::Stop;

/// Before a thread that panicked starts over.
const AGAIN: Duration = Duration::from_secs(1);

pub(super) struct Threads {
    stop: Stop,
    running: Vec<(String, JoinHandle<()>)>,
    /// The names of threads that have ended; they wait in here to be joined.
    ended: (SyncSender<String>, Receiver<String>),
}

impl Threads {
    pub(super) fn new(stop: Stop) -> Self {
        Self { stop, running: Vec::new(), ended: sync_channel(0) }
    }

    /// Runs `body` on a thread of its own, again and again if it panics. It returns when `stop` says so, or
    /// before.
    pub(super) fn spawn(
        &mut self,
        name: String,
        body: impl Fn(&Stop) + Send + 'static,
    ) -> miette::Result<()> {
        let (stop, ended, its_name) = (self.stop.clone(), self.ended.0.clone(), name.clone());
        let thread = thread::Builder::new()
            .name(name.clone())
            .spawn(move || {
                while let Err(panic) = catch_unwind(AssertUnwindSafe(|| body(&stop))) {
                    error!(thread = its_name, "a bug: it panicked: {}; starting over", words(&*panic));
                    if stop.wait(AGAIN) {
                        break;
                    }
                }
                // After the deadline nobody waits for it.
                let _ = ended.send(its_name);
            })
            .into_diagnostic()
            .wrap_err_with(|| format!("can't start the thread `{name}`"))?;
        self.running.push((name, thread));
        Ok(())
    }

    /// Waits for all threads to end, at most this long; gives the names of those that did not.
    pub(super) fn join(&mut self, within: Duration) -> Vec<String> {
        let deadline = Instant::now() + within;
        while !self.running.is_empty() {
            match self.ended.1.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(name) => {
                    let (over, running): (Vec<_>, _) =
                        self.running.drain(..).partition(|(running, _)| *running == name);
                    self.running = running;
                    for (_, thread) in over {
                        // Panics were caught inside.
                        let _ = thread.join();
                    }
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    return self.running.drain(..).map(|(name, _)| name).collect();
                }
            }
        }
        Vec::new()
    }
}

/// A start that fails half-way must not leave shards behind.
impl Drop for Threads {
    fn drop(&mut self) {
        self.stop.stop();
        self.join(super::DRAIN);
    }
}

/// What a panic said.
fn words(panic: &(dyn std::any::Any + Send)) -> &str {
    let owned = panic.downcast_ref::<String>().map(String::as_str);
    owned.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a word")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn a_thread_that_panics_starts_over() {
        let stop = Stop::default();
        let mut threads = Threads::new(stop.clone());
        let starts = Arc::new(AtomicU32::new(0));
        let counted = starts.clone();
        threads
            .spawn("clumsy".into(), move |_| {
                assert!(counted.fetch_add(1, Ordering::Relaxed) > 0, "the first time");
            })
            .unwrap();
        assert!(threads.join(Duration::from_secs(30)).is_empty());
        assert_eq!(starts.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn a_thread_that_does_not_end_is_named_after_the_deadline() {
        let stop = Stop::default();
        let mut threads = Threads::new(stop.clone());
        threads.spawn("quick".into(), |_| {}).unwrap();
        let released = Stop::default();
        let held = released.clone();
        threads.spawn("stuck".into(), move |_| assert!(held.wait(Duration::from_secs(60)))).unwrap();
        stop.stop();
        assert_eq!(threads.join(Duration::from_millis(200)), ["stuck"]);
        released.stop();
    }
}
