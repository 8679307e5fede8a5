//! A dead letter as people look at it: its headers are whatever its producer wrote.

use std::str;

use miette::miette;
use serde::Serialize;

use crate::event::headers::{
    ATTEMPTS, DIGEST, FAILURE_BACKTRACE, FAILURE_KIND, FAILURE_MESSAGE, FIRST_FAILED_MS, HANDLER,
    LAST_FAILED_MS, SOURCE,
};
use crate::event::{Event, Position, header};
use crate::log::kafka::{Cluster, Start};
use crate::reading;

/// The record at this very position.
pub(crate) fn at(cluster: &Cluster, position: &Position) -> miette::Result<Event> {
    let topic = [position.topic.clone()];
    let mut tail = reading::tail(cluster, &topic, &Start::At(position.clone()))?;
    let first = reading::batch(&mut tail, cluster, 1)?.and_then(|mut records| records.pop());
    let record = first.filter(|event| event.position == *position);
    record.ok_or_else(|| {
        miette!(
            help = "`wasmill dlq ls` tells where dead letters stand; old ones may be gone, by the topic's retention",
            "there is no record at {position}"
        )
    })
}

/// What a dead letter's headers tell of its failure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Failed {
    /// A handler or a sink.
    pub(crate) handler: Option<String>,
    /// A component's sha-256.
    pub(crate) digest: Option<String>,
    pub(crate) kind: Option<String>,
    pub(crate) message: Option<String>,
    pub(crate) backtrace: Option<String>,
    pub(crate) attempts: Option<u32>,
    /// The event that it was, as `topic/partition/offset`.
    pub(crate) source: Option<String>,
    /// Milliseconds since the epoch.
    pub(crate) first_failed_ms: Option<i64>,
    /// Milliseconds since the epoch.
    pub(crate) last_failed_ms: Option<i64>,
}

/// The cause of records without one: others may write to the topic as well.
pub(crate) const UNKNOWN: &str = "unknown";

impl Failed {
    pub(crate) fn cause(&self) -> &str {
        self.kind.as_deref().unwrap_or(UNKNOWN)
    }

    pub(crate) fn of(letter: &Event) -> Self {
        let text = |name| Some(str::from_utf8(header(&letter.headers, name)?).ok()?.to_string());
        let number = |name| text(name)?.parse().ok();
        Self {
            handler: text(HANDLER),
            digest: text(DIGEST),
            kind: text(FAILURE_KIND),
            message: text(FAILURE_MESSAGE),
            backtrace: text(FAILURE_BACKTRACE),
            attempts: text(ATTEMPTS).and_then(|attempts| attempts.parse().ok()),
            source: text(SOURCE),
            first_failed_ms: number(FIRST_FAILED_MS),
            last_failed_ms: number(LAST_FAILED_MS),
        }
    }
}
