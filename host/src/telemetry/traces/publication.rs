//! The span of a record on its way to the broker, outside of transactions: what an HTTP request publishes.
//!
//! Its context goes along with the record. (Outputs of handlers carry the contexts of their events' spans.)
//! Source: <https://opentelemetry.io/docs/specs/semconv/messaging/kafka/>

use opentelemetry::KeyValue;
use opentelemetry::trace::{Span as _, SpanBuilder, SpanKind};
use opentelemetry_sdk::trace::Span;

use super::{Tracer, fail};
use crate::event::headers::TRACEPARENT;
use crate::event::{Position, Record};
use crate::telemetry::trace_context;

pub struct Publication(Option<Span>);

impl Tracer {
    /// Begins the publication of a record whose trace is sampled, and writes that into its `traceparent`.
    pub fn publication(&self, record: &mut Record) -> Publication {
        let Self(Some(on)) = self else { return Publication(None) };
        let Some(header) = record.headers.iter_mut().rfind(|header| header.name == TRACEPARENT) else {
            return Publication(None);
        };
        let parent = std::str::from_utf8(&header.value).ok().and_then(trace_context::parse);
        let Some(parent) = parent.filter(|parent| parent.is_sampled()) else { return Publication(None) };
        let span = SpanBuilder::from_name(format!("send {}", record.topic)).with_kind(SpanKind::Producer);
        let mut span = on.begin(span, Some(parent));
        if !span.is_recording() {
            return Publication(None);
        }
        header.value = trace_context::text(span.span_context()).into();
        span.set_attributes([
            KeyValue::new("messaging.system", "kafka"),
            KeyValue::new("messaging.operation.name", "send"),
            KeyValue::new("messaging.operation.type", "send"),
            KeyValue::new("messaging.destination.name", record.topic.clone()),
        ]);
        Publication(Some(span))
    }
}

impl Publication {
    pub fn acknowledged(self, position: &Position) {
        let Self(Some(mut span)) = self else { return };
        span.set_attributes([
            KeyValue::new("messaging.destination.partition.id", position.partition.to_string()),
            KeyValue::new("messaging.kafka.offset", position.offset),
        ]);
    }

    /// The word says why, and is one of few.
    pub fn failed(self, why: &'static str) {
        let Self(Some(mut span)) = self else { return };
        fail(&mut span, why, "the broker has not acknowledged the record");
    }
}
