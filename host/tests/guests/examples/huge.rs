//! Publishes one record with all the memory that it gets, or says it in a reject.

use guests::{Answer, Event, Failure, Output, payload, same};

const STEP: usize = 64 * 1024;

fn all_there_is() -> Vec<u8> {
    let mut all = Vec::new();
    while all.try_reserve_exact(all.len() + STEP).is_ok() {
        all.resize(all.len() + STEP, b'x');
    }
    all
}

fn huge(event: Event) -> Answer {
    match payload(&event) {
        "record" => {
            let payload = Some(all_there_is());
            Ok(vec![Output { topic: None, key: None, payload, headers: Vec::new() }])
        }
        "reject" => {
            // SAFETY: it is all ASCII.
            Err(Failure::Reject(unsafe { String::from_utf8_unchecked(all_there_is()) }))
        }
        _ => Ok(vec![same(event)]),
    }
}

guests::event_handler!(huge);
