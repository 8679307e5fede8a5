//! One event that came out differently: what was published of it is read once more, and put beside what would be now.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use miette::Result;
use serde::Serialize;
use serde_json::Value;

use super::compare::{Before, Fate, Now, is_own, matching};
use super::ignore::Ignored;
use super::json;
use super::published::Entry;
use crate::cli::broker;
use crate::dead_letters::letter::Failed;
use crate::event::{Event, Failure, Header, Position, Record};
use crate::log::kafka::{Cluster, Tail};

/// Outputs of one event that are shown of each side, at most.
const OUTPUTS: usize = 20;

/// What is kept of it until the replay ends.
pub(super) struct Difference {
    position: Position,
    fate: Fate,
    /// Where the outputs stand that have no equal one now, and those that have none among them; not all, where there are
    /// very many.
    before: Vec<Position>,
    now: Vec<Record>,
    /// How many more of both there are.
    more: usize,
    reordered: bool,
    letter: Option<Position>,
    failure: Option<Failure>,
}

impl Difference {
    pub(super) fn new(
        event: &Event,
        fate: Fate,
        before: &Before<'_>,
        now: &Now,
        settled: std::result::Result<Vec<Record>, Failure>,
        place: impl Fn(&Entry) -> Position,
    ) -> Self {
        let unequal = match now {
            Now::Published(now) => matching(before.outputs, now),
            Now::Failed(_) => matching(before.outputs, &[]),
        };
        let shown = |all: &[usize]| all.len().min(OUTPUTS);
        let (old, new) = (shown(&unequal.before), shown(&unequal.now));
        let more = unequal.before.len() - old + unequal.now.len() - new;
        let (records, failure) = match settled {
            Ok(records) => (records, None),
            Err(failure) => (Vec::new(), Some(failure)),
        };
        let failed = before.letters.last().filter(|_| before.outputs.is_empty());
        Self {
            position: event.position.clone(),
            fate,
            before: unequal.before[..old].iter().map(|number| place(&before.outputs[*number])).collect(),
            now: unequal.now[..new].iter().map(|number| records[*number].clone()).collect(),
            more,
            reordered: unequal.reordered,
            letter: failed.map(place),
            failure,
        }
    }
}

/// As it is shown, to people and programs.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Shown {
    /// Of the event, as `topic/partition/offset`.
    pub(super) position: String,
    pub(super) fate: Fate,
    pub(super) failed_before: Option<FailureShown>,
    pub(super) fails_now: Option<FailureShown>,
    pub(super) outputs: Vec<OutputShown>,
    /// Outputs beyond those.
    pub(super) more_outputs: usize,
    /// Equal outputs come in another order.
    pub(super) reordered: bool,
}

#[derive(Debug, PartialEq, Serialize)]
pub(super) struct FailureShown {
    pub(super) kind: String,
    pub(super) message: String,
}

#[derive(Debug, PartialEq, Serialize)]
pub(super) struct OutputShown {
    pub(super) what: What,
    /// Of a changed one as they are now.
    pub(super) topic: String,
    pub(super) key: Option<Value>,
    /// Where the old one stands.
    pub(super) position: Option<String>,
    /// Of a changed one.
    pub(super) changes: Vec<Change>,
    /// Of one that was added or dropped.
    pub(super) payload: Option<Value>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum What {
    Changed,
    Dropped,
    Added,
}

#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Change {
    /// `topic`, `key`, `payload`, `header NAME` or, within a JSON payload, a JSON pointer.
    pub(super) at: String,
    pub(super) before: Option<Value>,
    pub(super) now: Option<Value>,
}

/// Reads what stands in the topics of each.
pub(super) fn told(cluster: &Cluster, differences: Vec<Difference>, ignored: &Ignored) -> Result<Vec<Shown>> {
    let mut tail = broker::within(cluster, &Default::default())?;
    differences.into_iter().map(|difference| difference.shown(&mut tail, cluster, ignored)).collect()
}

impl Difference {
    fn shown(self, tail: &mut Tail, cluster: &Cluster, ignored: &Ignored) -> Result<Shown> {
        // What retention has taken in the meantime is gone.
        let mut read = |position: &Position| broker::record(tail, cluster, position);
        let letter = self.letter.as_ref().map(&mut read).transpose()?.flatten();
        let mut before = Vec::new();
        for position in &self.before {
            before.extend(read(position)?);
        }
        Ok(Shown {
            position: self.position.to_string(),
            fate: self.fate,
            failed_before: letter.map(|letter| {
                let Failed { kind, message, .. } = Failed::of(&letter);
                FailureShown { kind: kind.unwrap_or_default(), message: message.unwrap_or_default() }
            }),
            fails_now: self
                .failure
                .map(|Failure { kind, message, .. }| FailureShown { kind: kind.to_string(), message }),
            outputs: paired(before, self.now, ignored),
            more_outputs: self.more,
            reordered: self.reordered,
        })
    }
}

/// An output that was is shown beside one that is, if they are of one key and topic, or at least of one topic or key.
fn paired(before: Vec<Event>, mut now: Vec<Record>, ignored: &Ignored) -> Vec<OutputShown> {
    let mut shown: Vec<OutputShown> = before
        .into_iter()
        .map(|old| {
            let likeness = |new: &Record| {
                [
                    new.topic == old.position.topic && new.key == old.key,
                    new.topic == old.position.topic,
                    new.key == old.key && old.key.is_some(),
                ]
            };
            let like = (0..3).find_map(|degree| now.iter().position(|new| likeness(new)[degree]));
            match like {
                Some(like) => changed(&old, &now.remove(like), ignored),
                None => OutputShown {
                    what: What::Dropped,
                    topic: old.position.topic.to_string(),
                    key: old.key.as_deref().map(text),
                    position: Some(old.position.to_string()),
                    changes: Vec::new(),
                    payload: old.payload.as_deref().map(|payload| content(payload, ignored)),
                },
            }
        })
        .collect();
    shown.extend(now.into_iter().map(|new| OutputShown {
        what: What::Added,
        topic: new.topic.to_string(),
        key: new.key.as_deref().map(text),
        position: None,
        changes: Vec::new(),
        payload: new.payload.as_deref().map(|payload| content(payload, ignored)),
    }));
    shown
}

fn changed(old: &Event, new: &Record, ignored: &Ignored) -> OutputShown {
    let mut changes = Vec::new();
    let mut tell = |at: &str, before: Option<Value>, now: Option<Value>| {
        if before != now {
            changes.push(Change { at: at.into(), before, now });
        }
    };
    tell("topic", Some(Value::from(&*old.position.topic)), Some(Value::from(&*new.topic)));
    tell("key", old.key.as_deref().map(text), new.key.as_deref().map(text));
    let json = |payload: Option<&[u8]>| payload.and_then(|payload| ignored.json(payload));
    match (json(old.payload.as_deref()), json(new.payload.as_deref())) {
        (Some(before), Some(now)) => {
            json::differences(&before, &now, &mut |at, before, now| {
                let at = if at.is_empty() { "payload" } else { at };
                tell(at, before.cloned(), now.cloned());
            });
        }
        (_, _) => {
            let shown = |payload: Option<&[u8]>| payload.map(|payload| content(payload, ignored));
            tell("payload", shown(old.payload.as_deref()), shown(new.payload.as_deref()));
        }
    }
    let own = |headers: &[Header]| -> Vec<(String, Value)> {
        let own = headers.iter().filter(|header| is_own(header));
        own.map(|header| (header.name.to_string(), text(&header.value))).collect()
    };
    let (before, mut now) = (own(&old.headers), own(&new.headers));
    if before != now {
        for (name, value) in before {
            let like = now.iter().position(|(other, _)| *other == name);
            tell(&format!("header {name}"), Some(value), like.map(|like| now.remove(like).1));
        }
        for (name, value) in now {
            tell(&format!("header {name}"), None, Some(value));
        }
    }
    OutputShown {
        what: What::Changed,
        topic: new.topic.to_string(),
        key: new.key.as_deref().map(text),
        position: Some(old.position.to_string()),
        changes,
        payload: None,
    }
}

/// JSON as it is compared, all else as text.
fn content(payload: &[u8], ignored: &Ignored) -> Value {
    ignored.json(payload).unwrap_or_else(|| text(payload))
}

fn text(bytes: &[u8]) -> Value {
    std::str::from_utf8(bytes)
        .map_or_else(|_| Value::from(format!("base64 {}", BASE64.encode(bytes))), Value::from)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn old(position: &str, key: Option<&'static str>, payload: &'static str) -> Event {
        Event {
            position: position.parse().unwrap(),
            timestamp_ms: None,
            key: key.map(Into::into),
            payload: Some(payload.into()),
            headers: vec![Header::new("mine", "1"), Header::new("wasmill-digest", "d")],
        }
    }

    fn new(topic: &str, key: Option<&'static str>, payload: &'static str) -> Record {
        let headers = vec![Header::new("mine", "2"), Header::new("more", "x")];
        Record { topic: topic.into(), key: key.map(Into::into), payload: Some(payload.into()), headers }
    }

    #[test]
    fn outputs_are_shown_beside_those_they_resemble_most() {
        let before = vec![
            old("out/0/1", Some("a"), r#"{"n": 1, "id": 5}"#),
            old("out/0/2", Some("b"), "text"),
            old("gone/0/3", None, "[1]"),
        ];
        let now = vec![
            new("out", Some("c"), "words"),
            new("out", Some("a"), r#"{"n": 2, "id": 6}"#),
            new("extra", None, "\u{7}"),
        ];
        let shown = paired(before, now, &Ignored(vec!["/id".into()]));
        let headers = [("header mine", json!("1"), json!("2")), ("header more", json!(null), json!("x"))];
        let all = |own: &[(&str, Value, Value)]| {
            let changes = own.iter().chain(&headers);
            json!(
                changes
                    .map(|(at, before, now)| json!({"at": at, "before": before, "now": now}))
                    .collect::<Vec<_>>()
            )
        };
        assert_eq!(
            serde_json::to_value(shown).unwrap(),
            json!([
                {"what": "changed", "topic": "out", "key": "a", "position": "out/0/1", "payload": null,
                 "changes": all(&[("/n", json!(1), json!(2))])},
                {"what": "changed", "topic": "out", "key": "c", "position": "out/0/2", "payload": null,
                 "changes": all(&[("key", json!("b"), json!("c")), ("payload", json!("text"), json!("words"))])},
                {"what": "dropped", "topic": "gone", "key": null, "position": "gone/0/3", "payload": [1], "changes": []},
                {"what": "added", "topic": "extra", "key": null, "position": null, "payload": "\u{7}", "changes": []},
            ])
        );
    }
}
