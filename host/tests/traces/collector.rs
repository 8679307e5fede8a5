//! A collector of traces for tests: takes OTLP over HTTP as real ones do, and keeps the spans.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode, header};
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

#[derive(Default)]
struct Kept {
    spans: Vec<Span>,
    /// Of the last request.
    resource: BTreeMap<String, String>,
    authorization: Option<String>,
}

pub(crate) struct Collector {
    pub(crate) endpoint: String,
    kept: Arc<Mutex<Kept>>,
    /// Ends with it.
    _runtime: Runtime,
}

impl Collector {
    pub(crate) fn start() -> Self {
        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let kept = Arc::new(Mutex::new(Kept::default()));
        let keeper = kept.clone();
        let take = async move |headers: HeaderMap, body: Bytes| keep(&keeper, &headers, body);
        let router = Router::new().route("/v1/traces", post(take));
        runtime.spawn(async move { axum::serve(listener, router).await });
        Self { endpoint, kept, _runtime: runtime }
    }

    /// All that have come so far.
    pub(crate) fn spans(&self) -> Vec<Span> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).spans.clone()
    }

    /// Whose the last ones were.
    pub(crate) fn resource(&self) -> BTreeMap<String, String> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).resource.clone()
    }

    pub(crate) fn authorization(&self) -> Option<String> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).authorization.clone()
    }
}

fn keep(kept: &Mutex<Kept>, headers: &HeaderMap, body: Bytes) -> (StatusCode, Vec<u8>) {
    let text = |name| Some(headers.get(name)?.to_str().ok()?.to_string());
    if text(header::CONTENT_TYPE).as_deref() != Some("application/x-protobuf") {
        return (StatusCode::UNSUPPORTED_MEDIA_TYPE, Vec::new());
    }
    let Ok(request) = ExportTraceServiceRequest::decode(body) else {
        return (StatusCode::BAD_REQUEST, Vec::new());
    };
    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
    kept.authorization = text(header::AUTHORIZATION);
    for of_resource in request.resource_spans {
        kept.resource = attributes(&of_resource.resource.unwrap_or_default().attributes);
        kept.spans.extend(of_resource.scope_spans.into_iter().flat_map(|scope| scope.spans));
    }
    (StatusCode::OK, ExportTraceServiceResponse::default().encode_to_vec())
}

/// As text.
pub(crate) fn attributes(of: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |attribute: &KeyValue| match attribute.value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    };
    of.iter().map(|attribute| (attribute.key.clone(), text(attribute))).collect()
}
