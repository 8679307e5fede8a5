//! Never comes back.

use guests::{Answer, Event};

fn endless(_: Event) -> Answer {
    loop {
        std::hint::black_box(());
    }
}

guests::event_handler!(endless);
