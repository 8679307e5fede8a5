//! What the host is measured against: the work of the example's order-formatter in a loop that somebody would write by
//! hand for it alone, exactly once, with the best settings that are known.
//!
//! - [`Loop::Plain`]: poll, transform, produce, commit, one after the other.
//! - [`Loop::Overlapped`]: the next batch is polled and transformed while the last one is committed, by two producers in
//!   turn.
//!
//! Both are for one topic of one key space and know nothing else: no retries by key, no dead letters, no metrics, no
//! second handler. An order that can't be handled ends them.

mod clients;
mod group;
mod load;
mod order;
mod overlapped;
mod plain;

use std::convert::Infallible;

use rdkafka::error::KafkaError;
use thiserror::Error;

pub use group::Group;
pub use load::{fill, micros, pace};
pub use order::{SMALLEST_ORDER, details, number, order, placed_at_us};

/// The component that does the same, where `just components` puts it.
pub const COMPONENT: &str = "components/order-formatter.wasm";

/// Which one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loop {
    Plain,
    Overlapped,
}

/// What it reads and writes.
#[derive(Clone, Debug)]
pub struct Task {
    pub brokers: String,
    /// Of the consumer group, and of the transactional.ids.
    pub name: String,
    pub input: String,
    pub output: String,
    /// Events of one transaction, at most.
    pub batch: usize,
}

#[derive(Debug, Error)]
pub enum Ended {
    #[error("{0}")]
    Kafka(#[from] KafkaError),
    #[error("the order can't be handled: {0}")]
    Order(#[from] serde_json::Error),
    #[error("records are not acknowledged")]
    Stalled,
}

impl Loop {
    /// Runs until it can't any more.
    ///
    /// # Errors
    ///
    /// Why it can't: the broker, or an order that can't be handled.
    pub fn run(self, task: &Task) -> Result<Infallible, Ended> {
        match self {
            Self::Plain => plain::run(task),
            Self::Overlapped => overlapped::run(task),
        }
    }
}
