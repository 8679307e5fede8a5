//! The events that `wasmill invoke` is given.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use miette::{IntoDiagnostic, Report};
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
    line: Option<Vec<u8>>,
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
    fn payload(payload: Option<Box<RawValue>>, line: Option<Vec<u8>>) -> Self {
        Self { payload, line, key: None, headers: BTreeMap::new(), topic: None, attempt: first() }
    }
}

impl Given {
    fn bytes(&mut self) -> Option<Vec<u8>> {
        self.payload.take().map(|json| json.get().into()).or(self.line.take())
    }
}

/// What an input holds, up to its end or to what can't be read.
#[derive(Debug)]
pub(super) struct Input {
    pub(super) given: Vec<Given>,
    pub(super) broken: Option<Report>,
}

pub(super) fn read_file(path: &Path, format: Format) -> Input {
    match File::open(path).into_diagnostic() {
        Ok(file) => read(BufReader::new(file), format),
        Err(error) => Input { given: Vec::new(), broken: Some(error) },
    }
}

pub(super) fn read(input: impl BufRead, format: Format) -> Input {
    match format {
        Format::Json => values(input, |payload| Given::payload(Some(payload), None)),
        Format::Event => values(input, |given| given),
        Format::Lines => {
            let line = |mut line: Vec<u8>| {
                if line.ends_with(b"\r") {
                    line.pop();
                }
                Given::payload(None, Some(line))
            };
            up_to_a_fault(input.split(b'\n').map(|read| read.map(line)))
        }
    }
}

fn values<T: DeserializeOwned>(input: impl BufRead, given: impl Fn(T) -> Given) -> Input {
    up_to_a_fault(serde_json::Deserializer::from_reader(input).into_iter().map(|value| value.map(&given)))
}

fn up_to_a_fault<E: Error + Send + Sync + 'static>(read: impl Iterator<Item = Result<Given, E>>) -> Input {
    let mut given = Vec::new();
    for event in read {
        match event.into_diagnostic() {
            Ok(event) => given.push(event),
            Err(error) => return Input { given, broken: Some(error) },
        }
    }
    Input { given, broken: None }
}

/// The events at made-up places: partition 0 of the handler's first topic, from offset 0 on.
pub(super) fn place(given: Vec<Given>, handler: &HandlerPlan, key: Option<&str>) -> Vec<Event> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok();
    let timestamp_ms = now.and_then(|since| i64::try_from(since.as_millis()).ok());
    let default_topic = handler.subscribe.first().cloned().unwrap_or_else(|| "".into());
    (0..)
        .zip(given)
        .map(|(offset, mut given)| Event {
            payload: given.bytes().map(Into::into),
            position: Position {
                topic: given.topic.map_or_else(|| default_topic.clone(), Into::into),
                partition: 0,
                offset,
            },
            timestamp_ms,
            key: given.key.or(key.map(Into::into)).map(Into::into),
            headers: given.headers.into_iter().map(|(name, value)| Header::new(name, value)).collect(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payloads(input: &str, format: Format) -> Vec<Option<String>> {
        let Input { given, broken } = read(input.as_bytes(), format);
        assert!(broken.is_none(), "{broken:?}");
        given
            .into_iter()
            .map(|mut given| given.bytes().map(|bytes| String::from_utf8(bytes).unwrap()))
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
        let input = r#"{} {"key":"k","payload":{"a":1},"headers":{"h":"v"}} {"paylod":1} {}"#;
        let Input { given, broken } = read(input.as_bytes(), Format::Event);
        assert_eq!(given.len(), 2);
        assert!(given[0].payload.is_none() && given[0].key.is_none());
        assert_eq!(
            (given[1].key.as_deref(), given[1].payload.as_ref().unwrap().get()),
            (Some("k"), "{\"a\":1}")
        );
        assert_eq!((given[0].attempt, given[1].headers["h"].as_str()), (1, "v"));
        let error = broken.unwrap();
        assert!(error.to_string().contains("unknown field `paylod`"), "{error}");
    }
}
