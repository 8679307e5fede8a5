//! What `wasmill invoke` prints: what became of each event, and what the calls took.

use bytesize::ByteSize;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::event::{Event, Outcome, Output};
use crate::guest::Usage;
use crate::text::{count, one_line, readable};

/// What `--json` prints.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    events: Vec<EventReport>,
    pub(super) failed: usize,
    calls: u64,
    time_us: u128,
    peak_memory_bytes: usize,
}

#[derive(Debug, Serialize)]
struct EventReport {
    position: String,
    outputs: Vec<OutputReport>,
    failure: Option<FailureReport>,
}

#[derive(Debug, Serialize)]
struct OutputReport {
    topic: String,
    key: Option<String>,
    payload: Option<Payload>,
    headers: Vec<(String, String)>,
}

#[derive(Debug, Serialize)]
struct FailureReport {
    kind: &'static str,
    message: String,
    backtrace: Option<String>,
}

/// JSON as it was written, anything else as text.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Payload {
    Json(Box<RawValue>),
    Text(String),
}

impl Report {
    /// Outputs that name no topic go to `default_topic`.
    pub(super) fn new(default_topic: &str, events: &[Event], outcomes: &[Outcome], usage: Usage) -> Self {
        let event = |(event, outcome): (&Event, &Outcome)| EventReport {
            position: event.position.to_string(),
            outputs: outcome
                .iter()
                .flatten()
                .map(|output| OutputReport::new(output, default_topic))
                .collect(),
            failure: outcome.as_ref().err().map(|failure| FailureReport {
                kind: failure.kind.as_str(),
                message: failure.message.clone(),
                backtrace: failure.backtrace.clone(),
            }),
        };
        Self {
            events: events.iter().zip(outcomes).map(event).collect(),
            failed: outcomes.iter().filter(|outcome| outcome.is_err()).count(),
            calls: usage.calls,
            time_us: usage.time.as_micros(),
            peak_memory_bytes: usage.peak_memory,
        }
    }

    pub(super) fn print(&self) {
        for event in &self.events {
            answer!("{}", one_line(&event.position));
            for output in &event.outputs {
                let key = output.key.as_deref().unwrap_or("(no key)");
                let payload = output.payload.as_ref().map_or("(null)".into(), Payload::line);
                answer!("  -> {} {} {payload}", one_line(&output.topic), one_line(key));
                for (name, value) in &output.headers {
                    answer!("     {}: {}", one_line(name), one_line(value));
                }
            }
            match &event.failure {
                Some(failure) => {
                    answer!("  {}: {}", failure.kind, readable(&failure.message).replace('\n', "\n    "));
                    for frame in failure.backtrace.iter().flat_map(|frames| frames.lines()) {
                        answer!("  {}", one_line(frame));
                    }
                }
                None if event.outputs.is_empty() => answer!("  (nothing)"),
                None => {}
            }
        }
        let outputs: usize = self.events.iter().map(|event| event.outputs.len()).sum();
        tell!(
            "{}: {}, {} failed; {}, {:.3} ms, {} of memory at most",
            count(self.events.len() as u64, "event"),
            count(outputs as u64, "output"),
            self.failed,
            count(self.calls, "call"),
            self.time_us as f64 / 1000.0,
            ByteSize::b(self.peak_memory_bytes as u64),
        );
    }
}

impl OutputReport {
    fn new(output: &Output, default_topic: &str) -> Self {
        let headers =
            output.headers.iter().map(|header| (header.name.to_string(), text(&header.value))).collect();
        Self {
            topic: output.topic.clone().unwrap_or_else(|| default_topic.into()),
            key: output.key.as_deref().map(text),
            payload: output.payload.as_deref().map(Payload::new),
            headers,
        }
    }
}

impl Payload {
    fn new(bytes: &[u8]) -> Self {
        serde_json::from_slice(bytes).map_or_else(|_not_json| Self::Text(text(bytes)), Self::Json)
    }

    fn line(&self) -> String {
        match self {
            // Its strings hold no line breaks: those between the tokens are layout.
            Self::Json(json) => one_line(&json.get().replace(['\r', '\n'], " ")),
            Self::Text(text) => one_line(text),
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::event::{Failure, FailureKind, Position};

    fn output(topic: Option<&str>, payload: Option<&'static str>) -> Output {
        Output {
            topic: topic.map(Into::into),
            key: None,
            payload: payload.map(Into::into),
            headers: Vec::new(),
        }
    }

    #[test]
    fn outputs_name_their_topic_and_show_json_as_json_and_the_rest_as_text() {
        let outputs =
            [output(None, Some("{\"a\":1}")), output(Some("other"), Some("not json")), output(None, None)];
        let shown = outputs.map(|output| serde_json::to_value(OutputReport::new(&output, "first")).unwrap());
        assert_eq!(
            shown,
            [
                json!({"topic": "first", "key": null, "payload": {"a": 1}, "headers": []}),
                json!({"topic": "other", "key": null, "payload": "not json", "headers": []}),
                json!({"topic": "first", "key": null, "payload": null, "headers": []}),
            ]
        );
    }

    #[test]
    fn a_payload_takes_one_line_and_commands_no_terminal() {
        let line = |payload: &str| Payload::new(payload.as_bytes()).line();
        assert_eq!(line("{\n\"a\":1\r\n}"), "{ \"a\":1  }");
        assert_eq!(line("\"\u{9b}2J\""), "\"\u{fffd}2J\"");
        assert_eq!(line("\u{1b}[2Jgone\n  -> emails"), "\u{fffd}[2Jgone⏎  -> emails");
    }

    #[test]
    fn a_failure_is_shown_with_its_kind_and_counted() {
        let outcomes = [Ok(vec![]), Err(Failure::new(FailureKind::Trap, "boom"))];
        let event = |offset| Event {
            position: Position { topic: "in".into(), partition: 0, offset },
            timestamp_ms: None,
            key: None,
            payload: None,
            headers: Vec::new(),
        };
        let report = Report::new("first", &[event(0), event(1)], &outcomes, Usage::default());
        let shown = serde_json::to_value(&report).unwrap();
        assert_eq!((report.failed, &shown["events"][0]["failure"]), (1, &json!(null)));
        assert_eq!(
            shown["events"][1],
            json!({
                "position": "in/0/1",
                "outputs": [],
                "failure": {"kind": "trap", "message": "boom", "backtrace": null}
            })
        );
    }
}
