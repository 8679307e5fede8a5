//! Publishes as many empty records as the payload says.

use guests::{Answer, Event, Output, payload};

fn flood(event: Event) -> Answer {
    let count = payload(&event).parse().unwrap_or(0);
    Ok((0..count).map(|_| Output { topic: None, key: None, payload: None, headers: Vec::new() }).collect())
}

guests::event_handler!(flood);
