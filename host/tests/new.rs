//! `wasmill new` as a user runs it: what it makes builds, passes its test and runs in the pipeline; what it can't
//! make, it refuses before anything is made.

mod common;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use common::clone::cloned;
use common::host::{Ended, Pipeline, wasmill};
use serde_json::{Value, json};

const TOPICS: [&str; 4] = ["--subscribe", "readings", "--publish", "alarms"];

fn run(folder: &Path, command: &mut Command) -> Ended {
    // Cargo would put nothing where pipeline.toml looks.
    command.current_dir(folder).env_remove("CARGO_TARGET_DIR").stdin(Stdio::null());
    command.output().unwrap().into()
}

fn new(pipeline: &Pipeline, args: &[&str]) -> Ended {
    run(pipeline.path(), wasmill().arg("new").args(args))
}

fn cargo(folder: &Path, args: &[&str]) {
    let ended = run(folder, Command::new(env!("CARGO")).args(args));
    assert_eq!(ended.code, Some(0), "cargo {args:?}: {}{}", ended.stdout, ended.stderr);
}

fn text(pipeline: &Pipeline) -> String {
    fs::read_to_string(pipeline.path().join("pipeline.toml")).unwrap()
}

/// All that is in the folder, without what a target folder holds.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn invoked(pipeline: &Pipeline, crate_folder: &Path) {
    let check = run(pipeline.path(), wasmill().arg("check"));
    assert_eq!(check.code, Some(0), "{}", check.stderr);
    assert!(check.stdout.contains("alarm"), "{}", check.stdout);
    for (name, code) in [("hot", 0), ("cool", 0), ("impossible", 1)] {
        let golden = fs::read_to_string(crate_folder.join(format!("golden/{name}.json"))).unwrap();
        let golden: Value = serde_json::from_str(&golden).unwrap();
        let event = pipeline.path().join("event.json");
        fs::write(&event, golden["event"].to_string()).unwrap();
        let invoked = run(
            pipeline.path(),
            wasmill().args(["invoke", "alarm", "event.json", "--format", "event", "--json"]),
        );
        assert_eq!(invoked.code, Some(code), "{}", invoked.stderr);
        let event = &invoked.json()["events"][0];
        assert_eq!(event["position"], "readings/0/0");
        let outputs = golden["outputs"].as_array().cloned().unwrap_or_default();
        assert_eq!(event["outputs"].as_array().unwrap().len(), outputs.len(), "{event}");
        for (output, golden) in event["outputs"].as_array().unwrap().iter().zip(outputs) {
            assert_eq!((&output["topic"], &output["payload"]), (&json!("alarms"), &golden["payload"]));
        }
    }
}

#[test]
fn in_a_clone_apply_builds_the_crate_and_adds_it_to_the_pipeline() {
    let pipeline = cloned(|text| text);
    let before = text(&pipeline);
    let made = new(&pipeline, &[&["alarm", "--apply", "--json"], &TOPICS[..]].concat());
    assert_eq!(made.code, Some(0), "{}{}", made.stdout, made.stderr);
    let made = made.json();
    assert_eq!(
        (&made["folder"], &made["sdk"], &made["sdk_made"], &made["applied"]),
        (&json!("components/alarm"), &json!("components/sdk"), &json!(false), &json!(true))
    );
    let lines = "[handlers.alarm]\n\
        component = \"components/alarm/target/wasm32-wasip2/release/alarm.wasm\"\n\
        subscribe = [\"readings\"]\npublish   = [\"alarms\"]\n";
    assert_eq!(made["snippet"], lines);
    let mail = "\n[sinks.mail]\n";
    assert_eq!(text(&pipeline), before.replace(mail, &format!("\n{lines}{mail}")));
    invoked(&pipeline, &pipeline.path().join("components/alarm"));
}

#[test]
fn elsewhere_the_sdk_is_written_beside_the_crate_once_and_the_lines_are_printed() {
    let pipeline = Pipeline::shipped(|text| text);
    let before = text(&pipeline);
    let args = [&["alarm", "--folder", "handlers/alarm/"], &TOPICS[..]].concat();
    let made = new(&pipeline, &args);
    assert_eq!((made.code, made.stderr.as_str()), (Some(0), ""), "{}", made.stdout);
    assert_eq!(text(&pipeline), before);
    assert_eq!(names(&pipeline.path().join("handlers")), ["alarm", "wasmill-sdk"]);
    // What is printed is what a user pastes and runs.
    let commands = "cargo test --release && cargo build --release --target wasm32-wasip2";
    assert!(made.stdout.contains(&format!("(cd handlers/alarm && {commands})")), "{}", made.stdout);
    let (_, lines) = made.stdout.split_once("\n[handlers.alarm]").unwrap();
    let (lines, _) = lines.split_once("\n\n").unwrap();
    fs::write(pipeline.path().join("pipeline.toml"), format!("{before}\n[handlers.alarm]{lines}\n")).unwrap();
    let folder = pipeline.path().join("handlers/alarm");
    cargo(&folder, &["test", "--quiet", "--release"]);
    cargo(&folder, &["build", "--quiet", "--release", "--target", "wasm32-wasip2"]);
    invoked(&pipeline, &folder);

    // Somebody's own change to the SDK stays.
    let changed = pipeline.path().join("handlers/wasmill-sdk/src/env.rs");
    fs::write(&changed, "// mine").unwrap();
    let made = new(&pipeline, &["two-alarms", "--folder", "handlers/two", "--json"]).json();
    assert_eq!((&made["sdk"], &made["sdk_made"]), (&json!("handlers/wasmill-sdk"), &json!(false)));
    assert_eq!(made["component"], "handlers/two/target/wasm32-wasip2/release/two_alarms.wasm");
    let snippet = made["snippet"].as_str().unwrap();
    assert!(snippet.contains("[\"two-alarms.in\"]") && snippet.contains("[\"two-alarms.out\"]"), "{snippet}");
    assert_eq!(fs::read_to_string(changed).unwrap(), "// mine");
}

#[test]
fn apply_keeps_the_files_permissions_and_follows_a_link_to_it() {
    let pipeline = cloned(|text| text);
    let elsewhere = tempfile::tempdir().unwrap();
    let (link, file) = (pipeline.path().join("pipeline.toml"), elsewhere.path().join("shared.toml"));
    fs::rename(&link, &file).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    symlink(&file, &link).unwrap();
    // A build that always works, so that it takes no time.
    let made = run(pipeline.path(), wasmill().env("CARGO", "true").args(["new", "alarm", "--apply"]));
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    assert!(link.is_symlink());
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
    assert!(fs::read_to_string(&file).unwrap().contains("[handlers.alarm]"));
    assert_eq!(names(elsewhere.path()), ["shared.toml"]);
}

#[test]
fn a_crate_that_can_t_be_built_leaves_the_pipeline_as_it_was() {
    let pipeline = cloned(|text| text);
    let before = text(&pipeline);
    let made = run(pipeline.path(), wasmill().env("CARGO", "false").args(["new", "alarm", "--apply"]));
    assert_eq!((made.code, made.stdout.as_str()), (Some(1), ""));
    assert!(made.stderr.contains("components/alarm is made, and can't be built"), "{}", made.stderr);
    assert_eq!(text(&pipeline), before);
}

#[test]
fn what_can_t_be_made_is_refused_before_anything_is() {
    let inline = "handlers = { a = { component = 'a', subscribe = ['b'] } }\n";
    for (args, edit, code, said) in [
        (&["Alarm"][..], None, 2, "lower-case letters, digits and hyphens"),
        (&["2nd"], None, 2, "starts with a letter"),
        (&["match"], None, 2, "no crate can have this name"),
        (&["alarm", "--subscribe", "a b"], None, 2, "letters, digits, '.', '_' and '-'"),
        (&["alarm", "--lang", "go"], None, 2, "--lang"),
        (&["order-formatter", "--folder", "mine"], None, 1, "has a handler `order-formatter` already"),
        (&["mail"], None, 1, "has a sink `mail` already"),
        (&["schemas", "--folder", "schemas"], None, 1, "schemas is there, and not empty"),
        (&["alarm", "--folder", "pipeline.toml"], None, 1, "can't become the crate's folder"),
        (&["alarm", "--folder", ".."], None, 1, "not empty"),
        (&["alarm", "--config", "nowhere.toml"], None, 1, "name the file with --config"),
        (&["alarm"], Some("name = 'a'\nname = 'b'\npassword = 'hunter2'\n"), 1, "pipeline.toml:2: not TOML"),
        (&["alarm", "--apply"], Some(inline), 1, "written in a way that lines can't be added to"),
    ] {
        let pipeline = Pipeline::shipped(|text| edit.map_or(text, String::from));
        let before = (names(pipeline.path()), names(&pipeline.path().join("components")), text(&pipeline));
        let told = new(&pipeline, args);
        assert_eq!((told.code, told.stdout.as_str()), (Some(code), ""), "{args:?}: {}", told.stderr);
        assert!(told.stderr.contains(said), "{args:?}: {}", told.stderr);
        assert!(!told.stderr.contains("hunter2"), "{}", told.stderr);
        let after = (names(pipeline.path()), names(&pipeline.path().join("components")), text(&pipeline));
        assert_eq!(before, after, "{args:?}");
    }
}
