//! The events that `wasmill invoke` is given.

use std::collections::BTreeMap;
use std::io::BufRead;
use std::time::{SystemTime, UNIX_EPOCH};

use miette::IntoDiagnostic;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::config::plan::HandlerPlan;
use crate::event::{Event, Header, Position};

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    /// JSON values, one after the other; each is a payload.
    Json,
    /// Each line is a payload, whatever it holds.
    Lines,
    /// JSON objects with payload, key, headers, topic and attempt; all may be left out.
    Event,
}

/// An event as it stands in the input.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Given {
    payload: Option<Box<RawValue>>,
    #[serde(skip)]
    line: Option<String>,
    key: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    topic: Option<String>,
    #[serde(default = "first")]
    pub(super) attempt: u32,
}

fn first() -> u32 {
    1
}

impl Given {
    fn payload(payload: Option<Box<RawValue>>, line: Option<String>) -> Self {
        Self { payload, line, key: None, headers: BTreeMap::new(), topic: None, attempt: first() }
    }
}

pub(super) fn read(input: impl BufRead, format: Format) -> miette::Result<Vec<Given>> {
    match format {
        Format::Json => values(input, |payload| Given::payload(Some(payload), None)),
        Format::Event => values(input, |given| given),
        Format::Lines => input
            .lines()
            .map(|line| line.map(|line| Given::payload(None, Some(line))).into_diagnostic())
            .collect(),
    }
}

fn values<T: DeserializeOwned>(
    input: impl BufRead,
    given: impl Fn(T) -> Given,
) -> miette::Result<Vec<Given>> {
    serde_json::Deserializer::from_reader(input)
        .into_iter()
        .map(|value| value.map(&given).into_diagnostic())
        .collect()
}

/// The events at made-up places: partition 0 of the handler's first topic, from offset 0 on.
pub(super) fn place(given: Vec<Given>, handler: &HandlerPlan, key: Option<&str>) -> Vec<Event> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok();
    let timestamp_ms = now.and_then(|since| i64::try_from(since.as_millis()).ok());
    let default_topic = handler.subscribe.first().cloned().unwrap_or_else(|| "".into());
    (0..)
        .zip(given)
        .map(|(offset, given)| Event {
            position: Position {
                topic: given.topic.map_or_else(|| default_topic.clone(), Into::into),
                partition: 0,
                offset,
            },
            timestamp_ms,
            key: given.key.or(key.map(Into::into)).map(Into::into),
            payload: given.payload.map(|json| json.get().to_owned()).or(given.line).map(Into::into),
            headers: given.headers.into_iter().map(|(name, value)| Header::new(name, value)).collect(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payloads(input: &str, format: Format) -> Vec<Option<String>> {
        let given = read(input.as_bytes(), format).unwrap();
        given
            .into_iter()
            .map(|given| given.payload.map(|json| json.get().to_owned()).or(given.line))
            .collect()
    }

    #[test]
    fn json_values_are_payloads_as_they_are_written_over_as_many_lines_as_they_take() {
        let input = "{\n \"a\": 1e2\n}\n\"text\" 3\n\n";
        assert_eq!(
            payloads(input, Format::Json),
            ["{\n \"a\": 1e2\n}", "\"text\"", "3"].map(|payload| Some(payload.into()))
        );
    }

    #[test]
    fn lines_may_hold_anything() {
        assert_eq!(
            payloads("not json\n\n{", Format::Lines),
            ["not json", "", "{"].map(|line| Some(line.into()))
        );
    }

    #[test]
    fn an_event_may_leave_out_everything_and_have_nothing_unknown() {
        let given = read(r#"{} {"key":"k","payload":{"a":1},"headers":{"h":"v"}}"#.as_bytes(), Format::Event)
            .unwrap();
        assert!(given[0].payload.is_none() && given[0].key.is_none());
        assert_eq!(
            (given[1].key.as_deref(), given[1].payload.as_ref().unwrap().get()),
            (Some("k"), "{\"a\":1}")
        );
        assert_eq!((given[0].attempt, given[1].headers["h"].as_str()), (1, "v"));
        let error = read(r#"{"paylod":1}"#.as_bytes(), Format::Event).unwrap_err();
        assert!(error.to_string().contains("unknown field `paylod`"), "{error}");
    }
}
