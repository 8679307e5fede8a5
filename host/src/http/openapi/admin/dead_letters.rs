//! `/admin/dead-letters…`, described.

use serde_json::{Map, Value, json};

use super::super::{problem, reference};
use super::{command, operation};
use crate::dead_letters::CAUSES;

pub(super) fn add(paths: &mut Map<String, Value>, schemas: &mut Map<String, Value>) {
    let mut list = operation(
        "dead_letters",
        "Counts the dead letters by handler and cause, and lists the newest, but for those that were settled",
        reference("wasmill.DeadLetters"),
    );
    list["responses"]["400"] = problem();
    list["responses"]["404"] = problem();
    let query = |name, schema: Value, description| json!({ "name": name, "in": "query", "schema": schema, "description": description });
    list["parameters"] = json!([
        query("handler", json!({ "type": "string" }), "Only those of this handler or sink."),
        query("cause", json!({ "enum": CAUSES }), "Only those with this cause."),
    ]);
    paths.insert("/admin/dead-letters".into(), json!({ "get": list }));

    let mut show = operation(
        "dead_letter",
        "Shows a dead letter: the event as it was, and everything that is known of its failure",
        json!({ "type": "object" }),
    );
    show["responses"]["400"] = problem();
    show["responses"]["404"] = problem();
    let part =
        |name, kind| json!({ "name": name, "in": "path", "required": true, "schema": { "type": kind } });
    let parts = json!([part("topic", "string"), part("partition", "integer"), part("offset", "integer")]);
    paths.insert(
        "/admin/dead-letters/{topic}/{partition}/{offset}".into(),
        json!({ "parameters": parts, "get": show }),
    );

    let which = json!({
        "handler": { "type": "string", "description": "The handler or sink that they belong to." },
        "cause": { "enum": CAUSES, "description": "Only those with this cause." },
        "key": { "type": "string", "description": "Only those of this key." },
        "at": { "type": "array", "items": { "type": "string" },
                "description": "Only those that stand there, as `topic/partition/offset`." },
        "limit": { "type": "integer", "minimum": 0, "description": "At most this many." },
        "dry_run": { "type": "boolean", "description": "Changes nothing, and says what would be done." },
    });
    let body = |name: &str, schema: Value, required: Value| {
        let mut properties = which.clone();
        properties[name] = schema;
        json!({ "type": "object", "additionalProperties": false, "required": required, "properties": properties })
    };
    let max = json!({ "type": "integer", "minimum": 0,
                      "description": "An event that was put back so often stays; 3 if nothing is said." });
    let reason = json!({ "type": "string", "description": "Why: it is kept beside the letter's position." });
    for (id, summary, body) in [
        ("redrive", "Puts dead letters back, once each", body("max_redrives", max, json!(["handler"]))),
        (
            "discard",
            "Lets go of dead letters: they are not listed and not put back any more",
            body("reason", reason, json!(["handler", "reason"])),
        ),
    ] {
        let mut settle = command(id, summary, body, reference("wasmill.Settled"));
        settle["responses"]["404"] = problem();
        paths.insert(format!("/admin/dead-letters/{id}"), json!({ "post": settle }));
    }
    shapes(schemas);
}

fn shapes(schemas: &mut Map<String, Value>) {
    let text = json!({ "type": "string" });
    let count = json!({ "type": "integer" });
    let position = json!({ "type": "string", "description": "`topic/partition/offset`." });
    let moment = json!({ "type": ["integer", "null"], "description": "Milliseconds since the Unix epoch." });
    schemas.insert(
        "wasmill.DeadLetters".into(),
        json!({
            "type": "object",
            "required": ["groups", "letters"],
            "properties": {
                "groups": { "type": "array", "items": {
                    "type": "object",
                    "required": ["handler", "cause", "count", "oldest_ms", "newest_ms", "newest", "message"],
                    "properties": {
                        "handler": text, "cause": text, "count": count, "oldest_ms": moment,
                        "newest_ms": moment, "newest": position, "message": text,
                    },
                } },
                "letters": { "type": "array", "description": "The newest 200.", "items": {
                    "type": "object",
                    "required": ["position", "key", "cause", "failed_ms", "message"],
                    "properties": {
                        "position": position, "key": { "type": ["string", "null"] }, "cause": text,
                        "failed_ms": moment, "message": text,
                    },
                } },
            },
        }),
    );
    let positions = json!({ "type": "array", "items": position });
    schemas.insert(
        "wasmill.Settled".into(),
        json!({
            "type": "object",
            "required": ["dry_run", "stopped", "count", "letters", "already", "too_often", "failed_count", "failed"],
            "properties": {
                "dry_run": { "type": "boolean", "description": "Nothing was done: this is what would be." },
                "stopped": { "type": "boolean", "description": "It was told to stop, as only `wasmill dlq` can be." },
                "count": count,
                "letters": positions,
                "already": { "type": "integer", "description": "They had been settled before." },
                "too_often": { "type": "integer", "description": "They were put back as often as they may be." },
                "failed_count": { "type": "integer", "description": "What stays." },
                "failed": { "type": "array", "description": "The first 100 of these, and why.",
                            "items": { "type": "array", "items": text, "minItems": 2, "maxItems": 2 } },
            },
        }),
    );
}
