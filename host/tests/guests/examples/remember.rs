//! Keeps what it saw in a static, and tells how much that is: an instance that lives on would give it away.

use std::sync::atomic::{AtomicU32, Ordering};

use guests::{Answer, Event, text};

static SEEN: AtomicU32 = AtomicU32::new(0);

fn count(_: Event) -> Answer {
    Ok(vec![text((SEEN.fetch_add(1, Ordering::Relaxed) + 1).to_string())])
}

guests::event_handler!(count);
