use std::convert::Infallible;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

use rdkafka::producer::BaseProducer;

use crate::clients::{Batch, commit, consumer, poll, producer};
use crate::{Ended, Task};

/// Each commit is answered before the next one's first record is sent. The producers take turns, because for a while
/// after a transaction the broker is still writing its markers.
pub(crate) fn run(task: &Task) -> Result<Infallible, Ended> {
    let producers = [producer(task, 0)?, producer(task, 1)?];
    let consumer = consumer(task)?;
    let (batches, committer) = sync_channel(1);
    thread::scope(|scope| {
        let committing = scope.spawn(move || commit_all(&producers, task, &committer));
        loop {
            if let Some(batch) = poll(&consumer, task)?
                && batches.send(batch).is_err()
            {
                drop(batches);
                return Err(committing.join().ok().and_then(Result::err).unwrap_or(Ended::Stalled));
            }
        }
    })
}

fn commit_all(producers: &[BaseProducer; 2], task: &Task, batches: &Receiver<Batch>) -> Result<(), Ended> {
    let in_turn = producers.iter().cycle();
    batches.iter().zip(in_turn).try_for_each(|(batch, producer)| commit(producer, task, &batch))
}
