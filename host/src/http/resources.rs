//! One resource: POST and PUT publish, GET shows the view.
//!
//! Every check of a write comes before the broker sees anything, in the order of cost: headers, size, JSON,
//! schema.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};
use bytes::Bytes;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use super::body::Bodies;
use super::idempotency::fingerprint;
use super::ingress::{Ingress, Submission, check_id, derived_id};
use super::problem::Problem;
use super::refusal::refusal;
use super::representation;
use super::request::{check_content_type, idempotency_key, path_id};
use super::view::{Lookup, View};
use super::{json, now_us, traced};
use crate::config::plan::ResourcePlan;
use crate::event::{Header, Record, headers};
use crate::schema::Fault;
use crate::telemetry::trace_context;
use crate::telemetry::traces::Tracer;

/// On published records: `POST` or `PUT`, for handlers to whom that is a difference.
pub(super) const HTTP_METHOD: &str = "http-method";

const DEFAULT_LIMIT: usize = 50;
pub(super) const MAX_LIMIT: usize = 1000;

pub(super) struct Resource {
    pub(super) index: usize,
    pub(super) plan: ResourcePlan,
    pub(super) bodies: Bodies,
    pub(super) ingress: Arc<Ingress>,
    pub(super) view: View,
    pub(super) tracer: Tracer,
}

pub(super) fn routes(resource: Resource) -> Router {
    let collection = format!("/{}", resource.plan.name);
    let tracer = resource.tracer.clone();
    let routes = Router::new()
        .route(&collection, get(list).post(create))
        .route(&format!("{collection}/{{id}}"), put(replace).get(show))
        .with_state(Arc::new(resource));
    traced::routes(routes, tracer)
}

async fn create(
    State(resource): State<Arc<Resource>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    resource.write(Method::POST, None, &headers, body).await
}

async fn replace(
    State(resource): State<Arc<Resource>>,
    id: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let id = path_id(id)?;
    resource.write(Method::PUT, Some(id), &headers, body).await
}

async fn show(
    State(resource): State<Arc<Resource>>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    let id = path_id(id)?;
    match resource.view.lookup(resource.index, &id) {
        Lookup::Found { state, caught_up } => Ok(representation::one(&id, &state, &resource.plan, caught_up)),
        Lookup::NotYet => Err(Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "rebuilding",
            "The view is still being rebuilt from the topics",
        )
        .detail("This id has not come up yet. It may, or there may be no such id.")
        .retry_after(1)),
        Lookup::Never => Err(Problem::new(StatusCode::NOT_FOUND, "no-such-id", "There is no such id")
            .detail("The topics of this resource have no record with this id.")),
        Lookup::Dropped { evicted, max_keys } => Err(Problem::new(
            StatusCode::NOT_FOUND,
            "not-in-view",
            "This id is not in the view",
        )
        .detail(format!(
            "The view keeps at most the {max_keys} most recently updated ids and has dropped {evicted}. \
                     This one may have been among them; the topics know."
        ))),
    }
}

#[derive(serde::Deserialize)]
struct Paging {
    limit: Option<usize>,
    after: Option<String>,
}

async fn list(
    State(resource): State<Arc<Resource>>,
    paging: Result<Query<Paging>, QueryRejection>,
) -> Result<Response, Problem> {
    let bad = |detail: String| Problem::new(StatusCode::BAD_REQUEST, "query", "Bad query").detail(detail);
    let Query(Paging { limit, after }) = paging.map_err(|rejection| bad(rejection.body_text()))?;
    let limit = limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(bad(format!("limit must lie between 1 and {MAX_LIMIT}")));
    }
    let cursor = after
        .map(|after| {
            let (time, id) = after.split_once('.')?;
            Some((time.parse().ok()?, Arc::from(id)))
        })
        .map(|cursor| cursor.ok_or_else(|| bad("after must be taken from the `next` of an answer".into())))
        .transpose()?;
    let page = resource.view.page(resource.index, cursor, limit);
    Ok(representation::many(&page, &resource.plan, limit))
}

impl Resource {
    async fn write(
        &self,
        method: Method,
        path_id: Option<String>,
        request: &HeaderMap,
        body: Body,
    ) -> Result<Response, Problem> {
        check_content_type(request)?;
        let idempotency_key = idempotency_key(request)?;
        // Held until the answer: so are copies of it.
        let taken = self.bodies.read(request, body).await?;
        let body = &taken.bytes;
        let parsed = json::parse(body).map_err(|error| {
            Problem::new(StatusCode::BAD_REQUEST, "not-json", "The body is not JSON")
                .detail(error.to_string())
                .with("line", error.line())
                .with("column", error.column())
        })?;
        let (id, payload) = self.identify(parsed, body, path_id, idempotency_key.as_deref())?;

        let idempotency =
            idempotency_key.clone().map(|key| (key, fingerprint(method.as_str().as_bytes(), &payload)));
        let record = Record {
            topic: self.plan.topic.clone(),
            key: Some(Bytes::from(id.clone())),
            payload: Some(payload),
            headers: record_headers(&method, request, idempotency_key),
        };
        let submission = Submission { resource: self.index, id: id.clone(), record, idempotency };
        let receipt = self.ingress.submit(submission).await.map_err(refusal)?;

        let mut answer = json!({
            "topic": &*receipt.position.topic,
            "partition": receipt.position.partition,
            "offset": receipt.position.offset,
        });
        answer[&self.plan.key] = Value::from(id.as_str());
        let mut response = axum::Json(answer).into_response();
        if method == Method::POST {
            *response.status_mut() = StatusCode::CREATED;
            if let Ok(location) = format!("/{}/{}", self.plan.name, encoded(&id)).parse() {
                response.headers_mut().insert(header::LOCATION, location);
            }
        }
        if receipt.replayed {
            response.headers_mut().insert("idempotency-replayed", header::HeaderValue::from_static("true"));
        }
        Ok(response)
    }

    /// The id and the payload as published: the client's text, compact, with the id put in if it has none.
    fn identify(
        &self,
        mut parsed: Value,
        body: &[u8],
        path_id: Option<String>,
        idempotency_key: Option<&str>,
    ) -> Result<(String, Bytes), Problem> {
        let key = &self.plan.key;
        let at_key = |detail| Fault::of_property(key, detail);
        let Some(object) = parsed.as_object_mut() else {
            let fault = Fault { pointer: String::new(), detail: "must be an object".into() };
            return Err(Problem::faults(&[fault]));
        };
        let mut payload = json::compact(body);
        let mut faults = Vec::new();
        let id = match (object.get(key), path_id) {
            (Some(Value::String(id)), Some(path_id)) if *id != path_id => {
                faults.push(at_key("must be the id in the path"));
                path_id
            }
            (Some(Value::String(id)), _) => id.clone(),
            (Some(_), _) => {
                faults.push(at_key("must be a string"));
                String::new()
            }
            (None, path_id) => {
                let id = match (path_id, idempotency_key) {
                    (Some(id), _) => id,
                    (None, Some(idempotency_key)) => derived_id(&self.plan.name, idempotency_key),
                    (None, None) => uuid::Uuid::now_v7().to_string(),
                };
                payload = json::insert_first(&payload, key, &id);
                object.insert(key.clone(), id.clone().into());
                id
            }
        };
        if faults.is_empty()
            && let Err(reason) = check_id(&id)
        {
            faults.push(at_key(reason));
        }
        if let Some(schema) = &self.plan.schema {
            // The id's own faults are said already, more to the point.
            let own = faults.clone();
            faults.extend(
                schema.faults(&parsed).into_iter().filter(|f| own.iter().all(|own| own.pointer != f.pointer)),
            );
        }
        if faults.is_empty() { Ok((id, payload.into())) } else { Err(Problem::faults(&faults)) }
    }
}

fn record_headers(method: &Method, request: &HeaderMap, idempotency_key: Option<String>) -> Vec<Header> {
    let traceparent = request
        .get(headers::TRACEPARENT)
        .and_then(|value| value.to_str().ok())
        .filter(|value| trace_context::is_valid(value))
        .map_or_else(trace_context::make, str::to_owned);
    let mut record = vec![
        Header::new(HTTP_METHOD, method.as_str().to_owned()),
        Header::new("content-type", "application/json"),
        Header::new(headers::TRACEPARENT, traceparent),
        Header::new(headers::INGRESS_TIME, now_us().to_string()),
    ];
    record.extend(idempotency_key.map(|key| Header::new(headers::IDEMPOTENCY_KEY, key)));
    record
}

/// A path segment or a query value.
pub(super) fn encoded(text: &str) -> String {
    const SET: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
    utf8_percent_encode(text, SET).to_string()
}
