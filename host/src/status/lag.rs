//! How far subscribers are behind: what their shards have reached, against where the partitions end.
//!
//! A shard says where it stands, in the partitions that it owns and in no others; where they end, the broker is asked now and
//! then (`supervisor/lag.rs`). A position counts the markers of transactions as read, so that nothing is left of a partition
//! that is done; between position and end they count as events, for only who reads them can tell.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use crate::event::TopicPartition;
use crate::shard::Reached;

/// What waits of a topic, in the partitions that a subscriber owns here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Lag {
    /// Not done: not looked at yet, or waiting for the next try, or behind a parked key.
    pub events: u64,
    /// Of the partition that has most of them.
    pub largest_partition: u64,
}

/// What brokers have said of partitions.
#[derive(Clone, Debug, Default)]
pub struct Extents {
    pub ends: HashMap<TopicPartition, i64>,
    /// Where a group begins, for partitions of which nothing has come yet; by its subscriber.
    pub starts: HashMap<String, BTreeMap<TopicPartition, i64>>,
}

/// A subscriber and its partitions here, with the offset of what comes next, where it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owned {
    pub subscriber: String,
    pub group: String,
    pub partitions: BTreeMap<TopicPartition, Option<i64>>,
}

/// By topic; of those only whose ends and positions are known.
pub(super) fn lag<'a>(
    subscriber: &str,
    reached: impl Iterator<Item = (&'a TopicPartition, &'a Reached)>,
    extents: &Extents,
) -> BTreeMap<String, Lag> {
    let starts = extents.starts.get(subscriber);
    let mut by_topic = BTreeMap::<String, Lag>::new();
    for (partition, Reached { next, undone }) in reached {
        let next = next.or_else(|| starts?.get(partition).copied());
        let (Some(next), Some(end)) = (next, extents.ends.get(partition)) else { continue };
        // The end was asked for some seconds ago.
        let unread = u64::try_from(end - next).unwrap_or(0);
        let events = unread + *undone as u64;
        let lag = by_topic.entry(partition.topic.to_string()).or_default();
        lag.events += events;
        lag.largest_partition = lag.largest_partition.max(events);
    }
    by_topic
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(partition: i32) -> TopicPartition {
        TopicPartition { topic: "in".into(), partition }
    }

    fn shown(reached: &[(i32, Option<i64>, usize)], extents: &Extents) -> Option<(u64, u64)> {
        let reached: BTreeMap<_, _> = reached
            .iter()
            .map(|&(number, next, undone)| (partition(number), Reached { next, undone }))
            .collect();
        let lag = lag("h", reached.iter(), extents);
        lag.get("in").map(|lag| (lag.events, lag.largest_partition))
    }

    #[test]
    fn what_is_unread_and_what_is_held_add_up_over_the_partitions_that_are_known() {
        let ends = HashMap::from([(partition(0), 100), (partition(1), 7), (partition(2), 50)]);
        let starts = HashMap::from([("h".into(), BTreeMap::from([(partition(2), 20)]))]);
        let extents = Extents { ends, starts };
        assert_eq!(shown(&[(0, Some(100), 0), (1, Some(7), 0)], &extents), Some((0, 0)));
        assert_eq!(shown(&[(0, Some(90), 3), (1, Some(9), 2)], &extents), Some((15, 13)));
        assert_eq!(shown(&[(1, Some(7), 0), (2, None, 0)], &extents), Some((30, 30)));
        assert_eq!(shown(&[(0, None, 0), (3, Some(5), 1)], &extents), None);
    }
}
