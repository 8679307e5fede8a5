//! Forgets the result of each event that says `forget`, and answers twice for each that says `twice`.

use guests::{Answer, Event, payload, same};

fn count(events: Vec<Event>) -> Vec<Answer> {
    let mut answers = Vec::new();
    for event in events {
        match payload(&event) {
            "forget" => {}
            "twice" => {
                answers.push(Ok(Vec::new()));
                answers.push(Ok(Vec::new()));
            }
            _ => answers.push(Ok(vec![same(event)])),
        }
    }
    answers
}

guests::batch_handler!(count);
