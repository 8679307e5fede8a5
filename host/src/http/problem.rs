//! Errors as clients see them: RFC 9457 problem details, for every refusal.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value};

use crate::schema::Fault;

#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    members: Map<String, Value>,
    retry_after_seconds: Option<u32>,
    close: bool,
}

impl Problem {
    /// `kind` is what programs tell problems apart by: the end of the `type` URN.
    pub(super) fn new(status: StatusCode, kind: &str, title: &str) -> Self {
        let mut members = Map::new();
        members.insert("type".into(), format!("urn:wasmill:problem:{kind}").into());
        members.insert("title".into(), title.into());
        members.insert("status".into(), status.as_u16().into());
        Self { status, members, retry_after_seconds: None, close: false }
    }

    pub(super) fn detail(self, detail: impl Into<String>) -> Self {
        self.with("detail", Value::String(detail.into()))
    }

    pub(super) fn with(mut self, member: &str, value: impl Into<Value>) -> Self {
        self.members.insert(member.into(), value.into());
        self
    }

    /// The body is JSON but not what it must be: 422, naming every fault, up to 100.
    pub(super) fn faults(faults: &[Fault]) -> Self {
        const SHOWN: usize = 100;
        let errors = faults
            .iter()
            .take(SHOWN)
            .map(|fault| serde_json::json!({ "pointer": fault.pointer, "detail": fault.detail }))
            .collect::<Vec<_>>();
        let problem = Self::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "invalid-body",
            "The body is not what this resource takes",
        )
        .with("errors", errors);
        match faults.len().saturating_sub(SHOWN) {
            0 => problem,
            omitted => problem.with("errors_omitted", omitted),
        }
    }

    pub(super) fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after_seconds = Some(seconds);
        self
    }

    /// Part of the request was left unread: the connection can't carry another.
    pub(super) fn close(mut self) -> Self {
        self.close = true;
        self
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = Value::Object(self.members).to_string();
        let mut response = (self.status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = self.retry_after_seconds {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.close {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}
