//! Distributed traces: spans of requests, publications and batches, and their export by OTLP over HTTP.
//!
//! Off unless the environment names a collector (`settings`), and then nothing of this runs. Whether something is
//! sampled is decided where its trace begins, by the sampler that the environment names: at the request, or at an
//! event that brings no trace along. From there on the flag in `traceparent` is followed.
//!
//! Spans never hold a payload, a record's key, or what a handler, a mail server or a client says in its own words, a
//! request's path apart: what a collector keeps is read by others than the topics are.

mod batch;
mod client;
mod export;
mod publication;
mod request;
mod settings;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use opentelemetry::trace::{
    Link, Span as _, SpanBuilder, SpanContext, SpanKind, Status, TraceContextExt, TraceId, Tracer as _,
    TracerProvider,
};
use opentelemetry::{Context, InstrumentationScope, KeyValue};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::resource::{EnvResourceDetector, TelemetryResourceDetector};
use opentelemetry_sdk::trace::{
    Config, SamplingDecision, SamplingResult, SdkTracer, SdkTracerProvider, ShouldSample, Span,
};
use tracing::{info, warn};

pub use batch::{Batch, Began, Ran, SubscriberTracer};
pub use publication::Publication;
pub use request::Request;

use client::Client;
use export::Queue;
use settings::Settings;

/// How long a host that ends waits for the collector.
const LAST_WAIT: Duration = Duration::from_secs(2);

/// Begins spans, or is off. Cheap to clone.
#[derive(Clone, Default)]
pub struct Tracer(Option<Arc<On>>);

struct On {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
    dropped: Arc<AtomicU64>,
}

impl Tracer {
    /// As the environment says. What is wrong with that keeps no host from running: it is told, and there are no traces.
    pub fn from_env(pipeline: &str, instance: &str) -> Self {
        let started = settings::read(&|name: &str| std::env::var(name).ok()).and_then(|settings| {
            let Some(settings) = settings else { return Ok(None) };
            let on = On::start(&settings, pipeline, instance)?;
            info!("traces go to {}", settings.place());
            Ok(Some(Arc::new(on)))
        });
        Self(started.unwrap_or_else(|reason| {
            warn!("there will be no traces: {reason}");
            None
        }))
    }

    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Spans that the collector didn't get, since the start.
    pub fn dropped(&self) -> u64 {
        self.0.as_ref().map_or(0, |on| on.dropped.load(Ordering::Relaxed))
    }

    /// Sends what is left, for 2 s at most. Spans that end later are lost.
    pub fn close(&self) {
        if let Some(on) = &self.0
            && on.provider.shutdown_with_timeout(LAST_WAIT).is_err()
        {
            warn!("the last spans were dropped: the collector did not take them within {LAST_WAIT:?}");
        }
    }
}

impl fmt::Debug for Tracer {
    /// Without the exporter, which holds secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_on() { "Tracer(on)" } else { "Tracer(off)" })
    }
}

impl On {
    fn start(settings: &Settings, pipeline: &str, instance: &str) -> Result<Self, String> {
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(Client::new(settings)?)
            .with_endpoint(settings.endpoint.as_str())
            .with_protocol(Protocol::HttpBinary)
            .with_timeout(settings.timeout)
            .build()
            // Its words may hold the endpoint.
            .map_err(|_| "the endpoint can't be used".to_string())?;
        let own = [("service.name", pipeline), ("service.instance.id", instance)];
        let resource = Resource::builder_empty()
            .with_attributes(own.map(|(name, value)| KeyValue::new(name, value.to_string())))
            .with_detectors(&[Box::new(TelemetryResourceDetector), Box::new(EnvResourceDetector::new())])
            .with_attributes(settings.service.clone().map(|name| KeyValue::new("service.name", name)))
            .build();
        let dropped = Arc::new(AtomicU64::new(0));
        let queue = Queue::start(exporter, &resource, settings, dropped.clone())
            .map_err(|error| format!("the thread that sends them can't start: {error}"))?;
        let provider = SdkTracerProvider::builder()
            .with_sampler(WithItsEvents(Config::default().sampler))
            .with_span_processor(queue)
            .with_resource(resource)
            .build();
        let scope = InstrumentationScope::builder("wasmill").with_version(env!("CARGO_PKG_VERSION")).build();
        let tracer = provider.tracer_with_scope(scope);
        Ok(Self { provider, tracer, dropped })
    }

    /// Under the parent, or at the beginning of a trace. It isn't recording unless it is sampled.
    fn begin(&self, span: SpanBuilder, parent: Option<SpanContext>) -> Span {
        let context = Context::new();
        let context = match parent {
            Some(parent) => context.with_remote_span_context(parent),
            None => context,
        };
        self.tracer.build_with_context(span, &context)
    }
}

/// The sampler that the environment names; but the span of a batch, which is linked to those of its events that are sampled,
/// is sampled with them.
#[derive(Clone, Debug)]
struct WithItsEvents(Box<dyn ShouldSample>);

impl ShouldSample for WithItsEvents {
    fn should_sample(
        &self,
        parent_context: Option<&Context>,
        trace_id: TraceId,
        name: &str,
        span_kind: &SpanKind,
        attributes: &[KeyValue],
        links: &[Link],
    ) -> SamplingResult {
        let mut sampled = self.0.should_sample(parent_context, trace_id, name, span_kind, attributes, links);
        if !links.is_empty() {
            sampled.decision = SamplingDecision::RecordAndSample;
        }
        sampled
    }
}

/// What went wrong, by a word that is one of few, and by what that means.
fn fail(span: &mut Span, error: &'static str, means: &'static str) {
    span.set_attribute(KeyValue::new("error.type", error));
    span.set_status(Status::error(means));
}
