//! The loop that does one thing after the other: its batch is its transaction.

use std::convert::Infallible;

use crate::clients::{commit, consumer, poll, producer};
use crate::{Ended, Task};

pub(crate) fn run(task: &Task) -> Result<Infallible, Ended> {
    let producer = producer(task, 0)?;
    let consumer = consumer(task)?;
    loop {
        if let Some(batch) = poll(&consumer, task)? {
            commit(&producer, task, &batch)?;
        }
    }
}
