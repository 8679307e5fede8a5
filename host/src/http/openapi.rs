//! `/openapi.json`: the API as OpenAPI 3.1, made from the plan.

mod admin;
mod shapes;

use serde_json::{Map, Value, json};

use super::resources::MAX_LIMIT;
use crate::config::plan::{HttpPlan, ResourcePlan};

/// With the admin API where there is one.
pub(super) fn describe(plan: &HttpPlan, has_admin: bool) -> Value {
    let mut paths = Map::new();
    let mut schemas = Map::new();
    for resource in &plan.resources {
        let name = &resource.name;
        schemas.insert(name.clone(), body_schema(resource));
        paths.insert(format!("/{name}"), collection(resource));
        paths.insert(format!("/{name}/{{id}}"), item(resource));
    }
    probes(&mut paths);
    shapes::add(&mut schemas);
    if has_admin {
        admin::add(&mut paths, &mut schemas);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Wasmill",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "What is written here becomes an event of a pipeline; reading shows what became of it.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "parameters": {
                "Id": {
                    "name": "id", "in": "path", "required": true,
                    "description": "At most 255 bytes of UTF-8, no control characters, no dot segment.",
                    "schema": {
                        "type": "string", "minLength": 1, "maxLength": 255,
                        "pattern": "^(?!\\.{1,2}$)[^\\x00-\\x1f\\x7f-\\x9f]+$",
                    },
                },
                "IdempotencyKey": {
                    "name": "Idempotency-Key", "in": "header",
                    "description": "A repetition with the same key and body publishes nothing and gets the \
                                    first answer, also from another host and after a restart, as long as the key is \
                                    one of the newest of its resource (`view_keys`). While it isn't known what became \
                                    of an earlier request with the key, repetitions get 503. 1 to 255 visible ASCII \
                                    characters.",
                    "schema": { "type": "string", "pattern": "^[!-~]{1,255}$" },
                },
                "Traceparent": {
                    "name": "traceparent", "in": "header",
                    "description": "W3C Trace Context, carried through every event; one is made when missing.",
                    "schema": { "type": "string" },
                },
            },
            "securitySchemes": admin::security_schemes(),
            "responses": {
                "Problem": {
                    "description": "An RFC 9457 problem.",
                    "content": { "application/problem+json": { "schema": reference("wasmill.Problem") } },
                },
                "TryAgain": {
                    "description": "Not now: the broker is unreachable, the host or the broker overloaded, the view is being rebuilt, or another request with the Idempotency-Key may be under way. Except for the problem type `unknown-outcome` this request has published nothing.",
                    "headers": { "Retry-After": { "required": true, "schema": { "type": "integer" } } },
                    "content": { "application/problem+json": { "schema": reference("wasmill.Problem") } },
                },
            },
        },
    })
}

fn collection(resource: &ResourcePlan) -> Value {
    let name = &resource.name;
    json!({
        "get": {
            "operationId": format!("list_{name}"), "tags": [name],
            "summary": "Lists the known ids, most recently updated first",
            "parameters": [
                { "name": "limit", "in": "query",
                  "schema": { "type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": 50 } },
                { "name": "after", "in": "query", "description": "From the `next` of the page before.",
                  "schema": { "type": "string", "pattern": "^[0-9]{1,18}\\.[^\\x00-\\x1f]+$" } },
            ],
            "responses": {
                "200": ok("A page.", "wasmill.Page"),
                "400": problem(),
            },
        },
        "post": write(resource, "create", "Publishes, also where the id exists: its latest record is this one then; makes the id when the body has none", json!({
            "201": {
                "description": "The broker has acknowledged the record; so also for an id that exists.",
                "headers": {
                    "Location": { "required": true, "schema": { "type": "string", "format": "uri-reference" } },
                    "Idempotency-Replayed": replayed(),
                },
                "content": { "application/json": { "schema": receipt(resource) } },
            },
        })),
    })
}

fn item(resource: &ResourcePlan) -> Value {
    let name = &resource.name;
    json!({
        "parameters": [{ "$ref": "#/components/parameters/Id" }],
        "get": {
            "operationId": format!("get_{name}"), "tags": [name],
            "summary": "Shows the latest record of each topic, and the history",
            "responses": {
                "200": ok("What the topics say about this id.", "wasmill.View"),
                "400": problem(), "404": problem(), "503": try_again(),
            },
        },
        "put": write(resource, "replace", "Publishes, also where the id is new; the id in the body, if any, must be that in the path", json!({
            "200": {
                "description": "The broker has acknowledged the record; so also for a new id.",
                "headers": { "Idempotency-Replayed": replayed() },
                "content": { "application/json": { "schema": receipt(resource) } },
            },
        })),
    })
}

fn write(resource: &ResourcePlan, verb: &str, summary: &str, success: Value) -> Value {
    let name = &resource.name;
    let mut responses = success;
    for status in ["400", "408", "413", "415", "422", "502"] {
        responses[status] = problem();
    }
    responses["503"] = try_again();
    json!({
        "operationId": format!("{verb}_{name}"), "tags": [name], "summary": summary,
        "parameters": [
            { "$ref": "#/components/parameters/IdempotencyKey" },
            { "$ref": "#/components/parameters/Traceparent" },
        ],
        "requestBody": {
            "required": true,
            "content": { "application/json": { "schema": reference(name) } },
        },
        "responses": responses,
    })
}

fn probes(paths: &mut Map<String, Value>) {
    for (path, id, summary, unready) in [
        ("/healthz", "healthz", "Whether the process answers", false),
        ("/readyz", "readyz", "Whether the broker is reachable and every shard runs", true),
        ("/readyz/http", "readyz-http", "Whether the broker is reachable, so that requests are taken", true),
        ("/status", "status", "What runs, and what it has done since the start", false),
        ("/openapi.json", "openapi", "This document", false),
    ] {
        let mut responses = json!({ "200": {
            "description": summary, "content": { "application/json": { "schema": { "type": "object" } } },
        } });
        if unready {
            responses["503"] = try_again();
        }
        let get = json!({ "operationId": id, "tags": ["host"], "summary": summary, "responses": responses });
        paths.insert(path.into(), json!({ "get": get }));
    }
    let summary = "The figures of /status, in Prometheus' text format";
    let text = json!({ "200": {
        "description": summary, "content": { "text/plain": { "schema": { "type": "string" } } },
    } });
    let get = json!({ "operationId": "metrics", "tags": ["host"], "summary": summary, "responses": text });
    paths.insert("/metrics".into(), json!({ "get": get }));
}

/// The resource's schema as a component. Its key need not be in the body, and its references start from this
/// document now.
fn body_schema(resource: &ResourcePlan) -> Value {
    let key = &resource.key;
    let Some(mut schema) = resource.schema.as_ref().map(|schema| schema.source().clone()) else {
        return json!({ "type": "object", "properties": { key: { "type": "string" } } });
    };
    move_references(&mut schema, &format!("#/components/schemas/{}", resource.name));
    if let Some(schema) = schema.as_object_mut() {
        schema.remove("$id");
        schema.remove("$schema");
        if let Some(required) = schema.get_mut("required").and_then(Value::as_array_mut) {
            required.retain(|name| name != key);
        }
    }
    schema
}

fn move_references(schema: &mut Value, base: &str) {
    match schema {
        Value::Object(object) => {
            for (name, value) in object {
                match value {
                    Value::String(target) if name == "$ref" => {
                        if let Some(fragment) = target.strip_prefix('#') {
                            *target = format!("{base}{fragment}");
                        }
                    }
                    other => move_references(other, base),
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(|value| move_references(value, base)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn receipt(resource: &ResourcePlan) -> Value {
    let key = &resource.key;
    json!({
        "type": "object",
        "required": [key, "topic", "partition", "offset"],
        "properties": {
            "topic": { "type": "string" }, "partition": { "type": "integer" }, "offset": { "type": "integer" },
            key: { "type": "string" },
        },
    })
}

fn ok(description: &str, schema: &str) -> Value {
    json!({
        "description": description,
        "content": { "application/json": { "schema": reference(schema) } },
    })
}

fn replayed() -> Value {
    json!({
        "description": "Present when an earlier request with the same key published the record.",
        "schema": { "const": "true" },
    })
}

fn reference(schema: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{schema}") })
}

fn problem() -> Value {
    json!({ "$ref": "#/components/responses/Problem" })
}

fn try_again() -> Value {
    json!({ "$ref": "#/components/responses/TryAgain" })
}
