//! The loop that commits while it polls and transforms on.

use std::convert::Infallible;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use rdkafka::producer::BaseProducer;

use crate::clients::{Batch, commit, consumer, poll, producer};
use crate::{Ended, Task};

/// Producers that take turns, because for a while after a transaction the broker is still writing its markers.
const PRODUCERS: u32 = 2;

/// What is committed next; what is polled meanwhile is added to it, as far as it fits.
#[derive(Default)]
struct Open {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    batch: Option<Batch>,
    /// One of the two sides has ended.
    is_over: bool,
}

/// Each commit is answered before the next one's first record is sent.
pub(crate) fn run(task: &Task) -> Result<Infallible, Ended> {
    let producers = (0..PRODUCERS).map(|number| producer(task, number)).collect::<Result<Vec<_>, _>>()?;
    let consumer = consumer(task)?;
    let open = Open::default();
    thread::scope(|scope| {
        let committing = scope.spawn(|| {
            let _however_it_ends = Over(&open);
            commit_all(&producers, task, &open)
        });
        let _however_it_ends = Over(&open);
        while !committing.is_finished() {
            if let Some(batch) = poll(&consumer, task)? {
                open.add(batch, task.batch)?;
            }
        }
        match committing.join() {
            Ok(Err(error)) => Err(error),
            Ok(Ok(never)) => match never {},
            Err(_) => Err(Ended::Stalled),
        }
    })
}

/// Tells the other side that this one has ended.
struct Over<'a>(&'a Open);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.lock().is_over = true;
        self.0.changed.notify_all();
    }
}

impl Open {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for room. Once all is over the batch is dropped.
    fn add(&self, batch: Batch, most: usize) -> Result<(), Ended> {
        let is_full = |state: &mut State| {
            let open = state.batch.as_ref().filter(|_| !state.is_over);
            open.is_some_and(|open| open.outputs.len() + batch.outputs.len() > most)
        };
        let mut state = self.changed.wait_while(self.lock(), is_full).unwrap_or_else(PoisonError::into_inner);
        match &mut state.batch {
            Some(open) => open.add(batch)?,
            None => state.batch = Some(batch),
        }
        self.changed.notify_all();
        Ok(())
    }

    /// None once all is over.
    fn take(&self) -> Option<Batch> {
        let is_empty = |state: &mut State| state.batch.is_none() && !state.is_over;
        let mut state =
            self.changed.wait_while(self.lock(), is_empty).unwrap_or_else(PoisonError::into_inner);
        let batch = state.batch.take();
        self.changed.notify_all();
        batch
    }
}

fn commit_all(producers: &[BaseProducer], task: &Task, open: &Open) -> Result<Infallible, Ended> {
    for producer in producers.iter().cycle() {
        let Some(batch) = open.take() else { break };
        commit(producer, task, &batch)?;
    }
    Err(Ended::Stalled)
}
