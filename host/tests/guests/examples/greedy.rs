//! Takes of the host whatever the payload names, without end or far too much at once.

use guests::{Answer, Event, payload, same, text};

mod wasi {
    wit_bindgen::generate!({
        inline: "
            package tests:greedy;

            world greedy {
                import wasi:clocks/monotonic-clock@0.2.1;
                import wasi:random/random@0.2.1;
            }

            package wasi:io@0.2.1 {
                interface poll {
                    resource pollable {
                        block: func();
                    }
                }
            }

            package wasi:clocks@0.2.1 {
                interface monotonic-clock {
                    use wasi:io/poll@0.2.1.{pollable};
                    type instant = u64;
                    type duration = u64;
                    now: func() -> instant;
                    subscribe-duration: func(when: duration) -> pollable;
                }
            }

            package wasi:random@0.2.1 {
                interface random {
                    get-random-bytes: func(len: u64) -> list<u8>;
                }
            }
        ",
        generate_all,
    });
}

use wasi::wasi::clocks::monotonic_clock::{now, subscribe_duration};
use wasi::wasi::random::random::get_random_bytes;

fn greedy(event: Event) -> Answer {
    match payload(&event) {
        "handles" => {
            let held: Vec<_> = (0..1_000_000).map(|_| subscribe_duration(1_000_000_000)).collect();
            Ok(vec![text(held.len().to_string())])
        }
        "random bytes" => Ok(vec![text(get_random_bytes(u64::MAX).len().to_string())]),
        "endless random bytes" => loop {
            std::hint::black_box(get_random_bytes(64 * 1024));
        },
        "endless time" => loop {
            std::hint::black_box(now());
        },
        "endless polls" => loop {
            subscribe_duration(0).block();
        },
        "endless lines" => loop {
            println!("and another one");
        },
        "endless output" => loop {
            print!("{}", std::hint::black_box("x".repeat(64 * 1024)));
        },
        "endless input" => loop {
            let mut line = String::new();
            std::hint::black_box(std::io::stdin().read_line(&mut line).is_ok());
        },
        "endless files" => loop {
            std::hint::black_box(std::fs::read("/etc/passwd").is_ok());
        },
        _ => Ok(vec![same(event)]),
    }
}

guests::event_handler!(greedy);
