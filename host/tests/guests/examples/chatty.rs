//! Prints to stdout and stderr what the payload asks for.

use guests::{Answer, Event, payload, same};

fn print(event: Event) -> Answer {
    match payload(&event) {
        "flood" => {
            for line in 0..100_000 {
                println!("line {line}");
            }
        }
        "panic" => {
            eprintln!("about to panic");
            panic!("after printing");
        }
        text => {
            println!("out: {text}");
            eprintln!("err: {text}");
        }
    }
    Ok(vec![same(event)])
}

guests::event_handler!(print);
