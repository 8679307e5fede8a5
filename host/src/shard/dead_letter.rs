//! A dead letter: the event as it was, and in headers all that is known of its failure.
//!
//! Key, payload and headers are kept byte for byte, so that it can be put back; the only change is that the
//! host's own headers on it (its provenance) get a prefix, to make room for those of the failure.

use crate::event::headers::{
    ATTEMPTS, DIGEST, FAILURE_BACKTRACE, FAILURE_KIND, FAILURE_MESSAGE, FIRST_FAILED_MS, HANDLER,
    INGRESS_TIME, LAST_FAILED_MS, ORIGINAL_PREFIX, RESERVED_PREFIX, SOURCE, SOURCE_TIMESTAMP_MS,
};
use crate::event::{Event, FAILURE_TEXT, Failure, Header, Record, header};
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
    let mut add = |name: &'static str, value: String| headers.push(Header::new(name, value));
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

/// The event that a dead letter was; none if its headers don't say where that stood.
pub fn original(letter: &Event) -> Option<Event> {
    let text = |name| std::str::from_utf8(header(&letter.headers, name)?).ok();
    let own = letter.headers.iter().filter_map(|header| match header.name.strip_prefix(RESERVED_PREFIX) {
        None => Some(header.clone()),
        Some(_) if header.name == INGRESS_TIME => Some(header.clone()),
        Some(_) => {
            let rest = header.name.strip_prefix(ORIGINAL_PREFIX)?;
            Some(Header::new(format!("{RESERVED_PREFIX}{rest}"), header.value.clone()))
        }
    });
    Some(Event {
        position: text(SOURCE)?.parse().ok()?,
        timestamp_ms: text(SOURCE_TIMESTAMP_MS).and_then(|ms| ms.parse().ok()),
        key: letter.key.clone(),
        payload: letter.payload.clone(),
        headers: own.collect(),
    })
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::plan::RetryPlan;
    use crate::event::{FailureKind, Position};

    proptest! {
        #[test]
        fn the_event_can_be_had_from_its_dead_letter(
            offset in 0..i64::MAX,
            timestamp_ms in prop::option::of(0..i64::MAX),
            key in prop::option::of(any::<Vec<u8>>()),
            payload in prop::option::of(any::<Vec<u8>>()),
            headers in prop::collection::vec(
                ("(wasmill-(original-|ingress-us|source|handler)?)?[a-z]{0,3}", any::<Vec<u8>>()), 0..6),
        ) {
            let event = Event {
                position: Position { topic: "in.put".into(), partition: 3, offset },
                timestamp_ms,
                key: key.map(Into::into),
                payload: payload.map(Into::into),
                headers: headers.into_iter().map(|(name, value)| Header::new(name, value)).collect(),
            };
            let identity = Identity {
                name: "h".into(),
                digest: "d".into(),
                publish: vec![],
                dead_letter: "h.dlq".into(),
                retry: RetryPlan { attempts: None, backoff_min: Default::default(), backoff_max: Default::default() },
            };
            let attempts = Attempts { made: 2, first_failed_ms: 1, last_failed_ms: 2 };
            let Record { key, payload, headers, .. } =
                dead_letter(&event, &Failure::new(FailureKind::Trap, "t"), &attempts, &identity);
            let position = Position { topic: "h.dlq".into(), partition: 0, offset: 0 };
            let letter = Event { position, timestamp_ms: None, key, payload, headers };
            prop_assert_eq!(original(&letter), Some(event));
        }
    }
}
