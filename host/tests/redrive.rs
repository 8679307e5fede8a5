//! Dead letters of a whole host on Apache Kafka are put back, let go and counted, each once, whatever is killed.
#![cfg(target_os = "linux")]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use common::host::{Host, Pipeline, signal, subscriber, until, wasmill};
use common::kafka::Broker;
use common::orders::{publish, read, text};
use common::{DEADLINE, built_guest, http, rename_over};
use serde_json::{Value, json};
use wasmill::event::headers::{HANDLER, REDRIVE_FOR, REDRIVE_OF};
use wasmill::event::{Event, header};

const PIPELINE: &str = r#"
name = "redrive"
kafka = { brokers = "embedded", partitions = 2 }
http = { listen = "${WASMILL_LISTEN:-127.0.0.1:0}" }

[handlers.fate]
component = "fate.wasm"
subscribe = ["in"]
publish = ["out"]

[handlers.other]
component = "other.wasm"
subscribe = ["in"]
publish = ["out-of-other"]
dead_letter = "fate.dlq"
"#;

const FINE: usize = 20;
const BAD: usize = 40;

#[test]
fn dead_letters_are_put_back_once_for_the_handler_that_failed_alone_whatever_is_killed() {
    let kafka = Broker::start_empty();
    let pipeline = Pipeline::written(PIPELINE);
    let echo = fs::read(built_guest("echo")).unwrap();
    pipeline.put("fate.wasm", &fs::read(built_guest("fate")).unwrap());
    pipeline.put("other.wasm", &echo);
    let mut host = Host::start(&pipeline, &kafka.address, "one", &[]);
    host.ready();
    let dlq = |args: &[&str]| {
        let mut command = wasmill();
        command
            .arg("dlq")
            .args(args)
            .args(["--json", "--brokers", &kafka.address])
            .current_dir(pipeline.path());
        command.stderr(Stdio::piped()).stdout(Stdio::piped());
        command
    };
    let settled = |args: &[&str]| -> Value {
        let output = dlq(args).output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{args:?}: {output:?}"))
    };
    let letters = |args: &[&str]| -> u64 {
        settled(args)["groups"].as_array().unwrap().iter().map(|group| group["count"].as_u64().unwrap()).sum()
    };
    let record = |n| {
        let payload = if n < BAD { "reject".into() } else { format!("fine {n}") };
        (format!("k{}", n % 7), payload)
    };
    publish(&kafka.address, "in", (0..FINE + BAD).map(record));
    until(DEADLINE, || {
        read(&kafka.address, "fate.dlq").len() == BAD && of_other(&kafka.address) == FINE + BAD
    })
    .unwrap_or_else(|()| panic!("{}", host.log()));
    assert_eq!(letters(&["ls"]), BAD as u64);
    // They share a topic, and not what is in it.
    assert_eq!(letters(&["ls", "other"]), 0);
    for mut verb in [vec!["redrive", "other"], vec!["discard", "other", "--reason", "not mine"]] {
        assert_eq!(settled(&verb)["count"], 0, "{verb:?}");
        verb.extend(["--at", "fate.dlq/0/0"]);
        let answer = settled(&verb);
        assert_eq!((&answer["count"], &answer["failed_count"]), (&json!(0), &json!(1)), "{answer}");
    }

    // Two of them fail again: they are new letters, which may not be put back once more.
    assert_eq!(settled(&["redrive", "fate", "--dry-run"])["count"], BAD);
    for _ in 0..2 {
        // The second one begins behind what the first one has settled.
        assert_eq!(settled(&["redrive", "fate", "--limit", "1"])["count"], 1);
    }
    until(DEADLINE, || read(&kafka.address, "fate.dlq").len() == BAD + 2)
        .unwrap_or_else(|()| panic!("{}", host.log()));
    assert_eq!(letters(&["ls", "fate"]), BAD as u64);

    // The handler is mended. A redrive is interrupted, and tells how far it came.
    rename_over(&pipeline.path().join("fate.wasm"), &echo);
    let at_rate = |rate| ["redrive", "fate", "--max-redrives", "1", "--rate", rate];
    // So that none comes to the end before it is stopped, however slow the machine is.
    let slowly = at_rate("1");
    let before = put_back(&kafka.address).len();
    let interrupted = dlq(&slowly).spawn().unwrap();
    until(DEADLINE, || put_back(&kafka.address).len() > before).unwrap();
    signal(interrupted.id(), "INT");
    let ended = interrupted.wait_with_output().unwrap();
    let report: Value = serde_json::from_slice(&ended.stdout).unwrap_or_else(|_| panic!("{ended:?}"));
    let by_it = put_back(&kafka.address).len() - before;
    assert_eq!((&report["stopped"], &report["count"]), (&json!(true), &json!(by_it)), "{report}");
    assert_eq!(ended.status.code(), Some(1));

    // One is ended by a second one, that one is killed, and the next one goes on.
    let before = put_back(&kafka.address).len();
    let first = dlq(&slowly).spawn().unwrap();
    until(DEADLINE, || put_back(&kafka.address).len() > before).unwrap();
    let mut killed = dlq(&slowly).spawn().unwrap();
    let ended = first.wait_with_output().unwrap();
    assert!(String::from_utf8_lossy(&ended.stderr).contains("somebody else has begun"), "{ended:?}");
    let by_the_first = put_back(&kafka.address).len();
    until(DEADLINE, || put_back(&kafka.address).len() > by_the_first).unwrap();
    killed.kill().unwrap();
    killed.wait().unwrap();
    let before = put_back(&kafka.address).len();
    let rest = settled(&at_rate("50"));
    assert!(before < BAD, "it was killed too late to show anything");
    assert_eq!(rest["too_often"], 2, "{rest}");
    let all = put_back(&kafka.address);
    let each: BTreeSet<String> = all.iter().map(|event| text(event, REDRIVE_OF).to_string()).collect();
    assert_eq!((all.len(), each.len()), (BAD, BAD), "{rest}");
    assert!(all.iter().all(|event| text(event, REDRIVE_FOR) == "fate"));
    let out = || read(&kafka.address, "out");
    until(DEADLINE, || out().len() == FINE + BAD - 2).unwrap_or_else(|()| panic!("{}", host.log()));
    assert_eq!(settled(&at_rate("50"))["count"], 0);

    // The other handler that reads the topic has dealt with them before.
    thread::sleep(Duration::from_secs(1));
    assert_eq!(of_other(&kafka.address), FINE + BAD);
    assert!(out().iter().all(|event| text(event, HANDLER) == "fate"));

    let open = settled(&["ls", "--each"])["letters"].clone();
    assert_eq!(open.as_array().unwrap().len(), 2, "{open}");
    assert_eq!(settled(&["discard", "fate", "--cause", "trap", "--reason", "none of these"])["count"], 0);
    assert_eq!(settled(&["discard", "fate", "--reason", "tests"])["count"], 2);
    assert_eq!((letters(&["ls"]), letters(&["ls", "--all"])), (0, BAD as u64 + 2));
    for letter in open.as_array().unwrap() {
        let shown = settled(&["show", letter["position"].as_str().unwrap()]);
        assert_eq!(shown["settled"]["reason"], "tests", "{shown}");
    }

    // What isn't there is no silent success.
    let nowhere = dlq(&["redrive", "fate", "--at", "fate.dlq/0/9999"]).output().unwrap();
    assert_eq!(nowhere.status.code(), Some(1), "{nowhere:?}");
    assert!(String::from_utf8_lossy(&nowhere.stdout).contains("no such record"), "{nowhere:?}");
    let other_cause = dlq(&["discard", "fate", "--at", "fate.dlq/0/0", "--cause", "trap", "--reason", "x"])
        .output()
        .unwrap();
    assert_eq!(other_cause.status.code(), Some(1), "{other_cause:?}");
    assert!(String::from_utf8_lossy(&other_cause.stdout).contains("none of those"), "{other_cause:?}");
    let elsewhere = dlq(&["redrive", "fate", "--at", "other.dlq/0/0"]).output().unwrap();
    assert!(String::from_utf8_lossy(&elsewhere.stderr).contains("no dead letter of"), "{elsewhere:?}");
    let (status, _) = host.stop("TERM");
    assert!(status.success(), "{status}");
}

#[test]
fn whoever_may_command_the_host_lists_shows_puts_back_and_lets_go() {
    let kafka = Broker::start_empty();
    let pipeline = Pipeline::written(PIPELINE);
    let echo = fs::read(built_guest("echo")).unwrap();
    pipeline.put("fate.wasm", &fs::read(built_guest("fate")).unwrap());
    pipeline.put("other.wasm", &echo);
    let mut host = Host::start(&pipeline, &kafka.address, "one", &[]);
    host.ready();
    let get = |path: &str| http::get(&host.url(path)).unwrap();
    let post = |path: &str, body: &Value| http::post(&host.url(path), &body.to_string(), &[]).unwrap();
    assert_eq!(get("/admin/dead-letters").json(), json!({ "groups": [], "letters": [] }));

    publish(&kafka.address, "in", ["reject", "panic", "reject"].map(|fate| ("k".into(), fate.into())));
    let letters = || get("/admin/dead-letters?handler=fate").json()["letters"].as_array().unwrap().clone();
    until(DEADLINE, || letters().len() == 3).unwrap_or_else(|()| panic!("{}", host.log()));
    assert_eq!(get("/admin/dead-letters?cause=reject").json()["groups"][0]["count"], 2);
    assert_eq!(get("/admin/dead-letters?handler=other").json()["letters"], json!([]));
    let first = letters()[0]["position"].as_str().unwrap().to_string();
    let shown = get(&format!("/admin/dead-letters/{first}")).json();
    assert_eq!((&shown["kind"], &shown["payload"]["text"]), (&json!("reject"), &json!("reject")), "{shown}");

    let redrive = "/admin/dead-letters/redrive";
    let dry = post(redrive, &json!({ "handler": "fate", "at": [first], "dry_run": true })).json();
    assert_eq!((&dry["count"], &dry["dry_run"], letters().len()), (&json!(1), &json!(true), 3), "{dry}");
    rename_over(&pipeline.path().join("fate.wasm"), &echo);
    until(DEADLINE, || host.status().is_some_and(|of| subscriber(&of, "fate")["version"]["swaps"] == 1))
        .unwrap();
    for count in [1, 0] {
        let done = post(redrive, &json!({ "handler": "fate", "at": [first] })).json();
        assert_eq!((&done["count"], &done["already"]), (&json!(count), &json!(1 - count)), "{done}");
    }
    until(DEADLINE, || read(&kafka.address, "out").len() == 1).unwrap_or_else(|()| panic!("{}", host.log()));
    let gone = post(
        "/admin/dead-letters/discard",
        &json!({ "handler": "fate", "cause": "trap", "reason": "a test" }),
    );
    assert_eq!(gone.json()["count"], 1, "{gone:?}");
    assert_eq!(letters().len(), 1);

    for (answer, status, said) in [
        (get("/admin/dead-letters?handler=nobody"), 404, "no handler or sink `nobody`"),
        (get("/admin/dead-letters?cause=bad%20luck"), 400, "one of retry, reject"),
        (get("/admin/dead-letters/fate.dlq/0/99999"), 404, "there is no record at fate.dlq/0/99999"),
        (get("/admin/dead-letters/fate.dlq/0/-1"), 404, "begin at 0"),
        // Not whatever the host can read.
        (get("/admin/dead-letters/in/0/0"), 404, "no topic of dead letters"),
        (
            post(redrive, &json!({ "handler": "fate", "at": ["other.dlq/0/0"] })),
            404,
            "no dead letter of `fate`",
        ),
        (post(redrive, &json!({ "handler": "fate", "at": ["nonsense"] })), 422, "topic/partition/offset"),
        (
            post("/admin/dead-letters/discard", &json!({ "handler": "fate", "reason": " " })),
            422,
            "must say why",
        ),
    ] {
        assert_eq!(answer.status, status, "{answer:?}");
        assert!(answer.body.contains(said), "{said}: {answer:?}");
    }
    let (status, _) = host.stop("TERM");
    assert!(status.success(), "{status}");
}

fn put_back(brokers: &str) -> Vec<Event> {
    let events = read(brokers, "in").into_iter();
    events.filter(|event| header(&event.headers, REDRIVE_OF).is_some()).collect()
}

fn of_other(brokers: &str) -> usize {
    read(brokers, "out-of-other").len()
}
