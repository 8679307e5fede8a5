//! Sleeps for an hour in a host call, where no epoch interrupts it.

use std::time::Duration;

use guests::{Answer, Event};

fn sleep(_: Event) -> Answer {
    std::thread::sleep(Duration::from_secs(3600));
    Ok(Vec::new())
}

guests::event_handler!(sleep);
