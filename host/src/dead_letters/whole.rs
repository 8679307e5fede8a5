//! One dead letter, whole.

use std::fmt;
use std::str;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Serialize;
use serde_json::Value;

use super::letter::{self, Failed};
use super::marks::{self, Mark};
use crate::event::{Event, Position, rfc3339_millis};
use crate::log::kafka::Cluster;
use crate::reading;
use crate::shard::original;
use crate::text::{one_line, readable, short};

/// The event as it was, and everything that is known of its failure.
#[derive(Serialize)]
pub(crate) struct Whole {
    position: String,
    /// Whether it was put back or let go.
    settled: Option<Mark>,
    #[serde(flatten)]
    failed: Failed,
    key: Option<Content>,
    /// The event's own.
    headers: Vec<(String, Content)>,
    payload: Option<Content>,
}

#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Content {
    Json(Value),
    Text(String),
    Base64(String),
}

impl Whole {
    /// The one that stands there.
    pub(crate) fn read(cluster: &Cluster, position: &Position) -> miette::Result<Self> {
        let letter = letter::at(cluster, position)?;
        let marks = marks::of(cluster, &reading::alone(position))?;
        let mark = marks.get(&position.to_string()).filter(|_| marks::is_settled(&marks, &letter));
        Ok(Self { settled: mark.cloned().flatten(), ..Self::of(&letter) })
    }

    fn of(letter: &Event) -> Self {
        // Of a record that is no dead letter all of them are.
        let original = original(letter);
        let headers = original.as_ref().map_or(&letter.headers, |event| &event.headers);
        let own = headers.iter().map(|header| (header.name.to_string(), Content::text(&header.value)));
        Self {
            position: letter.position.to_string(),
            settled: None,
            failed: Failed::of(letter),
            key: letter.key.as_deref().map(Content::text),
            headers: own.collect(),
            payload: letter.payload.as_deref().map(Content::of),
        }
    }
}

impl Content {
    fn of(bytes: &[u8]) -> Self {
        serde_json::from_slice(bytes).map_or_else(|_| Self::text(bytes), Self::Json)
    }

    fn text(bytes: &[u8]) -> Self {
        str::from_utf8(bytes)
            .map_or_else(|_| Self::Base64(BASE64.encode(bytes)), |text| Self::Text(text.into()))
    }
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Json(value) => write!(f, "{value:#}"),
            Self::Text(text) => f.write_str(&readable(text)),
            Self::Base64(text) => write!(f, "base64 {text}"),
        }
    }
}

impl fmt::Display for Whole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { position, settled, failed, key, headers, payload } = self;
        write!(f, "{position}")?;
        let mut line = |name: &str, text: Option<String>| match text {
            // Further lines stand below the first.
            Some(text) => write!(f, "\n{name:10} {}", text.replace('\n', "\n           ")),
            None => Ok(()),
        };
        let text = |text: &Option<String>| text.as_deref().map(one_line);
        let version = failed.digest.as_deref().map(|digest| format!(", {}", short(&one_line(digest))));
        line("handler", text(&failed.handler).map(|name| name + &version.unwrap_or_default()))?;
        line("cause", text(&failed.kind))?;
        line("message", failed.message.as_deref().map(readable))?;
        line("attempts", failed.attempts.map(|attempts| attempts.to_string()))?;
        line("failed", failed.last_failed_ms.and_then(rfc3339_millis))?;
        let first = failed.first_failed_ms.filter(|first| Some(*first) != failed.last_failed_ms);
        line("at first", first.and_then(rfc3339_millis))?;
        line("settled", settled.as_ref().map(Mark::to_string))?;
        line("source", text(&failed.source))?;
        line("backtrace", failed.backtrace.as_deref().map(readable))?;
        line("key", Some(key.as_ref().map_or_else(|| "none".into(), |key| one_line(&key.to_string()))))?;
        for (name, value) in headers {
            line("header", Some(format!("{}: {}", one_line(name), one_line(&value.to_string()))))?;
        }
        line("payload", Some(payload.as_ref().map_or_else(|| "none".into(), Content::to_string)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Header;
    use crate::event::headers::{ATTEMPTS, FAILURE_KIND, FAILURE_MESSAGE, HANDLER, LAST_FAILED_MS, SOURCE};

    fn letter(payload: &'static [u8]) -> Whole {
        let headers = [
            ("mine", "a\nb"),
            ("wasmill-original-handler", "before"),
            (HANDLER, "h"),
            (FAILURE_KIND, "reject"),
            (FAILURE_MESSAGE, "no\u{1b}[2J\nnever"),
            (ATTEMPTS, "2"),
            (SOURCE, "in/1/7"),
            (LAST_FAILED_MS, "1790000000123"),
        ];
        Whole::of(&Event {
            position: Position { topic: "h.dlq".into(), partition: 0, offset: 3 },
            timestamp_ms: Some(1),
            key: Some("k".into()),
            payload: Some(payload.into()),
            headers: headers.iter().map(|(name, value)| Header::new(*name, *value)).collect(),
        })
    }

    #[test]
    fn all_of_a_letter_is_shown_and_nothing_commands_the_terminal() {
        assert_eq!(
            letter(br#"{"a":1}"#).to_string(),
            "h.dlq/0/3\n\
             handler    h\n\
             cause      reject\n\
             message    no\u{fffd}[2J\n           never\n\
             attempts   2\n\
             failed     2026-09-21T14:13:20.123Z\n\
             source     in/1/7\n\
             key        k\n\
             header     mine: a⏎b\n\
             header     wasmill-handler: before\n\
             payload    {\n             \"a\": 1\n           }"
        );
    }

    #[test]
    fn a_payload_of_any_kind_can_be_told_from_the_others_by_programs() {
        let payload = |bytes| serde_json::to_value(letter(bytes)).unwrap()["payload"].clone();
        assert_eq!(payload(b"{\"a\":1}"), serde_json::json!({ "json": { "a": 1 } }));
        assert_eq!(payload(b"plain"), serde_json::json!({ "text": "plain" }));
        assert_eq!(payload(b"\xff"), serde_json::json!({ "base64": "/w==" }));
    }
}
