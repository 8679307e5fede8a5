//! The outer parts of a request: its id and its headers, refused with reasons.

use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use axum::http::{HeaderMap, StatusCode, header};

use super::ingress::check_id;
use super::problem::Problem;

const IDEMPOTENCY_KEY: &str = "idempotency-key";

pub(super) fn path_id(id: Result<Path<String>, PathRejection>) -> Result<String, Problem> {
    let bad = |detail: String| {
        Problem::new(StatusCode::BAD_REQUEST, "id", "The path's last segment can't be an id").detail(detail)
    };
    let Path(id) = id.map_err(|rejection| bad(rejection.body_text()))?;
    check_id(&id).map_err(|reason| bad(format!("It {reason}.")))?;
    Ok(id)
}

pub(super) fn check_content_type(request: &HeaderMap) -> Result<(), Problem> {
    let content_type = request.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = content_type.and_then(|t| t.split(';').next()).map(|t| t.trim().to_ascii_lowercase());
    match essence.as_deref() {
        Some("application/json") => Ok(()),
        Some(other) if other.starts_with("application/") && other.ends_with("+json") => Ok(()),
        Some(_) | None => {
            Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "media-type", "This resource takes JSON")
                .detail("Send the body with Content-Type: application/json."))
        }
    }
}

/// The draft has a structured-field string, in quotes; most clients send it bare. Both are the same key.
pub(super) fn idempotency_key(request: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut values = request.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let key = value.to_str().ok().map(|v| v.strip_prefix('"').and_then(|v| v.strip_suffix('"')).unwrap_or(v));
    match (key, values.next()) {
        (Some(key), None) if is_idempotency_key(key) => Ok(Some(key.into())),
        (Some(_) | None, _) => {
            Err(Problem::new(StatusCode::BAD_REQUEST, "idempotency-key", "Bad Idempotency-Key")
                .detail("It must come once, with 1 to 255 visible ASCII characters, in quotes or without."))
        }
    }
}

pub(super) fn is_idempotency_key(key: &str) -> bool {
    (1..=255).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic())
}
