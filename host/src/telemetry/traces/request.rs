//! The span of an HTTP request, by the conventions for HTTP servers.
//! Source: <https://opentelemetry.io/docs/specs/semconv/http/http-spans/>

use opentelemetry::KeyValue;
use opentelemetry::trace::{Span as _, SpanBuilder, SpanKind, Status};
use opentelemetry_sdk::trace::Span;

use super::Tracer;
use crate::telemetry::trace_context;
use crate::text::cut;

/// Bytes of a path that a span shows.
const MAX_PATH: usize = 512;

/// While it is answered. One that is dropped has lost its client.
pub struct Request(Span);

impl Tracer {
    /// None while traces are off. The route is the path's pattern.
    pub fn request(
        &self,
        method: &str,
        route: &str,
        path: &str,
        traceparent: Option<&str>,
    ) -> Option<Request> {
        let on = self.0.as_ref()?;
        let span = SpanBuilder::from_name(format!("{method} {route}")).with_kind(SpanKind::Server);
        let mut span = on.begin(span, traceparent.and_then(trace_context::parse));
        if span.is_recording() {
            span.set_attributes([
                KeyValue::new("http.request.method", method.to_string()),
                KeyValue::new("http.route", route.to_string()),
                KeyValue::new("url.path", cut(path, MAX_PATH)),
                KeyValue::new("url.scheme", "http"),
            ]);
        }
        Some(Request(span))
    }
}

impl Request {
    /// For all that is done for it, sampled or not; none once the host ends.
    pub fn traceparent(&self) -> Option<String> {
        let context = self.0.span_context();
        context.is_valid().then(|| trace_context::text(context))
    }

    pub fn answered(mut self, status: u16) {
        self.0.set_attribute(KeyValue::new("http.response.status_code", i64::from(status)));
        // What the client did wrong is no fault of the server's.
        if status >= 500 {
            self.0.set_attribute(KeyValue::new("error.type", status.to_string()));
            self.0.set_status(Status::error(""));
        }
    }
}
