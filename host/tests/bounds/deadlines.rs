//! How long a guest that doesn't end runs past its deadline.

use std::time::{Duration, Instant};

use wasmill::event::{FailureKind, Handler};
use wasmill::guest::{Engine, EngineLimits};

use crate::{MIB, alone, event, growth, handler, plan};

const DEADLINE: Duration = Duration::from_millis(50);
const RUNS: usize = 20;

/// What a guest may take past its deadline, besides the time of an instruction that writes all of its memory, which nothing
/// interrupts. The median is held to it: a busy machine may be late once.
const GRACE: Duration = Duration::from_millis(20);

/// Besides its memory cap, what a call may make the host hold: its console, its resources.
const MOST_BESIDES: usize = 8 * MIB;

const GUESTS: [(&str, &str); 13] = [
    ("endless", ""),
    ("start-loop", ""),
    ("fate", "loop"),
    ("sleep", ""),
    ("greedy", "endless random bytes"),
    ("greedy", "endless time"),
    ("greedy", "endless lines"),
    ("greedy", "endless output"),
    ("greedy", "endless input"),
    ("greedy", "endless files"),
    ("greedy", "endless polls"),
    ("block-copy", "1"),
    ("block-copy", "22"),
];

/// How long this machine takes to fill so much memory that it has not touched yet: the median of some.
fn longest_instruction(bytes: usize) -> Duration {
    let mut took: Vec<Duration> = (0..RUNS)
        .map(|_| {
            let started = Instant::now();
            std::hint::black_box(vec![7_u8; bytes]);
            started.elapsed()
        })
        .collect();
    took.sort();
    took[RUNS / 2]
}

#[test]
fn whatever_a_guest_does_it_ends_soon_after_its_deadline() {
    let _alone = alone();
    let engine = Engine::new(EngineLimits { instances: 1 }).unwrap();
    let plan = plan("time = '50 ms'");
    assert_eq!(plan.limits.time, DEADLINE);
    let instruction = longest_instruction(plan.limits.memory);
    println!("to write {} bytes afresh takes {instruction:.1?}", plan.limits.memory);
    let mut late = Vec::new();
    println!("{:12} {:22} {:>10} {:>10} {:>8}", "guest", "payload", "median", "most", "memory");
    for (guest, payload) in GUESTS {
        let mut handler = handler(&engine, guest, &plan);
        let event = event(payload);
        let mut past = Vec::new();
        let grown = growth(|| {
            for _ in 0..RUNS {
                let started = Instant::now();
                let failure = handler.handle(&[&event], &[1]).remove(0).unwrap_err();
                past.push(started.elapsed().saturating_sub(DEADLINE));
                assert_eq!(failure.kind, FailureKind::Timeout, "{guest} {payload}: {}", failure.message);
            }
        });
        past.sort();
        let (median, most) = (past[RUNS / 2], past[RUNS - 1]);
        println!("{guest:12} {payload:22} {median:>10.1?} {most:>10.1?} {:>5} KiB", grown / 1024);
        let allowed = GRACE + if guest == "block-copy" { instruction } else { Duration::ZERO };
        if median > allowed || grown > plan.limits.memory + MOST_BESIDES {
            late.push((guest, payload, median, grown));
        }
    }
    assert!(late.is_empty(), "too late or too large: {late:?}");
}
