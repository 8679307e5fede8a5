//! An event → a mail: JSON is read and checked, a MIME message is built.
//!
//! Every byte of the message follows from the event, so that sending it again sends the same. Header
//! values come from events and are never trusted: a control character in one rejects the event, before
//! any library gets to fold or encode it.

use std::time::SystemTime;

use lettre::Message;
use lettre::address::AddressError;
use lettre::message::header::{ContentTransferEncoding, HeaderName, HeaderValue};
use lettre::message::{Body, Mailbox, MultiPart, SinglePart};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::event::{Event, Position, moment};

/// A mail that is ready to go.
#[derive(Debug)]
pub(super) struct Mail {
    /// The Message-ID, without its angle brackets.
    pub(super) id: String,
    pub(super) message: Message,
}

/// Why an event is no mail. Names the field and never quotes it: what people wrote stays out of the log.
#[derive(Debug, Error)]
pub(super) enum Fault {
    #[error("the event has no payload; a mail is a JSON object with \"to\", \"from\", \"subject\", \"text\"")]
    NoPayload,
    #[error("the payload is not JSON: {0}")]
    NotJson(serde_json::Error),
    #[error("the payload is not a JSON object")]
    NotAnObject,
    #[error("field \"{0}\" is missing")]
    Missing(&'static str),
    #[error("field \"{0}\" is not a string")]
    NotAString(&'static str),
    #[error("field \"{0}\" holds a line break or another control character, which no mail header may")]
    ControlCharacter(&'static str),
    #[error(
        "field \"{field}\" is not an e-mail address, as in \"name@example.com\" or \"Name <name@example.com>\": {source}"
    )]
    Address { field: &'static str, source: AddressError },
    #[error("no mail can be made of the event: {0}")]
    Unbuildable(lettre::error::Error),
}

impl Mail {
    /// Reads `{"to", "from", "subject", "text", "html"?, "reply_to"?}`; other fields are ignored.
    ///
    /// `group` tells sinks apart that read the same topic: each sends a mail of its own.
    pub(super) fn read(event: &Event, group: &str) -> Result<Self, Fault> {
        let payload = event.payload.as_ref().ok_or(Fault::NoPayload)?;
        let fields = match serde_json::from_slice(payload).map_err(Fault::NotJson)? {
            Value::Object(fields) => fields,
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                return Err(Fault::NotAnObject);
            }
        };
        let id = message_id(&event.position, event.timestamp_ms, group);

        let mut message = Message::builder()
            .message_id(Some(format!("<{id}>")))
            .date(date(event.timestamp_ms))
            .from(address(&fields, "from")?.ok_or(Fault::Missing("from"))?)
            .to(address(&fields, "to")?.ok_or(Fault::Missing("to"))?)
            .subject(header(&fields, "subject")?.ok_or(Fault::Missing("subject"))?)
            // RFC 3834: keeps out-of-office replies from coming back.
            .raw_header(HeaderValue::new(
                HeaderName::new_from_ascii_str("Auto-Submitted"),
                "auto-generated".into(),
            ));
        if let Some(reply_to) = address(&fields, "reply_to")? {
            message = message.reply_to(reply_to);
        }

        let text = SinglePart::plain(body(string(&fields, "text")?.ok_or(Fault::Missing("text"))?));
        let message = match string(&fields, "html")? {
            None => message.singlepart(text),
            Some(html) => message.multipart(
                MultiPart::alternative()
                    .boundary(boundary(&id, payload))
                    .singlepart(text)
                    .singlepart(SinglePart::html(body(html))),
            ),
        };
        Ok(Self { id, message: message.map_err(Fault::Unbuildable)? })
    }
}

/// `topic.partition.offset.timestamp@group`, with anything that an id can't hold written as `%XX`.
///
/// The timestamp tells a record from the one that had its place in an earlier life of the topic: mail
/// servers drop a mail whose id they have seen, and topics do start again at 0, always so on the
/// embedded broker.
fn message_id(position: &Position, timestamp_ms: Option<i64>, group: &str) -> String {
    let Position { topic, partition, offset } = position;
    let timestamp = timestamp_ms.map(|ms| format!(".{ms}")).unwrap_or_default();
    let mut id = String::new();
    for byte in format!("{topic}.{partition}.{offset}{timestamp}@{group}").bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'_' | b'@' => id.push(byte.into()),
            other => id.push_str(&format!("%{other:02X}")),
        }
    }
    id
}

/// When the event was made. Now, where the record does not say or says what no calendar holds.
fn date(timestamp_ms: Option<i64>) -> SystemTime {
    timestamp_ms.and_then(moment).unwrap_or_else(SystemTime::now)
}

fn string<'a>(fields: &'a Map<String, Value>, field: &'static str) -> Result<Option<&'a str>, Fault> {
    match fields.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
            Err(Fault::NotAString(field))
        }
    }
}

fn header<'a>(fields: &'a Map<String, Value>, field: &'static str) -> Result<Option<&'a str>, Fault> {
    match string(fields, field)? {
        Some(text) if text.contains(char::is_control) => Err(Fault::ControlCharacter(field)),
        other => Ok(other),
    }
}

fn address(fields: &Map<String, Value>, field: &'static str) -> Result<Option<Mailbox>, Fault> {
    header(fields, field)?
        .map(|text| text.parse().map_err(|source| Fault::Address { field, source }))
        .transpose()
}

/// Lines end in CRLF on the wire and nothing else may look like an end of line to any server (SMTP
/// smuggling), so a lone CR becomes one; other control characters travel encoded.
fn body(text: &str) -> Body {
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    if text.contains(|c: char| c.is_control() && c != '\n' && c != '\t') {
        // It takes any text; of one that it didn't, lettre would find an encoding.
        Body::new_with_encoding(text, ContentTransferEncoding::Base64).unwrap_or_else(Body::new)
    } else {
        Body::new(text)
    }
}

/// The same for the same event, and not to be guessed by whoever writes the text: it depends on it.
fn boundary(id: &str, payload: &[u8]) -> String {
    let digest = Sha256::new().chain_update(id).chain_update(payload).finalize();
    format!("{digest:x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(payload: &Value) -> Event {
        Event {
            position: Position { topic: "emails".into(), partition: 2, offset: 7 },
            timestamp_ms: Some(1_790_000_000_123),
            key: Some("k".into()),
            payload: Some(payload.to_string().into()),
            headers: Vec::new(),
        }
    }

    fn mail() -> Value {
        serde_json::json!({
            "to": "Ada Park <ada@example.com>",
            "from": "\"Wind, Rain & more\" <shop@example.com>",
            "subject": "Your readings",
            "text": "Thank you!\nBye",
            "html": "<p>Thank you!</p>",
            "station": 17,
        })
    }

    fn with(field: &str, value: impl Into<Value>) -> Value {
        let mut mail = mail();
        mail[field] = value.into();
        mail
    }

    fn built(payload: &Value) -> String {
        let mail = Mail::read(&event(payload), "wasmill.shop.mail").unwrap();
        String::from_utf8(mail.message.formatted()).unwrap()
    }

    fn fault(payload: &Value) -> String {
        Mail::read(&event(payload), "wasmill.shop.mail").unwrap_err().to_string()
    }

    #[test]
    fn the_same_event_makes_the_same_bytes() {
        assert_eq!(built(&mail()), built(&mail()));
    }

    #[test]
    fn message_id_and_date_follow_from_the_record() {
        let bytes = built(&mail());
        assert!(bytes.contains("Message-ID: <emails.2.7.1790000000123@wasmill.shop.mail>\r\n"), "{bytes}");
        assert!(bytes.contains("Date: Mon, 21 Sep 2026 14:13:20 +0000\r\n"), "{bytes}");
    }

    #[test]
    fn a_pipeline_of_any_name_makes_an_id_that_is_one_word() {
        let id = message_id(&event(&mail()).position, None, "wasmill.my <shop>/ö.mail");
        assert_eq!(id, "emails.2.7@wasmill.my%20%3Cshop%3E%2F%C3%B6.mail");
    }

    #[test]
    fn a_timestamp_that_no_calendar_holds_still_makes_a_mail() {
        for timestamp in [None, Some(-1), Some(i64::MIN), Some(i64::MAX), Some(1_790_000_000_000_000)] {
            let event = Event { timestamp_ms: timestamp, ..event(&mail()) };
            Mail::read(&event, "g").unwrap().message.formatted();
        }
    }

    #[test]
    fn each_fault_names_its_field() {
        for field in ["to", "from", "subject", "text"] {
            assert_eq!(fault(&with(field, Value::Null)), format!("field \"{field}\" is missing"));
        }
        for field in ["to", "from", "subject", "text", "html", "reply_to"] {
            assert_eq!(fault(&with(field, 5)), format!("field \"{field}\" is not a string"));
        }
        for field in ["to", "from", "reply_to"] {
            for wrong in
                ["", "ada", "ada@", "@example.com", "a b@example.com", "a@example.com, b@example.com"]
            {
                assert!(
                    fault(&with(field, wrong)).starts_with(&format!("field \"{field}\" is not an e-mail"))
                );
            }
        }
    }

    #[test]
    fn a_header_value_can_not_bring_headers_of_its_own() {
        for field in ["to", "from", "subject", "reply_to"] {
            for ending in ["\r\n", "\n", "\r", "\0", "\u{85}"] {
                let injected = format!("Ada <ada@example.com>{ending}Bcc: all@example.com");
                let fault = fault(&with(field, injected));
                assert!(fault.starts_with(&format!("field \"{field}\" holds a line break")), "{fault}");
            }
        }
    }

    #[test]
    fn what_is_no_mail_at_all_is_rejected() {
        assert_eq!(fault(&Value::Array(Vec::new())), "the payload is not a JSON object");
        let broken = Event { payload: Some("{\"to\":".into()), ..event(&mail()) };
        assert!(
            Mail::read(&broken, "g").unwrap_err().to_string().starts_with("the payload is not JSON: EOF")
        );
        let tombstone = Event { payload: None, ..event(&mail()) };
        assert!(Mail::read(&tombstone, "g").unwrap_err().to_string().starts_with("the event has no payload"));
    }

    #[test]
    fn names_and_subjects_of_any_language_arrive_encoded() {
        let mut mail = with("subject", "Bestellung bestätigt 🍕");
        mail["to"] = "Jörg Müller <joerg@example.com>".into();
        let bytes = built(&mail);
        assert!(bytes.is_ascii(), "{bytes}");
        assert!(bytes.contains("Subject: Bestellung =?utf-8?b?"), "{bytes}");
    }

    #[test]
    fn no_body_can_end_a_line_in_two_ways() {
        let bytes = built(&with("text", "a\rb\nc\r\nd\r\n.\r\ne\n.\nf"));
        assert!(bytes.contains("\r\n\r\na\r\nb\r\nc\r\nd\r\n.\r\ne\r\n.\r\nf\r\n"), "{bytes:?}");
        let bytes = built(&with("text", "null \0 and escape \u{1b}"));
        assert!(!bytes.contains(['\0', '\u{1b}']), "{bytes:?}");
    }
}
