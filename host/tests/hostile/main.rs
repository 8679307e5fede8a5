//! A whole host on a real Apache Kafka, whose one handler becomes each hostile guest in turn while another one works:
//! the host lives and stays the same process, the neighbour's events all go through, and each guilty event becomes a
//! dead letter that names the cause. How fast all that is says `cargo run --example hostile`.

#[path = "../common/mod.rs"]
mod common;

mod stage;
mod table;

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use common::host::{Host, Pipeline};
use common::kafka::Broker;
use common::orders::cluster;
use common::{built_guest, wait_for};
use stage::{Stage, of_handler, send};
use table::{Fate::Served, GUESTS, REFUSED};
use wasmill::log::kafka::Start;

const STEADY: &str = r#"
    name = "hostile"
    kafka = { brokers = "embedded", partitions = 1 }
    http.listen = "${WASMILL_LISTEN}"
    handlers.steady = { component = "steady.wasm", subscribe = ["steady-in"], publish = ["steady-out"] }
"#;

/// Long enough for what should fail by its other limits, on a busy machine.
const HOSTILE: &str = r#"
    [handlers.hostile]
    component = "hostile.wasm"
    subscribe = ["hostile-in"]
    publish = ["hostile-out"]
    limits = { memory = "16 MiB", time = "500 ms", batch = 100 }
"#;

#[test]
fn whatever_one_handler_becomes_the_host_and_its_neighbour_go_on_and_the_cause_is_told() {
    let kafka = Broker::start_empty();
    let pipeline = Pipeline::written(STEADY);
    pipeline.put("steady.wasm", &guest("echo"));
    pipeline.put("hostile.wasm", &guest("echo"));
    let mut host = Host::start(&pipeline, &kafka.address, "one", &[]);
    host.ready();
    let steady = Steady::start(&kafka.address);
    pipeline.put("pipeline.toml", format!("{STEADY}{HOSTILE}").as_bytes());
    wait_for("handler that was added", || of_handler(&host, "hostile").is_object());
    host.ready();
    let mut stage = Stage::new(pipeline, host, &kafka.address);

    let mut guests: Vec<&str> = GUESTS.iter().map(|(guest, ..)| *guest).collect();
    guests.dedup();
    for guest in guests {
        let before = stage.handled("steady");
        stage.becomes(guest);
        for (_, payload, count, fate) in GUESTS.iter().filter(|(name, ..)| *name == guest) {
            stage.meets(guest, payload, *count, fate);
        }
        wait_for("event of the neighbour", || stage.handled("steady") > before);
    }
    for (guest, words) in REFUSED {
        stage.refuses(guest, words);
    }
    stage.becomes("echo");
    stage.meets("echo", "at last", 3, &Served("at last"));

    stage.host.ready();
    let log = stage.host.log();
    assert!(!log.contains("a bug: it panicked"), "{log}");
    let sent = steady.stop();
    assert!(sent > 100, "only {sent} events of the neighbour");
    assert_eq!(steady_numbers(&kafka.address, sent), (0..sent).collect::<Vec<_>>());
    let (status, _) = stage.host.stop("TERM");
    assert!(status.success(), "{status}");
}

fn guest(name: &str) -> Vec<u8> {
    fs::read(built_guest(name)).unwrap()
}

/// Numbered events for the neighbour, all the time.
struct Steady {
    stop: Arc<AtomicBool>,
    sent: JoinHandle<u64>,
}

impl Steady {
    fn start(brokers: &str) -> Self {
        let publisher = cluster(brokers).publisher(Duration::from_secs(30)).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let sent = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let mut sent = 0;
            runtime.block_on(async {
                while !stopped.load(Ordering::Relaxed) {
                    send(&publisher, "steady-in", &sent.to_string()).await;
                    sent += 1;
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            });
            sent
        });
        Self { stop, sent }
    }

    fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.sent.join().unwrap()
    }
}

/// What the neighbour published, when it is as much as was sent.
fn steady_numbers(brokers: &str, sent: u64) -> Vec<u64> {
    let mut tail = cluster(brokers).tail(&["steady-out".into()], &Start::Beginning).unwrap();
    let mut numbers = Vec::new();
    wait_for("end of the neighbour's events", || {
        let events = tail.poll(10_000, Duration::from_millis(20)).unwrap();
        numbers.extend(events.iter().map(|event| {
            let payload = event.payload.as_ref().unwrap();
            std::str::from_utf8(payload).unwrap().parse::<u64>().unwrap()
        }));
        numbers.len() as u64 >= sent
    });
    numbers
}
