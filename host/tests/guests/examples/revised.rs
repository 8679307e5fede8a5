//! What a later version of `fate` may do: other things with some events, as their payloads say.

use guests::{Answer, Event, Failure, payload, same, text};

fn revised(event: Event) -> Answer {
    match payload(&event) {
        "retry" => Err(Failure::Retry(format!("try {} failed", event.attempt))),
        "reject" => Err(Failure::Reject("never will work".into())),
        "reject now" => Err(Failure::Reject("not any more".into())),
        "exit" => panic!("this payload is poison"),
        "drop" => Ok(Vec::new()),
        "more" => Ok(vec![same(event), text("and more")]),
        r#"{"n": 1, "id": "a"}"# => {
            let payload = Some(br#"{"id": "a", "n": 2}"#.to_vec());
            Ok(vec![guests::Output { payload, ..same(event) }])
        }
        _ => Ok(vec![same(event)]),
    }
}

guests::event_handler!(revised);
