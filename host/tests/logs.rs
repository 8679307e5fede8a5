//! The log of a whole host on Apache Kafka, handler by handler: a level of its own, an end to what it may print, and its
//! newest lines over HTTP.

mod common;

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::Instant;

use common::host::{Host, Pipeline, subscriber, wasmill};
use common::kafka::Broker;
use common::orders::publish;
use common::{built_guest, http, wait_for};
use serde_json::{Value, json};

const PIPELINE: &str = r#"
name = "logs"
kafka = { brokers = "embedded", partitions = 1 }

[http]
listen = "${WASMILL_LISTEN:-127.0.0.1:0}"

[http.resources.words]
topic = "words"
key = "id"

[handlers.plain]
component = "chatty.wasm"
subscribe = ["words"]
publish = ["of-plain"]

[handlers.quiet]
component = "chatty.wasm"
subscribe = ["words"]
publish = ["of-quiet"]
env = { API_KEY = "hunter2" }
log = "warn"

[handlers.loud]
component = "chatty.wasm"
subscribe = ["words"]
publish = ["of-loud"]
log = "trace"
"#;

fn start(pipeline: &str, kafka: &Broker) -> (Pipeline, Host) {
    let pipeline = Pipeline::written(pipeline);
    pipeline.put("chatty.wasm", &fs::read(built_guest("chatty")).unwrap());
    let mut host = Host::start(&pipeline, &kafka.address, "one", &[("WASMILL_LOG_FORMAT", "json")]);
    host.ready();
    (pipeline, host)
}

/// The lines about a handler.
fn of(log: &str, handler: &str) -> Vec<Value> {
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["handler"] == handler).collect()
}

fn count(host: &Host, handler: &str, level: &str, words: &str) -> usize {
    let is_one = |line: &&Value| line["level"] == level && line["message"].as_str().unwrap().contains(words);
    of(&host.log(), handler).iter().filter(is_one).count()
}

fn say(host: &Host, id: &str) {
    let answer = http::post(&host.url("/words"), &json!({ "id": id }).to_string(), &[]).unwrap();
    assert_eq!(answer.status, 201, "{}", answer.body);
    // What goes to stderr is shown of all of them, in one line each.
    for handler in ["plain", "quiet", "loud"] {
        wait_for(handler, || count(host, handler, "WARN", &format!("err: {{\"id\":\"{id}\"}}")) == 1);
    }
}

fn commits(host: &Host, handler: &str) -> u64 {
    subscriber(&host.status().unwrap(), handler)["commits"].as_u64().unwrap()
}

#[test]
fn a_handler_has_a_level_of_its_own_which_a_reload_changes_and_its_lines_are_served() {
    let kafka = Broker::start_empty();
    let (pipeline, host) = start(PIPELINE, &kafka);
    say(&host, "first");
    wait_for("the host's own lines", || count(&host, "loud", "TRACE", "committed") > 0);
    assert_eq!(count(&host, "plain", "INFO", "out: {\"id\":\"first\"}"), 1);
    assert_eq!(count(&host, "plain", "TRACE", ""), 0);
    assert_eq!(count(&host, "quiet", "INFO", ""), 0, "{}", host.log());

    let get = |path: &str| http::get(&host.url(path)).unwrap();
    let mut told = Value::Null;
    wait_for("the trace of the line, and a line of the host's own", || {
        told = get("/admin/handlers/plain/logs").json();
        let mut lines = told["lines"].as_array().unwrap().iter();
        !told["traces"].as_object().unwrap().is_empty() && lines.any(|line| line["printed"] == false)
    });
    let lines = told["lines"].as_array().unwrap();
    let line =
        lines.iter().find(|line| line["message"] == "out: {\"id\":\"first\"}").expect("it was printed");
    assert_eq!((&line["level"], &line["printed"]), (&json!("info"), &json!(true)), "{line}");
    let trace = line["trace"].as_str().unwrap();
    assert_eq!(told["traces"][trace], json!({ "resource": "words", "id": "first" }));
    assert_eq!(get("/admin/handlers/nobody/logs").status, 404);
    let settings = get("/admin/handlers/quiet").json();
    assert_eq!((&settings["env"], &settings["log"]), (&json!(["API_KEY"]), &json!("warn")));

    // The one may say more now, the other less; neither begins anew.
    let traced = count(&host, "loud", "TRACE", "");
    let committed = commits(&host, "loud");
    let changed = PIPELINE.replace("\"warn\"", "\"info\"").replace("log = \"trace\"", "");
    pipeline.put("pipeline.toml", changed.as_bytes());
    wait_for("reload", || host.status().unwrap()["config"]["reloads"] == 1);
    assert!(host.log().contains("handlers.quiet: log: it holds at once"), "{}", host.log());
    say(&host, "second");
    assert_eq!(count(&host, "quiet", "INFO", "out: {\"id\":\"second\"}"), 1);
    wait_for("commit", || commits(&host, "loud") > committed);
    // Its commits were told until the reload.
    assert_eq!(count(&host, "loud", "TRACE", ""), traced, "{}", host.log());
    assert_eq!(count(&host, "quiet", "INFO", "drained"), 0);
    assert!(host.stop("TERM").0.success());
}

#[test]
fn who_prints_without_end_fills_no_log_and_what_is_left_out_is_counted() {
    const FLOODS: usize = 20;
    let kafka = Broker::start_empty();
    // One call prints 200 lines at most, whatever it does.
    let pipeline = PIPELINE.replace("[handlers.plain]", "[handlers.plain]\nlimits = { batch = 1 }");
    let pipeline =
        pipeline.replace("subscribe = [\"words\"]\npublish = [\"of-plain\"]", "subscribe = [\"floods\"]");
    let (_pipeline, host) = start(&pipeline, &kafka);
    let started = Instant::now();
    publish(&kafka.address, "floods", (0..FLOODS).map(|n| (format!("k{n}"), "flood".to_string())));
    let handled = || subscriber(&host.status().unwrap(), "plain")["events"].as_u64().unwrap();
    wait_for("end of the flood", || handled() >= FLOODS as u64);

    // Nobody else's lines are fewer.
    let answer = http::post(&host.url("/words"), "{\"id\":\"other\"}", &[]).unwrap();
    assert_eq!(answer.status, 201, "{}", answer.body);
    wait_for("the other's line", || count(&host, "loud", "INFO", "out: ") == 1);
    let newest = http::get(&host.url("/admin/handlers/plain/logs")).unwrap().json();
    assert_eq!(newest["lines"].as_array().unwrap().len(), 200);

    let log = host.path_of_log();
    assert!(host.stop("TERM").0.success());
    let most = 1000.0 + 100.0 * started.elapsed().as_secs_f64();
    let lines = of(&fs::read_to_string(log).unwrap(), "plain");
    let printed = lines.iter().filter(|line| line["target"] == "guest").count();
    assert!(printed >= 1000 && printed as f64 <= most, "{printed}, {most}");
    let of_printed =
        lines.iter().filter(|line| line["target"] == "guest" && line["left_out"].is_null()).count();
    let left_out: u64 = lines.iter().filter_map(|line| line["left_out"].as_u64()).sum();
    // All that it printed; an event that was handled once more, which Kafka may demand, was printed once more.
    let all = of_printed as u64 + left_out;
    assert!(all >= FLOODS as u64 * 1000 && all.is_multiple_of(1000), "{of_printed} and {left_out}");
}

#[test]
fn a_log_that_goes_to_no_terminal_is_json() {
    let pipeline = Pipeline::written("name = \"logs\"\nkafka = { brokers = \"embedded\" }\n");
    let mut run = wasmill();
    run.arg("run").current_dir(pipeline.path()).env("WASMILL_STATE", pipeline.path().join("state"));
    let run = run.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut host = run.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(host.stderr.take().unwrap()).read_line(&mut line).unwrap();
    host.kill().unwrap();
    host.wait().unwrap();
    let line: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
    assert!(line["level"].is_string() && line["message"].is_string(), "{line}");
}
