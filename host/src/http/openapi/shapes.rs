//! The shapes of what GET and refusals answer, which all resources share: `representation` and `problem` as JSON
//! Schemas.

use serde_json::{Map, Value, json};

/// Names with a dot can't be resources.
pub(super) fn add(schemas: &mut Map<String, Value>) {
    let place = json!({
        "partition": { "type": "integer" }, "offset": { "type": "integer" },
        "timestamp_ms": { "type": "integer", "description": "Since the Unix epoch." },
    });
    let accepted = json!({
        "type": "object",
        "description": "The newest record that the broker has taken and the view has not read back yet.",
        "properties": {
            "topic": { "type": "string" }, "partition": { "type": "integer" }, "offset": { "type": "integer" },
        },
        "required": ["topic", "partition", "offset"],
    });
    let headers = json!({ "type": "object", "additionalProperties": { "type": "string" } });
    let with = |more: Value| {
        let mut properties = place.as_object().cloned().unwrap_or_default();
        properties.extend(more.as_object().cloned().unwrap_or_default());
        json!({ "type": "object", "properties": properties, "required": ["partition", "offset", "timestamp_ms"] })
    };
    let record = with(json!({
        "payload": { "description": "When it is JSON." },
        "payload_text": { "type": "string", "description": "When it is text but not JSON." },
        "payload_base64": { "type": "string", "contentEncoding": "base64" },
        "tombstone": { "const": true, "description": "When there is none." },
        "headers": headers,
    }));
    let step = with(json!({ "topic": { "type": "string" }, "headers": headers }));
    schemas.insert(
        "wasmill.View".into(),
        json!({
            "type": "object",
            "required": ["id", "latest", "history", "history_dropped", "complete"],
            "properties": {
                "id": { "type": "string" },
                "latest": { "type": "object", "description": "By topic.", "additionalProperties": record },
                "history": { "type": "array", "description": "By time.", "items": step },
                "history_dropped": { "type": "integer", "minimum": 0 },
                "accepted": accepted,
                "complete": { "type": "boolean", "description": "Whether this is all that the topics have." },
            },
        }),
    );
    schemas.insert(
        "wasmill.Page".into(),
        json!({
            "type": "object",
            "required": ["items", "next", "complete"],
            "properties": {
                "items": { "type": "array", "items": {
                    "type": "object",
                    "required": ["id", "updated_ms", "topics"],
                    "properties": {
                        "id": { "type": "string" },
                        "updated_ms": { "type": "integer" },
                        "topics": { "type": "object", "additionalProperties": with(json!({})) },
                        "accepted": accepted,
                    },
                } },
                "next": { "type": ["string", "null"], "description": "The next page's path." },
                "complete": { "type": "boolean" },
                "incomplete_because": { "type": "array", "items": { "type": "string" } },
            },
        }),
    );
    schemas.insert(
        "wasmill.Problem".into(),
        json!({
            "type": "object",
            "required": ["type", "title", "status"],
            "properties": {
                "type": { "type": "string", "format": "uri" },
                "title": { "type": "string" },
                "status": { "type": "integer" },
                "detail": { "type": "string" },
                "errors": { "type": "array", "items": {
                    "type": "object",
                    "required": ["pointer", "detail"],
                    "properties": { "pointer": { "type": "string" }, "detail": { "type": "string" } },
                } },
            },
        }),
    );
}
