//! `wasmill trace`: every record of one key, over all topics of the pipeline, dead letters included.
//!
//! Reads the topics from their beginning: the truth is in them, and nowhere else. It takes as long as
//! reading them takes.

use std::collections::HashMap;
use std::process::ExitCode;
use std::str;

use comfy_table::Table;
use comfy_table::presets::NOTHING;
use miette::{IntoDiagnostic, miette};
use serde::Serialize;

use crate::config::plan::{Plan, TopicKind};
use crate::event::headers::{ATTEMPTS, DIGEST, FAILURE_KIND, FAILURE_MESSAGE, HANDLER, REDRIVE_OF, SOURCE};
use crate::event::{Event, header, rfc3339_millis};
use crate::log::kafka::Start;

use super::{broker, host};
use crate::text::{count, one_line, readable};

/// Prints every record with a key, over all topics of the pipeline, in the order of time.
///
/// Shows where each one stands, which handler made it and in which version, and how long after the record
/// that it was made from. Of a dead letter it tells the failure. Exits with 1 when there is no such record.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  wasmill trace 019a9f3e-7d1c-7e52-9d5e-2f1f0c5b8a11
  wasmill trace 019a9f3e-7d1c-7e52-9d5e-2f1f0c5b8a11 --json | jq .hops[].topic")]
pub(super) struct Args {
    /// The records' key, as text.
    key: String,

    /// The address of the host that runs the embedded broker; by default the one in pipeline.toml.
    #[arg(long, value_parser = host::url)]
    url: Option<String>,

    /// Prints one JSON object, on stdout.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(plan: &Plan, args: Args) -> miette::Result<ExitCode> {
    let cluster = broker::connect(args.url.as_deref(), plan)?;
    let of_events = plan.topics.iter().filter(|topic| topic.kind != TopicKind::Claims);
    let topics: Vec<_> = of_events.map(|topic| topic.name.clone()).collect();
    // Those of a handler that never started are not there.
    let topics = cluster.existing(&topics).map_err(|error| broker::refused(&cluster, error))?;
    if topics.is_empty() {
        return Err(miette!(
            help = "`wasmill run` makes them; or --brokers names another cluster",
            "none of the pipeline's topics exists at {}",
            cluster.bootstrap()
        ));
    }
    let mut tail = broker::tail(&cluster, &topics, &Start::Beginning)?;

    let mut events = Vec::new();
    let read = broker::read_to_the_end(&mut tail, &cluster, |event| {
        if event.key.as_deref() == Some(args.key.as_bytes()) {
            events.push(event);
        }
    })?;
    let hops = hops(&events);
    if args.json {
        let trace = Trace { key: &args.key, records_read: read, hops: &hops };
        answer!("{}", serde_json::to_string_pretty(&trace).into_diagnostic()?);
    } else if !hops.is_empty() {
        answer!("{}", table(&hops));
    }
    if hops.is_empty() {
        tell!(
            "no record has the key {:?}: {} read, in {}\n\
             (keys are compared byte by byte; old records may be gone, by the topics' retention)",
            args.key,
            count(read, "record"),
            topics.join(", ")
        );
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

#[derive(Serialize)]
struct Trace<'a> {
    key: &'a str,
    /// Of all keys.
    records_read: u64,
    hops: &'a [Hop],
}

#[derive(Debug, PartialEq, Serialize)]
struct Hop {
    /// RFC 3339; null for a record without a timestamp.
    time: Option<String>,
    timestamp_ms: Option<i64>,
    topic: String,
    partition: i32,
    offset: i64,
    /// What made the record: a handler's or a sink's name. Null for what came from outside, or was put back.
    handler: Option<String>,
    /// The version of it: a component's sha-256.
    digest: Option<String>,
    /// The record that it was made from, as `topic/partition/offset`; of one that was put back its dead letter.
    source: Option<String>,
    /// By `wasmill dlq redrive`.
    put_back: bool,
    /// After the record that it was made from; null where that is not one of the key's.
    latency_ms: Option<i64>,
    failure: Option<Failed>,
}

/// Only on dead letters.
#[derive(Debug, PartialEq, Serialize)]
struct Failed {
    kind: String,
    message: Option<String>,
    attempts: Option<String>,
}

fn hops(events: &[Event]) -> Vec<Hop> {
    let by_position: HashMap<String, &Event> =
        events.iter().map(|event| (event.position.to_string(), event)).collect();
    let origin = |event: &Event| text(event, REDRIVE_OF).or_else(|| text(event, SOURCE));
    let source = |event: &Event| by_position.get(&origin(event)?).copied();
    // Several hops can fall into one millisecond: then the longer way from outside is the later. No way
    // is longer than there are records, even if headers were forged to make a circle.
    let depth = |event: &Event| {
        std::iter::successors(source(event), |event| source(event)).take(events.len()).count()
    };
    let mut ordered: Vec<&Event> = events.iter().collect();
    ordered.sort_by_cached_key(|event| (event.timestamp_ms, depth(event), event.position.clone()));

    // The other headers of what was put back are those of its first time.
    let put_back = |event: &Event| header(&event.headers, REDRIVE_OF).is_some();
    let made = |event: &Event, name| text(event, name).filter(|_| !put_back(event));
    let hop = |event: &Event| Hop {
        time: event.timestamp_ms.and_then(rfc3339_millis),
        timestamp_ms: event.timestamp_ms,
        topic: event.position.topic.to_string(),
        partition: event.position.partition,
        offset: event.position.offset,
        handler: made(event, HANDLER),
        digest: made(event, DIGEST),
        source: origin(event),
        put_back: put_back(event),
        latency_ms: source(event).and_then(|from| event.timestamp_ms?.checked_sub(from.timestamp_ms?)),
        failure: text(event, FAILURE_KIND).map(|kind| Failed {
            kind,
            message: text(event, FAILURE_MESSAGE),
            attempts: text(event, ATTEMPTS),
        }),
    };
    ordered.into_iter().map(hop).collect()
}

fn text(event: &Event, name: &str) -> Option<String> {
    Some(str::from_utf8(header(&event.headers, name)?).ok()?.to_string())
}

/// Headers are whatever the record's producer wrote.
fn table(hops: &[Hop]) -> String {
    let shown = |header: &Option<String>| header.as_deref().map(one_line).unwrap_or_default();
    let mut table = Table::new();
    table.load_preset(NOTHING).set_header([
        "time",
        "topic",
        "partition/offset",
        "handler",
        "digest",
        "after",
    ]);
    let mut failures = String::new();
    for hop in hops {
        table.add_row([
            hop.time.clone().unwrap_or_default(),
            hop.topic.clone(),
            format!("{}/{}", hop.partition, hop.offset),
            if hop.put_back { "(put back)".into() } else { shown(&hop.handler) },
            shown(&hop.digest).chars().take(12).collect(),
            hop.latency_ms.map(|ms| format!("{ms} ms")).unwrap_or_default(),
        ]);
        if let Some(Failed { kind, message, attempts }) = &hop.failure {
            let (topic, partition, offset) = (&hop.topic, hop.partition, hop.offset);
            let kind = one_line(kind);
            let attempts = one_line(attempts.as_deref().unwrap_or("?"));
            let message = readable(message.as_deref().unwrap_or_default()).replace('\n', "\n    ");
            failures.push_str(&format!(
                "\n{topic}/{partition}/{offset}: {kind} at attempt {attempts}: {message}"
            ));
        }
    }
    format!("{}{failures}", table.trim_fmt())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Header, Position};

    fn event(topic: &str, offset: i64, timestamp_ms: i64, headers: &[(&'static str, &'static str)]) -> Event {
        Event {
            position: Position { topic: topic.into(), partition: 1, offset },
            timestamp_ms: Some(timestamp_ms),
            key: Some("k".into()),
            payload: None,
            headers: headers.iter().map(|(name, value)| Header::new(*name, *value)).collect(),
        }
    }

    fn topics(hops: &[Hop]) -> Vec<(&str, Option<i64>)> {
        hops.iter().map(|hop| (hop.topic.as_str(), hop.latency_ms)).collect()
    }

    #[test]
    fn hops_within_one_millisecond_are_ordered_by_what_was_made_from_what() {
        let events = [
            event("a-last", 0, 1000, &[(SOURCE, "m-middle/1/0")]),
            event("m-middle", 0, 1000, &[(SOURCE, "z-first/1/0")]),
            event("z-first", 0, 1000, &[]),
        ];
        let hops = hops(&events);
        assert_eq!(topics(&hops), [("z-first", None), ("m-middle", Some(0)), ("a-last", Some(0))]);
    }

    #[test]
    fn latency_is_counted_from_the_record_it_was_made_from_and_from_no_other() {
        let events = [
            event("in", 0, 1000, &[]),
            event("out", 0, 1200, &[(SOURCE, "in/1/0")]),
            event("aside", 0, 1300, &[(SOURCE, "in/1/0")]),
            event("in", 1, 1450, &[]),
            event("out", 1, 1460, &[(SOURCE, "elsewhere/1/0")]),
        ];
        let expected = [("in", None), ("out", Some(200)), ("aside", Some(300)), ("in", None), ("out", None)];
        assert_eq!(topics(&hops(&events)), expected);
    }

    #[test]
    fn what_was_put_back_is_nobodys_work_and_comes_from_its_dead_letter() {
        let events = [
            event("in", 0, 1000, &[(HANDLER, "before")]),
            event("h.dlq", 0, 1100, &[(HANDLER, "h"), (SOURCE, "in/1/0")]),
            event("in", 1, 5100, &[(HANDLER, "before"), (SOURCE, "far/1/0"), (REDRIVE_OF, "h.dlq/1/0")]),
        ];
        let hops = hops(&events);
        assert_eq!(topics(&hops), [("in", None), ("h.dlq", Some(100)), ("in", Some(4000))]);
        assert_eq!((hops[2].handler.as_deref(), hops[2].put_back), (None, true));
        assert!(table(&hops).lines().any(|line| line.contains("(put back)")));
    }

    #[test]
    fn a_circle_of_forged_sources_ends() {
        let events = [event("a", 0, 1, &[(SOURCE, "b/1/0")]), event("b", 0, 1, &[(SOURCE, "a/1/0")])];
        assert_eq!(hops(&events).len(), 2);
    }

    #[test]
    fn a_dead_letter_tells_its_failure() {
        let headers =
            [(HANDLER, "h"), (FAILURE_KIND, "reject"), (FAILURE_MESSAGE, "no \"to\""), (ATTEMPTS, "1")];
        let hops = hops(&[event("h.dlq", 0, 1_790_000_000_123, &headers)]);
        assert_eq!(hops[0].time.as_deref(), Some("2026-09-21T14:13:20.123Z"));
        assert_eq!(hops[0].failure.as_ref().unwrap().kind, "reject");
        assert!(table(&hops).ends_with("h.dlq/1/0: reject at attempt 1: no \"to\""));
    }

    #[test]
    fn what_headers_hold_cannot_command_the_terminal_nor_pass_for_a_line_of_the_table() {
        let tricks = "\u{1b}]0;owned\u{7}\nh.dlq/1/9: forged";
        let names = [HANDLER, DIGEST, FAILURE_KIND, FAILURE_MESSAGE, ATTEMPTS];
        let shown = table(&hops(&[event("h.dlq", 0, 1, &names.map(|name| (name, tricks)))]));
        assert!(!shown.contains(|c: char| c.is_control() && c != '\n'), "{shown:?}");
        assert!(shown.lines().all(|line| !line.starts_with("h.dlq/1/9")), "{shown}");
    }
}
