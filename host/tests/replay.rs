//! Past events of a whole host on Apache Kafka are replayed: every event comes out as what it is, and nothing is
//! published.
#![cfg(target_os = "linux")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::sync::Arc;

use common::host::{Ended, Host, Pipeline, until, wasmill};
use common::kafka::Broker;
use common::orders::{cluster, read};
use common::{DEADLINE, built_guest, http, version};
use serde_json::{Value, json};
use wasmill::event::headers::REDRIVE_OF;
use wasmill::event::{Event, Header, Record, TopicPartition};
use wasmill::log::Publish as _;
use wasmill::log::kafka::End;

const PIPELINE: &str = r#"
name = "replay"
kafka = { brokers = "embedded", partitions = 2 }

[http]
listen = "${WASMILL_LISTEN:-127.0.0.1:0}"

[handlers.fate]
component = "fate.wasm"
subscribe = ["in"]
publish = ["out"]
retry = { attempts = 2, backoff = "10ms..20ms" }

[handlers.other]
component = "other.wasm"
subscribe = ["in"]
publish = ["out-of-other"]

[sinks.mail]
subscribe = ["emails"]
smtp = "file:outbox/"
"#;

const TOPICS: [&str; 6] = ["in", "out", "fate.dlq", "out-of-other", "other.dlq", "emails"];

/// Each several times, so that batches hold several fates.
const TIMES: usize = 30;
const PAYLOADS: [&str; 10] = [
    "fine",
    r#"{"n": 1, "id": "a"}"#,
    "more",
    "drop",
    "nothing",
    "reject now",
    "reject",
    "retry",
    "exit",
    "panic",
];
/// Of these: "reject", "retry", "exit" and "panic".
const FAIL: usize = 4 * TIMES;
const PUT_BACK: usize = 3;
const LATE: usize = 5;

#[test]
fn every_event_comes_out_as_what_it_is_and_nothing_is_published() {
    let kafka = Broker::start_empty();
    let pipeline = Pipeline::written(PIPELINE);
    let fate = fs::read(built_guest("fate")).unwrap();
    pipeline.put("fate.wasm", &fate);
    pipeline.put("other.wasm", &fs::read(built_guest("echo")).unwrap());
    pipeline.put("rebuilt.wasm", &version(&fate, 2));
    let revised = built_guest("revised");
    let replay = |args: &[&str]| replay(&pipeline, &kafka.address, args);

    let mut host = Host::start(&pipeline, &kafka.address, "one", &[]);
    host.ready();
    for _ in 0..TIMES {
        publish(&kafka.address, &PAYLOADS);
    }
    let letters = |n: usize| {
        until(DEADLINE, || read(&kafka.address, "fate.dlq").len() == n)
            .unwrap_or_else(|()| panic!("{}", host.log()));
    };
    letters(FAIL);
    // They fail again, and are events of their own.
    let mut redrive = wasmill();
    redrive.args([
        "dlq",
        "redrive",
        "fate",
        "--cause",
        "reject",
        "--limit",
        "3",
        "--brokers",
        &kafka.address,
    ]);
    assert!(redrive.current_dir(pipeline.path()).status().unwrap().success());
    letters(FAIL + PUT_BACK);
    let fine = |topic: &str| read(&kafka.address, topic).len();
    let all = TIMES * PAYLOADS.len();
    until(DEADLINE, || fine("out") == all - FAIL - TIMES && fine("out-of-other") == all)
        .unwrap_or_else(|()| panic!("{}", host.log()));
    let (status, _) = host.stop("TERM");
    assert!(status.success(), "{status}");
    publish(&kafka.address, &["fine"; LATE]);
    put_back_an_output(&kafka.address);
    let before = ends(&kafka.address);

    // The same version, by all ways to say so.
    let equal = counts(&[("equal", all + PUT_BACK), ("not_handled_yet", LATE)]);
    for args in [
        &["fate", "--from", "beginning"][..],
        &["fate", "--from", "1h"],
        &["fate", "--from", "0", "--to", "end"],
        &["fate", "--from", "2026-01-01T00:00:00+01:00", "--component", "rebuilt.wasm"],
    ] {
        let ended = replay(&[args, &["--expect-equal", "--json"]].concat());
        assert_eq!((ended.code, &ended.json()["counts"]), (Some(0), &equal), "{args:?}: {}", ended.stderr);
        assert_eq!(ended.json()["differences"], json!([]));
    }
    let others = replay(&["other", "--from", "beginning", "--expect-equal", "--json"]);
    let expected = counts(&[("equal", all), ("for_others", PUT_BACK), ("not_handled_yet", LATE)]);
    assert_eq!((others.code, &others.json()["counts"]), (Some(0), &expected), "{}", others.stderr);
    let none = replay(&["fate", "--from", "beginning", "--to", "1h", "--expect-equal", "--json"]);
    // A range without an event must not pass for one in which all is equal.
    assert_eq!((none.code, &none.json()["counts"]), (Some(1), &counts(&[])), "{}", none.stderr);
    assert!(none.stderr.contains("no event to compare"), "{}", none.stderr);

    // Another one.
    let revised = ["fate", "--from", "beginning", "--component", revised.to_str().unwrap()];
    let differing = counts(&[
        ("equal", 3 * TIMES + PUT_BACK),
        // The JSON, what there is more of, and another failure.
        ("changed", 3 * TIMES),
        ("missing", TIMES),
        ("new", TIMES),
        ("failed", TIMES),
        ("mended", TIMES),
        ("not_handled_yet", LATE),
    ]);
    let told = replay(&[&revised[..], &["--json", "--show", "1000", "--expect-equal"]].concat());
    assert_eq!((told.code, &told.json()["counts"]), (Some(1), &differing), "{}", told.stderr);
    each_is_told(&told.json()["differences"]);
    let ended = replay(&[&revised[..], &["--json"]].concat());
    assert_eq!((ended.code, ended.json()["differences"].as_array().unwrap().len()), (Some(0), 10));
    let ignoring = replay(&[&revised[..], &["--json", "--ignore", "/n"]].concat()).json();
    assert_eq!(ignoring["counts"]["changed"], json!(2 * TIMES));
    let text = replay(&[&revised[..], &["--show", "300"]].concat());
    for line in
        ["\n      /n: 1 -> 2\n", "\n  fails now: reject: not any more\n", " mended\n  failed before: trap: "]
    {
        assert!(text.stdout.contains(line), "{line:?}: {}{}", text.stdout, text.stderr);
    }

    // One event alone.
    let changed =
        told.json()["differences"].as_array().unwrap().iter().find(|d| d["fate"] == "changed").cloned();
    let position = changed.unwrap()["position"].as_str().unwrap().to_string();
    let (partition, offset) = position.rsplit_once('/').unwrap();
    let next = format!("{partition}/{}", offset.parse::<u64>().unwrap() + 1);
    let one = replay(&["fate", "--from", &position, "--to", &next, "--expect-equal"]);
    assert!(one.code == Some(0) && one.stdout.ends_with(": 1 event replayed, 1 equal\n"), "{}", one.stdout);

    for (args, code, said) in [
        (&["mail", "--from", "beginning"][..], 1, "`mail` is a sink"),
        (&["nobody", "--from", "beginning"], 1, "its handlers are: fate, other"),
        (&["fate", "--from", "out/0/1"], 1, "no partition out/0 to read"),
        (&["fate", "--from", "0", "--component", "nowhere.wasm"], 1, "there is no component at nowhere.wasm"),
        (&["fate"], 2, "--from"),
        (&["fate", "--from", "soon"], 2, "so long ago"),
        (&["fate", "--from", "0", "--ignore", "id"], 2, "a JSON pointer begins with /"),
    ] {
        let ended = replay(args);
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(code), ""), "{args:?}: {}", ended.stderr);
        assert!(ended.stderr.contains(said), "{args:?}: {}", ended.stderr);
    }
    assert_eq!(ends(&kafka.address), before);
    assert!(pipeline.eml_files().is_empty());
}

/// What each payload's event is told with, at all of its places.
fn each_is_told(differences: &Value) {
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    for difference in differences.as_array().unwrap() {
        let mut difference = difference.clone();
        // What differs from one to the next.
        difference.as_object_mut().unwrap().remove("position");
        for output in difference["outputs"].as_array_mut().unwrap() {
            for field in ["key", "position"] {
                output.as_object_mut().unwrap().remove(field);
            }
        }
        for when in ["failed_before", "fails_now"] {
            if let Some(message) = difference[when].get_mut("message") {
                // A panic's first line begins with the place in the source.
                let line = message.as_str().unwrap().lines().next().unwrap();
                let words = line.strip_prefix("panicked at ").and_then(|line| line.split_once(": "));
                *message = json!(words.map_or(line, |(_, words)| words));
            }
        }
        *kinds.entry(sorted(difference)).or_default() += 1;
    }
    let plain =
        |what: &str, payload: &str| json!({"what": what, "topic": "out", "changes": [], "payload": payload});
    let expect = |fate: &str, failed_before: Value, fails_now: Value, outputs: Vec<Value>| {
        sorted(
            json!({"fate": fate, "failed_before": failed_before, "fails_now": fails_now, "outputs": outputs,
                      "more_outputs": 0, "reordered": false}),
        )
    };
    let panicked = json!({"kind": "trap", "message": "this payload is poison"});
    let exited = json!({"kind": "trap", "message": "the component ended itself with exit code 1"});
    let rejected = json!({"kind": "reject", "message": "not any more"});
    let changed = json!({"what": "changed", "topic": "out", "payload": null,
                         "changes": [{"at": "/n", "before": 1, "now": 2}]});
    let none = || Value::Null;
    let expected = [
        expect("changed", none(), none(), vec![changed]),
        expect("changed", none(), none(), vec![plain("added", "and more")]),
        expect("changed", exited, panicked.clone(), vec![]),
        expect("missing", none(), none(), vec![plain("dropped", "drop")]),
        expect("new", none(), none(), vec![plain("added", "nothing")]),
        expect("failed", none(), rejected, vec![plain("dropped", "reject now")]),
        expect("mended", panicked, none(), vec![plain("added", "panic")]),
    ];
    assert_eq!(kinds, expected.map(|kind| (kind, TIMES)).into_iter().collect());
}

fn sorted(mut value: Value) -> String {
    value.sort_all_objects();
    value.to_string()
}

/// The embedded broker finds no event by its time.
#[test]
fn events_of_an_embedded_broker_are_replayed_while_its_host_runs() {
    let resource = "\n[http.resources.things]\ntopic = \"in\"\nkey = \"id\"\nview = [\"in\", \"out\"]\n";
    let pipeline = Pipeline::written(&format!("{PIPELINE}{resource}"));
    let echo = fs::read(built_guest("echo")).unwrap();
    pipeline.put("fate.wasm", &echo);
    pipeline.put("other.wasm", &echo);
    let mut host = Host::start(&pipeline, "embedded", "one", &[]);
    host.ready();
    let url = host.url("");
    for n in 0..3 {
        let posted = http::post(&host.url("/things"), &json!({"n": n}).to_string(), &[]);
        assert_eq!(posted.unwrap().status, 201);
    }
    let replayed = |args: &[&str]| {
        let ended = replay(
            &pipeline,
            "embedded",
            &[&["fate", "--url", &url, "--expect-equal", "--json"], args].concat(),
        );
        // A group without offsets is an error.
        if ended.stdout.is_empty() { Value::Null } else { ended.json()["counts"].clone() }
    };
    until(DEADLINE, || replayed(&["--from", "beginning"]) == counts(&[("equal", 3)]))
        .unwrap_or_else(|()| panic!("{}", host.log()));
    assert_eq!(replayed(&["--from", "1h"]), counts(&[("equal", 3)]));
    assert_eq!(replayed(&["--from", "beginning", "--to", "1h"]), counts(&[]));
}

fn replay(pipeline: &Pipeline, brokers: &str, args: &[&str]) -> Ended {
    let mut command = wasmill();
    command.arg("replay").args(args).args(["--brokers", brokers]).current_dir(pipeline.path());
    let mut ended = Ended::from(command.output().unwrap());
    // Its lines are broken and drawn for a terminal.
    ended.stderr = ended.stderr.replace('│', " ").split_whitespace().collect::<Vec<_>>().join(" ");
    ended
}

fn counts(some: &[(&str, usize)]) -> Value {
    let names = ["equal", "changed", "missing", "new", "failed", "mended", "not_handled_yet", "for_others"];
    let of = |name: &str| some.iter().find(|(of, _)| *of == name).map_or(0, |(_, n)| *n);
    names.iter().map(|name| ((*name).to_string(), json!(of(name)))).collect::<serde_json::Map<_, _>>().into()
}

fn publish(brokers: &str, payloads: &[&'static str]) {
    let keyed = |(n, payload): (usize, &&str)| (format!("k{}", n % 7), (*payload).to_string());
    common::orders::publish(brokers, "in", payloads.iter().enumerate().map(keyed));
}

/// As a redrive does it for a handler that reads the topic: with the headers of the first time.
fn put_back_an_output(brokers: &str) {
    let mut output = read(brokers, "out").remove(0);
    output.headers.push(Header::new(REDRIVE_OF, "next.dlq/0/0"));
    let Event { position, key, payload, headers, .. } = output;
    let record = Record { topic: position.topic, key, payload, headers };
    let publisher = cluster(brokers).publisher(DEADLINE).unwrap();
    tokio::runtime::Runtime::new().unwrap().block_on(publisher.publish(record, DEADLINE)).unwrap();
}

fn ends(brokers: &str) -> BTreeMap<TopicPartition, Range<i64>> {
    let topics: Vec<Arc<str>> = TOPICS.iter().map(|topic| Arc::from(*topic)).collect();
    cluster(brokers).offsets(End::Written).unwrap().extents(&topics).unwrap()
}
