//! A test harness that needs no host: build events, call the handler, look at what it answers.
//!
//! ```
//! use wasmill_sdk::testing::{OutcomeExt, TestEvent, payload};
//! use wasmill_sdk::{Event, Failure, Outcome, Output};
//!
//! fn handle(event: Event) -> Outcome {
//!     let name: String = event.json()?;
//!     match event.attempt {
//!         1 => Err(Failure::retry("not yet")),
//!         _ => Ok(vec![Output::json(&event, &format!("Hello {name}"))?.topic("greetings")]),
//!     }
//! }
//!
//! let event = TestEvent::new().key("k").json(&"Ada");
//! assert_eq!(handle(event.clone().build()).retried(), "not yet");
//!
//! let output = handle(event.attempt(2).build()).one();
//! assert_eq!(output.topic.as_deref(), Some("greetings"));
//! assert_eq!(payload(&output), "Hello Ada");
//! ```
//!
//! [`golden`] does it with events and outcomes that stand in files.

mod golden;

pub use golden::golden;

use serde::Serialize;
use serde_json::Value;

use crate::{Failure, Header, Outcome, Output};

/// Builds an event: an empty payload under the key `key`, the first record of the topic `test`, handled
/// for the first time, unless told otherwise.
#[derive(Clone, Debug)]
pub struct TestEvent(crate::Event);

impl TestEvent {
    #[expect(clippy::new_without_default, reason = "a default event has no meaning outside of tests")]
    pub fn new() -> Self {
        Self(crate::Event {
            topic: "test".into(),
            partition: 0,
            offset: 0,
            timestamp_ms: Some(1_790_000_000_000),
            key: Some(b"key".to_vec()),
            payload: Some(Vec::new()),
            headers: Vec::new(),
            attempt: 1,
        })
    }

    pub fn at(self, topic: &str, partition: u32, offset: u64) -> Self {
        Self(crate::Event { topic: topic.into(), partition, offset, ..self.0 })
    }

    pub fn key(self, key: impl Into<Vec<u8>>) -> Self {
        Self(crate::Event { key: Some(key.into()), ..self.0 })
    }

    pub fn no_key(self) -> Self {
        Self(crate::Event { key: None, ..self.0 })
    }

    pub fn payload(self, payload: impl Into<Vec<u8>>) -> Self {
        Self(crate::Event { payload: Some(payload.into()), ..self.0 })
    }

    /// # Panics
    ///
    /// When `value` has no JSON form.
    #[track_caller]
    pub fn json(self, value: &impl Serialize) -> Self {
        self.payload(serde_json::to_vec(value).expect("a value with a JSON form"))
    }

    /// An event with a null payload.
    pub fn tombstone(self) -> Self {
        Self(crate::Event { payload: None, ..self.0 })
    }

    pub fn header(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        self.0.headers.push(Header { name: name.into(), value: value.into() });
        self
    }

    pub fn attempt(self, attempt: u32) -> Self {
        Self(crate::Event { attempt, ..self.0 })
    }

    pub fn build(self) -> crate::Event {
        self.0
    }
}

/// What a test expects of an outcome. Each method panics, with the outcome, when it is another one.
pub trait OutcomeExt {
    /// The outputs.
    fn outputs(self) -> Vec<Output>;
    /// The only output.
    fn one(self) -> Output;
    /// The reason of a `retry`.
    fn retried(self) -> String;
    /// The reason of a `reject`.
    fn rejected(self) -> String;
}

impl OutcomeExt for Outcome {
    #[track_caller]
    fn outputs(self) -> Vec<Output> {
        self.unwrap_or_else(|failure| panic!("expected outputs, got {failure:?}"))
    }

    #[track_caller]
    fn one(self) -> Output {
        let [output] = <[Output; 1]>::try_from(self.outputs())
            .unwrap_or_else(|outputs| panic!("expected one output, got {outputs:?}"));
        output
    }

    #[track_caller]
    fn retried(self) -> String {
        match self {
            Err(Failure::Retry(reason)) => reason,
            other => panic!("expected a retry, got {other:?}"),
        }
    }

    #[track_caller]
    fn rejected(self) -> String {
        match self {
            Err(Failure::Reject(reason)) => reason,
            other => panic!("expected a reject, got {other:?}"),
        }
    }
}

/// An output's payload, which must be JSON.
#[track_caller]
pub fn payload(output: &Output) -> Value {
    let payload = output.payload.as_deref().unwrap_or_else(|| panic!("no payload: {output:?}"));
    serde_json::from_slice(payload).unwrap_or_else(|error| panic!("the payload is not JSON: {error}"))
}

/// Runs a handler over a batch, as the host does: events take offsets from 0, in order, and the answer
/// has one outcome for each.
pub fn run(
    handle: impl FnMut(crate::Event) -> Outcome,
    events: impl IntoIterator<Item = TestEvent>,
) -> Vec<Outcome> {
    let events = (0..).zip(events).map(|(offset, TestEvent(event))| crate::Event { offset, ..event });
    crate::handle_batch(events.collect(), handle)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn echo_or_reject(event: crate::Event) -> Outcome {
        match event.offset {
            1 => Err(Failure::reject("the second")),
            _ => Ok(vec![Output::new(&event, event.bytes()?)]),
        }
    }

    #[test]
    fn a_batch_has_one_outcome_for_each_event_in_order() {
        let outcomes = run(echo_or_reject, ["1", "2", "3"].map(|payload| TestEvent::new().payload(payload)));
        let [first, second, third] = <[Outcome; 3]>::try_from(outcomes).unwrap();
        assert_eq!(payload(&first.one()), 1);
        assert_eq!(second.rejected(), "the second");
        assert_eq!(payload(&third.one()), 3);
    }

    #[test]
    #[should_panic(expected = "expected outputs, got Failure::Reject")]
    fn an_expectation_that_fails_shows_the_outcome() {
        Outcome::Err(Failure::reject("no")).outputs();
    }
}
