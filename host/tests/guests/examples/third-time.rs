//! Traps on the third event that an instance sees.

use std::sync::atomic::{AtomicU32, Ordering};

use guests::{Answer, Event, same};

static SEEN: AtomicU32 = AtomicU32::new(0);

fn third_time(event: Event) -> Answer {
    assert!(SEEN.fetch_add(1, Ordering::Relaxed) != 2, "three is a crowd");
    Ok(vec![same(event)])
}

guests::event_handler!(third_time);
