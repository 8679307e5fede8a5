//! Waiting for a consumer's events without polling.
//!
//! librdkafka wakes who polls a consumer for matters of its own too, and rdkafka then takes what is left of the wait in whole
//! milliseconds and spins through the rest: half a millisecond each second for each idle consumer. So a poll doesn't wait;
//! librdkafka rings when its queue is no longer empty, and so does who wants a shard to leave.

use std::ffi::c_void;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{mem, ptr};

use rdkafka::bindings as native;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};

#[derive(Default)]
pub(super) struct Bell {
    rung: Mutex<Rung>,
    changed: Condvar,
}

/// By whom, since the last wait.
#[derive(Default)]
struct Rung {
    by_librdkafka: bool,
    by_another: bool,
}

impl Bell {
    /// Wakes who waits, or who waits next.
    pub(super) fn ring(&self) {
        self.lock().by_another = true;
        self.changed.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Rung> {
        self.rung.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait(&self, limit: Duration) -> bool {
        let still = |rung: &mut Rung| !rung.by_librdkafka && !rung.by_another;
        let waited = self.changed.wait_timeout_while(self.lock(), limit, still);
        let (mut rung, _) = waited.unwrap_or_else(PoisonError::into_inner);
        mem::take(&mut *rung).by_another
    }
}

/// The queue of a consumer's events. Must not outlive the consumer.
pub(super) struct Queue {
    native: *mut native::rd_kafka_queue_t,
    /// librdkafka knows where it is.
    bell: Arc<Bell>,
}

// SAFETY: librdkafka's queues may be used by any thread.
unsafe impl Send for Queue {}

impl Queue {
    /// `None` for a consumer without a group.
    pub(super) fn of<C: ConsumerContext>(consumer: &BaseConsumer<C>, bell: Arc<Bell>) -> Option<Self> {
        // SAFETY: the client lives; what is given is one more reference to its queue, which `drop` gives back.
        let native = unsafe { native::rd_kafka_queue_get_consumer(consumer.client().native_ptr()) };
        if native.is_null() {
            return None;
        }
        let place = Arc::as_ptr(&bell).cast_mut().cast::<c_void>();
        // SAFETY: the bell stays in its place until `drop` has ended the calls.
        unsafe { native::rd_kafka_queue_cb_event_enable(native, Some(ring), place) };
        Some(Self { native, bell })
    }

    /// Until it is not empty or the bell is rung by another, which it tells; or at most so long, and sometimes for less.
    pub(super) fn wait(&self, limit: Duration) -> bool {
        // Asked before the bell's lock is taken: who rings holds the queue's.
        // SAFETY: the queue lives as long as this.
        let length = unsafe { native::rd_kafka_queue_length(self.native) };
        length == 0 && self.bell.wait(limit)
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: the queue lives. Once the first call returns nobody rings any more: librdkafka does so under the queue's lock.
        unsafe {
            native::rd_kafka_queue_cb_event_enable(self.native, None, ptr::null_mut());
            native::rd_kafka_queue_destroy(self.native);
        }
    }
}

/// Called by librdkafka when the queue was empty and isn't any more.
unsafe extern "C" fn ring(_client: *mut native::rd_kafka_t, place: *mut c_void) {
    // SAFETY: what `Queue::of` gave, which is there until the queue is dropped.
    let bell = unsafe { &*place.cast::<Bell>() };
    bell.lock().by_librdkafka = true;
    bell.changed.notify_one();
}
