//! Waiting for a consumer's events without polling.
//!
//! librdkafka wakes who polls a consumer for matters of its own too, and rdkafka then takes what is left of the wait in whole
//! milliseconds and spins through the rest: half a millisecond each second for each idle consumer. So a poll doesn't wait;
//! librdkafka rings when its queue is no longer empty.

use std::ffi::c_void;
use std::ptr;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::bindings as native;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};

/// Must not outlive its consumer.
pub(super) struct Bell {
    queue: *mut native::rd_kafka_queue_t,
    /// At one place: librdkafka knows where.
    shared: Box<Shared>,
}

#[derive(Default)]
struct Shared {
    rung: Mutex<bool>,
    changed: Condvar,
}

// SAFETY: librdkafka's queues may be used by any thread.
unsafe impl Send for Bell {}

impl Bell {
    /// `None` for a consumer without a group.
    pub(super) fn of<C: ConsumerContext>(consumer: &BaseConsumer<C>) -> Option<Self> {
        // SAFETY: the client lives; what is given is one more reference to its queue, which `drop` gives back.
        let queue = unsafe { native::rd_kafka_queue_get_consumer(consumer.client().native_ptr()) };
        if queue.is_null() {
            return None;
        }
        let shared = Box::<Shared>::default();
        let place = ptr::from_ref(&*shared).cast_mut().cast::<c_void>();
        // SAFETY: the place stays until `drop` has ended the calls.
        unsafe { native::rd_kafka_queue_cb_event_enable(queue, Some(ring), place) };
        Some(Self { queue, shared })
    }

    /// Until the queue is not empty, or at most so long; sometimes for less.
    pub(super) fn wait(&self, limit: Duration) {
        // Asked before the lock is taken: who rings holds the queue's.
        // SAFETY: the queue lives as long as this.
        if unsafe { native::rd_kafka_queue_length(self.queue) } > 0 {
            return;
        }
        let Shared { rung, changed } = &*self.shared;
        let rung = rung.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = changed.wait_timeout_while(rung, limit, |rung| !*rung);
        let (mut rung, _) = waited.unwrap_or_else(PoisonError::into_inner);
        *rung = false;
    }
}

impl Drop for Bell {
    fn drop(&mut self) {
        // SAFETY: the queue lives. Once the first call returns nobody rings any more: they do so under the queue's lock.
        unsafe {
            native::rd_kafka_queue_cb_event_enable(self.queue, None, ptr::null_mut());
            native::rd_kafka_queue_destroy(self.queue);
        }
    }
}

/// Called by librdkafka when the queue was empty and isn't any more.
unsafe extern "C" fn ring(_client: *mut native::rd_kafka_t, place: *mut c_void) {
    // SAFETY: what `Bell::of` gave, which is there until the bell is dropped.
    let Shared { rung, changed } = unsafe { &*place.cast::<Shared>() };
    *rung.lock().unwrap_or_else(PoisonError::into_inner) = true;
    changed.notify_one();
}
