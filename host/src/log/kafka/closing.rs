//! Letting go of clients in bounded time.
//!
//! Destroying a librdkafka client can block on the network, for a consumer even for ever (rust-rdkafka
//! waits until the group has answered). So it happens on a thread of its own, which is waited for until a
//! deadline; after it the thread is left alone and ends with the process.

use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use tracing::warn;

/// Holds a client; drops it as said above.
pub(super) struct Closing<T: Send + 'static> {
    client: ManuallyDrop<T>,
    pub(super) deadline: Duration,
}

impl<T: Send + 'static> Closing<T> {
    pub(super) fn new(client: T) -> Self {
        Self { client: ManuallyDrop::new(client), deadline: Duration::from_secs(3) }
    }
}

impl<T: Send + 'static> Deref for Closing<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.client
    }
}

impl<T: Send + 'static> Drop for Closing<T> {
    fn drop(&mut self) {
        // SAFETY: the field is not used after this.
        let client = unsafe { ManuallyDrop::take(&mut self.client) };
        let (done, ended) = mpsc::sync_channel(1);
        let thread = thread::Builder::new().name("close".into()).spawn(move || {
            drop(client);
            // Nobody listens after the deadline.
            let _ = done.send(());
        });
        match (thread, ended.recv_timeout(self.deadline)) {
            (Ok(thread), Ok(())) => {
                // Its last act is behind it, and nothing in it panics.
                let _ = thread.join();
            }
            (Ok(_) | Err(_), _) => {
                warn!(target: "wasmill::kafka", "a Kafka client did not close within {:?}", self.deadline);
            }
        }
    }
}
