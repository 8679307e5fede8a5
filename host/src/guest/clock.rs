//! The clock of deadlines.
//!
//! Deadlines are epochs: compiled code compares a counter at each loop and call, and a thread of the engine counts it
//! up. That is cheaper than fuel, and a guest can't avoid it. While nothing runs the thread sleeps, so that an idle
//! host wakes no processor and the ticks can be short.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How precise deadlines are: a call is stopped at most two ticks after its deadline.
const TICK: Duration = Duration::from_millis(2);

/// How many ticks without a call it takes to go to sleep. Waking the thread costs a call some microseconds, which the
/// next batch of a busy shard need not pay.
const LINGER: u32 = 50;

/// The thread that counts epochs.
pub(super) struct Clock {
    shared: Arc<Shared>,
    /// A message wakes the thread; dropping it is the sign to end.
    wake: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    calls: AtomicUsize,
    asleep: AtomicBool,
}

/// A call under way.
pub(super) struct Timed<'a>(&'a AtomicUsize);

impl Drop for Timed<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// `time` in ticks, rounded up; one more because the current tick may be about to end.
pub(super) fn ticks(time: Duration) -> u64 {
    let ticks = time.as_nanos().div_ceil(TICK.as_nanos());
    // Not u64::MAX: wasmtime adds this to the current epoch.
    u64::try_from(ticks).unwrap_or(u64::MAX).min(u64::MAX / 2) + 1
}

impl Clock {
    pub(super) fn start(tick: impl Fn() + Send + 'static) -> std::io::Result<Self> {
        // One message is enough: whoever finds the place taken is woken by it as well.
        let (wake, woken) = mpsc::sync_channel(1);
        let shared = Arc::new(Shared::default());
        let of_thread = shared.clone();
        let thread =
            thread::Builder::new().name("guest-clock".into()).spawn(move || run(&of_thread, &woken, tick))?;
        Ok(Self { shared, wake: Some(wake), thread: Some(thread) })
    }

    /// Counts until it is dropped.
    pub(super) fn time_a_call(&self) -> Timed<'_> {
        // In this order, and the thread's in `run` the other way round: one of the two sees the other.
        self.shared.calls.fetch_add(1, Ordering::SeqCst);
        if self.shared.asleep.load(Ordering::SeqCst)
            && let Some(wake) = &self.wake
        {
            let _ = wake.try_send(());
        }
        Timed(&self.shared.calls)
    }
}

fn run(shared: &Shared, woken: &Receiver<()>, tick: impl Fn()) {
    let mut next = Instant::now() + TICK;
    let mut idle = 0;
    loop {
        // A late tick is made up for by shorter waits, so that deadlines don't stretch on a busy machine.
        match woken.recv_timeout(next.saturating_duration_since(Instant::now())) {
            Err(RecvTimeoutError::Timeout) => {
                tick();
                next += TICK;
                idle = if shared.calls.load(Ordering::SeqCst) == 0 { idle + 1 } else { 0 };
            }
            // Of a sleep that it did not come to.
            Ok(()) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        if idle >= LINGER {
            shared.asleep.store(true, Ordering::SeqCst);
            if shared.calls.load(Ordering::SeqCst) == 0 && woken.recv().is_err() {
                return;
            }
            shared.asleep.store(false, Ordering::SeqCst);
            // Time began with the call: the ticks that were slept through are nobody's.
            next = Instant::now() + TICK;
            idle = 0;
        }
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        drop(self.wake.take());
        if let Some(thread) = self.thread.take() {
            // It has no way to panic, and a panic here would hide the one that unwinds.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use super::*;

    #[test]
    fn time_passes_while_a_call_is_under_way_and_stands_still_soon_after() {
        let ticks = Arc::new(AtomicU64::new(0));
        let counted = ticks.clone();
        let clock = Clock::start(move || {
            counted.fetch_add(1, Ordering::SeqCst);
        })
        .unwrap();
        let now = || ticks.load(Ordering::SeqCst);
        let until = |such: &dyn Fn() -> bool| {
            let started = Instant::now();
            while !such() {
                assert!(started.elapsed() < Duration::from_secs(20), "at tick {}", now());
                thread::sleep(TICK);
            }
        };
        for _ in 0..3 {
            let call = clock.time_a_call();
            let before = now();
            until(&|| now() > before + 2 * u64::from(LINGER));
            drop(call);
            until(&|| clock.shared.asleep.load(Ordering::SeqCst));
            let before = now();
            thread::sleep(20 * TICK);
            assert_eq!(now(), before);
        }
    }

    #[test]
    fn a_deadline_is_never_shorter_than_asked_for() {
        assert_eq!(ticks(Duration::ZERO), 1);
        assert_eq!(ticks(TICK), 2);
        assert_eq!(ticks(TICK + Duration::from_micros(1)), 3);
        assert_eq!(ticks(Duration::MAX), u64::MAX / 2 + 1);
    }
}
