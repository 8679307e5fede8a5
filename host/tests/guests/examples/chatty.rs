//! Prints to stdout and stderr what the payload asks for.

use guests::{Answer, Event, payload, same};

fn print(event: Event) -> Answer {
    match payload(&event) {
        "flood" => {
            for line in 0..1000 {
                println!("line {line}");
            }
        }
        "long line" => {
            println!("{}", "x".repeat(4 * 1024 * 1024));
            println!("short line");
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
