//! Requests made commands: `/admin/…`.

use std::time::Duration;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Router, middleware};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{Admin, Command, Refused, RefusedKind, access, dead_letters};
use crate::http::body::Bodies;
use crate::http::json;
use crate::http::live::{self, Live};
use crate::http::problem::Problem;
use crate::http::view::View;

/// Bytes: a whole pipeline.toml, with room to spare.
const BODY_LIMIT: usize = 1 << 20;
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// At once. They have room of their own: commands are taken also when the ingress is full.
const BODIES: usize = 4;

#[derive(Clone)]
pub(super) struct Asking {
    admin: Admin,
    bodies: Bodies,
    view: View,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rollback {
    to: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Reload {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Diff {
    toml: String,
}

pub(in crate::http) fn routes(admin: Admin, live: Live, view: View) -> Router {
    let bodies = Bodies::new(BODY_LIMIT, BODY_TIMEOUT, BODIES);
    Router::new()
        .route("/admin/handlers/{name}", get(settings))
        .route("/admin/handlers/{name}/logs", get(logs))
        .route("/admin/handlers/{name}/versions", get(versions))
        .route("/admin/handlers/{name}/rollback", post(rollback))
        .route("/admin/parked", get(parked))
        .route("/admin/dead-letters", get(dead_letters::list))
        .route("/admin/dead-letters/{topic}/{partition}/{offset}", get(dead_letters::show))
        .route("/admin/dead-letters/redrive", post(dead_letters::redrive))
        .route("/admin/dead-letters/discard", post(dead_letters::discard))
        .route("/admin/reload", post(reload))
        .route("/admin/diff", post(diff))
        .route("/admin/live", get(live::live).with_state(live))
        .route_layer(middleware::from_fn_with_state(admin.clone(), access::guard))
        .with_state(Asking { admin, bodies, view })
}

async fn settings(
    State(asking): State<Asking>,
    handler: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    asking.ask(Command::Settings { handler: name(handler)? }).await
}

/// Asks nobody: lines are there also while the deployer compiles.
async fn logs(
    State(Asking { admin, view, .. }): State<Asking>,
    handler: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    let handler = name(handler)?;
    let lines = admin.logs.newest(&handler).ok_or_else(|| Refused {
        kind: RefusedKind::NotFound,
        message: format!("pipeline.toml has no handler or sink `{handler}`"),
        help: "/status lists those that run".into(),
    })?;
    let traces = view.traced(&lines.iter().filter_map(|line| line.trace.as_deref()).collect());
    Ok(told(json!({ "lines": lines, "traces": traces })))
}

async fn versions(
    State(asking): State<Asking>,
    handler: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    asking.ask(Command::Versions { handler: name(handler)? }).await
}

async fn rollback(
    State(asking): State<Asking>,
    handler: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let handler = name(handler)?;
    let Rollback { to } = asking.read(&headers, body).await?;
    let to = to.map(|to| to.to_ascii_lowercase());
    if to
        .as_ref()
        .is_some_and(|to| to.is_empty() || to.len() > 64 || to.bytes().any(|b| !b.is_ascii_hexdigit()))
    {
        return Err(invalid("`to` must be the beginning of a version's digest: 1 to 64 hex digits."));
    }
    asking.ask(Command::Rollback { handler, to }).await
}

async fn parked(State(asking): State<Asking>) -> Result<Response, Problem> {
    asking.ask(Command::Parked).await
}

async fn reload(State(asking): State<Asking>, headers: HeaderMap, body: Body) -> Result<Response, Problem> {
    let Reload {} = asking.read(&headers, body).await?;
    asking.ask(Command::Reload).await
}

async fn diff(State(asking): State<Asking>, headers: HeaderMap, body: Body) -> Result<Response, Problem> {
    let Diff { toml } = asking.read(&headers, body).await?;
    asking.ask(Command::Diff { toml }).await
}

impl Asking {
    pub(super) async fn ask(&self, command: Command) -> Result<Response, Problem> {
        Ok(told(self.admin.ask(command).await?))
    }

    /// No body is as good as `{}`.
    pub(super) async fn read<T: DeserializeOwned>(
        &self,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<T, Problem> {
        let taken = self.bodies.read(headers, body).await?;
        let bytes: &[u8] = if taken.bytes.is_empty() { b"{}" } else { &taken.bytes };
        let parsed = json::parse(bytes).map_err(|error| {
            Problem::new(StatusCode::BAD_REQUEST, "not-json", "The body is not JSON")
                .detail(error.to_string())
        })?;
        // Structs are read from arrays as well.
        if !parsed.is_object() {
            return Err(invalid("It must be a JSON object."));
        }
        serde_json::from_value(parsed).map_err(|error| invalid(&format!("{error}.")))
    }
}

fn told(answer: Value) -> Response {
    ([(header::CACHE_CONTROL, "no-store")], axum::Json(answer)).into_response()
}

fn name(handler: Result<Path<String>, PathRejection>) -> Result<String, Problem> {
    let Path(handler) = handler.map_err(|rejection| {
        Problem::new(StatusCode::BAD_REQUEST, "handler", "The path names no handler")
            .detail(rejection.body_text())
    })?;
    Ok(handler)
}

pub(super) fn invalid(detail: &str) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid-body", "The body is not what this command takes")
        .detail(detail)
}
