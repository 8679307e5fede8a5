//! A whole host on Apache Kafka whose handler deals with each event of one batch in another way.
#![cfg(target_os = "linux")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use common::host::{Host, Pipeline, subscriber, until};
use common::kafka::Broker;
use common::orders::{publish, read, text};
use common::{DEADLINE, built_guest, http};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::{Offset, TopicPartitionList};
use wasmill::event::headers::{FAILURE_KIND, SOURCE};

const PIPELINE: &str = r#"
name = "fates"
kafka = { brokers = "embedded", partitions = 1 }
http = { listen = "${WASMILL_LISTEN:-127.0.0.1:0}" }

[handlers.fate]
component = "fate.wasm"
subscribe = ["in"]
publish = ["out"]
retry = { attempts = 3, backoff = "5s..6s" }
"#;

/// Spring Kafka's issue 2934: there, one of a batch that failed in a transaction took its neighbours along, or was
/// committed past.
#[test]
fn of_a_batch_with_every_kind_of_answer_exactly_the_right_things_are_committed_together() {
    let kafka = Broker::start_empty();
    create(&kafka.address, "in", &[]);
    let answers =
        ["fine", "retry", "reject", "panic", "fine too", "nothing", "out of bounds", "fine at last"];
    let records = answers.iter().enumerate().map(|(n, answer)| (format!("k{n}"), (*answer).to_string()));
    publish(&kafka.address, "in", records);
    let pipeline = Pipeline::written(PIPELINE);
    pipeline.put("fate.wasm", &fs::read(built_guest("fate")).unwrap());
    let host = Host::start(&pipeline, &kafka.address, "one", &[]);
    let outputs = || -> Vec<String> {
        let outputs = read(&kafka.address, "out").into_iter();
        outputs.map(|output| String::from_utf8_lossy(&output.payload.unwrap()).into()).collect()
    };
    let letters = || -> BTreeMap<String, String> {
        let letters = read(&kafka.address, "fate.dlq");
        letters.iter().map(|l| (text(l, SOURCE).into(), text(l, FAILURE_KIND).into())).collect()
    };
    let letter = |offset: i32, kind: &str| (format!("in/0/{offset}"), kind.to_string());
    let status = || subscriber(&host.status().unwrap_or_else(|| panic!("{}", host.log())), "fate");
    until(DEADLINE, || host.status().is_some() && status()["commits"] != 0)
        .unwrap_or_else(|()| panic!("{}", host.log()));

    // In one transaction, while the one that is to be tried again waits: before it the group's offset stands.
    let now = status();
    assert_eq!((now["commits"].as_u64(), now["retries"].as_u64()), (Some(1), Some(1)), "{now:#}");
    assert_eq!(outputs(), ["fine", "fine too", "fine at last"]);
    let first = BTreeMap::from([letter(2, "reject"), letter(3, "trap"), letter(6, "trap")]);
    assert_eq!(letters(), first);
    assert_eq!(committed(&kafka.address), Some(1));

    until(DEADLINE, || letters().len() == 4).unwrap_or_else(|()| panic!("{}", host.log()));
    assert_eq!(letters(), first.into_iter().chain([letter(1, "retry")]).collect());
    assert_eq!(outputs().len(), 3);
    until(DEADLINE, || committed(&kafka.address) == Some(8)).unwrap();
    let (status, _) = host.stop("TERM");
    assert!(status.success(), "{status}");
}

#[test]
fn a_dead_letter_that_its_topic_refuses_stops_the_handler_and_loses_nothing() {
    let kafka = Broker::start_empty();
    create(&kafka.address, "fate.dlq", &[("max.message.bytes", "100")]);
    let pipeline = Pipeline::written(PIPELINE);
    pipeline.put("fate.wasm", &fs::read(built_guest("fate")).unwrap());
    let mut host = Host::start(&pipeline, &kafka.address, "one", &[]);
    host.ready();
    publish(&kafka.address, "in", [("a".into(), "reject".into()), ("b".into(), "fine".into())]);
    let refused = |host: &Host| {
        let ready = http::get(&host.url("/readyz")).map(|answer| (answer.status, answer.body));
        ready.is_some_and(|(status, body)| status == 503 && body.contains("refuses the dead letter"))
    };
    until(DEADLINE, || refused(&host)).unwrap_or_else(|()| panic!("{}", host.log()));
    assert_ne!(committed(&kafka.address), Some(2));
    let takes_requests = http::get(&host.url("/readyz/http")).map(|answer| answer.status);
    assert_eq!(takes_requests, Some(200), "other handlers go on");

    // As its message says. The event was not dropped meanwhile, nor doubled is what stood behind it.
    let topic = ResourceSpecifier::Topic("fate.dlq");
    let larger = AlterConfig::new(topic).set("max.message.bytes", "2097152");
    runtime().block_on(admin(&kafka.address).alter_configs([&larger], &AdminOptions::new())).unwrap();
    until(Duration::from_secs(60), || read(&kafka.address, "fate.dlq").len() == 1)
        .unwrap_or_else(|()| panic!("{}", host.log()));
    until(DEADLINE, || committed(&kafka.address) == Some(2)).unwrap();
    assert_eq!(text(&read(&kafka.address, "fate.dlq")[0], SOURCE), "in/0/0");
    assert_eq!(read(&kafka.address, "out").len(), 1);
    host.ready();
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Runtime::new().unwrap()
}

fn admin(brokers: &str) -> AdminClient<DefaultClientContext> {
    ClientConfig::new().set("bootstrap.servers", brokers).create().unwrap()
}

fn create(brokers: &str, topic: &str, config: &[(&str, &str)]) {
    let topic = NewTopic::new(topic, 1, TopicReplication::Fixed(1));
    let topic = config.iter().fold(topic, |topic, (name, value)| topic.set(name, value));
    let created = runtime().block_on(admin(brokers).create_topics([&topic], &AdminOptions::new())).unwrap();
    assert!(created[0].is_ok(), "{created:?}");
}

/// The group's offset in the topic.
fn committed(brokers: &str) -> Option<i64> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("group.id", "wasmill.fates.fate");
    let group: BaseConsumer = config.create().unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition("in", 0);
    let committed = group.committed_offsets(list, DEADLINE).unwrap();
    match committed.elements()[0].offset() {
        Offset::Offset(offset) => Some(offset),
        _ => None,
    }
}
