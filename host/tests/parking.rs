//! A whole host on Apache Kafka whose handler asks for some events to be tried again: their keys wait, all others go
//! on, and a kill in the midst of it repeats nothing and leaves nothing out.
#![cfg(target_os = "linux")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use common::built_guest;
use common::host::{Host, Pipeline, subscriber, until, wasmill};
use common::kafka::Broker;
use common::orders::{publish, read, text};
use serde_json::Value;
use wasmill::event::Event;
use wasmill::event::headers::{ATTEMPTS, FAILURE_KIND, SOURCE};

const PIPELINE: &str = r#"
name = "parking"
kafka = { brokers = "embedded", partitions = 1 }
http = { listen = "${WASMILL_LISTEN}" }

[handlers.fate]
component = "fate.wasm"
subscribe = ["in"]
publish = ["out"]
limits = { batch = 50 }
retry = { attempts = 6, backoff = "2s..3s" }
"#;

/// Two of these keys have an event that never works: it becomes a dead letter after its last try, and then the rest of
/// its key goes through.
const STUCK: [&str; 2] = ["k3", "k7"];
const KEYS: u32 = 10;
const ROUNDS: u32 = 30;

#[test]
fn a_parked_key_waits_all_others_go_on_and_a_kill_amid_that_loses_and_repeats_nothing() {
    let kafka = Broker::start_empty();
    let pipeline = Pipeline::written(PIPELINE);
    pipeline.put("fate.wasm", &fs::read(built_guest("fate")).unwrap());
    let mut host = Host::start(&pipeline, &kafka.address, "one", &[]);
    host.ready();
    let mut placed: BTreeMap<String, Vec<String>> = BTreeMap::new();
    place(&kafka.address, 0..ROUNDS, &mut placed);

    // While two keys wait, everything of the others is through.
    let fine = (KEYS - STUCK.len() as u32) * ROUNDS;
    let outputs = || read(&kafka.address, "out");
    until(Duration::from_secs(20), || outputs().len() as u32 >= fine + 2).unwrap_or_else(|()| {
        panic!("{} of {fine}\n{}", outputs().len(), host.log());
    });
    until(Duration::from_secs(5), || {
        subscriber(&host.status().unwrap(), "fate")["shards"][0]["parked_keys"] == 2
    })
    .unwrap_or_else(|()| panic!("{}", host.status().unwrap()));
    let mut keys = Value::Null;
    let of_keys = |keys: &Value, name: &str| -> Vec<Value> {
        keys.as_array().unwrap().iter().map(|key| key[name].clone()).collect()
    };
    until(Duration::from_secs(5), || {
        keys = parked(&pipeline, &host, &kafka.address)["keys"].clone();
        of_keys(&keys, "behind") == [ROUNDS - 2; 2]
    })
    .unwrap_or_else(|()| panic!("{keys:#}"));
    assert_eq!(of_keys(&keys, "key"), STUCK);

    // Who takes over knows what is done beyond the committed offset.
    host.sigkill();
    let mut host = Host::start(&pipeline, &kafka.address, "one", &[]);
    host.ready();
    place(&kafka.address, ROUNDS..2 * ROUNDS, &mut placed);
    let all = 2 * KEYS * ROUNDS - STUCK.len() as u32;
    until(Duration::from_secs(60), || outputs().len() as u32 >= all)
        .unwrap_or_else(|()| panic!("{} of {all}\n{}", outputs().len(), host.log()));

    let dead = read(&kafka.address, "fate.dlq");
    let mut letters: Vec<(String, String)> =
        dead.iter().map(|letter| (key(letter), text(letter, FAILURE_KIND).into())).collect();
    // Jitter decides which one is first.
    letters.sort();
    assert_eq!(letters, STUCK.map(|key| (key.to_string(), "retry".to_string())));
    assert_eq!(text(&dead[0], ATTEMPTS), "6");
    let mut seen: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for event in outputs() {
        seen.entry(key(&event))
            .or_default()
            .push(String::from_utf8_lossy(event.payload.as_ref().unwrap()).into());
    }
    placed.values_mut().for_each(|payloads| payloads.retain(|payload| payload != "retry"));
    assert_eq!(seen, placed);
    let sources: std::collections::BTreeSet<String> =
        outputs().iter().map(|event| text(event, SOURCE).to_string()).collect();
    assert_eq!(sources.len() as u32, all);

    let answer =
        wasmill().args(["parked", "--url", &host.url("")]).current_dir(pipeline.path()).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&answer.stdout), "no key waits\n", "{answer:?}");
    let (status, took) = host.stop("TERM");
    assert!(status.success() && took < Duration::from_secs(15), "{status} after {took:?}");
}

fn place(brokers: &str, rounds: std::ops::Range<u32>, placed: &mut BTreeMap<String, Vec<String>>) {
    let mut records = Vec::new();
    for round in rounds {
        for key in (0..KEYS).map(|key| format!("k{key}")) {
            let payload =
                if round == 1 && STUCK.contains(&&*key) { "retry".into() } else { format!("{key}: {round}") };
            placed.entry(key.clone()).or_default().push(payload.clone());
            records.push((key, payload));
        }
    }
    publish(brokers, "in", records);
}

fn parked(pipeline: &Pipeline, host: &Host, brokers: &str) -> Value {
    let answer = wasmill()
        .args(["parked", "fate", "--json", "--url", &host.url(""), "--brokers", brokers])
        .current_dir(pipeline.path())
        .output()
        .unwrap();
    assert!(answer.status.success(), "{answer:?}");
    serde_json::from_slice::<Value>(&answer.stdout).unwrap()["parked"][0].clone()
}

fn key(event: &Event) -> String {
    String::from_utf8_lossy(event.key.as_ref().unwrap()).into()
}
