//! Allocates without end when the payload says `bomb`, and tries to live with less when it says `frugal`.

use guests::{Answer, Event, payload, same, text};

const STEP: usize = 1024 * 1024;

fn memory(event: Event) -> Answer {
    match payload(&event) {
        "bomb" => {
            let mut hoard: Vec<Vec<u8>> = Vec::new();
            loop {
                hoard.push(std::hint::black_box(vec![1; STEP]));
            }
        }
        "frugal" => {
            let mut big: Vec<u8> = Vec::new();
            Ok(vec![text(match big.try_reserve_exact(1024 * STEP) {
                Ok(()) => "got it",
                Err(_) => "lives with less",
            })])
        }
        _ => Ok(vec![same(event)]),
    }
}

guests::event_handler!(memory);
