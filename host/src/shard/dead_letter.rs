//! A dead letter: the event as it was, and in headers all that is known of its failure.
//!
//! Key, payload and headers are kept byte for byte, so that it can be put back; the only change is that the
//! host's own headers on it (its provenance) get a prefix, to make room for those of the failure.

use crate::event::headers::{
    ATTEMPTS, DIGEST, FAILURE_BACKTRACE, FAILURE_KIND, FAILURE_MESSAGE, FIRST_FAILED_MS, HANDLER,
    INGRESS_TIME, LAST_FAILED_MS, ORIGINAL_PREFIX, RESERVED_PREFIX, SOURCE, SOURCE_TIMESTAMP_MS,
};
use crate::event::{Event, FAILURE_TEXT, Failure, Header, Record};
use crate::text::cut;

use super::decide::Identity;

pub(super) struct Attempts {
    pub(super) made: u32,
    pub(super) first_failed_ms: i64,
    pub(super) last_failed_ms: i64,
}

pub(super) fn dead_letter(
    event: &Event,
    failure: &Failure,
    attempts: &Attempts,
    identity: &Identity,
) -> Record {
    let mut headers: Vec<Header> = event.headers.iter().map(make_room).collect();
    let mut add = |name: &str, value: String| headers.push(Header::new(name, value));
    add(SOURCE, event.position.to_string());
    if let Some(timestamp) = event.timestamp_ms {
        add(SOURCE_TIMESTAMP_MS, timestamp.to_string());
    }
    add(HANDLER, identity.name.to_string());
    add(DIGEST, identity.digest.to_string());
    add(ATTEMPTS, attempts.made.to_string());
    add(FAILURE_KIND, failure.kind.to_string());
    add(FAILURE_MESSAGE, cut(&failure.message, FAILURE_TEXT));
    if let Some(backtrace) = &failure.backtrace {
        add(FAILURE_BACKTRACE, cut(backtrace, FAILURE_TEXT));
    }
    add(FIRST_FAILED_MS, attempts.first_failed_ms.to_string());
    add(LAST_FAILED_MS, attempts.last_failed_ms.to_string());
    Record {
        topic: identity.dead_letter.clone(),
        key: event.key.clone(),
        payload: event.payload.clone(),
        headers,
    }
}

/// The time of ingress belongs to the whole journey and keeps its name.
fn make_room(header: &Header) -> Header {
    match header.name.strip_prefix(RESERVED_PREFIX) {
        Some(rest) if header.name != INGRESS_TIME => {
            Header::new(format!("{ORIGINAL_PREFIX}{rest}"), header.value.clone())
        }
        Some(_) | None => header.clone(),
    }
}
