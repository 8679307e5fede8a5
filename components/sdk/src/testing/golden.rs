//! Golden events: files that hold an event and what must become of it.
//!
//! ```json
//! { "event": { "key": "boiler", "payload": { "sensor": "boiler", "celsius": 93.5 } },
//!   "outputs": [{ "payload": { "sensor": "boiler", "text": "93.5 °C is too hot" } }] }
//! ```
//!
//! The event is written as `wasmill invoke --format event` reads it. Instead of `outputs` stands `"reject": "why"`
//! or `"retry": "why"`. An output says its `topic` where it is not the default one, its `key` where it is not the
//! event's, its `headers` where it has some.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::TestEvent;
use crate::{Event, Failure, Outcome, Output};

/// Runs the handler over the event of each `*.json` file in the folder.
///
/// # Panics
///
/// When an outcome is another one than its file says: with all those files, and what they would have to hold.
/// When there is no such file, or one that can't be read.
#[track_caller]
pub fn golden(folder: impl AsRef<Path>, mut handle: impl FnMut(Event) -> Outcome) {
    let folder = folder.as_ref();
    let mut differ = Vec::new();
    for file in files(folder) {
        let (event, expected) = read(&file);
        let actual = written(handle(event.clone()), &event);
        if actual != expected {
            differ.push(format!("{}: the outcome is\n{actual:#}\nand not\n{expected:#}", file.display()));
        }
    }
    assert!(differ.is_empty(), "{}", differ.join("\n"));
}

#[track_caller]
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<_> = entries
        .map(|entry| entry.unwrap_or_else(|error| panic!("{}: {error}", folder.display())).path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .collect();
    assert!(!files.is_empty(), "there are no golden events (*.json) in {}", folder.display());
    files.sort();
    files
}

/// The event, and the rest of the file.
#[track_caller]
fn read(file: &Path) -> (Event, Value) {
    let name = file.display();
    let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{name}: {error}"));
    let mut golden: Map<String, Value> =
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
    let Some(Value::Object(fields)) = golden.remove("event") else {
        panic!("{name} has no \"event\" object")
    };
    let event = fields.into_iter().fold(TestEvent::new().no_key().tombstone(), |event, (field, value)| {
        with(event, &field, value).unwrap_or_else(|why| panic!("{name}: the event's `{field}` {why}"))
    });
    (event.build(), Value::Object(golden))
}

/// As `wasmill invoke` reads it.
fn with(event: TestEvent, field: &str, value: Value) -> Result<TestEvent, &'static str> {
    Ok(match (field, value) {
        (_, Value::Null) => event,
        ("payload", value) => event.json(&value),
        ("key", Value::String(key)) => event.key(key),
        ("topic", Value::String(topic)) => event.at(&topic, 0, 0),
        ("attempt", Value::Number(attempt)) => {
            let attempt = attempt.as_u64().and_then(|attempt| attempt.try_into().ok());
            event.attempt(attempt.ok_or("is no count")?)
        }
        ("headers", Value::Object(headers)) => {
            headers.into_iter().try_fold(event, |event, (name, value)| {
                Ok(event.header(&name, value.as_str().ok_or("have a value that is no text")?))
            })?
        }
        ("key" | "topic", _) => return Err("is no text"),
        ("attempt", _) => return Err("is no number"),
        ("headers", _) => return Err("are no object"),
        _ => return Err("is unknown: there are payload, key, headers, topic and attempt"),
    })
}

/// The outcome, as a file says it.
fn written(outcome: Outcome, event: &Event) -> Value {
    match outcome {
        Ok(outputs) => {
            json!({ "outputs": outputs.iter().map(|output| output_written(output, event)).collect::<Vec<_>>() })
        }
        Err(Failure::Reject(why)) => json!({ "reject": why }),
        Err(Failure::Retry(why)) => json!({ "retry": why }),
    }
}

fn output_written(output: &Output, event: &Event) -> Value {
    let text = |bytes: &[u8]| Value::String(String::from_utf8_lossy(bytes).into_owned());
    let mut written = Map::new();
    if let Some(topic) = &output.topic {
        written.insert("topic".into(), topic.clone().into());
    }
    if output.key != event.key {
        written.insert("key".into(), output.key.as_deref().map_or(Value::Null, text));
    }
    let payload = |bytes: &Vec<u8>| serde_json::from_slice(bytes).unwrap_or_else(|_not_json| text(bytes));
    written.insert("payload".into(), output.payload.as_ref().map_or(Value::Null, payload));
    if !output.headers.is_empty() {
        let headers = output.headers.iter().map(|header| (header.name.clone(), text(&header.value)));
        written.insert("headers".into(), Value::Object(headers.collect()));
    }
    Value::Object(written)
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    /// A folder of the test's own, which goes with it.
    struct Folder(PathBuf);

    impl Folder {
        fn with(name: &str, files: &[(&str, &str)]) -> Self {
            let folder =
                Self(std::env::temp_dir().join(format!("wasmill-golden-{name}-{}", std::process::id())));
            fs::create_dir_all(&folder.0).unwrap();
            for (name, text) in files {
                fs::write(folder.0.join(name), text).unwrap();
            }
            folder
        }

        fn complaint(&self) -> String {
            let panic = catch_unwind(AssertUnwindSafe(|| golden(&self.0, aside))).unwrap_err();
            panic.downcast_ref::<String>().unwrap().clone()
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    /// Shows all that an event may bring.
    fn aside(event: Event) -> Outcome {
        let name: String = event.json()?;
        if event.attempt == 1 {
            return Err(Failure::retry("not yet"));
        }
        let header = event.header("h").unwrap_or_default().to_vec();
        Ok(vec![
            Output::json(&event, &name)?,
            Output::new(&event, "x").topic(event.topic).key("k").header("h", header),
        ])
    }

    #[test]
    fn outcomes_that_are_those_of_the_files_pass() {
        let outputs = r#"{
            "event": { "key": "a", "payload": "Ada", "topic": "t", "attempt": 2, "headers": { "h": "v" } },
            "outputs": [{ "payload": "Ada" }, { "topic": "t", "key": "k", "payload": "x", "headers": { "h": "v" } }]
        }"#;
        let reject = r#"{ "event": {}, "reject": "the event has no payload (a null value)" }"#;
        let retry = r#"{ "event": { "payload": "Ada" }, "retry": "not yet" }"#;
        let files =
            [("outputs.json", outputs), ("reject.json", reject), ("retry.json", retry), ("notes.txt", "")];
        golden(&Folder::with("pass", &files).0, aside);
    }

    #[test]
    fn every_outcome_that_is_another_one_is_told_with_its_file() {
        let wrong = r#"{ "event": { "payload": "Ada" }, "outputs": [] }"#;
        let complaint = Folder::with("differ", &[("a.json", wrong), ("b.json", wrong)]).complaint();
        assert!(complaint.contains("a.json: the outcome is\n{\n  \"retry\": \"not yet\"\n}"), "{complaint}");
        assert!(complaint.contains("b.json: "), "{complaint}");
    }

    #[test]
    fn a_folder_without_golden_events_or_with_a_broken_one_is_no_pass() {
        assert!(Folder::with("none", &[]).complaint().contains("no golden events"));
        let unknown = [("a.json", r#"{ "event": { "paylod": 1 }, "outputs": [] }"#)];
        assert!(Folder::with("unknown", &unknown).complaint().contains("`paylod` is unknown"));
    }
}
