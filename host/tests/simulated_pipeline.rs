//! The pipeline that ships with its real components, over a simulated log: whole runs from a seed, through crashes,
//! aborts and lost answers.
//!
//! A failing seed prints the command that replays it.

mod common;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use common::seeds;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use wasmill::config::plan::HandlerPlan;
use wasmill::config::{self, Overrides};
use wasmill::event::headers::{ATTEMPTS, FAILURE_KIND, FAILURE_MESSAGE};
use wasmill::event::{Record, header, headers};
use wasmill::guest::{CodeCache, ComponentFile, ComponentHandler, Engine, EngineLimits, Version};
use wasmill::log::simulated::{Broker, Faults, SimulatedCommits, SimulatedSource};
use wasmill::shard::{Identity, Shard, Turn};

type Station = Shard<SimulatedSource, SimulatedCommits, ComponentHandler>;

/// The handlers of the pipeline.toml that ships, with their components, compiled once.
fn handlers() -> &'static [(HandlerPlan, Version)] {
    static HANDLERS: OnceLock<Vec<(HandlerPlan, Version)>> = OnceLock::new();
    HANDLERS.get_or_init(|| {
        let file = common::root().join("pipeline.toml");
        let plan = config::load(&file, &Overrides::default()).unwrap().plan;
        let engine = Engine::new(EngineLimits { instances: 1 }).unwrap();
        let load = |mut handler: HandlerPlan| {
            // Deadlines are measured on the wall clock, which no seed replays: none may pass on a busy machine.
            handler.limits.time = Duration::from_secs(20);
            let version = version(&engine, common::built_component(&handler.name), &handler);
            (handler, version)
        };
        plan.handlers.into_iter().map(load).collect()
    })
}

fn version(engine: &Engine, component: PathBuf, plan: &HandlerPlan) -> Version {
    let file = ComponentFile::read(component).unwrap();
    Version::compile(engine, &file, plan, &CodeCache::none()).unwrap().0
}

fn broker(seed: u64) -> Broker {
    let topics = ["orders", "order_details", "order_confirmed", "order_declined", "emails"];
    let letters = ["order-formatter.dlq", "transaction-processor.dlq", "email-composer.dlq"];
    Broker::new(seed, &topics.map(|t| (t, 3)).into_iter().chain(letters.map(|t| (t, 1))).collect::<Vec<_>>())
}

fn station(broker: &Broker, (plan, version): &(HandlerPlan, Version), seed: u64) -> Station {
    let identity = Identity::of_handler(plan, version.digest().clone());
    let topics: Vec<&str> = plan.subscribe.iter().map(AsRef::as_ref).collect();
    let commits = SimulatedCommits::init(broker, &plan.group);
    let source = SimulatedSource::join(broker, &plan.group, "only", &topics);
    let handler = ComponentHandler::new(version.clone(), plan).unwrap();
    Shard::new(identity, plan.limits.batch, source, commits, handler, seed)
}

/// Turns each shard until everything went through.
fn drain(broker: &Broker, stations: &mut [Station]) {
    for _ in 0..5_000 {
        if handlers().iter().all(|(plan, _)| broker.drained(&plan.group)) {
            return;
        }
        for station in &mut *stations {
            if let Turn::Refused { wait, .. } = station.turn(&|| broker.now()).unwrap() {
                broker.pass(wait);
            }
        }
    }
    panic!("not drained after 5,000 rounds");
}

fn place(broker: &Broker, key: &str, order: &Value) {
    let payload = Some(order.to_string().into());
    let record =
        Record { topic: "orders".into(), key: Some(key.to_string().into()), payload, headers: vec![] };
    broker.produce(record);
}

fn order(key: &str, number: u64, token: Option<&str>) -> Value {
    let mut order = json!({
        "order_id": key,
        "customer": {"id": "c-1", "name": "Ada <Park>"},
        "items": [{"sku": "m", "name": "Pizza", "quantity": 2, "unit_price_cents": 1150}],
        "currency": "EUR",
        "placed_at_us": number,
    });
    if let Some(token) = token {
        order["payment"] = json!({"token": token});
    }
    order
}

fn payloads(broker: &Broker, topic: &str) -> Vec<Value> {
    let payload = |record: &Record| serde_json::from_slice(record.payload.as_ref().unwrap()).unwrap();
    broker.read(topic).iter().map(|stored| payload(&stored.record)).collect()
}

fn text<'a>(record: &'a Record, name: &str) -> &'a str {
    std::str::from_utf8(header(&record.headers, name).unwrap()).unwrap()
}

#[test]
fn an_order_becomes_an_email_and_every_hop_says_who_made_it() {
    let broker = broker(1);
    place(&broker, "o-1", &order("o-1", 17, None));
    let mut stations: Vec<_> = handlers().iter().map(|handler| station(&broker, handler, 1)).collect();
    drain(&broker, &mut stations);
    let [email] = payloads(&broker, "emails").try_into().unwrap();
    assert_eq!(email["to"], "c-1@example.com");
    assert_eq!(email["placed_at_us"], 17);
    assert!(email["text"].as_str().unwrap().contains("23.00 EUR"), "{email}");
    assert!(email["html"].as_str().unwrap().contains("Ada &lt;Park&gt;"), "{email}");
    for (topic, maker, source) in [
        ("order_details", "order-formatter", "orders/"),
        ("order_confirmed", "transaction-processor", "order_details/"),
        ("emails", "email-composer", "order_confirmed/"),
    ] {
        let (_, version) = handlers().iter().find(|(plan, _)| *plan.name == *maker).unwrap();
        let record = &broker.read(topic)[0].record;
        assert_eq!(text(record, headers::HANDLER), maker);
        assert_eq!(text(record, headers::DIGEST), &**version.digest());
        assert!(text(record, headers::SOURCE).starts_with(source));
    }
}

#[test]
fn a_payment_that_fails_for_now_goes_through_later_and_one_that_always_fails_becomes_a_dead_letter() {
    let broker = broker(2);
    place(&broker, "later", &order("later", 1, Some("tok_unavailable")));
    place(&broker, "never", &order("never", 2, Some("tok_always_unavailable")));
    place(&broker, "wrong", &order("wrong", 3, Some("tok_invalid")));
    place(&broker, "declined", &order("declined", 4, Some("tok_declined")));
    let mut stations: Vec<_> = handlers().iter().map(|handler| station(&broker, handler, 2)).collect();
    drain(&broker, &mut stations);
    assert_eq!(payloads(&broker, "order_confirmed")[0]["order_id"], "later");
    assert_eq!(payloads(&broker, "order_declined")[0]["order_id"], "declined");
    let mut letters: Vec<_> = broker.read("transaction-processor.dlq");
    letters.sort_by_key(|letter| letter.record.key.clone());
    let [never, wrong] = letters.try_into().unwrap();
    assert_eq!(text(&never.record, FAILURE_KIND), "retry");
    assert_eq!(text(&never.record, ATTEMPTS), "5");
    assert_eq!(text(&wrong.record, FAILURE_KIND), "reject");
    assert_eq!(text(&wrong.record, ATTEMPTS), "1");
}

#[test]
fn an_order_of_2_to_the_63_pizzas_is_a_dead_letter_that_names_the_item() {
    let broker = broker(3);
    let mut huge = order("o", 1, None);
    huge["items"][0]["quantity"] = json!(1_u64 << 63);
    place(&broker, "o", &huge);
    place(&broker, "o", &order("o", 2, None));
    let mut stations: Vec<_> = handlers().iter().map(|handler| station(&broker, handler, 3)).collect();
    drain(&broker, &mut stations);
    let letters = broker.read("order-formatter.dlq");
    assert!(text(&letters[0].record, FAILURE_MESSAGE).contains("items[0].quantity"), "{letters:?}");
    assert_eq!(payloads(&broker, "emails").len(), 1, "the key goes on");
}

/// Orders flow while shards crash and start over and transactions fail, all from one seed.
fn ordeal(seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let broker = broker(seed);
    broker.set_faults(Faults {
        unavailable: 0.05,
        aborted: 0.1,
        answer_lost: 0.1,
        late: 0.5,
        most_records: None,
    });
    let mut stations: Vec<_> = handlers().iter().map(|handler| station(&broker, handler, seed)).collect();
    let mut placed: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for number in 0..60 {
        let key = format!("o-{}", random.random_range(0..8));
        let token = random.random_bool(0.1).then_some("tok_unavailable");
        place(&broker, &key, &order(&key, number, token));
        placed.entry(key).or_default().push(number);
        let one = random.random_range(0..stations.len());
        if random.random_bool(0.05) {
            stations[one] = station(&broker, &handlers()[one], seed);
        }
        stations[one].turn(&|| broker.now()).unwrap();
    }
    drain(&broker, &mut stations);
    for topic in ["order_details", "order_confirmed", "emails"] {
        let mut seen: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        for payload in payloads(&broker, topic) {
            let number = payload["placed_at_us"].as_u64().unwrap();
            seen.entry(payload["order_id"].as_str().unwrap().into()).or_default().push(number);
        }
        assert_eq!(seen, placed, "seed {seed}: {topic}");
    }
}

#[test]
fn a_component_that_panics_leaves_its_message_and_its_backtrace_in_the_dead_letter() {
    let broker = broker(1);
    let engine = Engine::new(EngineLimits { instances: 1 }).unwrap();
    let formatter = handlers().iter().find(|(plan, _)| *plan.name == *"order-formatter").unwrap();
    let poisoned = version(&engine, common::built_guest("fate"), &formatter.0);
    let mut station = station(&broker, &(formatter.0.clone(), poisoned), 1);
    for payload in ["before", "panic", "after"] {
        broker.produce(Record {
            topic: "orders".into(),
            key: Some("k".into()),
            payload: Some(payload.into()),
            headers: vec![],
        });
    }
    let mut turns = 0;
    while !broker.drained(&formatter.0.group) {
        station.turn(&|| broker.now()).unwrap();
        turns += 1;
        assert!(turns < 100, "not drained");
    }
    assert_eq!(broker.read("order_details").len(), 2);
    let letters = broker.read("order-formatter.dlq");
    assert_eq!(letters.len(), 1);
    let text = |name| String::from_utf8_lossy(header(&letters[0].record.headers, name).unwrap()).into_owned();
    assert_eq!(text(FAILURE_KIND), "trap");
    assert!(text(FAILURE_MESSAGE).contains("this payload is poison"), "{}", text(FAILURE_MESSAGE));
    assert!(text(headers::FAILURE_BACKTRACE).contains("fate::fate"), "{}", text(headers::FAILURE_BACKTRACE));
}

#[test]
fn every_order_goes_through_once_and_in_order_whatever_the_seed_does() {
    seeds::each(0..100, "simulated_pipeline", ordeal);
}
