//! Making an output.

use serde::Serialize;

use crate::{Event, Failure, Header, Output};

impl Output {
    /// A record for the default topic with the event's key, so that the order of a key's events is kept.
    pub fn new(event: &Event, payload: impl Into<Vec<u8>>) -> Self {
        Self { topic: None, key: event.key.clone(), payload: Some(payload.into()), headers: Vec::new() }
    }

    /// Like [`Output::new`], with `value` as JSON for its payload.
    ///
    /// # Errors
    ///
    /// A `reject` when `value` has no JSON form, such as a map whose keys are not strings.
    pub fn json(event: &Event, value: &impl Serialize) -> Result<Self, Failure> {
        // Most handlers pass on what they got and a little more.
        let mut payload =
            Vec::with_capacity(event.payload.as_ref().map_or(0, |payload| payload.len() / 2 * 3) + 256);
        serde_json::to_writer(&mut payload, value)
            .map_err(|error| Failure::reject(format!("the output has no JSON form: {error}")))?;
        Ok(Self::new(event, payload))
    }

    /// Publishes to `topic`, one of those that pipeline.toml lists under `publish`.
    pub fn topic(self, topic: impl Into<String>) -> Self {
        Self { topic: Some(topic.into()), ..self }
    }

    /// Replaces the event's key.
    pub fn key(self, key: impl Into<Vec<u8>>) -> Self {
        Self { key: Some(key.into()), ..self }
    }

    /// Adds a header. Names that start with `wasmill-` belong to the host, which drops them.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push(Header { name: name.into(), value: value.into() });
        self
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::testing::TestEvent;

    #[test]
    fn an_output_keeps_the_events_key_and_takes_the_default_topic() {
        let output = Output::json(&TestEvent::new().key("o-1").build(), &[1, 2]).unwrap();
        assert_eq!(output.key.as_deref(), Some(&b"o-1"[..]));
        assert_eq!(output.payload.as_deref(), Some(&b"[1,2]"[..]));
        assert_eq!((output.topic, output.headers), (None, vec![]));
    }

    #[test]
    fn an_output_of_an_event_without_a_key_has_none() {
        assert_eq!(Output::new(&TestEvent::new().no_key().build(), "x").key, None);
    }

    #[test]
    fn topic_key_and_headers_can_be_set() {
        let output = Output::new(&TestEvent::new().build(), "x").topic("alarms").key("k").header("a", "1");
        assert_eq!(output.topic.as_deref(), Some("alarms"));
        assert_eq!(output.key.as_deref(), Some(&b"k"[..]));
        assert_eq!(output.headers, [Header { name: "a".into(), value: b"1".to_vec() }]);
    }

    #[test]
    fn a_value_without_a_json_form_is_rejected() {
        let keyed_by_list = BTreeMap::from([(vec![1], 1)]);
        let failure = Output::json(&TestEvent::new().build(), &keyed_by_list).unwrap_err();
        assert_eq!(failure, Failure::reject("the output has no JSON form: key must be a string"));
    }
}
