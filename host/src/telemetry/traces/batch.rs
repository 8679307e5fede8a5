//! The spans of a batch: one of the whole, and one of each of its events that is sampled.
//!
//! The span of an event is a child of the one that published it, and its own context goes into the event's outputs: so
//! one trace leads from hop to hop. The span of the batch begins a trace of its own, has links from its events' spans and to
//! what published them, and lasts until the commit. All events of a batch begin and end together: a component is called
//! with many of them at a time.
//! Source: <https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans/>

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use opentelemetry::KeyValue;
use opentelemetry::trace::{Link, Span as _, SpanBuilder, SpanKind, Status};
use opentelemetry_sdk::trace::Span;

use super::{On, Tracer, fail};
use crate::event::headers::TRACEPARENT;
use crate::event::{Call, Event, Fate, Header, Outcome, Position, header};
use crate::telemetry::trace_context;
use crate::text::cut;

/// Bytes of why a batch was not committed.
const MAX_REASON: usize = 500;

/// Makes the spans of the batches of one handler or sink.
pub struct SubscriberTracer {
    on: Arc<On>,
    name: Arc<str>,
    group: Arc<str>,
}

/// When the handler was given a batch.
#[derive(Clone, Copy, Debug)]
pub struct Began(SystemTime);

/// A batch that has run, while its events are looked at.
pub struct Ran<'a> {
    of: &'a SubscriberTracer,
    began: Began,
    ended: SystemTime,
    digest: Arc<str>,
    count: i64,
    topic: Topic,
    /// Those that are sampled.
    events: Vec<(Position, Span)>,
    /// To what published these.
    links: Vec<Link>,
}

/// Of the events of a batch.
#[derive(Default)]
enum Topic {
    #[default]
    None,
    One(Arc<str>),
    Several,
}

/// From when a batch has run to its commit.
pub struct Batch {
    span: Span,
    /// Of its events that are sampled, until it is decided what becomes of them.
    events: Vec<(Position, Span)>,
    ended: SystemTime,
}

impl Tracer {
    /// None while traces are off.
    pub fn subscriber(&self, name: &str, group: &str) -> Option<SubscriberTracer> {
        let on = self.0.clone()?;
        Some(SubscriberTracer { on, name: name.into(), group: group.into() })
    }
}

impl SubscriberTracer {
    pub fn begin(&self) -> Began {
        Began(SystemTime::now())
    }

    /// Of a batch that has run by now, by the version of that digest.
    pub fn ran(&self, began: Began, digest: &Arc<str>) -> Ran<'_> {
        Ran {
            of: self,
            began,
            ended: SystemTime::now(),
            digest: digest.clone(),
            count: 0,
            topic: Topic::None,
            events: Vec::new(),
            links: Vec::new(),
        }
    }

    fn describe(&self, span: &mut Span, operation: &'static str, digest: &Arc<str>) {
        span.set_attributes([
            KeyValue::new("messaging.system", "kafka"),
            KeyValue::new("messaging.operation.name", operation),
            KeyValue::new("messaging.operation.type", "process"),
            KeyValue::new("messaging.consumer.group.name", self.group.clone()),
            KeyValue::new("wasmill.handler", self.name.clone()),
            KeyValue::new("wasmill.digest", digest.clone()),
        ]);
    }

    fn call(&self, call: &Call, of_event: &Span) {
        let span = SpanBuilder::from_name(format!("{} send", call.protocol))
            .with_kind(SpanKind::Client)
            .with_start_time(call.began);
        let mut span = self.on.begin(span, Some(of_event.span_context().clone()));
        span.set_attributes([
            KeyValue::new("network.protocol.name", call.protocol),
            KeyValue::new("server.address", call.server.clone()),
            KeyValue::new("server.port", i64::from(call.port)),
        ]);
        if let Some(error) = call.error {
            fail(&mut span, error, "not delivered");
        }
        span.end_with_timestamp(call.ended);
    }
}

impl Ran<'_> {
    /// One of its events, the number of its try, and what came of it. Outputs get the event's context, unless they have
    /// one. An event that brought none is to carry what is returned: so its other tries, and its dead letter, are of the
    /// trace that begins here.
    pub fn event(&mut self, event: &Event, attempt: u32, outcome: &mut Outcome) -> Option<Header> {
        let topic = &event.position.topic;
        self.count += 1;
        self.topic = match std::mem::take(&mut self.topic) {
            Topic::None => Topic::One(topic.clone()),
            Topic::One(one) if one == *topic => Topic::One(one),
            Topic::One(_) | Topic::Several => Topic::Several,
        };
        let published = header(&event.headers, TRACEPARENT);
        let published =
            published.and_then(|value| std::str::from_utf8(value).ok()).and_then(trace_context::parse);
        if published.as_ref().is_some_and(|published| !published.is_sampled()) {
            return None;
        }
        let span = SpanBuilder::from_name(format!("process {topic}"))
            .with_kind(SpanKind::Consumer)
            .with_start_time(self.began.0);
        let mut span = self.of.on.begin(span, published.clone());
        let own = span.span_context().clone();
        if !own.is_valid() {
            // The host ends.
            return None;
        }
        let traceparent = Header::new(TRACEPARENT, trace_context::text(&own));
        pass_on(&traceparent, outcome);
        let begins = published.is_none().then_some(traceparent);
        if span.is_recording() {
            self.links.push(Link::with_context(published.unwrap_or(own)));
            self.of.describe(&mut span, "process", &self.digest);
            span.set_attributes([
                KeyValue::new("messaging.destination.name", topic.clone()),
                KeyValue::new("messaging.destination.partition.id", event.position.partition.to_string()),
                KeyValue::new("messaging.kafka.offset", event.position.offset),
                KeyValue::new("wasmill.attempt", i64::from(attempt)),
            ]);
            self.events.push((event.position.clone(), span));
        }
        begins
    }

    /// None if nothing of it is sampled.
    pub fn batch(self, calls: &[Call]) -> Option<Batch> {
        let Self { of, began, ended, digest, count, topic, mut events, links } = self;
        if events.is_empty() {
            return None;
        }
        let topic = match topic {
            Topic::One(topic) => Some(topic),
            Topic::None | Topic::Several => None,
        };
        let name = topic.as_ref().map_or("process batch".into(), |topic| format!("process batch {topic}"));
        let span = SpanBuilder::from_name(name)
            .with_kind(SpanKind::Consumer)
            .with_start_time(began.0)
            .with_links(links);
        let mut span = of.on.begin(span, None);
        of.describe(&mut span, "process batch", &digest);
        span.set_attribute(KeyValue::new("messaging.batch.message_count", count));
        span.set_attributes(topic.map(|topic| KeyValue::new("messaging.destination.name", topic)));
        span.add_event_with_timestamp("handled", ended, Vec::new());
        for (position, of_event) in &mut events {
            of_event.add_link(span.span_context().clone(), Vec::new());
            calls.iter().filter(|call| call.event == *position).for_each(|call| of.call(call, of_event));
        }
        Some(Batch { span, events, ended })
    }
}

impl Batch {
    /// Of the events that have no outputs to be published, each one's fate.
    pub fn decided(&mut self, fates: &[(Position, Fate)]) {
        let fates: HashMap<&Position, Fate> =
            fates.iter().map(|(position, fate)| (position, *fate)).collect();
        for (position, mut span) in self.events.drain(..) {
            let fate = match fates.get(&position) {
                None => None,
                Some(Fate::Retry(kind)) => {
                    fail(&mut span, kind.as_str(), "it is tried again");
                    Some("retry")
                }
                Some(Fate::DeadLetter(kind)) => {
                    fail(&mut span, kind.as_str(), "it became a dead letter");
                    Some("dead-letter")
                }
                Some(Fate::Overtaken) => Some("overtaken"),
            };
            span.set_attributes(fate.map(|fate| KeyValue::new("wasmill.fate", fate)));
            span.end_with_timestamp(self.ended);
        }
    }

    /// Nothing of it became visible, and all of it runs again.
    pub fn refused(mut self, reason: &str) {
        self.span.set_attribute(KeyValue::new("error.type", "aborted"));
        self.span.set_status(Status::error(cut(reason, MAX_REASON)));
    }

    /// What came of it is committed, or there was nothing to commit.
    pub fn ended(mut self) {
        self.span.end();
    }
}

/// Sampled or not: what is decided once holds all the way.
fn pass_on(traceparent: &Header, outcome: &mut Outcome) {
    for output in outcome.iter_mut().flatten() {
        if header(&output.headers, TRACEPARENT).is_none() {
            output.headers.push(traceparent.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::AtomicU64;
    use std::time::Duration;

    use opentelemetry::Context;
    use opentelemetry::trace::{SpanContext, TracerProvider};
    use opentelemetry_sdk::error::OTelSdkResult;
    use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider, SpanData, SpanProcessor};

    use super::super::WithItsEvents;
    use super::*;
    use crate::event::{FailureKind, Output};

    #[derive(Clone, Debug, Default)]
    struct Kept(Arc<Mutex<Vec<SpanData>>>);

    impl SpanProcessor for Kept {
        fn on_start(&self, _span: &mut Span, _context: &Context) {}

        fn on_end(&self, span: SpanData) {
            self.0.lock().unwrap().push(span);
        }

        fn force_flush(&self) -> OTelSdkResult {
            Ok(())
        }

        fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
            Ok(())
        }
    }

    fn tracer(sampler: Sampler) -> (SubscriberTracer, Kept) {
        let kept = Kept::default();
        let provider = SdkTracerProvider::builder()
            .with_sampler(WithItsEvents(sampler.into()))
            .with_span_processor(kept.clone())
            .build();
        let tracer = provider.tracer("test");
        let on = On { provider, tracer, dropped: Arc::new(AtomicU64::new(0)) };
        (Tracer(Some(Arc::new(on))).subscriber("h", "g").unwrap(), kept)
    }

    fn event(offset: i64, traceparent: Option<&str>) -> Event {
        Event {
            position: Position { topic: "in".into(), partition: 0, offset },
            timestamp_ms: None,
            key: None,
            payload: None,
            headers: traceparent
                .map(|value| Header::new(TRACEPARENT, value.to_string()))
                .into_iter()
                .collect(),
        }
    }

    fn published() -> Outcome {
        Ok(vec![Output { topic: None, key: None, payload: None, headers: vec![] }])
    }

    /// The batch, what came of its events, and what those are to carry.
    fn handle(
        tracer: &SubscriberTracer,
        events: &[Event],
    ) -> (Option<Batch>, Vec<Outcome>, Vec<Option<Header>>) {
        let mut ran = tracer.ran(tracer.begin(), &"d".into());
        let mut outcomes: Vec<Outcome> = events.iter().map(|_| published()).collect();
        let carried = events.iter().zip(&mut outcomes).map(|(event, outcome)| ran.event(event, 1, outcome));
        let carried = carried.collect();
        (ran.batch(&[]), outcomes, carried)
    }

    fn passed_on(outcome: &Outcome) -> Option<SpanContext> {
        let value = header(&outcome.as_ref().unwrap()[0].headers, TRACEPARENT)?;
        trace_context::parse(std::str::from_utf8(value).unwrap())
    }

    const SAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    const UNSAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4737-00f067aa0ba902b7-00";

    #[test]
    fn the_flag_of_the_one_who_published_is_followed_and_the_sampler_asked_for_the_rest() {
        let root = |sampler| Sampler::ParentBased(Box::new(sampler));
        let events =
            [event(0, Some(SAMPLED)), event(1, Some(UNSAMPLED)), event(2, None), event(3, Some("x"))];
        let (tracer, kept) = tracer(root(Sampler::AlwaysOff));
        let (batch, outcomes, carried) = handle(&tracer, &events);
        let mut batch = batch.unwrap();
        batch.decided(&[(events[0].position.clone(), Fate::Retry(FailureKind::Retry))]);
        batch.ended();
        let kept = std::mem::take(&mut *kept.0.lock().unwrap());
        let [of_event, of_batch] = &kept[..] else { panic!("{kept:?}") };
        assert_eq!((&*of_event.name, &*of_batch.name), ("process in", "process batch in"));
        assert!(matches!(of_event.status, Status::Error { .. }));
        assert_eq!(of_event.links.links[0].span_context, of_batch.span_context);
        let on = passed_on(&outcomes[0]).unwrap();
        assert_eq!((on.span_id(), on.is_sampled()), (of_event.span_context.span_id(), true));
        // Passed on by the shard, as it is.
        assert_eq!(passed_on(&outcomes[1]), None);
        // What was decided here holds for those who come after, and for the other tries.
        assert!(outcomes[2..].iter().all(|outcome| passed_on(outcome).is_some_and(|on| !on.is_sampled())));
        for (outcome, carried) in outcomes.iter().zip(&carried).skip(2) {
            let passed_on = header(&outcome.as_ref().unwrap()[0].headers, TRACEPARENT);
            assert_eq!(passed_on, carried.as_ref().map(|carried| &*carried.value));
        }
        assert_eq!(carried[..2], [None, None]);
    }

    #[test]
    fn a_batch_without_a_sampled_event_has_no_span() {
        let (tracer, kept) = tracer(Sampler::ParentBased(Box::new(Sampler::AlwaysOff)));
        let (batch, ..) = handle(&tracer, &[event(0, Some(UNSAMPLED)), event(1, None)]);
        assert!(batch.is_none() && kept.0.lock().unwrap().is_empty());
    }

    #[test]
    fn a_batch_has_so_many_links_and_says_how_many_it_has_not() {
        let (tracer, kept) = tracer(Sampler::AlwaysOn);
        let events: Vec<Event> = (0..1000).map(|offset| event(offset, Some(SAMPLED))).collect();
        let (batch, ..) = handle(&tracer, &events);
        let mut batch = batch.unwrap();
        batch.decided(&[]);
        batch.refused("fenced");
        let kept = kept.0.lock().unwrap();
        let of_batch = kept.last().unwrap();
        assert_eq!((kept.len(), of_batch.links.links.len(), of_batch.links.dropped_count), (1001, 128, 872));
        assert_eq!(of_batch.status, Status::error("fenced"));
    }
}
