//! What orchestrators and people ask the process itself.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::problem::Problem;
use super::view::{View, ViewReport};
use crate::status::{Report, Status};

/// Alive: it answers.
pub(super) async fn healthz() -> Response {
    Json(json!({ "status": "ok" })).into_response()
}

/// Ready: the broker is reachable and no shard is stuck. A view that is being rebuilt doesn't count, since
/// requests are taken meanwhile.
pub(super) async fn readyz(State(status): State<Status>) -> Result<Response, Problem> {
    ready(status.report().not_ready)
}

/// Whether requests are taken: the broker is reachable. A handler that fails, on all hosts alike, is no reason to turn away
/// those whose events can wait for it.
pub(super) async fn readyz_http(State(status): State<Status>) -> Result<Response, Problem> {
    ready(status.takes_no_requests())
}

fn ready(reasons: Vec<String>) -> Result<Response, Problem> {
    if reasons.is_empty() {
        return Ok(Json(json!({ "status": "ok" })).into_response());
    }
    Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not-ready", "The pipeline is not ready")
        .with("reasons", reasons)
        .retry_after(1))
}

#[derive(serde::Serialize)]
struct Shown {
    #[serde(flatten)]
    report: Report,
    view: ViewReport,
}

pub(super) async fn status(State((status, view)): State<(Status, View)>) -> Response {
    Json(Shown { report: status.report(), view: view.report() }).into_response()
}
