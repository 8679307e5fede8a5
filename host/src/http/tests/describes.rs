//! Probes and the API's own description.

use super::*;
use crate::status::{ShardState, SubscriberStatus};

#[tokio::test]
async fn readiness_follows_the_broker_and_the_shards_and_liveness_neither() {
    let server = server_with(plan()).await;
    let answer = server.get("/readyz").await;
    assert_eq!((answer.status, &*answer.problem()), (StatusCode::SERVICE_UNAVAILABLE, "not-ready"));
    assert!(answer.json()["reasons"][0].as_str().unwrap().contains("broker memory"));
    assert_eq!(server.get("/readyz/http").await.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(server.get("/healthz").await.status, StatusCode::OK);

    server.status.broker_answered(Ok(()));
    server.status.started();
    assert_eq!(server.get("/readyz").await.status, StatusCode::OK, "though the view has not caught up");

    server.status.add_subscriber(SubscriberStatus { name: "sender".into(), ..Default::default() });
    server.status.shard_comes("sender", 0);
    server.status.beat("sender", 0, ShardState::Running, Duration::ZERO);
    let answer = server.get("/readyz").await;
    assert!(answer.json()["reasons"][0].as_str().unwrap().contains("sender, shard 0"));
    server.status.starting("a handler that was added wants a topic");
    assert_eq!(server.get("/readyz/http").await.status, StatusCode::OK, "events wait for them");

    server.status.broker_answered(Err("it is away".into()));
    let answer = server.get("/readyz/http").await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.json()["reasons"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn the_status_shows_the_report_and_the_sizes_of_the_view() {
    let server = server().await;
    server.view.apply(&event("parcels", 0, "p", "{}", 1));
    let status = server.get("/status").await.json();
    assert_eq!(status["pipeline"], "test");
    assert_eq!(status["view"]["caught_up"], true);
    let sizes = &status["view"]["resources"]["parcels"];
    assert_eq!((&sizes["ids"], &sizes["evicted"]), (&json!(1), &json!(0)));
    assert!(sizes["bytes"].as_u64().unwrap() > 0);
}

#[tokio::test]
async fn the_description_has_every_path_and_no_dangling_reference() {
    let server = commanded(plan(), Broker::new(), Some(Admin::new(None, HandlerLogs::default()).0)).await;
    let description = server.get("/openapi.json").await.json();
    assert_eq!(description["openapi"], "3.1.0");
    for path in [
        "/parcels",
        "/parcels/{id}",
        "/healthz",
        "/readyz",
        "/readyz/http",
        "/status",
        "/metrics",
        "/openapi.json",
        "/admin/handlers/{name}",
        "/admin/handlers/{name}/logs",
        "/admin/handlers/{name}/versions",
        "/admin/handlers/{name}/rollback",
        "/admin/parked",
        "/admin/dead-letters",
        "/admin/dead-letters/{topic}/{partition}/{offset}",
        "/admin/dead-letters/redrive",
        "/admin/dead-letters/discard",
        "/admin/reload",
        "/admin/diff",
        "/admin/live",
    ] {
        assert!(description["paths"][path].is_object(), "{path}");
    }
    let schema = &description["components"]["schemas"]["parcels"];
    assert_eq!(schema["required"], json!(["grams"]), "the host makes the id");

    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(object) => {
                found.extend(object.get("$ref").and_then(Value::as_str).map(str::to_owned));
                object.values().for_each(|value| references(value, found));
            }
            Value::Array(values) => values.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    references(&description, &mut found);
    assert!(found.contains(&"#/components/schemas/parcels/$defs/grams".to_string()));
    for reference in found {
        assert!(description.pointer(&reference[1..]).is_some(), "{reference}");
    }
}
