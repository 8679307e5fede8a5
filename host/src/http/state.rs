//! One id in the view: the latest record of each topic, with its payload, and the history without payloads.

use std::sync::Arc;

use bytes::Bytes;

use crate::event::{Event, headers};
use crate::telemetry::trace_context;
use crate::text::cut;

/// Records of an id's history; beyond it the oldest go.
pub(super) const MAX_HISTORY: usize = 64;

/// The headers worth showing: where a record came from, what made it, why it is a dead letter, and that it was put back.
const SHOWN_HEADERS: [&str; 10] = [
    super::resources::HTTP_METHOD,
    headers::HANDLER,
    headers::DIGEST,
    headers::SOURCE,
    headers::TRACEPARENT,
    headers::INGRESS_TIME,
    headers::ATTEMPTS,
    headers::FAILURE_KIND,
    headers::FAILURE_MESSAGE,
    headers::REDRIVE_OF,
];
/// Bytes of a header's value that are shown.
const MAX_HEADER: usize = 512;

#[derive(Clone, Debug)]
pub(super) struct State {
    /// By the index of the topic in the view, which is also how the history names topics.
    pub(super) latest: Vec<Option<Latest>>,
    /// By time.
    pub(super) history: Vec<Step>,
    /// Records that the history had no room for.
    pub(super) history_dropped: u64,
    /// No earlier record of this id can have been dropped with an eviction.
    pub(super) whole: bool,
    /// Partition and offset in the resource's own topic of the newest record that the broker has
    /// acknowledged to this process and that hasn't been read back yet.
    pub(super) accepted: Option<Accepted>,
    /// Which reading of the topics `latest` and `history` are of.
    pub(super) reading: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Accepted {
    pub(super) partition: i32,
    pub(super) offset: i64,
    /// The reading during which it was acknowledged: the next one shows the record.
    pub(super) reading: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Latest {
    pub(super) step: Step,
    pub(super) payload: Option<Bytes>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) topic: usize,
    pub(super) partition: i32,
    pub(super) offset: i64,
    pub(super) timestamp_ms: i64,
    pub(super) headers: Arc<[(&'static str, Box<str>)]>,
}

/// A record as the view keeps it.
pub(super) struct Seen {
    partition: i32,
    offset: i64,
    timestamp_ms: i64,
    headers: Arc<[(&'static str, Box<str>)]>,
    payload: Option<Bytes>,
}

impl Seen {
    pub(super) fn new(event: &Event, timestamp_ms: i64) -> Self {
        let shown = SHOWN_HEADERS.iter().filter_map(|name| {
            let value = crate::event::header(&event.headers, name)?;
            let value = std::str::from_utf8(value).ok()?;
            Some((*name, cut(value, MAX_HEADER).into()))
        });
        Self {
            partition: event.position.partition,
            offset: event.position.offset,
            timestamp_ms,
            headers: shown.collect(),
            // A copy: a slice could hold the whole of what was fetched with it.
            payload: event.payload.as_deref().map(Bytes::copy_from_slice),
        }
    }
}

impl State {
    pub(super) fn new(whole: bool, reading: u64) -> Self {
        Self { latest: Vec::new(), history: Vec::new(), history_dropped: 0, whole, accepted: None, reading }
    }

    /// Applies a record of the view's topic number `topic` of `of`.
    pub(super) fn apply(&mut self, topic: usize, of: usize, seen: Seen) {
        let Seen { partition, offset, timestamp_ms, headers, payload } = seen;
        let step = Step { topic, partition, offset, timestamp_ms, headers };
        self.latest.resize(of, None);
        let newer = self.latest[topic].as_ref().is_none_or(|latest| {
            if latest.step.partition == partition {
                latest.step.offset < offset
            } else {
                // The topic got more partitions, or its producers disagree about them.
                latest.step.timestamp_ms <= timestamp_ms
            }
        });
        if newer {
            self.latest[topic] = Some(Latest { step: step.clone(), payload });
        }
        let at = self.history.partition_point(|s| s.timestamp_ms <= timestamp_ms);
        self.history.insert(at, step);
        if self.history.len() > MAX_HISTORY {
            self.history.remove(0);
            self.history_dropped += 1;
        }
    }

    /// The ids of the traces that its records are of.
    pub(super) fn traces(&self) -> impl Iterator<Item = &str> {
        self.history.iter().filter_map(|step| {
            let (_, parent) = step.headers.iter().find(|(name, _)| *name == headers::TRACEPARENT)?;
            trace_context::trace_id(parent.as_bytes())
        })
    }

    /// About what it holds in memory.
    pub(super) fn bytes(&self) -> usize {
        let headers = |step: &Step| step.headers.iter().map(|(_, value)| value.len() + 32).sum::<usize>();
        let latest = self.latest.iter().flatten();
        let payloads =
            latest.map(|l| l.payload.as_ref().map_or(0, Bytes::len) + headers(&l.step)).sum::<usize>();
        size_of::<Self>()
            + self.latest.len() * size_of::<Option<Latest>>()
            + payloads
            + self.history.iter().map(|step| size_of::<Step>() + headers(step)).sum::<usize>()
    }
}
