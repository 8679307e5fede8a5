//! The guest room against real components, most of them faulty or hostile: see tests/guests.

#[path = "../common/mod.rs"]
mod common;

mod batches;
mod code;
mod faults;
mod hostile;
mod load;
mod sandbox;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use wasmill::config::plan::{Allow, HandlerPlan, LimitsPlan, RetryPlan, Secret};
use wasmill::event::{Event, Failure, Handler, Header, Outcome, Output, Position};
use wasmill::guest::{CodeCache, ComponentFile, ComponentHandler, Engine, EngineLimits, LoadError, Version};

const MIB: usize = 1024 * 1024;

/// Shared by all tests, as it is by all handlers of a process.
fn engine() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| Engine::new(EngineLimits { instances: 16 }).unwrap())
}

fn plan() -> HandlerPlan {
    HandlerPlan {
        name: "tested".into(),
        group: "wasmill.test.tested".into(),
        component: "unused".into(),
        sha256: None,
        allow: Allow::all(),
        keep: 1,
        subscribe: vec!["in".into()],
        publish: vec!["out".into(), "other".into()],
        dead_letter: "tested.dlq".into(),
        env: BTreeMap::new(),
        retry: RetryPlan { attempts: Some(1), backoff_min: Duration::ZERO, backoff_max: Duration::ZERO },
        // Long enough for a machine that is busy with other tests; those of deadlines set their own.
        limits: LimitsPlan { memory: 16 * MIB, time: Duration::from_secs(20), batch: 1000 },
        shards: 1,
        log: None,
    }
}

fn with_deadline(time: Duration) -> HandlerPlan {
    HandlerPlan { limits: LimitsPlan { time, ..plan().limits }, ..plan() }
}

fn handler_of(guest: &str, plan: &HandlerPlan) -> ComponentHandler {
    handler_in(&common::built_guest(guest), plan)
}

fn handler_in(file: &Path, plan: &HandlerPlan) -> ComponentHandler {
    ComponentHandler::new(load(file, plan).unwrap(), plan).unwrap()
}

fn load(file: &Path, plan: &HandlerPlan) -> Result<Version, LoadError> {
    let file = ComponentFile::read(file)?;
    Ok(Version::compile(engine(), &file, plan, &CodeCache::none())?.0)
}

fn handler(guest: &str) -> ComponentHandler {
    handler_of(guest, &plan())
}

fn event(offset: i64, payload: &str) -> Event {
    Event {
        position: Position { topic: "in".into(), partition: 3, offset },
        timestamp_ms: Some(1_790_000_000_000),
        key: Some(format!("key-{offset}").into()),
        payload: Some(payload.to_string().into()),
        headers: vec![Header::new("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")],
    }
}

/// Handles events with these payloads, as one batch.
fn handle(handler: &mut ComponentHandler, payloads: &[&str]) -> Vec<Outcome> {
    let events: Vec<_> = payloads.iter().zip(0..).map(|(payload, offset)| event(offset, payload)).collect();
    let events: Vec<_> = events.iter().collect();
    let outcomes = handler.handle(&events, &vec![1; events.len()]);
    assert_eq!(outcomes.len(), events.len());
    outcomes
}

fn handle_one(handler: &mut ComponentHandler, payload: &str) -> Outcome {
    handle(handler, &[payload]).remove(0)
}

fn failure(handler: &mut ComponentHandler, payload: &str) -> Failure {
    handle_one(handler, payload).expect_err("a failure")
}

/// The payloads of the outputs, as text.
fn texts(outcome: &Outcome) -> Vec<String> {
    let text = |output: &Output| String::from_utf8(output.payload.clone().unwrap().to_vec()).unwrap();
    outcome.as_ref().expect("a success").iter().map(text).collect()
}

fn secret(value: &str) -> Secret {
    Secret::new(value)
}
