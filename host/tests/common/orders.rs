//! Orders under load: customers who place numbered ones, and what must be found in the topics at the end.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::task::JoinSet;
use wasmill::config::plan::{Brokers, KafkaPlan};
use wasmill::event::{Event, Record, header};
use wasmill::log::Publish;
use wasmill::log::kafka::{Cluster, Start};

pub(crate) fn order(quantity: u64) -> Value {
    json!({
        "customer": {"id": "c-1", "name": "Ada Park", "email": "ada@example.com"},
        "items": [{"sku": "m", "name": "Pizza", "quantity": quantity, "unit_price_cents": 1150}],
        "currency": "EUR",
    })
}

pub(crate) fn cluster(brokers: &str) -> Cluster {
    let plan = KafkaPlan {
        brokers: Brokers::Addresses(brokers.into()),
        properties: BTreeMap::new(),
        instance: "test".into(),
    };
    Cluster::connect(&plan, "test").unwrap()
}

/// Publishes these keys and payloads, in this order.
pub(crate) fn publish(brokers: &str, topic: &str, records: impl IntoIterator<Item = (String, String)>) {
    let publisher = cluster(brokers).publisher(Duration::from_secs(30)).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for (key, payload) in records {
        let (key, payload) = (Some(key.into()), Some(payload.into()));
        let record = Record { topic: topic.into(), key, payload, headers: vec![] };
        runtime.block_on(publisher.publish(record, Duration::from_secs(30))).unwrap();
    }
}

/// Shows everything committed in a topic, now, to `see`.
pub(crate) fn read_each(brokers: &str, topic: &str, see: impl FnMut(Event)) {
    let mut see = see;
    let mut tail = cluster(brokers).tail(&[topic.into()], &Start::Beginning).unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while !tail.caught_up() {
        assert!(Instant::now() < deadline, "{topic} can't be read");
        tail.poll(10_000, Duration::from_millis(100)).unwrap().into_iter().for_each(&mut see);
    }
}

pub(crate) fn read(brokers: &str, topic: &str) -> Vec<Event> {
    let mut events = Vec::new();
    read_each(brokers, topic, |event| events.push(event));
    events
}

pub(crate) fn text<'a>(event: &'a Event, name: &str) -> &'a str {
    std::str::from_utf8(header(&event.headers, name).unwrap_or_default()).unwrap()
}

pub(crate) const KEYS: u64 = 60;

/// Orders placed at one moment.
const AT_ONCE: u64 = 5;
/// Orders that the broker has not acknowledged yet, at most.
const UNDER_WAY: usize = 5_000;
/// With a broker that is restarted while the machine is busy.
const PATIENCE: Duration = Duration::from_secs(120);

/// Places orders until it is told to stop: order `n` of a key says so in `placed_at_us`.
pub(crate) struct Customers {
    stop: Arc<AtomicBool>,
    /// How many of each key; those too that the broker has yet to acknowledge.
    placed: Arc<Mutex<BTreeMap<String, u64>>>,
    placing: thread::JoinHandle<()>,
}

impl Customers {
    /// A steady stream, since bursts would hide how long the host takes between two of its commits.
    pub(crate) fn start(brokers: &str, per_second: u64) -> Self {
        let (stop, brokers) = (Arc::new(AtomicBool::new(false)), brokers.to_string());
        let placed = Arc::<Mutex<BTreeMap<_, _>>>::default();
        let placing = thread::spawn({
            let (stopped, placed) = (stop.clone(), placed.clone());
            move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
                runtime.block_on(place(&brokers, per_second, &stopped, &placed));
            }
        });
        Self { stop, placed, placing }
    }

    /// How many orders of each key were placed until now.
    pub(crate) fn placed(&self) -> BTreeMap<String, u64> {
        self.placed.lock().unwrap().clone()
    }

    /// How many orders of each key there are in the topic now.
    pub(crate) fn stop(self) -> BTreeMap<String, u64> {
        self.stop.store(true, Ordering::Relaxed);
        self.placing.join().unwrap();
        Arc::into_inner(self.placed).unwrap().into_inner().unwrap()
    }
}

async fn place(brokers: &str, per_second: u64, stopped: &AtomicBool, placed: &Mutex<BTreeMap<String, u64>>) {
    let publisher = Arc::new(cluster(brokers).publisher(PATIENCE).unwrap());
    let mut keys = (0..KEYS).cycle();
    // They are polled first in the order in which they were spawned, which keeps the order of each key.
    let mut under_way = JoinSet::new();
    let mut pace = tokio::time::interval(Duration::from_secs(1).mul_f64(AT_ONCE as f64 / per_second as f64));
    while !stopped.load(Ordering::Relaxed) {
        pace.tick().await;
        for key in keys.by_ref().take(AT_ONCE as usize) {
            let record = numbered(key, &mut placed.lock().unwrap());
            let publisher = publisher.clone();
            under_way.spawn(async move { publisher.publish(record, PATIENCE).await });
        }
        while under_way.len() > UNDER_WAY {
            under_way.join_next().await.unwrap().unwrap().unwrap();
        }
        while let Some(acknowledged) = under_way.try_join_next() {
            acknowledged.unwrap().unwrap();
        }
    }
    while let Some(acknowledged) = under_way.join_next().await {
        acknowledged.unwrap().unwrap();
    }
}

/// The next order of a key.
fn numbered(key: u64, placed: &mut BTreeMap<String, u64>) -> Record {
    let key = format!("o-{key}");
    let number = placed.entry(key.clone()).or_insert(0);
    *number += 1;
    let mut order = order(1);
    order["order_id"] = json!(key);
    order["placed_at_us"] = json!(*number);
    let payload = Some(order.to_string().into());
    Record { topic: "orders".into(), key: Some(key.into()), payload, headers: vec![] }
}

/// Waits until the topic has as many records as were placed.
pub(crate) fn wait_for_all(brokers: &str, topic: &str, placed: &BTreeMap<String, u64>) -> Result<(), String> {
    let total: u64 = placed.values().sum();
    let mut tail = cluster(brokers).tail(&[topic.into()], &Start::Beginning).unwrap();
    let mut seen = 0;
    super::host::until(Duration::from_secs(120), || {
        seen += tail.poll(10_000, Duration::from_millis(50)).unwrap().len() as u64;
        seen >= total
    })
    .map_err(|()| format!("{seen} of {total} orders went through"))
}

/// Each key's numbers run from 1 to what was placed, in the order of the topic.
pub(crate) fn every_order_is_there_once_and_in_order(
    topic: &str,
    numbers: &BTreeMap<String, Vec<u64>>,
    placed: &BTreeMap<String, u64>,
) {
    for (key, &count) in placed {
        let of_key = numbers.get(key).map(Vec::as_slice).unwrap_or_default();
        let expected: Vec<u64> = (1..=count).collect();
        assert!(of_key == expected, "{topic}, {key}: {:?}", first_difference(of_key, &expected));
    }
    assert_eq!(numbers.len(), placed.len(), "{topic}: keys that nobody sent");
}

/// The numbers of each key's orders, in the order of the topic.
pub(crate) fn numbers(brokers: &str, topic: &str) -> BTreeMap<String, Vec<u64>> {
    let mut numbers = BTreeMap::new();
    read_each(brokers, topic, |event| note_number(&mut numbers, &event));
    numbers
}

pub(crate) fn note_number(numbers: &mut BTreeMap<String, Vec<u64>>, event: &Event) {
    let key = String::from_utf8(event.key.as_ref().unwrap().to_vec()).unwrap();
    numbers.entry(key).or_default().push(number(event));
}

/// Which one of its key's orders it is, or was made from.
pub(crate) fn number(event: &Event) -> u64 {
    let payload: Value = serde_json::from_slice(event.payload.as_ref().unwrap()).unwrap();
    payload["placed_at_us"].as_u64().unwrap()
}

fn first_difference(are: &[u64], should: &[u64]) -> String {
    let at = are.iter().zip(should).position(|(a, b)| a != b).unwrap_or(are.len().min(should.len()));
    let around = |of: &[u64]| format!("{:?}", &of[at.saturating_sub(2)..of.len().min(at + 3)]);
    format!(
        "at {at}: {} where {} should be ({} for {})",
        around(are),
        around(should),
        are.len(),
        should.len()
    )
}
