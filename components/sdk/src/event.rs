//! Reading an event: its key, its payload as JSON, its headers.

use serde::Deserialize;
use serde_json::Deserializer;

use crate::{Event, Failure};

impl Event {
    /// The payload as JSON. What it borrows from the payload (`&str`, `Cow<str>`, `&RawValue`) is not copied.
    ///
    /// # Errors
    ///
    /// A `reject` when there is no payload, when it is not JSON, or when it is not a `T`; then it starts
    /// with the path of the fault: ``items[2].quantity: invalid type: string "two", expected u64 at …``.
    pub fn json<'a, T: Deserialize<'a>>(&'a self) -> Result<T, Failure> {
        let payload = self.bytes()?;
        // To check the encoding once costs less than to check it for each string; and keeping the path costs time for each
        // value, so it is only looked for once there is a fault.
        let decoded = str::from_utf8(payload).ok().and_then(|text| serde_json::from_str(text).ok());
        decoded.map_or_else(|| with_path(payload), Ok)
    }

    /// The payload as it came.
    ///
    /// # Errors
    ///
    /// A `reject` when there is none: a null value, which Kafka calls a tombstone.
    pub fn bytes(&self) -> Result<&[u8], Failure> {
        self.payload.as_deref().ok_or_else(|| Failure::reject("the event has no payload (a null value)"))
    }

    /// The value of the last header called `name`.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().rev().find(|header| header.name == name).map(|header| header.value.as_slice())
    }
}

fn with_path<'a, T: Deserialize<'a>>(payload: &'a [u8]) -> Result<T, Failure> {
    let mut json = Deserializer::from_slice(payload);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        let error = error.into_inner();
        match path.as_str() {
            // The whole document, or no JSON at all.
            "." => Failure::reject(format!("payload: {error}")),
            path => Failure::reject(format!("{path}: {error}")),
        }
    })?;
    json.end().map_err(|error| Failure::reject(format!("payload: {error}")))?;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use serde::Deserialize;

    use crate::testing::TestEvent;

    #[derive(Debug, Deserialize)]
    struct Order<'a> {
        #[serde(borrow)]
        id: Cow<'a, str>,
        items: Vec<Item>,
    }

    #[derive(Debug, Deserialize)]
    struct Item {
        quantity: u64,
    }

    fn reason(payload: &str) -> String {
        match TestEvent::new().payload(payload).build().json::<Order<'_>>() {
            Err(crate::Failure::Reject(reason)) => reason,
            other => panic!("not a reject: {other:?}"),
        }
    }

    #[test]
    fn a_payload_is_decoded_without_copying_its_strings() {
        let event = TestEvent::new().payload(r#"{"id": "o-1", "items": [{"quantity": 2}]}"#).build();
        let order: Order<'_> = event.json().unwrap();
        assert!(matches!(order.id, Cow::Borrowed("o-1")));
        assert_eq!(order.items[0].quantity, 2);
    }

    #[test]
    fn a_decode_error_names_the_json_path() {
        assert_eq!(
            reason(r#"{"id": "o-1", "items": [{"quantity": 1}, {"quantity": "two"}]}"#),
            r#"items[1].quantity: invalid type: string "two", expected u64 at line 1 column 59"#
        );
        assert_eq!(
            reason(r#"{"id": "o-1", "items": [{"quantity": -1}]}"#),
            "items[0].quantity: invalid value: integer `-1`, expected u64 at line 1 column 39"
        );
        assert!(reason(r#"{"id": "o-1", "items": [{}]}"#).starts_with("items[0]: missing field `quantity`"));
    }

    #[test]
    fn what_is_not_json_is_rejected() {
        assert!(reason("order 1").starts_with("payload: expected value"), "{}", reason("order 1"));
        assert!(reason("").starts_with("payload: EOF while parsing"), "{}", reason(""));
        assert!(reason(r#"{"id": "o-1", "items": []} and more"#).starts_with("payload: trailing characters"));
        assert!(reason("5").starts_with("payload: invalid type: integer `5`, expected struct Order"));
    }

    #[test]
    fn bytes_that_are_not_utf8_are_rejected_at_their_path() {
        let event = TestEvent::new().payload(&b"{\"id\": \"\xff\", \"items\": []}"[..]).build();
        let failure = event.json::<Order<'_>>().unwrap_err();
        assert!(
            matches!(&failure, crate::Failure::Reject(reason) if reason.starts_with("id: invalid unicode"))
        );
    }

    #[test]
    fn a_missing_payload_is_rejected_and_says_so() {
        let failure = TestEvent::new().tombstone().build().json::<Order<'_>>().unwrap_err();
        assert_eq!(failure, crate::Failure::reject("the event has no payload (a null value)"));
    }

    #[test]
    fn of_headers_with_one_name_the_last_one_counts() {
        let event = TestEvent::new().header("http-method", "POST").header("http-method", "PUT").build();
        assert_eq!(event.header("http-method"), Some(&b"PUT"[..]));
        assert_eq!(event.header("absent"), None);
    }
}
