//! `/admin/dead-letters…`: which there are, one of them, putting back, letting go.

use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde::Deserialize;

use super::Command;
use super::routes::{Asking, invalid};
use crate::dead_letters::{Act, Ask, CAUSES, MAX_REDRIVES, Wanted};
use crate::event::Position;
use crate::http::problem::Problem;
use crate::text::one_line;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Listing {
    handler: Option<String>,
    cause: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Redrive {
    handler: String,
    cause: Option<String>,
    key: Option<String>,
    #[serde(default)]
    at: Vec<String>,
    limit: Option<usize>,
    #[serde(default)]
    dry_run: bool,
    max_redrives: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Discard {
    handler: String,
    cause: Option<String>,
    key: Option<String>,
    #[serde(default)]
    at: Vec<String>,
    limit: Option<usize>,
    #[serde(default)]
    dry_run: bool,
    reason: String,
}

pub(super) async fn list(
    State(asking): State<Asking>,
    query: Result<Query<Listing>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(Listing { handler, cause }) = query.map_err(|rejection| {
        Problem::new(StatusCode::BAD_REQUEST, "query", "The query can't be used")
            .detail(rejection.body_text())
    })?;
    if let Some(unknown) = cause.as_deref().filter(|cause| !CAUSES.contains(cause)) {
        let detail =
            format!("`cause` must be one of {}, and not `{}`.", CAUSES.join(", "), one_line(unknown));
        return Err(Problem::new(StatusCode::BAD_REQUEST, "query", "The query can't be used").detail(detail));
    }
    asking.ask(Command::DeadLetters(Ask::List { of: handler, cause })).await
}

pub(super) async fn show(
    State(asking): State<Asking>,
    path: Result<Path<(String, i32, i64)>, PathRejection>,
) -> Result<Response, Problem> {
    let Path((topic, partition, offset)) = path.map_err(|rejection| {
        Problem::new(StatusCode::BAD_REQUEST, "position", "The path names no dead letter")
            .detail(rejection.body_text())
    })?;
    let at = Position { topic: topic.into(), partition, offset };
    asking.ask(Command::DeadLetters(Ask::Show { at })).await
}

pub(super) async fn redrive(
    State(asking): State<Asking>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let Redrive { handler, cause, key, at, limit, dry_run, max_redrives } =
        asking.read(&headers, body).await?;
    let wanted = Wanted { cause: known(cause)?, key, at: positions(&at)?, limit, dry_run, rate: None };
    let act = Act::Redrive { max: max_redrives.unwrap_or(MAX_REDRIVES) };
    asking.ask(Command::DeadLetters(Ask::Settle { of: handler, wanted, act })).await
}

pub(super) async fn discard(
    State(asking): State<Asking>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let Discard { handler, cause, key, at, limit, dry_run, reason } = asking.read(&headers, body).await?;
    if reason.trim().is_empty() {
        return Err(invalid("`reason` must say why: it is kept beside the letter's position."));
    }
    let wanted = Wanted { cause: known(cause)?, key, at: positions(&at)?, limit, dry_run, rate: None };
    asking.ask(Command::DeadLetters(Ask::Settle { of: handler, wanted, act: Act::Discard { reason } })).await
}

fn known(cause: Option<String>) -> Result<Option<String>, Problem> {
    match cause {
        Some(cause) if !CAUSES.contains(&&*cause) => {
            Err(invalid(&format!("`cause` must be one of {}.", CAUSES.join(", "))))
        }
        cause => Ok(cause),
    }
}

fn positions(at: &[String]) -> Result<Vec<Position>, Problem> {
    let position = |text: &String| {
        text.parse().map_err(|_| invalid("`at` must be positions, as `topic/partition/offset`."))
    };
    at.iter().map(position).collect()
}
