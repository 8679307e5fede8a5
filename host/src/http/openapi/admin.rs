//! The admin API, described: `/admin/…`.

use serde_json::{Map, Value, json};

use super::{problem, reference, try_again};

mod dead_letters;

pub(super) fn add(paths: &mut Map<String, Value>, schemas: &mut Map<String, Value>) {
    let name = json!([{ "name": "name", "in": "path", "required": true,
                        "description": "A handler's, as in pipeline.toml.", "schema": { "type": "string" } }]);
    let mut settings = operation(
        "settings",
        "Says what pipeline.toml grants a handler or a sink; of its environment the names",
        json!({ "type": "object" }),
    );
    settings["responses"]["404"] = problem();
    paths.insert("/admin/handlers/{name}".into(), json!({ "parameters": name, "get": settings }));

    let mut logs = operation(
        "logs",
        "Gives the newest lines of the log about a handler or a sink, up to 200, the oldest of them first",
        reference("wasmill.Logs"),
    );
    logs["responses"]["404"] = problem();
    paths.insert("/admin/handlers/{name}/logs".into(), json!({ "parameters": name, "get": logs }));

    let mut versions = operation(
        "versions",
        "Lists the versions of a handler that are at hand, newest first",
        reference("wasmill.Versions"),
    );
    versions["responses"]["404"] = problem();
    paths.insert("/admin/handlers/{name}/versions".into(), json!({ "parameters": name, "get": versions }));

    let mut rollback = command(
        "rollback",
        "Goes back to an earlier version of a handler, until its file changes",
        json!({ "type": "object", "additionalProperties": false, "properties": {
            "to": { "type": "string", "pattern": "^[0-9A-Fa-f]{1,64}$",
                    "description": "How the version's digest begins; without it, the version before." },
        } }),
        reference("wasmill.RolledBack"),
    );
    rollback["responses"]["404"] = problem();
    paths.insert("/admin/handlers/{name}/rollback".into(), json!({ "parameters": name, "post": rollback }));

    let parked = operation(
        "parked",
        "Lists the keys that wait for the next try of an event",
        reference("wasmill.Parked"),
    );
    paths.insert("/admin/parked".into(), json!({ "get": parked }));

    dead_letters::add(paths, schemas);

    let mut live = operation(
        "live",
        "Tells the status once a second, with what each subscriber did in the last five (server-sent events)",
        json!({ "type": "string" }),
    );
    live["responses"]["200"]["content"] = json!({ "text/event-stream": { "schema": { "type": "string" } } });
    paths.insert("/admin/live".into(), json!({ "get": live }));

    let nothing = json!({ "type": "object", "additionalProperties": false });
    let reload = command("reload", "Reads pipeline.toml again", nothing, json!({ "type": "object" }));
    paths.insert("/admin/reload".into(), json!({ "post": reload }));

    let toml = json!({ "type": "object", "additionalProperties": false, "required": ["toml"], "properties": {
        "toml": { "type": "string", "description": "A whole pipeline.toml." },
    } });
    let diff = command(
        "diff",
        "Says what would change if pipeline.toml were this one, and changes nothing",
        toml,
        json!({ "type": "object" }),
    );
    paths.insert("/admin/diff".into(), json!({ "post": diff }));
    shapes(schemas);
}

/// For `components.securitySchemes`.
pub(super) fn security_schemes() -> Value {
    json!({ "AdminToken": {
        "type": "http", "scheme": "bearer",
        "description": "What the host's WASMILL_ADMIN_TOKEN holds. Where it is not set, clients on the host's \
                        own machine need none, and others are refused.",
    } })
}

fn command(id: &str, summary: &str, body: Value, answer: Value) -> Value {
    let mut operation = operation(id, summary, answer);
    for status in ["400", "408", "409", "413", "415", "422"] {
        operation["responses"][status] = problem();
    }
    operation["requestBody"] =
        json!({ "required": true, "content": { "application/json": { "schema": body } } });
    operation
}

fn operation(id: &str, summary: &str, answer: Value) -> Value {
    json!({
        "operationId": format!("admin_{id}"), "tags": ["admin"], "summary": summary,
        "security": [{}, { "AdminToken": [] }],
        "responses": {
            "200": { "description": "Done.", "content": { "application/json": { "schema": answer } } },
            "401": problem(), "403": problem(), "503": try_again(),
        },
    })
}

fn shapes(schemas: &mut Map<String, Value>) {
    let digest = json!({ "type": "string", "pattern": "^[0-9a-f]{64}$", "description": "SHA-256." });
    schemas.insert(
        "wasmill.Versions".into(),
        json!({
            "type": "object",
            "required": ["handler", "versions", "keep"],
            "properties": {
                "handler": { "type": "string" },
                "versions": { "type": "array", "items": {
                    "type": "object",
                    "required": ["digest", "running", "loaded_at_ms", "source", "held"],
                    "properties": {
                        "digest": digest,
                        "running": { "type": "boolean" },
                        "loaded_at_ms": { "type": "integer", "description": "Since the Unix epoch." },
                        "source": { "enum": ["file", "rollback"] },
                        "held": { "type": "boolean", "description": "Runs until the component's file changes." },
                    },
                } },
                "keep": { "type": "integer", "description": "How many versions are kept." },
            },
        }),
    );
    let moment = json!({ "type": "integer", "description": "Milliseconds since the Unix epoch." });
    schemas.insert(
        "wasmill.Logs".into(),
        json!({
            "type": "object",
            "required": ["lines", "traces"],
            "properties": {
                "lines": { "type": "array", "items": {
                    "type": "object",
                    "required": ["number", "at_ms", "level", "printed", "message", "fields"],
                    "properties": {
                        "number": { "type": "integer", "description": "Counts the lines of the handler." },
                        "at_ms": moment,
                        "level": { "enum": ["error", "warn", "info", "debug", "trace"] },
                        "printed": { "type": "boolean", "description": "By the component, not the host." },
                        "message": { "type": "string" },
                        "trace": { "type": "string", "description": "The id of its trace, if it is of one alone." },
                        "fields": { "type": "object", "additionalProperties": { "type": "string" } },
                    },
                } },
                "traces": {
                    "type": "object",
                    "description": "Of which resource's id these traces are, where that is known.",
                    "additionalProperties": {
                        "type": "object",
                        "required": ["resource", "id"],
                        "properties": { "resource": { "type": "string" }, "id": { "type": "string" } },
                    },
                },
            },
        }),
    );
    let key = json!({
        "type": "object",
        "required": ["key", "event", "attempt", "first_failed_ms", "next_try_ms", "behind"],
        "properties": {
            "key": { "type": ["string", "null"] },
            "event": { "type": "string", "description": "`topic/partition/offset`: it is tried again." },
            "attempt": { "type": "integer", "description": "The number of the next try; the first one was 1." },
            "first_failed_ms": moment,
            "next_try_ms": moment,
            "behind": { "type": "integer", "description": "Events of the key that wait behind it." },
        },
    });
    schemas.insert(
        "wasmill.Parked".into(),
        json!({
            "type": "object",
            "required": ["parked"],
            "properties": { "parked": { "type": "array", "items": {
                "type": "object",
                "required": ["subscriber", "count", "keys", "full_partitions"],
                "properties": {
                    "subscriber": { "type": "string" },
                    "count": { "type": "integer", "description": "Keys that wait." },
                    "keys": { "type": "array", "description": "The first 100 of each shard.", "items": key },
                    "full_partitions": { "type": "array", "items": { "type": "string" },
                        "description": "Paused, because so much of them waits behind parked keys." },
                },
            } } },
        }),
    );
    schemas.insert(
        "wasmill.RolledBack".into(),
        json!({
            "type": "object",
            "required": ["handler", "from", "to", "compile_ms", "lasts"],
            "properties": {
                "handler": { "type": "string" }, "from": digest, "to": digest,
                "compile_ms": { "type": "number", "description": "Milliseconds, with fractions." },
                "lasts": { "type": "boolean", "description": "Whether it holds over a restart of the host." },
            },
        }),
    );
}
