//! Whether those who are measured have taken their places.

use std::time::Duration;

use rdkafka::producer::{BaseProducer, Producer};

use crate::Ended;
use crate::load::producer;

const CALL: Duration = Duration::from_secs(10);

/// A consumer group, asked from outside again and again by one connection.
pub struct Group {
    /// Any client can ask; this one needs no group of its own.
    client: BaseProducer,
    name: String,
}

impl Group {
    /// The one of this name, which need not exist yet.
    ///
    /// # Errors
    ///
    /// When no client can be made of what is said of the brokers. It is not connected yet.
    pub fn new(brokers: &str, name: &str) -> Result<Self, Ended> {
        Ok(Self { client: producer(brokers, &[])?, name: name.into() })
    }

    /// Whether it has so many members, and each of them its partitions. With the classic protocol and its eager assignors
    /// nothing moves any more then.
    ///
    /// # Errors
    ///
    /// When the broker can't be reached, or can't tell: the first group that a broker ever gets takes a while.
    pub fn is_settled(&self, members: usize) -> Result<bool, Ended> {
        let list = self.client.client().fetch_group_list(Some(&self.name), CALL)?;
        Ok(list.groups().iter().any(|group| group.state() == "Stable" && group.members().len() == members))
    }
}
