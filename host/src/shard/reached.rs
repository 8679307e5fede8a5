//! How far a shard has got in its partitions, for whoever compares that with where they end.

use std::collections::BTreeMap;

use super::Shard;
use crate::event::{Handler, TopicPartition};
use crate::log::Source;

/// Where a shard stands in a partition that it owns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reached {
    /// Of what it has not looked at yet, the first offset; none before anything of the partition has come.
    pub next: Option<i64>,
    /// Events before that which are not done: they wait for their next try, behind a parked key, or for their first run.
    pub undone: usize,
}

impl<S: Source, C, H: Handler> Shard<S, C, H> {
    /// Of the partitions that it owns, and only of them. None while it has yet to go back to what is committed. What was
    /// handed over to be committed counts as done.
    pub fn reached(&self) -> Option<BTreeMap<TopicPartition, Reached>> {
        if self.rewind {
            return None;
        }
        let mut reached: BTreeMap<TopicPartition, Reached> = self
            .source
            .positions()
            .into_iter()
            .map(|(partition, next)| (partition, Reached { next, undone: 0 }))
            .collect();
        for (partition, end, undone) in self.window.undone() {
            if let Some(reached) = reached.get_mut(partition) {
                *reached = Reached { next: reached.next.max(Some(end)), undone };
            }
        }
        Some(reached)
    }

    /// The most memory that the present handler has had at a time, in bytes, if it has any of its own.
    pub fn peak_memory(&self) -> Option<usize> {
        self.handler.peak_memory()
    }
}
