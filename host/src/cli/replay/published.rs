//! What the handler has published, and what it failed at, by the event that each record came from.
//!
//! An index of digests in one sorted list: about 50 bytes a record. The records themselves stay where they are.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::str;
use std::sync::Arc;

use super::compare::{Before, Fingerprint};
use super::ignore::Ignored;
use crate::cli::broker;
use crate::cli::span::Span;
use crate::config::plan::HandlerPlan;
use crate::dead_letters::letter::Failed;
use crate::event::headers::{HANDLER, REDRIVE_OF, SOURCE};
use crate::event::{Event, Position, TopicPartition, header};
use crate::log::kafka::{Cluster, End};
use crate::shard::Beyond;

/// Where a time is given, what was published this much before it is read, too: clocks differ.
const SLACK_MS: i64 = 10 * 60 * 1000;

/// A [`Position`], whose partition is a number in [`Published`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) partition: u32,
    pub(super) offset: i64,
}

/// One record of the handler's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Entry {
    pub(super) source: Place,
    pub(super) at: Place,
    pub(super) what: Fingerprint,
}

#[derive(Default)]
pub(super) struct Published {
    partitions: Partitions,
    /// Both sorted.
    outputs: Vec<Entry>,
    letters: Vec<Entry>,
}

impl Published {
    /// Of the events of the span that the handler has done.
    pub(super) fn read(
        cluster: &Cluster,
        plan: &HandlerPlan,
        span: &Span,
        handled: &BTreeMap<TopicPartition, Beyond>,
        ignored: &Ignored,
    ) -> miette::Result<Self> {
        let mut published = Self::default();
        let ranges = ranges(cluster, plan, span)?;
        let mut tail = broker::within(cluster, &ranges)?;
        broker::read_to_the_end(&mut tail, cluster, |record| {
            let of = |name| str::from_utf8(header(&record.headers, name)?).ok();
            // What was put back into the topic is there once already, from its handler.
            if of(HANDLER) != Some(&plan.name) || of(REDRIVE_OF).is_some() {
                return;
            }
            let Some(source) = of(SOURCE).and_then(|source| source.parse::<Position>().ok()) else { return };
            let partition = source.topic_partition();
            if span.ranges.get(&partition).is_some_and(|range| range.contains(&source.offset))
                && handled.get(&partition).is_some_and(|beyond| beyond.is_done(source.offset))
            {
                published.add(&source, &record, record.position.topic == plan.dead_letter, ignored);
            }
        })?;
        published.outputs.sort_unstable();
        published.letters.sort_unstable();
        Ok(published)
    }

    fn add(&mut self, source: &Position, record: &Event, failed: bool, ignored: &Ignored) {
        let Event { position, key, payload, headers, .. } = record;
        let (list, what) = if failed {
            let Failed { kind, message, .. } = Failed::of(record);
            let [kind, message] = [kind, message].map(Option::unwrap_or_default);
            (&mut self.letters, Fingerprint::of_failure(&kind, &message))
        } else {
            let (key, payload) = (key.as_deref(), payload.as_deref());
            (&mut self.outputs, Fingerprint::of_output(&position.topic, key, payload, headers, ignored))
        };
        let (source, at) = (self.partitions.place(source), self.partitions.place(position));
        list.push(Entry { source, at, what });
    }

    /// What the event had led to.
    pub(super) fn of(&self, event: &Position) -> Before<'_> {
        let Some(source) = self.partitions.known(event) else { return Before { outputs: &[], letters: &[] } };
        let of_it = |entries| {
            let entries: &[Entry] = entries;
            let first = entries.partition_point(|entry| entry.source < source);
            let rest = &entries[first..];
            &rest[..rest.partition_point(|entry| entry.source == source)]
        };
        Before { outputs: of_it(&self.outputs), letters: of_it(&self.letters) }
    }

    /// Where the record stands.
    pub(super) fn position(&self, entry: &Entry) -> Position {
        self.partitions.position(entry.at)
    }
}

/// Up to all that was written by now, even if that is committed only in a moment: a group's offsets may be seen before
/// the outputs that were committed with them.
fn ranges(
    cluster: &Cluster,
    plan: &HandlerPlan,
    span: &Span,
) -> miette::Result<BTreeMap<TopicPartition, Range<i64>>> {
    let refused = |error| broker::refused(cluster, error);
    let topics: Vec<Arc<str>> = plan.publish.iter().chain([&plan.dead_letter]).cloned().collect();
    let there = cluster.existing(&topics).map_err(refused)?;
    let mut offsets = cluster.offsets(End::Written).map_err(refused)?;
    let mut ranges = offsets.extents(&there).map_err(refused)?;
    if let Some(since) = span.since_ms.filter(|_| !cluster.is_embedded()) {
        let starts = offsets.since(ranges.keys().cloned(), (since - SLACK_MS).max(0)).map_err(refused)?;
        for (partition, range) in &mut ranges {
            range.start = starts.get(partition).map_or(range.end, |start| *start.max(&range.start));
        }
    }
    Ok(ranges)
}

/// Partitions as small numbers.
#[derive(Default)]
struct Partitions {
    numbers: HashMap<TopicPartition, u32>,
    names: Vec<TopicPartition>,
}

impl Partitions {
    fn place(&mut self, position: &Position) -> Place {
        let next = u32::try_from(self.names.len()).unwrap_or(u32::MAX);
        let id = position.topic_partition();
        let number = *self.numbers.entry(id).or_insert_with_key(|id| {
            self.names.push(id.clone());
            next
        });
        Place { partition: number, offset: position.offset }
    }

    fn known(&self, position: &Position) -> Option<Place> {
        let partition = *self.numbers.get(&position.topic_partition())?;
        Some(Place { partition, offset: position.offset })
    }

    fn position(&self, place: Place) -> Position {
        let TopicPartition { topic, partition } = self.names[place.partition as usize].clone();
        Position { topic, partition, offset: place.offset }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Header;
    use crate::event::headers::{FAILURE_KIND, FAILURE_MESSAGE};

    fn record(position: &str, headers: &[(&'static str, &'static str)]) -> Event {
        Event {
            position: position.parse().unwrap(),
            timestamp_ms: None,
            key: None,
            payload: Some(position.to_string().into()),
            headers: headers.iter().map(|(name, value)| Header::new(*name, *value)).collect(),
        }
    }

    #[test]
    fn records_are_found_by_the_event_that_they_came_from_in_the_order_of_their_partition() {
        let mut published = Published::default();
        let none = Ignored(vec![]);
        for (source, at) in
            [("in/0/7", "out/0/2"), ("in/1/7", "out/0/3"), ("in/0/7", "out/0/1"), ("in/0/8", "out/0/9")]
        {
            published.add(&source.parse().unwrap(), &record(at, &[]), false, &none);
        }
        let letter = record("h.dlq/0/0", &[(FAILURE_KIND, "trap"), (FAILURE_MESSAGE, "boom")]);
        published.add(&"in/0/9".parse().unwrap(), &letter, true, &none);
        published.outputs.sort_unstable();
        let at = |entry: &Entry| published.position(entry).to_string();
        let of = |source: &str| {
            let Before { outputs, letters } = published.of(&source.parse().unwrap());
            (outputs.iter().map(at).collect::<Vec<_>>(), letters.iter().map(at).collect::<Vec<_>>())
        };
        assert_eq!(of("in/0/7"), (vec!["out/0/1".into(), "out/0/2".into()], vec![]));
        assert_eq!(of("in/1/7"), (vec!["out/0/3".into()], vec![]));
        assert_eq!(of("in/0/9"), (vec![], vec!["h.dlq/0/0".into()]));
        assert_eq!(of("in/1/8"), (vec![], vec![]));
        assert_eq!(of("elsewhere/0/7"), (vec![], vec![]));
        assert_eq!(published.letters[0].what, Fingerprint::of_failure("trap", "boom"));
    }
}
