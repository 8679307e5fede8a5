//! `check` and `invoke` as a user runs them, on a copy of the pipeline that ships and its built components: what
//! goes to stdout, what to stderr, and the exit code.

mod common;

use std::fs::{self, File};
use std::io::Write as _;
use std::process::Stdio;

use common::host::{Ended, Pipeline, wasmill};
use serde_json::{Value, json};

const ORDER: &str = r#"{
    "order_id": "o-1", "customer": { "id": "c-1", "name": "Ada Park", "email": "ada@example.com" },
    "items": [{ "sku": "m", "name": "Pizza", "quantity": 2, "unit_price_cents": 1150 }], "currency": "EUR"
}"#;

/// Its stderr as words: lines are broken and drawn for a terminal.
fn run(pipeline: &Pipeline, args: &[&str], stdin: &str) -> Ended {
    let mut child = wasmill()
        .args(args)
        .current_dir(pipeline.path())
        .env("WASMILL_LISTEN", "127.0.0.1:0")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A verb that reads nothing may have ended by now.
    let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    let mut ended = Ended::from(child.wait_with_output().unwrap());
    ended.stderr = ended.stderr.replace('│', " ").split_whitespace().collect::<Vec<_>>().join(" ");
    ended
}

#[test]
fn check_says_that_the_shipped_pipeline_can_run() {
    let pipeline = Pipeline::shipped(|text| text);
    let text = run(&pipeline, &["check"], "");
    assert_eq!((text.code, text.stderr.as_str()), (Some(0), ""));
    assert!(
        text.stdout.starts_with("food-ordering can run: 11 topics on the embedded broker\n"),
        "{}",
        text.stdout
    );
    let json = run(&pipeline, &["check", "--json"], "");
    assert_eq!((json.code, json.stderr.as_str()), (Some(0), ""));
    let verdict = json.json();
    assert_eq!(
        (&verdict["ok"], &verdict["errors"], &verdict["warnings"]),
        (&json!(true), &json!([]), &json!([]))
    );
    let plan = &verdict["plan"];
    assert_eq!((&plan["name"], &plan["brokers"]), (&json!("food-ordering"), &json!("embedded")));
    assert_eq!(plan["topics"].as_array().unwrap().len(), 11, "{plan}");
    assert_eq!(plan["resources"], json!([{ "name": "orders", "topic": "orders" }]));
    assert_eq!(plan["sinks"][0]["subscribe"], json!(["emails"]), "{plan}");
    let formatter =
        plan["handlers"].as_array().unwrap().iter().find(|h| h["name"] == "order-formatter").unwrap();
    assert_eq!(
        *formatter,
        json!({
            "name": "order-formatter", "subscribe": ["orders"], "publish": ["order_details"],
            "group": "wasmill.food-ordering.order-formatter"
        })
    );
}

#[test]
fn the_last_brokers_count() {
    let pipeline = Pipeline::shipped(|text| text);
    let json = run(&pipeline, &["check", "--json", "--brokers", "a:1", "--brokers", "b:2"], "");
    assert_eq!(json.json()["plan"]["brokers"], "b:2");
}

#[test]
fn a_component_that_is_not_there_is_told_how_to_build_it() {
    let path = "component = \"components/email-composer.wasm\"";
    for (wrong, said) in [
        ("../alarm/alarm.wasm", "cargo build --release --target wasm32-wasip2"),
        ("components", "is a folder"),
    ] {
        let pipeline = Pipeline::shipped(|text| text.replace(path, &format!("component = {wrong:?}")));
        let told = run(&pipeline, &["check"], "");
        assert_eq!(told.code, Some(1));
        assert!(told.stderr.contains(said), "{}", told.stderr);
    }
}

#[test]
fn a_secret_in_the_name_of_a_component_is_never_shown() {
    let path = "component = \"components/email-composer.wasm\"";
    let secret = "component = \"${file:secret}/email-composer.wasm\"";
    // By itself, and beside another error.
    for more in ["", "\n[sinks.wrong]\n"] {
        let pipeline = Pipeline::shipped(|text| text.replace(path, secret) + more);
        fs::write(pipeline.path().join("secret"), "hunter2").unwrap();
        for verb in [&["check"][..], &["check", "--json"], &["run"], &["invoke", "email-composer"]] {
            let told = run(&pipeline, verb, "{}");
            assert_eq!(told.code, Some(1), "{verb:?}");
            let said = format!("{}{}", told.stdout, told.stderr);
            assert!(!said.contains("hunter2"), "{said}");
            let invokes_a_broken_file = verb[0] == "invoke" && !more.is_empty();
            let told_it = said.contains("there is no component at ${file:secret}/email-composer.wasm");
            assert!(told_it != invokes_a_broken_file, "{verb:?}: {said}");
        }
    }
}

#[test]
fn files_that_pipeline_toml_names_are_regular_ones_of_a_bounded_size() {
    let large = "larger than 16.0 MiB";
    for (file, said) in
        [("/dev/zero", "not a regular file"), ("pipe", "not a regular file"), ("large", large)]
    {
        let pipeline = Pipeline::shipped(|text| {
            let text = text.replace("schemas/order.json", file);
            text + &format!("\n[handlers.more]\ncomponent = \"${{file:{file}}}\"\nsubscribe = [\"orders\"]\n")
        });
        let pipe = std::process::Command::new("mkfifo").arg(pipeline.path().join("pipe")).status();
        assert!(pipe.unwrap().success());
        File::create(pipeline.path().join("large")).unwrap().set_len((16 << 20) + 1).unwrap();
        let told = run(&pipeline, &["check"], "");
        assert_eq!((told.code, told.stderr.matches(said).count()), (Some(1), 2), "{}", told.stderr);
    }
}

#[test]
fn a_diff_that_can_t_be_had_is_json_too_for_who_wants_json() {
    let pipeline = Pipeline::shipped(|text| text);
    let nowhere = ["check", "--diff", "--json", "--url", "http://127.0.0.1:1"];
    let told = run(&pipeline, &nowhere, "");
    assert_eq!((told.code, told.stderr.as_str()), (Some(1), ""));
    let verdict = told.json();
    assert_eq!(verdict["ok"], false);
    let message = verdict["errors"][0]["message"].as_str().unwrap();
    assert!(message.starts_with("no host answers at http://127.0.0.1:1"), "{verdict}");
    assert!(verdict["errors"][0]["help"].as_str().unwrap().contains("wasmill run"), "{verdict}");

    fs::write(pipeline.path().join("pipeline.toml"), "[handlers").unwrap();
    let told = run(&pipeline, &["check", "--diff", "--json"], "").json();
    assert_eq!((&told["ok"], &told["errors"][0]["line"]), (&json!(false), &json!(1)), "{told}");
}

#[test]
fn a_pipeline_that_is_not_there_is_told_in_one_error() {
    let pipeline = Pipeline::shipped(|text| text);
    for verb in [&["check"][..], &["run"], &["simulate"], &["trace", "k"], &["invoke", "h"]] {
        let told = run(&pipeline, &[verb, &["--config", "nowhere.toml"]].concat(), "");
        assert_eq!((told.code, told.stdout.as_str()), (Some(1), ""), "{verb:?}");
        let said = "× can't read nowhere.toml: No such file or directory (os error 2)";
        assert!(told.stderr.starts_with(said), "{verb:?}: {}", told.stderr);
        assert_eq!(told.stderr.matches('×').count(), 1, "{verb:?}: {}", told.stderr);
        assert!(told.stderr.contains("name the file with --config"), "{verb:?}: {}", told.stderr);
    }
}

/// Kafka's client library, the linker and the file's own checks each have something to say.
fn broken() -> Pipeline {
    let properties = r#"
[kafka.properties]
"acks" = "1"
"lingerer.ms" = "hunter2"
"linger.ms" = "hunter2"
"sasl.mechanism" = "OAUTHBEARER"
"sasl.oauthbearer.config" = "file:/nowhere/hunter2"

[http]
lissten = "127.0.0.1:1"
"#;
    let pipeline = Pipeline::shipped(|text| text.replace("\n[http]\n", properties));
    fs::write(pipeline.path().join("components/email-composer.wasm"), b"\0asm\x01\0\0\0").unwrap();
    pipeline
}

#[test]
fn check_and_run_tell_all_that_is_wrong_at_once_and_where() {
    let pipeline = broken();
    let json = run(&pipeline, &["check", "--json"], "");
    assert_eq!(json.code, Some(1));
    assert!(!json.stdout.contains("hunter2"), "{}", json.stdout);
    let verdict = json.json();
    assert_eq!(verdict["ok"], false);
    let text = fs::read_to_string(pipeline.path().join("pipeline.toml")).unwrap();
    let line_of = |key: &str| 1 + text.lines().position(|line| line.starts_with(key)).unwrap();
    let component = line_of("component = \"components/email-composer.wasm\"");
    let expected = [
        ("`acks` can't be set", line_of("\"acks\"")),
        ("`lingerer.ms` can't be set", line_of("\"lingerer.ms\"")),
        ("`linger.ms` can't be set", line_of("\"linger.ms\"")),
        ("`sasl.oauthbearer.config` can't be set", line_of("\"sasl.oauthbearer.config\"")),
        ("unknown key `lissten`", line_of("lissten")),
        ("`email-composer`: ", component),
    ];
    let errors = verdict["errors"].as_array().unwrap();
    assert_eq!(errors.len(), expected.len(), "{errors:#?}");
    for (error, (message, line)) in errors.iter().zip(expected) {
        assert!(error["message"].as_str().unwrap().starts_with(message), "{error}");
        assert_eq!((&error["line"], &error["file"]), (&json!(line), &json!("pipeline.toml")), "{error}");
        assert!(error["column"].is_number() && error["help"].is_string(), "{error}");
    }

    for verb in ["check", "run"] {
        let told = run(&pipeline, &[verb], "");
        assert_eq!((told.code, told.stdout.as_str()), (Some(1), ""));
        for (message, line) in expected {
            assert!(told.stderr.contains(message.trim()), "{verb}: {message}: {}", told.stderr);
            assert!(
                told.stderr.contains(&format!("pipeline.toml:{line}:")),
                "{verb}: {line}: {}",
                told.stderr
            );
        }
    }
}

#[test]
fn a_sound_file_with_refused_properties_alone_is_told_so_by_check_and_run() {
    let with = "\n[kafka.properties]\nacks = 0\nretries = 0\n\n[http]\n";
    let pipeline = Pipeline::shipped(|text| text.replace("\n[http]\n", with));
    for verb in ["check", "run"] {
        let told = run(&pipeline, &[verb], "");
        assert_eq!(told.code, Some(1), "{}", told.stderr);
        for name in ["`acks` can't be set", "`retries` can't be set"] {
            assert!(told.stderr.contains(name), "{verb}: {}", told.stderr);
        }
    }
    // It makes no Kafka client.
    assert_eq!(run(&pipeline, &["invoke", "order-formatter"], ORDER).code, Some(0));
}

#[test]
fn invoke_shows_what_a_handler_makes_of_events_from_a_file_or_stdin() {
    let pipeline = Pipeline::shipped(|text| text);
    fs::write(pipeline.path().join("order.json"), ORDER).unwrap();
    let from_stdin = run(&pipeline, &["invoke", "order-formatter", "--key", "o-1"], ORDER);
    assert_eq!(from_stdin.code, Some(0), "{}", from_stdin.stderr);
    let mut lines = from_stdin.stdout.lines();
    assert_eq!(lines.next(), Some("orders/0/0"));
    assert!(
        lines.next().unwrap().starts_with("  -> order_details o-1 {\"order_id\":\"o-1\""),
        "{}",
        from_stdin.stdout
    );
    assert!(from_stdin.stderr.starts_with("1 event: 1 output, 0 failed; 1 call,"), "{}", from_stdin.stderr);

    let from_file = run(&pipeline, &["invoke", "order-formatter", "order.json", "--key", "o-1"], "");
    assert_eq!((from_file.code, &from_file.stdout), (Some(0), &from_stdin.stdout));

    let json = run(&pipeline, &["invoke", "order-formatter", "order.json", "--key", "o-1", "--json"], "");
    assert_eq!((json.code, json.stderr.as_str()), (Some(0), ""));
    let report = json.json();
    let event = &report["events"][0];
    assert_eq!((&event["position"], &event["failure"]), (&json!("orders/0/0"), &Value::Null), "{report}");
    let output = &event["outputs"][0];
    assert_eq!((&output["topic"], &output["key"]), (&json!("order_details"), &json!("o-1")), "{report}");
    assert_eq!(output["payload"]["total_cents"], 2300, "{report}");
    assert_eq!((&report["failed"], &report["calls"]), (&json!(0), &json!(1)));
    assert!(report["peak_memory_bytes"].as_u64().unwrap() > 0, "{report}");

    let absent = ["invoke", "order-formatter", "order.json", "--component", "nowhere.wasm"];
    let absent = run(&pipeline, &absent, "");
    assert_eq!((absent.code, absent.stdout.as_str()), (Some(1), ""), "{}", absent.stderr);
    let other = ["invoke", "order-formatter", "order.json", "--component", "components/email-composer.wasm"];
    assert_eq!(run(&pipeline, &other, "").code, Some(1), "an order is no confirmation");
}

#[test]
fn invoke_exits_with_1_when_an_event_failed_and_shows_the_others_all_the_same() {
    let pipeline = Pipeline::shipped(|text| text);
    let events = format!("{{}} {ORDER}");
    let text = run(&pipeline, &["invoke", "order-formatter"], &events);
    assert_eq!(text.code, Some(1), "{}", text.stderr);
    assert!(text.stdout.contains("orders/0/0\n  reject: "), "{}", text.stdout);
    assert!(text.stdout.contains("orders/0/1\n  -> order_details"), "{}", text.stdout);
    assert!(text.stderr.starts_with("2 events: 1 output, 1 failed"), "{}", text.stderr);

    let json = run(&pipeline, &["invoke", "order-formatter", "--json"], &events);
    assert_eq!(json.code, Some(1), "{}", json.stderr);
    let report = json.json();
    assert_eq!((&report["failed"], &report["events"][0]["failure"]["kind"]), (&json!(1), &json!("reject")));
    assert_eq!(report["events"][1]["failure"], Value::Null);
}

#[test]
fn invoke_handles_the_events_before_one_that_can_t_be_read_and_says_so() {
    let pipeline = Pipeline::shipped(|text| text);
    let told = run(&pipeline, &["invoke", "order-formatter"], &format!("{ORDER} {{\"order_id\": "));
    assert_eq!(told.code, Some(1));
    assert!(told.stdout.starts_with("orders/0/0\n  -> order_details"), "{}", told.stdout);
    assert!(told.stderr.contains("can't read events from standard input after 1 event"), "{}", told.stderr);
}

/// Topics without readers or writers are of no interest to who tries a handler.
#[test]
fn only_check_and_run_warn_of_what_is_doubtful() {
    let pipeline = Pipeline::shipped(|text| {
        text.replace("subscribe = [\"orders\"]", "subscribe = [\"orders\", \"nowhere\"]")
    });
    assert!(run(&pipeline, &["check"], "").stderr.contains("nowhere"));
    let told = run(&pipeline, &["invoke", "order-formatter"], ORDER);
    assert!(told.code == Some(0) && told.stderr.starts_with("1 event:"), "{}", told.stderr);
}

/// What the README pipes into it has this shape.
#[test]
fn the_first_example_of_the_schema_is_an_event_of_the_first_handler() {
    let schema: Value = serde_json::from_str(include_str!("../../schemas/order.json")).unwrap();
    let pipeline = Pipeline::shipped(|text| text);
    let event = schema["examples"][0].to_string();
    let told = run(&pipeline, &["invoke", "order-formatter", "--key", "o-00000001"], &event);
    assert_eq!(told.code, Some(0), "{}{}", told.stdout, told.stderr);
}

#[test]
fn exit_codes_tell_what_did_not_work_from_what_was_not_understood() {
    let pipeline = Pipeline::shipped(|text| text);
    for (args, code, said) in [
        (&["invoke", "nobody"][..], 1, "its handlers are: email-composer, order-formatter"),
        (&["invoke", "order-formatter", "nowhere.json"], 1, "can't read events from nowhere.json"),
        (&["check", "--config", "nowhere.toml"], 1, "name the file with --config"),
        (&["invoke"], 2, "<HANDLER>"),
        (&["invoke", "order-formatter", "--batch", "0"], 2, "--batch"),
        (&["check", "--yaml"], 2, "--yaml"),
        (&["simulate", "--rate", "1e-300", "-n", "2"], 2, "wants a number from 0.001"),
        (&["simulate", "--url", "127.0.0.1:8080"], 2, "give http://127.0.0.1:8080"),
        (&["trace", "k", "--brokers", "127.0.0.1:1"], 1, "no broker answers at 127.0.0.1:1"),
        (&["walk"], 2, "walk"),
    ] {
        let ended = run(&pipeline, args, "");
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(code), ""), "{args:?}: {}", ended.stderr);
        assert!(ended.stderr.contains(said), "{args:?}: {}", ended.stderr);
    }
    let not_json = run(&pipeline, &["invoke", "order-formatter"], "{");
    assert_eq!(not_json.code, Some(1));
    assert!(not_json.stderr.contains("can't read events from standard input"), "{}", not_json.stderr);
}

#[test]
fn a_full_stderr_stops_nothing_and_a_full_stdout_is_a_failure() {
    // Nobody reads `aside`: a warning.
    let publish = "publish   = [\"order_details\"";
    let pipeline = Pipeline::shipped(|text| text.replace(publish, &format!("{publish}, \"aside\"")));
    assert!(run(&pipeline, &["check"], "").stderr.contains("`publish`"));
    let full = || File::options().write(true).open("/dev/full").unwrap().into();
    let check = |stdout: Stdio, stderr: Stdio| {
        let mut check = wasmill();
        check.arg("check").current_dir(pipeline.path()).stdout(stdout).stderr(stderr);
        check.status().unwrap().code()
    };
    assert_eq!(check(Stdio::null(), full()), Some(0));
    assert_eq!(check(full(), Stdio::null()), Some(1));
}
