//! One call for one batch, and what happens to the neighbours of a guilty event.

use std::time::{Duration, Instant};

use wasmill::config::plan::{HandlerPlan, LimitsPlan};
use wasmill::event::{Event, FailureKind, Handler, Header, LONG_BATCH, Position};

use crate::{MIB, event, failure, handle, handle_one, handler, handler_of, plan, texts, with_deadline};

#[test]
fn an_event_reaches_the_component_whole_and_its_output_comes_back_whole() {
    let headers = vec![Header::new("a", "1"), Header::new("a", vec![0, 255]), Header::new("", "")];
    let whole = Event { headers: headers.clone(), ..event(7, "payload") };
    let bare = Event {
        position: Position { topic: "in".into(), partition: 0, offset: i64::MAX },
        timestamp_ms: None,
        key: None,
        payload: None,
        headers: Vec::new(),
    };
    let outcomes = handler("echo").handle(&[&whole, &bare, &whole], &[1, 2, 3]);

    let output = &outcomes[0].as_ref().unwrap()[0];
    assert_eq!((&output.key, &output.payload, &output.topic), (&whole.key, &whole.payload, &None));
    assert_eq!(output.headers, headers);
    let output = &outcomes[1].as_ref().unwrap()[0];
    assert_eq!((&output.key, &output.payload, &output.headers), (&None, &None, &Vec::new()));
    assert_eq!(outcomes[2], outcomes[0]);
}

#[test]
fn a_batch_is_one_call_and_an_empty_one_is_none() {
    let mut handler = handler("echo");
    assert_eq!(handle(&mut handler, &["event"; 1000]).len(), 1000);
    assert_eq!(handler.usage().calls, 1);
    assert!(handler.handle(&[], &[]).is_empty());
    assert_eq!(handler.usage().calls, 1);
}

#[test]
fn nothing_survives_from_one_batch_to_the_next() {
    let mut handler = handler("remember");
    let seen = |outcomes: Vec<_>| outcomes.iter().flat_map(texts).collect::<Vec<_>>();
    assert_eq!(seen(handle(&mut handler, &["", "", ""])), ["1", "2", "3"]);
    assert_eq!(seen(handle(&mut handler, &["", ""])), ["1", "2"]);
}

#[test]
fn retry_and_reject_are_told_apart_and_know_the_attempt() {
    let mut handler = handler("fate");
    let (again, never) = (event(0, "retry"), event(1, "reject"));
    let outcomes = handler.handle(&[&again, &never], &[4, 1]);
    let retry = outcomes[0].as_ref().unwrap_err();
    assert_eq!((retry.kind, retry.message.as_str()), (FailureKind::Retry, "try 4 failed"));
    let reject = outcomes[1].as_ref().unwrap_err();
    assert_eq!((reject.kind, reject.message.as_str()), (FailureKind::Reject, "never will work"));
    assert_eq!(handler.usage().calls, 1);
}

#[test]
fn a_guilty_event_stands_alone_and_its_neighbours_succeed() {
    let mut handler = handler("fate");
    let mut payloads = vec!["fine"; 1000];
    payloads[617] = "panic";
    let outcomes = handle(&mut handler, &payloads);
    for (i, outcome) in outcomes.iter().enumerate() {
        match i {
            617 => assert_eq!(outcome.as_ref().unwrap_err().kind, FailureKind::Trap),
            _ => assert_eq!(texts(outcome), ["fine"]),
        }
    }
    assert!(handler.usage().calls <= 21, "{} calls", handler.usage().calls);
}

#[test]
fn every_kind_of_guilt_in_one_batch_is_found() {
    let mut handler = handler_of("fate", &with_deadline(Duration::from_millis(500)));
    let payloads = ["a", "panic", "b", "retry", "exit", "loop", "reject", "nothing", "out of bounds", "c"];
    let kinds: Vec<_> = handle(&mut handler, &payloads)
        .into_iter()
        .map(|outcome| outcome.map_err(|f| f.kind).map(|o| o.len()))
        .collect();
    assert_eq!(
        kinds,
        [
            Ok(1),
            Err(FailureKind::Trap),
            Ok(1),
            Err(FailureKind::Retry),
            Err(FailureKind::Trap),
            Err(FailureKind::Timeout),
            Err(FailureKind::Reject),
            Ok(0),
            Err(FailureKind::Trap),
            Ok(1),
        ]
    );
}

#[test]
fn a_batch_of_guilty_events_alone_takes_little_more_than_a_call_each() {
    let mut handler = handler("fate");
    let started = Instant::now();
    let outcomes = handle(&mut handler, &["panic"; 1000]);
    assert!(outcomes.iter().all(|outcome| outcome.as_ref().is_err_and(|f| f.kind == FailureKind::Trap)));
    assert!(handler.usage().calls <= 1000 + 32 + 10, "{} calls", handler.usage().calls);
    assert!(started.elapsed() < Duration::from_secs(10), "took {:?}", started.elapsed());
}

#[test]
fn a_batch_that_only_loops_is_left_after_its_first_event() {
    let deadline = Duration::from_secs(2);
    let mut handler = handler_of("fate", &with_deadline(deadline));
    let events: Vec<_> = (0..1000).map(|offset| event(offset, "loop")).collect();
    let started = Instant::now();
    let outcomes = handler.handle(&events.iter().collect::<Vec<_>>(), &[1; 1000]);
    // A second for a machine that is busy with other tests.
    let most = LONG_BATCH + 2 * deadline + Duration::from_secs(1);
    assert!(started.elapsed() < most, "took {:?}", started.elapsed());
    assert_eq!(outcomes.len(), 1);
    assert_eq!(outcomes[0].as_ref().unwrap_err().kind, FailureKind::Timeout);
    assert!(handler.usage().calls <= 4, "{} calls", handler.usage().calls);
}

#[test]
fn a_batch_of_many_bytes_is_handled_in_parts_that_keep_an_instance_small() {
    let limits = LimitsPlan { memory: 4 * MIB, ..plan().limits };
    let mut handler = handler_of("echo", &HandlerPlan { limits, ..plan() });
    let big = "x".repeat(400 * 1024);
    let outcomes = handle(&mut handler, &[big.as_str(); 16]);
    assert!(outcomes.iter().all(|outcome| texts(outcome) == [big.as_str()]));
    assert_eq!(handler.usage().calls, 16);
    let small = "x".repeat(50);
    assert!(handle(&mut handler, &[small.as_str(); 1000]).iter().all(Result::is_ok));
    assert_eq!(handler.usage().calls, 16 + 2);
    let too_big = failure(&mut handler, &"x".repeat(4 * MIB));
    assert_eq!(too_big.kind, FailureKind::Memory, "{}", too_big.message);
}

#[test]
fn an_undeclared_topic_fails_its_own_event_and_names_topic_and_handler() {
    let mut handler = handler("topic");
    let outcomes = handle(&mut handler, &["other", "elsewhere", ""]);
    assert_eq!(outcomes[0].as_ref().unwrap()[0].topic.as_deref(), Some("other"));
    let contract = outcomes[1].as_ref().unwrap_err();
    assert_eq!(contract.kind, FailureKind::Contract);
    assert_eq!(
        contract.message,
        "published to topic \"elsewhere\", which is not in `publish` of handler `tested`; add it in pipeline.toml"
    );
    assert_eq!(outcomes[2].as_ref().unwrap()[0].topic, None);
    assert_eq!(handler.usage().calls, 1);
}

#[test]
fn a_handler_that_may_publish_nothing_has_no_default_topic() {
    let mut handler = handler_of("topic", &HandlerPlan { publish: vec![], ..plan() });
    let contract = failure(&mut handler, "");
    assert_eq!(contract.kind, FailureKind::Contract);
    assert!(contract.message.contains("`publish` of handler `tested` is empty"), "{}", contract.message);
}

#[test]
fn headers_of_the_hosts_are_dropped_and_the_others_kept() {
    let outputs = handle_one(&mut handler("topic"), "other").unwrap();
    assert_eq!(outputs[0].headers, [Header::new("own", "guest")]);
}
