//! A consumer that is a member of its group, from its subscription to its farewell.

use std::ops::Deref;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::consumer::Consumer;

use super::bell::{Bell, Queue};
use super::closing::Closing;
use super::context::Context;
use super::group::{Group, GroupConsumer};
use super::{CALL, ConnectError, client, native};
use crate::log::Departure;

pub(super) fn subscribe(
    config: &ClientConfig,
    name: &str,
    topics: &[Arc<str>],
    departure: Option<Arc<Departure>>,
    bell: Arc<Bell>,
) -> Result<Closing<Member>, ConnectError> {
    let consumer: GroupConsumer = client::create(config, Context::with(name, Group::new(departure)))?;
    let topics: Vec<&str> = topics.iter().map(AsRef::as_ref).collect();
    consumer
        .subscribe(&topics)
        .map_err(|e| ConnectError::Fatal(format!("can't subscribe to {}: {e}", topics.join(", "))))?;
    let queue = Queue::of(&consumer, bell)
        .ok_or_else(|| ConnectError::Fatal("librdkafka has no queue for the consumer".into()))?;
    Ok(Closing::new(Member { queue, consumer: Arc::new(consumer) }))
}

/// Says farewell when it is dropped. A static member's close is silent, for it may be back soon; but who
/// unsubscribes before it leaves the group, and the others take over at once.
pub(super) struct Member {
    /// Before the consumer, which it must not outlive.
    pub(super) queue: Queue,
    consumer: Arc<GroupConsumer>,
}

impl Drop for Member {
    fn drop(&mut self) {
        let until = Instant::now() + CALL;
        self.consumer.unsubscribe();
        while native::is_member(&self.consumer) && Instant::now() < until {
            drop(self.consumer.poll(Duration::from_millis(10)));
        }
    }
}

impl Deref for Member {
    type Target = Arc<GroupConsumer>;

    fn deref(&self) -> &Arc<GroupConsumer> {
        &self.consumer
    }
}
