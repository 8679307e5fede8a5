//! Publishes to the topic that the payload names, with a header of the host's and one of its own.

use guests::{Answer, Event, Header, Output, payload};

fn publish(event: Event) -> Answer {
    let header = |name: &str| Header { name: name.into(), value: b"guest".to_vec() };
    let topic = match payload(&event) {
        "" => None,
        topic => Some(topic.to_string()),
    };
    let headers = vec![header("wasmill-handler"), header("own"), header("wasmill-")];
    Ok(vec![Output { topic, key: event.key, payload: None, headers }])
}

guests::event_handler!(publish);
