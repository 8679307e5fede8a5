//! Does with each event what its payload says, and echoes it otherwise.

use guests::{Answer, Event, Failure, payload, same};

fn fate(event: Event) -> Answer {
    match payload(&event) {
        "retry" => Err(Failure::Retry(format!("try {} failed", event.attempt))),
        "reject" => Err(Failure::Reject("never will work".into())),
        "long reject" => Err(Failure::Reject("é".repeat(100_000))),
        "panic" => panic!("this payload is poison"),
        "exit" => std::process::exit(3),
        "out of bounds" => {
            // SAFETY: none. The address is past the end of any memory that the host would give.
            let wild = unsafe { std::ptr::read_volatile(0xffff_fff0 as *const u32) };
            Err(Failure::Reject(format!("read {wild} out of bounds")))
        }
        "loop" => loop {
            std::hint::black_box(());
        },
        "nothing" => Ok(Vec::new()),
        _ => Ok(vec![same(event)]),
    }
}

guests::event_handler!(fate);
