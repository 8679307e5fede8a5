//! The spans of requests to resources. What asks after the host itself (probes, metrics, the dashboard) would be most of
//! what there is, and has none.

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::HeaderValue;
use axum::middleware::{self, Next};
use axum::response::Response;

use crate::event::headers::TRACEPARENT;
use crate::telemetry::traces::Tracer;

/// As they were while traces are off.
pub(super) fn routes(routes: Router, tracer: Tracer) -> Router {
    if tracer.is_on() { routes.route_layer(middleware::from_fn_with_state(tracer, answer)) } else { routes }
}

/// What is done for the request finds the span's context where the client's would be.
async fn answer(
    State(tracer): State<Tracer>,
    route: MatchedPath,
    mut request: Request,
    next: Next,
) -> Response {
    let sent = request.headers().get(TRACEPARENT).and_then(|value| value.to_str().ok());
    let span = tracer.request(request.method().as_str(), route.as_str(), request.uri().path(), sent);
    let traceparent = span.as_ref().and_then(|span| span.traceparent());
    if let Some(traceparent) = traceparent.and_then(|value| HeaderValue::try_from(value).ok()) {
        request.headers_mut().insert(TRACEPARENT, traceparent);
    }
    let response = next.run(request).await;
    span.into_iter().for_each(|span| span.answered(response.status().as_u16()));
    response
}
