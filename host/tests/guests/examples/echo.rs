//! Publishes each event as it is.

use guests::{Answer, Event, same};

fn echo(event: Event) -> Answer {
    Ok(vec![same(event)])
}

guests::event_handler!(echo);
