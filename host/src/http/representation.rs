//! The view as JSON. Payloads that are JSON stand in it as they are in the topic, digit for digit.

use axum::Json;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use super::resources::encoded;
use super::state::{Latest, State, Step};
use super::view::Page;
use crate::config::plan::ResourcePlan;

#[derive(Serialize)]
struct One<'a> {
    id: &'a str,
    /// By topic; a topic that has no record of this id is missing.
    latest: InOrder<Record<'a>>,
    history: Vec<HistoryStep<'a>>,
    history_dropped: u64,
    /// The broker has this record, but it hasn't been read back yet: `latest` doesn't show it.
    #[serde(skip_serializing_if = "Option::is_none")]
    accepted: Option<Accepted<'a>>,
    /// Whether this is all that the topics have.
    complete: bool,
}

#[derive(Serialize)]
struct Accepted<'a> {
    topic: &'a str,
    partition: i32,
    offset: i64,
}

#[derive(Serialize)]
struct Record<'a> {
    #[serde(flatten)]
    payload: Payload<'a>,
    partition: i32,
    offset: i64,
    timestamp_ms: i64,
    headers: InOrder<&'a str>,
}

#[derive(Serialize)]
enum Payload<'a> {
    #[serde(rename = "payload")]
    Json(&'a RawValue),
    #[serde(rename = "payload_text")]
    Text(&'a str),
    #[serde(rename = "payload_base64")]
    Base64(String),
    /// A null payload: the key was deleted.
    #[serde(rename = "tombstone")]
    Tombstone(bool),
}

#[derive(Serialize)]
struct HistoryStep<'a> {
    topic: &'a str,
    partition: i32,
    offset: i64,
    timestamp_ms: i64,
    headers: InOrder<&'a str>,
}

#[derive(Serialize)]
struct Many<'a> {
    items: Vec<Item<'a>>,
    /// The path of the next page; null on the last one.
    next: Option<String>,
    /// Whether these are all ids that the topics have.
    complete: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    incomplete_because: Vec<String>,
}

#[derive(Serialize)]
struct Item<'a> {
    id: &'a str,
    updated_ms: i64,
    topics: InOrder<Place>,
    #[serde(skip_serializing_if = "Option::is_none")]
    accepted: Option<Accepted<'a>>,
}

#[derive(Serialize)]
struct Place {
    partition: i32,
    offset: i64,
    timestamp_ms: i64,
}

/// Serialized as an object with its properties in this order.
struct InOrder<V>(Vec<(String, V)>);

impl<V: Serialize> Serialize for InOrder<V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

pub(super) fn one(id: &str, state: &State, plan: &ResourcePlan, caught_up: bool) -> Response {
    let topics: Vec<_> = plan.shown().collect();
    let latest = state.latest.iter().flatten().map(|latest| {
        let Step { topic, partition, offset, timestamp_ms, .. } = latest.step;
        let record = Record {
            payload: payload(latest),
            partition,
            offset,
            timestamp_ms,
            headers: shown(&latest.step),
        };
        (topics[topic].to_string(), record)
    });
    let history = state.history.iter().map(|step| HistoryStep {
        topic: topics[step.topic],
        partition: step.partition,
        offset: step.offset,
        timestamp_ms: step.timestamp_ms,
        headers: shown(step),
    });
    json(&One {
        id,
        latest: InOrder(latest.collect()),
        history: history.collect(),
        history_dropped: state.history_dropped,
        accepted: accepted(state, plan),
        complete: caught_up && state.whole && state.history_dropped == 0 && state.accepted.is_none(),
    })
}

pub(super) fn many(page: &Page, plan: &ResourcePlan, limit: usize) -> Response {
    let topics: Vec<_> = plan.shown().collect();
    let items = page.items.iter().map(|(time, id, state)| Item {
        id,
        updated_ms: *time,
        topics: InOrder(
            state
                .latest
                .iter()
                .flatten()
                .map(|Latest { step, .. }| {
                    let Step { topic, partition, offset, timestamp_ms, .. } = *step;
                    (topics[topic].to_string(), Place { partition, offset, timestamp_ms })
                })
                .collect(),
        ),
        accepted: accepted(state, plan),
    });
    let next = page.items.last().filter(|_| page.more).map(|(time, id, _)| {
        format!("/{}?limit={limit}&after={}", plan.name, encoded(&format!("{time}.{id}")))
    });
    let mut incomplete_because = Vec::new();
    if !page.caught_up {
        incomplete_because.push("the view is still being rebuilt from the topics".into());
    }
    if page.evicted > 0 {
        incomplete_because
            .push(format!("the view has dropped the {} least recently updated ids", page.evicted));
    }
    json(&Many { items: items.collect(), next, complete: incomplete_because.is_empty(), incomplete_because })
}

fn accepted<'a>(state: &State, plan: &'a ResourcePlan) -> Option<Accepted<'a>> {
    let accepted = state.accepted?;
    Some(Accepted { topic: &plan.topic, partition: accepted.partition, offset: accepted.offset })
}

fn payload(latest: &Latest) -> Payload<'_> {
    let Some(bytes) = &latest.payload else { return Payload::Tombstone(true) };
    match (serde_json::from_slice(bytes), std::str::from_utf8(bytes)) {
        (Ok(json), _) => Payload::Json(json),
        (Err(_), Ok(text)) => Payload::Text(text),
        (Err(_), Err(_)) => Payload::Base64(STANDARD.encode(bytes)),
    }
}

fn shown(step: &Step) -> InOrder<&str> {
    InOrder(step.headers.iter().map(|(name, value)| (name.to_string(), &**value)).collect())
}

fn json(value: &impl Serialize) -> Response {
    // What the view shows changes with every record: nobody may keep it.
    ([(header::CACHE_CONTROL, "no-store")], Json(value)).into_response()
}
