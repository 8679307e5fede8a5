//! A component as a shard's handler: batches in, one outcome for each event out.

use std::sync::Arc;
use std::time::{Duration, Instant};

use wasmtime::Store;

use super::store::State;
use super::version::{LoadError, Version};
use super::waste::Waste;
use super::{bindings, fault, store, wit};
use crate::config::plan::HandlerPlan;
use crate::event::headers::{RESERVED_PREFIX, TRACEPARENT};
use crate::event::{Event, Failure, FailureKind, Handler, Header, LONG_BATCH, Outcome, Output, destination};
use crate::telemetry::trace_context;

/// How many failed groups of one batch are halved; after that its events run alone. One guilty event in a
/// batch of 1000 takes ten, so this changes nothing for a few of them. Where most events are guilty, it
/// saves half of the calls: a batch of n takes at most n + 32 + log2(n) calls, and one more for each [`CALL_BYTES`] of it,
/// each of at most the deadline.
const HALVED_GROUPS: u32 = 32;

/// Bytes of the events of one call, but for a larger one. What it allocates is free for the next one, so that an instance's
/// memory stays within what the pool keeps resident (`KEEP_RESIDENT`) and its processor in its cache.
const CALL_BYTES: usize = 80 * 1024;

/// Outputs of one event, at most; and with so many, or with so many bytes, a batch is left where it stands. All of
/// them wait in the producer's queue for one transaction, which has 10 s.
const MAX_OUTPUTS: usize = 100_000;
const MAX_BYTES: usize = 32 * 1024 * 1024;
/// Bytes of a failure's message beyond which it is a waste to make it; far fewer are kept.
const MAX_MESSAGE: usize = 1024 * 1024;

/// Runs batches through a [`Version`], each in a fresh pooled instance, and in another one after a call that failed.
pub struct ComponentHandler {
    version: Version,
    plan: HandlerPlan,
    usage: Usage,
    waste: Waste,
}

/// What the handler's calls took so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    pub calls: u64,
    /// In the component: lowering, running and lifting.
    pub time: Duration,
    /// The biggest call's linear memories and tables, in bytes.
    pub peak_memory: usize,
}

/// What is bounded of one [`Handler::handle`].
struct Run {
    outcomes: Vec<Outcome>,
    until: Instant,
    failed_groups: u32,
    /// Outputs so far, and their bytes.
    outputs: usize,
    bytes: usize,
    /// What the last call ran in, if it went well.
    instance: Option<Instance>,
}

struct Instance {
    store: Store<State>,
    guest: bindings::Handler,
}

impl Run {
    fn push(&mut self, outcome: Outcome) {
        for output in outcome.iter().flatten() {
            self.outputs += 1;
            self.bytes += output.bytes();
        }
        self.outcomes.push(outcome);
    }

    fn is_full(&self) -> bool {
        self.outputs >= MAX_OUTPUTS || self.bytes >= MAX_BYTES
    }

    fn is_over(&self) -> bool {
        self.is_full() || !self.outcomes.is_empty() && Instant::now() > self.until
    }
}

type Answers = Vec<Result<Vec<wit::Output>, wit::Failure>>;

impl ComponentHandler {
    pub fn new(version: Version, plan: &HandlerPlan) -> Result<Self, LoadError> {
        version.fits(plan.limits.memory)?;
        Ok(Self { version, plan: plan.clone(), usage: Usage::default(), waste: Waste::default() })
    }

    pub fn usage(&self) -> Usage {
        self.usage
    }

    /// Handles `batch`, and halves it when its call fails until each guilty event stands alone. No event answers for what
    /// an earlier one left in the instance: what fails there runs again in a fresh one. Once the run is over it leaves
    /// the rest out; if nothing is done by then, the first event still runs, alone.
    fn run(&mut self, batch: &[wit::Event<'_>], run: &mut Run) {
        if run.is_over() {
            return;
        }
        let is_fresh = run.instance.is_none();
        match self.call(batch, &mut run.instance) {
            Ok(answers) => {
                for answer in answers {
                    // What was answered beyond the bounds is answered again: a commit must end in time.
                    if run.is_full() {
                        return;
                    }
                    run.push(self.outcome(answer));
                }
            }
            Err(_) if !is_fresh => self.run(batch, run),
            Err(failure) if batch.len() == 1 => run.push(Err(failure)),
            Err(_) => {
                run.failed_groups += 1;
                let halve = run.failed_groups <= HALVED_GROUPS && Instant::now() <= run.until;
                let size = if halve { batch.len().div_ceil(2) } else { 1 };
                for part in batch.chunks(size) {
                    run.instance = None;
                    self.run(part, run);
                }
            }
        }
    }

    /// One call, in the instance at hand or in a fresh one, which is at hand for the next one if this one goes well.
    fn call(&mut self, batch: &[wit::Event<'_>], at_hand: &mut Option<Instance>) -> Result<Answers, Failure> {
        let started = Instant::now();
        // Before the deadline starts.
        let timed = self.version.engine().time_a_call();
        let is_last_try = at_hand.is_none() && batch.len() == 1;
        let (mut store, guest) = match at_hand.take() {
            Some(Instance { mut store, guest }) => {
                store::begin_call(&mut store, &self.plan);
                (store, Ok(guest))
            }
            None => {
                let mut store = store::new(&self.version, &self.plan);
                store::begin_call(&mut store, &self.plan);
                let guest = self.version.linked().instantiate(&mut store);
                (store, guest)
            }
        };
        let answers = guest.and_then(|guest| Ok((guest.call_handle(&mut store, batch)?, guest)));
        drop(timed);
        let state = store.data();

        let took = started.elapsed();
        self.usage.calls += 1;
        self.usage.time += took;
        self.usage.peak_memory = self.usage.peak_memory.max(state.memory.used());

        let answers = match answers {
            Ok((answers, guest)) if answers.len() == batch.len() => Ok((answers, guest)),
            Ok((answers, _)) => Err(Failure::new(
                FailureKind::Contract,
                format!("`handle` returned {} results for {} events", answers.len(), batch.len()),
            )),
            Err(error) => Err(fault::failure(&error, state, &self.plan.limits)),
        };
        self.waste.heed(answers.as_ref().map_or(true, |(answers, _)| answers.iter().any(beyond_use)), took);
        if answers.is_ok() || is_last_try {
            state.console.log(&self.plan.name, self.version.digest(), trace_id(batch));
        }
        answers.map(|(answers, guest)| {
            *at_hand = Some(Instance { store, guest });
            answers
        })
    }

    fn outcome(&self, answer: Result<Vec<wit::Output>, wit::Failure>) -> Outcome {
        match answer {
            Ok(outputs) if outputs.len() > MAX_OUTPUTS => Err(Failure::new(
                FailureKind::Contract,
                format!("{} outputs of one event; the most is {MAX_OUTPUTS}", outputs.len()),
            )),
            Ok(outputs) => outputs.into_iter().map(|output| self.output(output)).collect(),
            Err(wit::Failure::Retry(message)) => Err(fault::told(FailureKind::Retry, message)),
            Err(wit::Failure::Reject(message)) => Err(fault::told(FailureKind::Reject, message)),
        }
    }

    fn output(&self, output: wit::Output) -> Result<Output, Failure> {
        // Here too, though the shard asks again: `invoke` runs without one.
        destination(output.topic.as_deref(), &self.plan.publish, &self.plan.name)?;
        let headers = output
            .headers
            .into_iter()
            .filter(|header| !header.name.starts_with(RESERVED_PREFIX))
            .map(|header| Header::new(header.name, header.value))
            .collect();
        let (key, payload) = (output.key.map(Into::into), output.payload.map(Into::into));
        Ok(Output { topic: output.topic, key, payload, headers })
    }
}

impl Handler for ComponentHandler {
    /// Takes at most two deadlines longer than [`LONG_BATCH`]: that of the call under way when it is over, and
    /// that of the first event if none is done by then.
    fn handle(&mut self, events: &[&Event], attempts: &[u32]) -> Vec<Outcome> {
        if events.is_empty() {
            return Vec::new();
        }
        let headers: Vec<_> =
            events.iter().flat_map(|event| event.headers.iter().map(lower_header)).collect();
        let mut rest = headers.as_slice();
        let batch: Vec<_> = events
            .iter()
            .zip(attempts)
            .map(|(event, attempt)| {
                let headers = rest.split_off(..event.headers.len()).unwrap_or_default();
                lower_event(event, headers, *attempt)
            })
            .collect();
        let mut run = Run {
            outcomes: Vec::with_capacity(events.len()),
            until: Instant::now() + LONG_BATCH,
            failed_groups: 0,
            outputs: 0,
            bytes: 0,
            instance: None,
        };
        let mut rest = batch.as_slice();
        while let Some(part) = first_call(&mut rest, events) {
            self.run(part, &mut run);
        }
        run.outcomes
    }

    fn digest(&self) -> Arc<str> {
        self.version.digest().clone()
    }

    fn peak_memory(&self) -> Option<usize> {
        Some(self.usage.peak_memory)
    }

    fn rest(&mut self) -> Duration {
        self.waste.rest()
    }
}

/// Takes what one call is given from the rest of the batch, whose last events it is.
fn first_call<'a, 'b>(rest: &mut &'a [wit::Event<'b>], events: &[&Event]) -> Option<&'a [wit::Event<'b>]> {
    let mut bytes = 0;
    let events = &events[events.len() - rest.len()..];
    let count = events.iter().take_while(|event| {
        bytes += event.bytes();
        bytes <= CALL_BYTES
    });
    let count = count.count().max(1);
    rest.split_off(..count.min(rest.len())).filter(|part| !part.is_empty())
}

/// Whether so much was answered that there is no use for it.
fn beyond_use(answer: &Result<Vec<wit::Output>, wit::Failure>) -> bool {
    match answer {
        Ok(outputs) => outputs.len() > MAX_OUTPUTS,
        Err(wit::Failure::Retry(message) | wit::Failure::Reject(message)) => message.len() > MAX_MESSAGE,
    }
}

/// The trace that a call's lines belong to, if it is one alone.
fn trace_id<'a>(batch: &[wit::Event<'a>]) -> Option<&'a str> {
    let of = |event: &wit::Event<'a>| {
        let header = event.headers.iter().rfind(|header| header.name == TRACEPARENT)?;
        trace_context::trace_id(header.value)
    };
    let first = of(batch.first()?)?;
    batch.iter().all(|event| of(event) == Some(first)).then_some(first)
}

fn lower_event<'a>(event: &'a Event, headers: &'a [wit::HeaderParam<'a>], attempt: u32) -> wit::Event<'a> {
    wit::Event {
        topic: &event.position.topic,
        // Kafka's partitions and offsets are signed on the wire and never negative in a record.
        partition: event.position.partition.unsigned_abs(),
        offset: event.position.offset.unsigned_abs(),
        timestamp_ms: event.timestamp_ms,
        key: event.key.as_deref(),
        payload: event.payload.as_deref(),
        headers,
        attempt,
    }
}

fn lower_header(header: &Header) -> wit::HeaderParam<'_> {
    wit::HeaderParam { name: &header.name, value: &header.value }
}
