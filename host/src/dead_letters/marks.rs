//! Which dead letters were put back or let go, and why: a record for each, by its position, in a topic beside theirs.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::event::{Event, Position, Record, TopicPartition, rfc3339_millis};
use crate::log::kafka::{Cluster, Start};
use crate::reading;
use crate::text::one_line;

/// Where it is noted for the dead letters of this topic.
pub(crate) fn topic(dead_letter: &str) -> Arc<str> {
    format!("{dead_letter}.settled").into()
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mark {
    settled: Settled,
    /// Milliseconds since the epoch.
    at_ms: i64,
    /// The letter's own timestamp.
    letter_ms: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Settled {
    Redriven,
    Discarded,
}

impl Mark {
    pub(crate) fn now(settled: Settled, reason: Option<&str>, letter: &Event, now_ms: i64) -> Self {
        Self { settled, at_ms: now_ms, letter_ms: letter.timestamp_ms, reason: reason.map(Into::into) }
    }

    pub(crate) fn record(&self, topic: &Arc<str>, letter: &Position) -> Record {
        // Of these types nothing fails to be written.
        let payload = serde_json::to_vec(self).unwrap_or_default();
        let (key, payload) = (Some(letter.to_string().into()), Some(payload.into()));
        Record { topic: topic.clone(), key, payload, headers: Vec::new() }
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.settled {
            Settled::Redriven => "put back",
            Settled::Discarded => "discarded",
        })?;
        write!(f, ", {}", rfc3339_millis(self.at_ms).unwrap_or_default())?;
        match &self.reason {
            Some(reason) => write!(f, ": {}", one_line(reason)),
            None => Ok(()),
        }
    }
}

/// By the letters' positions; none where a mark can't be read, which counts as one.
pub(crate) type Marks = HashMap<String, Option<Mark>>;

/// Whether the letter was settled. A mark with another timestamp is of another letter: the topic was made anew since.
pub(crate) fn is_settled(marks: &Marks, letter: &Event) -> bool {
    match marks.get(&letter.position.to_string()) {
        None => false,
        Some(None) => true,
        Some(Some(mark)) => mark.letter_ms == letter.timestamp_ms,
    }
}

/// What is noted of the dead letters that stand there. Of letters that are gone by now it is read, too, and not kept.
pub(crate) fn of(cluster: &Cluster, ranges: &BTreeMap<TopicPartition, Range<i64>>) -> miette::Result<Marks> {
    let topics: BTreeSet<&Arc<str>> = ranges.keys().map(|partition| &partition.topic).collect();
    let topics: Vec<Arc<str>> = topics.into_iter().map(|topic| self::topic(topic)).collect();
    let mut marks = Marks::new();
    let there = cluster.existing(&topics).map_err(|error| reading::refused(cluster, error))?;
    if !there.is_empty() {
        let mut tail = reading::tail(cluster, &there, &Start::Beginning)?;
        reading::read_to_the_end(
            &mut tail,
            cluster,
            |record| {
                let mark = record.payload.and_then(|payload| serde_json::from_slice(&payload).ok());
                let key = record.key.as_deref().and_then(|key| str::from_utf8(key).ok());
                let letter: Option<Position> = key.and_then(|key| key.parse().ok());
                let is_asked_for = |letter: &Position| {
                    ranges.get(&letter.topic_partition()).is_some_and(|range| range.contains(&letter.offset))
                };
                marks.extend(letter.filter(is_asked_for).map(|letter| (letter.to_string(), mark)));
            },
            |_| (),
        )?;
    }
    Ok(marks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_tells_what_was_done_when_and_why_to_whoever_reads_it_later() {
        let position = Position { topic: "h.dlq".into(), partition: 0, offset: 3 };
        let event = |timestamp_ms| Event {
            position: position.clone(),
            timestamp_ms: Some(timestamp_ms),
            key: None,
            payload: None,
            headers: Vec::new(),
        };
        let letter = event(1_790_000_900_000);
        let mark = Mark::now(Settled::Discarded, Some("te\u{1b}st"), &letter, 1_790_000_000_123);
        let record = mark.record(&topic("h.dlq"), &position);
        assert_eq!((&*record.topic, record.key), ("h.dlq.settled", Some("h.dlq/0/3".into())));
        let read: Mark = serde_json::from_slice(&record.payload.unwrap()).unwrap();
        assert_eq!(read, mark);
        assert_eq!(read.to_string(), "discarded, 2026-09-21T14:13:20.123Z: te\u{fffd}st");
        let marks = Marks::from([("h.dlq/0/3".into(), Some(mark))]);
        assert!(is_settled(&marks, &letter), "whatever the clocks say");
        assert!(!is_settled(&marks, &event(1_790_000_000_000)), "it is another one");
        let before = r#"{"settled":"redriven","at_ms":1790000000123,"letter_ms":null}"#;
        let read: Mark = serde_json::from_str(before).unwrap();
        assert_eq!(read.to_string(), "put back, 2026-09-21T14:13:20.123Z");
    }
}
