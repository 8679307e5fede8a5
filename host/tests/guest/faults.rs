//! Components that trap, loop, sleep, hoard memory or break the contract.

use std::time::{Duration, Instant};

use wasmill::event::{FAILURE_TEXT, FailureKind, Handler};

use crate::{MIB, event, failure, handle, handle_one, handler, handler_of, texts, with_deadline};

/// How long after its deadline a call may last here. tests/bounds measures it; here
/// machines are busy with other tests.
const GRACE: Duration = Duration::from_millis(500);

#[test]
fn a_panic_becomes_a_trap_with_its_message_and_the_functions_it_passed_through() {
    let trap = failure(&mut handler("fate"), "panic");
    assert_eq!(trap.kind, FailureKind::Trap);
    let (first, rest) = trap.message.split_once('\n').unwrap();
    assert!(first.starts_with("panicked at ") && first.contains("fate.rs:10:"), "{}", trap.message);
    assert!(first.ends_with(": this payload is poison"), "{}", trap.message);
    assert_eq!(rest, "wasm trap: wasm `unreachable` instruction executed");
    assert!(!trap.message.contains("RUST_BACKTRACE"), "{}", trap.message);
    let backtrace = trap.backtrace.unwrap();
    assert!(backtrace.contains("fate::fate"), "{backtrace}");
}

#[test]
fn an_access_out_of_bounds_is_a_trap() {
    let trap = failure(&mut handler("fate"), "out of bounds");
    assert_eq!(trap.kind, FailureKind::Trap);
    assert!(trap.message.contains("out of bounds memory access"), "{}", trap.message);
}

#[test]
fn an_endless_recursion_is_a_trap() {
    let trap = failure(&mut handler("stack-overflow"), "");
    assert_eq!(trap.kind, FailureKind::Trap);
    assert!(trap.message.contains("call stack exhausted"), "{}", trap.message);
}

#[test]
fn an_exit_ends_the_call_and_not_the_host() {
    let trap = failure(&mut handler("fate"), "exit");
    assert_eq!(trap.kind, FailureKind::Trap);
    assert!(trap.message.contains("exit code"), "{}", trap.message);
}

#[test]
fn an_endless_loop_ends_at_its_deadline() {
    for guest in ["endless", "sleep"] {
        for time in [Duration::from_millis(20), Duration::from_millis(300)] {
            let mut handler = handler_of(guest, &with_deadline(time));
            let started = Instant::now();
            let timeout = failure(&mut handler, "");
            let took = started.elapsed();
            assert_eq!(timeout.kind, FailureKind::Timeout, "{guest}: {}", timeout.message);
            assert!(timeout.message.contains(&format!("deadline of {time:?}")), "{}", timeout.message);
            assert!(time <= took && took < time + GRACE, "{guest}: {took:?} for a deadline of {time:?}");
        }
    }
}

#[test]
fn a_handler_serves_the_next_event_after_a_timeout() {
    let mut handler = handler_of("fate", &with_deadline(Duration::from_millis(500)));
    let outcomes = handle(&mut handler, &["a", "loop", "b"]);
    assert_eq!(texts(&outcomes[0]), ["a"]);
    assert_eq!(outcomes[1].as_ref().unwrap_err().kind, FailureKind::Timeout);
    assert_eq!(texts(&outcomes[2]), ["b"]);
    assert_eq!(texts(&handle_one(&mut handler, "c")), ["c"]);
}

#[test]
fn a_memory_bomb_runs_into_its_cap_and_its_neighbours_succeed() {
    let mut handler = handler("memory-bomb");
    let outcomes = handle(&mut handler, &["a", "bomb", "b"]);
    assert_eq!(texts(&outcomes[0]), ["a"]);
    let memory = outcomes[1].as_ref().unwrap_err();
    assert_eq!(memory.kind, FailureKind::Memory, "{}", memory.message);
    assert!(memory.message.contains("memory cap of 16.0 MiB"), "{}", memory.message);
    assert!(memory.message.contains("memory allocation of 1048576 bytes failed"), "{}", memory.message);
    assert_eq!(texts(&outcomes[2]), ["b"]);
    assert!((14 * MIB..=16 * MIB).contains(&handler.usage().peak_memory), "{:?}", handler.usage());
}

#[test]
fn a_component_that_lives_with_less_memory_succeeds() {
    assert_eq!(texts(&handle_one(&mut handler("memory-bomb"), "frugal")), ["lives with less"]);
}

#[test]
fn a_wrong_number_of_results_fails_the_event_that_made_it_wrong() {
    let mut handler = handler("wrong-count");
    for (guilty, message) in
        [("forget", "returned 0 results for 1 events"), ("twice", "returned 2 results for 1 events")]
    {
        let outcomes = handle(&mut handler, &["a", guilty, "b", "c"]);
        let contract = outcomes[1].as_ref().unwrap_err();
        assert_eq!(contract.kind, FailureKind::Contract);
        assert!(contract.message.contains(message), "{}", contract.message);
        assert_eq!([0, 2, 3].map(|i| texts(&outcomes[i]).remove(0)), ["a", "b", "c"]);
    }
}

#[test]
fn an_answer_of_overlapping_lists_is_not_copied_without_bound() {
    let started = Instant::now();
    let contract = failure(&mut handler("overlap"), "");
    assert_eq!(contract.kind, FailureKind::Contract, "{}", contract.message);
    assert!(contract.message.contains("too much data"), "{}", contract.message);
    assert!(started.elapsed() < Duration::from_secs(2), "took {:?}", started.elapsed());
}

#[test]
fn a_message_from_the_component_is_cut_to_what_a_record_header_bears() {
    let reject = failure(&mut handler("fate"), "long reject");
    assert_eq!(reject.kind, FailureKind::Reject);
    assert!(reject.message.len() <= FAILURE_TEXT, "{} bytes", reject.message.len());
    assert!(reject.message.ends_with('…'));
}

#[test]
fn an_event_with_too_many_outputs_is_guilty_alone() {
    let outcomes = handle(&mut handler("flood"), &["1", "100001", "2"]);
    assert_eq!(outcomes[0].as_ref().unwrap().len(), 1);
    let failure = outcomes[1].as_ref().unwrap_err();
    assert_eq!(failure.kind, FailureKind::Contract);
    assert!(failure.message.contains("100001 outputs"), "{}", failure.message);
    assert_eq!(outcomes[2].as_ref().unwrap().len(), 2);
}

#[test]
fn a_batch_with_more_outputs_than_a_commit_takes_is_handled_bit_by_bit() {
    let mut handler = handler("flood");
    let events: Vec<_> = (0..10).map(|offset| event(offset, "60000")).collect();
    let mut rest: Vec<_> = events.iter().collect();
    let mut turns = 0;
    while !rest.is_empty() {
        let outcomes = handler.handle(&rest, &vec![1; rest.len()]);
        assert!((1..=2).contains(&outcomes.len()), "{} outcomes", outcomes.len());
        assert!(outcomes.iter().all(|outcome| outcome.as_ref().unwrap().len() == 60_000));
        rest.drain(..outcomes.len());
        turns += 1;
    }
    assert_eq!(turns, 5);
}
