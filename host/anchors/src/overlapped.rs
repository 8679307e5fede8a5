use std::convert::Infallible;
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;

use rdkafka::producer::BaseProducer;

use crate::clients::{Batch, commit, consumer, poll, producer};
use crate::{Ended, Task};

/// Producers that take turns, because for a while after a transaction the broker is still writing its markers.
const PRODUCERS: u32 = 2;

/// What is committed next; what is polled meanwhile is added to it, as far as it fits.
struct Open {
    batch: Mutex<Option<Batch>>,
    changed: Condvar,
}

/// Each commit is answered before the next one's first record is sent.
pub(crate) fn run(task: &Task) -> Result<Infallible, Ended> {
    let producers = (0..PRODUCERS).map(|number| producer(task, number)).collect::<Result<Vec<_>, _>>()?;
    let consumer = consumer(task)?;
    let open = Open { batch: Mutex::new(None), changed: Condvar::new() };
    thread::scope(|scope| {
        let committing = scope.spawn(|| commit_all(&producers, task, &open));
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

impl Open {
    fn add(&self, batch: Batch, most: usize) -> Result<(), Ended> {
        let lock = self.batch.lock().unwrap_or_else(PoisonError::into_inner);
        let is_full = |open: &mut Option<Batch>| {
            open.as_ref().is_some_and(|open| open.outputs.len() + batch.outputs.len() > most)
        };
        let mut open = self.changed.wait_while(lock, is_full).unwrap_or_else(PoisonError::into_inner);
        match &mut *open {
            Some(open) => open.add(batch)?,
            None => *open = Some(batch),
        }
        self.changed.notify_all();
        Ok(())
    }

    fn take(&self) -> Batch {
        let lock = self.batch.lock().unwrap_or_else(PoisonError::into_inner);
        let mut open =
            self.changed.wait_while(lock, |open| open.is_none()).unwrap_or_else(PoisonError::into_inner);
        let Some(batch) = open.take() else { unreachable!("it was waited for") };
        self.changed.notify_all();
        batch
    }
}

fn commit_all(producers: &[BaseProducer], task: &Task, open: &Open) -> Result<Infallible, Ended> {
    for producer in producers.iter().cycle() {
        commit(producer, task, &open.take())?;
    }
    Err(Ended::Stalled)
}
