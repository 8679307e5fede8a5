//! Recurses without end.

use guests::{Answer, Event, text};

#[allow(unconditional_recursion)]
fn deeper(n: u64) -> u64 {
    let page = std::hint::black_box([n; 16]);
    deeper(n + 1) + page[(n % 16) as usize]
}

fn overflow(_: Event) -> Answer {
    Ok(vec![text(deeper(1).to_string())])
}

guests::event_handler!(overflow);
