//! Components that try to take the host down, or more of it than is theirs: each is stopped with a reason that names
//! the cause, its handler serves the next event, and what it made the host hold stays within its memory cap.

use std::time::Duration;

use wasmill::config::plan::{Allow, HandlerPlan, LimitsPlan};
use wasmill::event::FailureKind;
use wasmill::guest::ComponentHandler;

use crate::sandbox::logged;
use crate::{MIB, failure, handle, handle_one, handler, handler_of, plan, texts, with_deadline};

/// The event fails so, for a reason that has these words, and the one after it succeeds.
fn stopped(handler: &mut ComponentHandler, payload: &str, kind: FailureKind, words: &str) {
    for _ in 0..2 {
        let failure = failure(handler, payload);
        assert_eq!(failure.kind, kind, "{payload}: {}", failure.message);
        assert!(failure.message.contains(words), "{payload}: {}", failure.message);
    }
    let cap = plan().limits.memory;
    assert!(handler.usage().peak_memory <= cap, "{payload}: {:?}", handler.usage());
    handle_one(handler, "").unwrap_or_else(|failure| panic!("after {payload}: {}", failure.message));
}

#[test]
fn a_start_up_without_end_ends_at_its_deadline() {
    let mut handler = handler_of("start-loop", &with_deadline(Duration::from_millis(200)));
    for _ in 0..2 {
        let timeout = failure(&mut handler, "");
        assert_eq!(timeout.kind, FailureKind::Timeout, "{}", timeout.message);
        assert!(timeout.message.contains("deadline of 200ms"), "{}", timeout.message);
    }
    // Its place in the pool is free again.
    assert_eq!(texts(&handle_one(&mut crate::handler("echo"), "next")), ["next"]);
}

#[test]
fn a_table_bomb_runs_into_the_bound_of_tables() {
    stopped(&mut handler("table-bomb"), "bomb", FailureKind::Memory, "the most elements of a table, 20000");
}

#[test]
fn a_flood_of_host_resources_is_refused() {
    stopped(&mut handler("greedy"), "handles", FailureKind::Contract, "held more than 256 streams");
}

#[test]
fn more_random_bytes_than_one_call_may_ask_for_are_refused() {
    stopped(&mut handler("greedy"), "random bytes", FailureKind::Contract, "exceeds limit 65536");
}

#[test]
fn endless_calls_of_the_host_end_at_the_deadline() {
    let mut handler = handler_of("greedy", &with_deadline(Duration::from_millis(100)));
    for payload in [
        "endless random bytes",
        "endless time",
        "endless polls",
        "endless lines",
        "endless output",
        "endless input",
        "endless files",
    ] {
        stopped(&mut handler, payload, FailureKind::Timeout, "deadline of 100ms");
    }
}

#[test]
fn long_instructions_end_at_the_deadline() {
    let mut handler = handler_of("block-copy", &with_deadline(Duration::from_millis(100)));
    for payload in ["1", "22"] {
        stopped(&mut handler, payload, FailureKind::Timeout, "deadline of 100ms");
    }
}

#[test]
fn an_answer_that_claims_billions_is_refused_without_making_room_for_them() {
    for payload in ["1", "22", "333", "4444"] {
        stopped(&mut handler("billions"), payload, FailureKind::Contract, "out of bounds");
    }
}

#[test]
fn a_topic_that_is_no_text_is_refused() {
    stopped(&mut handler("topic-bytes"), "bytes", FailureKind::Contract, "utf-8");
}

#[test]
fn a_record_as_large_as_the_memory_cap_is_an_output_like_any_other() {
    let mut handler = handler("huge");
    let outputs = handle_one(&mut handler, "record").unwrap();
    let bytes = outputs[0].payload.as_ref().unwrap().len();
    assert!((4 * MIB..16 * MIB).contains(&bytes), "{bytes} bytes");
    let reject = failure(&mut handler, "reject");
    assert_eq!(reject.kind, FailureKind::Reject);
    assert!(reject.message.ends_with("xxx…"));
    assert_eq!(texts(&handle_one(&mut handler, "next")), ["next"]);
}

#[test]
fn a_line_of_megabytes_is_cut_and_the_next_one_is_whole() {
    let log = logged(|| {
        handle_one(&mut handler("chatty"), "long line").unwrap();
    });
    assert!(log.len() < 16 * 1024, "{} bytes", log.len());
    assert!(log.contains("xxx…"));
    assert!(log.contains("short line"));
}

#[test]
fn a_component_that_traps_on_its_third_event_handles_all_of_them() {
    let mut handler = handler("third-time");
    let payloads = ["a", "b", "c", "d", "e", "f", "g"];
    let outcomes = handle(&mut handler, &payloads);
    assert_eq!(outcomes.iter().flat_map(texts).collect::<Vec<_>>(), payloads);
    assert!(handler.usage().calls <= 2 * payloads.len() as u64, "{:?}", handler.usage());
}

/// Each fills a call, and the calls of a batch share an instance.
#[test]
fn no_event_answers_for_what_the_calls_before_it_left_in_the_instance() {
    let mut handler = handler("third-time");
    let large: Vec<String> = (0..7).map(|number| number.to_string().repeat(100_000)).collect();
    let payloads: Vec<&str> = large.iter().map(String::as_str).collect();
    let outcomes = handle(&mut handler, &payloads);
    assert_eq!(outcomes.iter().flat_map(texts).collect::<Vec<_>>(), payloads);
    // The third, the fifth and the seventh ran once more.
    assert_eq!(handler.usage().calls, 10);
}

#[test]
fn a_storm_of_traps_leaves_the_pool_as_it_was() {
    let mut storm = handler("fate");
    for _ in 0..20 {
        let outcomes = handle(&mut storm, &["panic"; 100]);
        assert!(outcomes.iter().all(|outcome| outcome.as_ref().is_err_and(|f| f.kind == FailureKind::Trap)));
    }
    assert_eq!(texts(&handle_one(&mut storm, "next")), ["next"]);
}

#[test]
fn what_imports_nothing_runs_where_nothing_is_allowed() {
    let limits = LimitsPlan { memory: MIB, ..plan().limits };
    let nothing = HandlerPlan { allow: Allow::none(), limits, ..plan() };
    assert_eq!(handle_one(&mut handler_of("billions", &nothing), "").unwrap(), []);
}
