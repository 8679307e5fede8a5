//! Fails by the number that stands in `placed_at_us`: every 20th never works, every 7th works at the third try.

use guests::{Answer, Event, Failure, payload, same};

fn flaky(event: Event) -> Answer {
    let number = payload(&event).split("\"placed_at_us\":").nth(1).unwrap_or_default();
    let digits = number.find(|c: char| !c.is_ascii_digit()).unwrap_or(number.len());
    match number[..digits].parse::<u64>() {
        Err(_) => Err(Failure::Reject("there is no number".into())),
        Ok(number) if number.is_multiple_of(20) => Err(Failure::Reject("it is one of the twentieth".into())),
        Ok(number) if number.is_multiple_of(7) && event.attempt < 3 => Err(Failure::Retry("not yet".into())),
        Ok(_) => Ok(vec![same(event)]),
    }
}

guests::event_handler!(flaky);
