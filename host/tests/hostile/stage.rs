//! The host whose handler changes, seen from outside: its topics, and its /status.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use serde_json::{Value, json};
use wasmill::event::headers::{DIGEST, FAILURE_KIND, FAILURE_MESSAGE, SOURCE};
use wasmill::event::{Event, Position, Record};
use wasmill::guest::ComponentFile;
use wasmill::log::Publish;
use wasmill::log::kafka::{Publisher, Start, Tail};

use crate::common::host::{Host, Pipeline, subscriber};
use crate::common::orders::{cluster, text};
use crate::common::{built_guest, wait_for};
use crate::table::Fate::{self, DeadLetter, Served};

/// The host whose handler `hostile` changes, seen from outside.
pub(crate) struct Stage {
    pipeline: Pipeline,
    pub(crate) host: Host,
    publisher: Publisher,
    runtime: tokio::runtime::Runtime,
    results: Tail,
    /// What came of events that nobody has asked for yet, by what they came from.
    came: BTreeMap<String, Vec<Event>>,
}

impl Stage {
    pub(crate) fn new(pipeline: Pipeline, host: Host, brokers: &str) -> Self {
        let cluster = cluster(brokers);
        let publisher = cluster.publisher(Duration::from_secs(30)).unwrap();
        let topics = ["hostile.dlq".into(), "hostile-out".into()];
        let results = cluster.tail(&topics, &Start::Beginning).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { pipeline, host, publisher, runtime, results, came: BTreeMap::new() }
    }

    /// Swaps the guest in, and waits until it has begun: what is under way may still be the former one's.
    pub(crate) fn becomes(&mut self, guest: &str) {
        let digest = self.put(guest);
        wait_for(&format!("swap to {guest}"), || {
            let status = of_handler(&self.host, "hostile");
            status["digest"] == digest && status["version"]["refused"].is_null()
        });
        let begun = |host: &Host| of_handler(host, "hostile")["version"]["first_offsets"] != json!({});
        while !begun(&self.host) {
            let before = self.handled("hostile");
            self.publish("");
            wait_for(&format!("event of {guest}"), || self.handled("hostile") > before);
        }
    }

    /// Each of so many events has this fate, under the guest that is there.
    pub(crate) fn meets(&mut self, guest: &str, payload: &str, count: usize, fate: &Fate) {
        let positions: Vec<Position> = (0..count).map(|_| self.publish(payload)).collect();
        for position in positions {
            let digest = of_handler(&self.host, "hostile")["digest"].clone();
            let came = match fate {
                DeadLetter(kind, words) => {
                    let came = self.came_of(&position, |_| true);
                    let (told, message) = (text(&came, FAILURE_KIND), text(&came, FAILURE_MESSAGE));
                    assert_eq!(told, kind.as_str(), "{guest}, {payload}: {message}");
                    assert!(message.contains(words), "{guest}, {payload}: {message}");
                    came
                }
                Served(words) => self.came_of(&position, |event| {
                    assert_eq!(&*event.position.topic, "hostile-out", "{guest}, {payload}: {event:?}");
                    String::from_utf8_lossy(event.payload.as_deref().unwrap_or_default()).contains(words)
                }),
            };
            assert_eq!(text(&came, DIGEST), digest, "{guest}");
        }
    }

    /// The file is no handler: the guest before it goes on, and /status says why.
    pub(crate) fn refuses(&mut self, guest: &str, words: &str) {
        let runs = of_handler(&self.host, "hostile")["digest"].clone();
        self.put(guest);
        let refused = |host: &Host| of_handler(host, "hostile")["version"]["refused"].to_string();
        wait_for(&format!("refusal of {guest}"), || refused(&self.host).contains(words));
        assert_eq!(of_handler(&self.host, "hostile")["digest"], runs);
        let before = self.handled("hostile");
        self.publish("");
        wait_for("event of the guest before", || self.handled("hostile") > before);
    }

    fn put(&self, guest: &str) -> Value {
        let file = built_guest(guest);
        self.pipeline.put("hostile.wasm", &fs::read(&file).unwrap());
        json!(*ComponentFile::read(&file).unwrap().digest)
    }

    fn publish(&self, payload: &str) -> Position {
        self.runtime.block_on(send(&self.publisher, "hostile-in", payload))
    }

    /// The first such record that came of this event.
    fn came_of(&mut self, position: &Position, such: impl Fn(&Event) -> bool) -> Event {
        let mut found = None;
        wait_for(&format!("result of {position}"), || {
            for event in self.results.poll(10_000, Duration::from_millis(20)).unwrap() {
                self.came.entry(text(&event, SOURCE).into()).or_default().push(event);
            }
            let mut came = self.came.remove(&position.to_string()).into_iter().flatten();
            found = came.find(&such);
            found.is_some()
        });
        found.unwrap()
    }

    pub(crate) fn handled(&self, handler: &str) -> u64 {
        of_handler(&self.host, handler)["events"].as_u64().unwrap()
    }
}

/// What /status says of a handler; null where there is none.
pub(crate) fn of_handler(host: &Host, name: &str) -> Value {
    let status = host.status().unwrap_or_else(|| panic!("the host is gone:\n{}", host.log()));
    subscriber(&status, name)
}

pub(crate) async fn send(publisher: &Publisher, topic: &str, payload: &str) -> Position {
    let payload = Some(payload.to_string().into());
    let record = Record { topic: topic.into(), key: Some("k".into()), payload, headers: Vec::new() };
    publisher.publish(record, Duration::from_secs(30)).await.unwrap()
}
