//! POST and PUT.

use super::*;
use crate::event::{header, headers};
use crate::log::PublishError;
use crate::telemetry::trace_context;

#[tokio::test]
async fn a_created_thing_gets_an_id_a_location_and_one_record() {
    let server = server().await;
    let answer = server.post("{ \"grams\" : 9223372036854775808 ,\n \"note\": \"a  b\" }").await;
    assert_eq!(answer.status, StatusCode::CREATED);
    let body = answer.json();
    let id = body["parcel_id"].as_str().unwrap();
    assert_eq!(uuid::Uuid::parse_str(id).unwrap().get_version_num(), 7);
    assert_eq!(answer.header("location"), Some(&*format!("/parcels/{id}")));
    assert_eq!(body, json!({ "topic": "parcels", "partition": 0, "offset": 0, "parcel_id": id }));

    let [event] = &server.broker.events()[..] else { panic!("one record") };
    assert_eq!(event.key.as_deref(), Some(id.as_bytes()));
    let payload = format!(r#"{{"parcel_id":"{id}","grams":9223372036854775808,"note":"a  b"}}"#);
    assert_eq!(event.payload.as_deref(), Some(payload.as_bytes()));
    assert_eq!(header(&event.headers, "http-method"), Some(&b"POST"[..]));
    let text = |name| std::str::from_utf8(header(&event.headers, name).unwrap()).unwrap();
    assert!(trace_context::is_valid(text(headers::TRACEPARENT)));
    assert!(text(headers::INGRESS_TIME).parse::<i64>().unwrap() > 1_700_000_000_000_000);
    assert_eq!(header(&event.headers, headers::IDEMPOTENCY_KEY), None);
}

#[tokio::test]
async fn a_put_takes_its_id_from_the_path_and_an_id_of_its_own_must_agree() {
    let server = server().await;
    let answer = server.put("p%2F1%20%C3%A9", r#"{"grams":1}"#).await;
    assert_eq!((answer.status, &answer.json()["parcel_id"]), (StatusCode::OK, &json!("p/1 é")));
    let event = &server.broker.events()[0];
    assert_eq!(event.key.as_deref(), Some("p/1 é".as_bytes()));
    assert_eq!(event.payload.as_deref(), Some(r#"{"parcel_id":"p/1 é","grams":1}"#.as_bytes()));
    assert_eq!(header(&event.headers, "http-method"), Some(&b"PUT"[..]));

    assert_eq!(server.put("p", r#"{"parcel_id":"p","grams":1}"#).await.status, StatusCode::OK);
    let answer = server.put("p", r#"{"parcel_id":"q","grams":1}"#).await;
    assert_eq!((answer.status, &*answer.problem()), (StatusCode::UNPROCESSABLE_ENTITY, "invalid-body"));
    assert_eq!(answer.json()["errors"][0]["pointer"], "/parcel_id");
    assert_eq!(server.broker.events().len(), 2);
}

#[tokio::test]
async fn a_valid_traceparent_is_carried_on_and_an_invalid_one_replaced() {
    let server = server().await;
    let given = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
    for traceparent in [given, "nonsense"] {
        let headers = [("content-type", "application/json"), ("traceparent", traceparent)];
        server.send(Method::POST, "/parcels", &headers, r#"{"grams":1}"#).await;
    }
    let events = server.broker.events();
    let carried =
        |i: usize| std::str::from_utf8(header(&events[i].headers, headers::TRACEPARENT).unwrap()).unwrap();
    assert_eq!(carried(0), given);
    assert!(trace_context::is_valid(carried(1)));
}

#[tokio::test]
async fn every_fault_of_a_body_is_named() {
    let server = server().await;
    let answer = server.post(r#"{"parcel_id":"wow!","grams":-1.5,"to":{}}"#).await;
    assert_eq!((answer.status, &*answer.problem()), (StatusCode::UNPROCESSABLE_ENTITY, "invalid-body"));
    let body = answer.json();
    let mut pointers: Vec<_> =
        body["errors"].as_array().unwrap().iter().map(|e| e["pointer"].as_str().unwrap()).collect();
    pointers.sort_unstable();
    pointers.dedup();
    assert_eq!(pointers, ["/grams", "/parcel_id", "/to/name"]);

    for (body, pointer) in [
        ("[]", ""),
        (r#"{"parcel_id":7,"grams":1}"#, "/parcel_id"),
        (r#"{"parcel_id":null,"grams":1}"#, "/parcel_id"),
        (r#"{"parcel_id":"","grams":1}"#, "/parcel_id"),
        (r#"{"parcel_id":"..","grams":1}"#, "/parcel_id"),
        (r#"{"parcel_id":"a\nb","grams":1}"#, "/parcel_id"),
    ] {
        let answer = server.post(body).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{body}");
        let errors = answer.json()["errors"].as_array().unwrap().clone();
        assert_eq!((errors.len(), &errors[0]["pointer"]), (1, &json!(pointer)), "{body}");
    }
    assert!(server.broker.events().is_empty());
}

#[tokio::test]
async fn what_is_not_json_is_refused_with_its_place() {
    let server = server().await;
    for body in ["", "{\"grams\":\n", "{\"grams\":1}\n{}", "{\"grams\":1,\n\"grams\":2}", "\u{feff}{}"] {
        let answer = server.post(body).await;
        assert_eq!((answer.status, &*answer.problem()), (StatusCode::BAD_REQUEST, "not-json"), "{body}");
        assert!(answer.json()["line"].is_u64() && answer.json()["column"].is_u64());
    }
    let deep = "[".repeat(2000);
    assert_eq!(server.post(&deep).await.status, StatusCode::BAD_REQUEST);
    assert!(server.broker.events().is_empty());
}

#[tokio::test]
async fn only_json_media_types_are_taken() {
    let server = server().await;
    for (content_type, status) in [
        (Some("application/json; charset=utf-8"), StatusCode::CREATED),
        (Some("Application/Merge-Patch+JSON"), StatusCode::CREATED),
        (Some("text/plain"), StatusCode::UNSUPPORTED_MEDIA_TYPE),
        (Some("application/x-www-form-urlencoded"), StatusCode::UNSUPPORTED_MEDIA_TYPE),
        (None, StatusCode::UNSUPPORTED_MEDIA_TYPE),
    ] {
        let headers: Vec<_> = content_type.iter().map(|t| ("content-type", *t)).collect();
        let answer = server.send(Method::POST, "/parcels", &headers, r#"{"grams":1}"#).await;
        assert_eq!(answer.status, status, "{content_type:?}");
    }
}

#[tokio::test]
async fn a_body_over_the_limit_gets_413_and_one_at_the_limit_passes() {
    let server = server().await;
    let body = |len: usize| format!(r#"{{"grams":1,"n":"{}"}}"#, "x".repeat(len - 18));
    assert_eq!(body(4096).len(), 4096);
    assert_eq!(server.post(&body(4096)).await.status, StatusCode::CREATED);
    for len in [4097, 10 << 20] {
        let answer = server.post(&body(len)).await;
        assert_eq!((answer.status, &*answer.problem()), (StatusCode::PAYLOAD_TOO_LARGE, "too-large"));
    }
    assert_eq!(server.broker.events().len(), 1);
}

#[tokio::test]
async fn success_comes_only_after_the_acknowledgement() {
    let server = server().await;
    server.broker.mode.send_replace(Mode::Hold);
    let answer = server.post(r#"{"grams":1}"#);
    tokio::pin!(answer);
    tokio::select! {
        answer = &mut answer => panic!("answered {} before the broker did", answer.status),
        () = until(|| server.broker.mode.receiver_count() == 1) => {}
    }
    server.broker.mode.send_replace(Mode::Acknowledge);
    assert_eq!(answer.await.status, StatusCode::CREATED);
}

#[tokio::test]
async fn each_failure_to_publish_says_what_the_client_may_do() {
    let server = server().await;
    let text = || String::from("host internal-broker-7 said no");
    for (error, status, kind, retry_after) in [
        (PublishError::Unavailable(text()), 503, "unknown-outcome", Some("5")),
        (PublishError::Overloaded, 503, "overloaded", Some("1")),
        (PublishError::TooLarge(text()), 413, "record-too-large", None),
        (PublishError::Refused(text()), 502, "refused", None),
    ] {
        server.broker.mode.send_replace(Mode::Fail(error));
        let answer = server.post(r#"{"grams":1}"#).await;
        assert_eq!((answer.status.as_u16(), &*answer.problem()), (status, kind));
        assert_eq!(answer.header("retry-after"), retry_after);
        assert!(!answer.json().to_string().contains("internal-broker"), "the broker's words stay inside");
    }
}

#[tokio::test]
async fn while_the_broker_is_known_to_be_away_nothing_is_taken_and_the_answer_is_quick() {
    let server = server().await;
    let away = || server.status.broker_answered(Err("connection refused by internal-broker".into()));
    away();
    assert_eq!(server.post(r#"{"grams":1}"#).await.status, StatusCode::CREATED, "once is no proof");
    away();
    let answer = server.post(r#"{"grams":1}"#).await;
    assert_eq!((answer.status.as_u16(), &*answer.problem()), (503, "broker-away"));
    assert_eq!(answer.header("retry-after"), Some("5"));
    assert_eq!(server.broker.events().len(), 1);
    server.status.broker_answered(Ok(()));
    assert_eq!(server.post(r#"{"grams":1}"#).await.status, StatusCode::CREATED);
}

#[tokio::test]
async fn wrong_paths_and_methods_are_problems_too() {
    let server = server().await;
    for path in ["/", "/nothing", "/parcels/", "/parcels/a/b"] {
        let answer = server.get(path).await;
        assert_eq!((answer.status, &*answer.problem()), (StatusCode::NOT_FOUND, "no-such-path"), "{path}");
    }
    for (path, allowed) in [("/parcels", ["GET", "POST"]), ("/parcels/p", ["GET", "PUT"])] {
        let answer = server.send(Method::DELETE, path, &[], "").await;
        assert_eq!((answer.status, &*answer.problem()), (StatusCode::METHOD_NOT_ALLOWED, "method"));
        let allow = answer.header("allow").unwrap();
        assert!(allowed.iter().all(|method| allow.contains(method)), "{allow}");
    }
    for id in ["%ff", "%00", "%2e%2e", &"x".repeat(256)] {
        let answer = server.put(id, r#"{"grams":1}"#).await;
        assert_eq!((answer.status, &*answer.problem()), (StatusCode::BAD_REQUEST, "id"), "{id}");
    }
}
