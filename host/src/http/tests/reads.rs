//! GET: one id, the list, and what they admit not to know.

use super::*;

#[tokio::test]
async fn an_id_shows_the_latest_record_of_each_topic_and_its_history() {
    let server = server().await;
    server.view.apply(&event("parcels", 0, "p", r#"{"grams":1}"#, 1000));
    server.view.apply(&event("parcels_sent", 0, "p", r#"{"n":18446744073709551616000,"f":0.10}"#, 3000));
    server.view.apply(&event("parcels", 1, "p", r#"{"grams":2}"#, 2000));
    server.view.apply(&event("parcels", 1, "p", r#"{"grams":2}"#, 2000));
    server.view.apply(&event("elsewhere", 0, "p", "{}", 2000));

    let answer = server.get("/parcels/p").await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert!(
        String::from_utf8_lossy(&answer.body).contains(r#""payload":{"n":18446744073709551616000,"f":0.10}"#)
    );
    let body = answer.json();
    assert_eq!(body["latest"]["parcels"]["payload"], json!({ "grams": 2 }));
    assert_eq!(body["latest"]["parcels"]["offset"], 1);
    assert_eq!(body["latest"]["parcels"]["headers"], json!({ "wasmill-handler": "sender" }));
    let history: Vec<_> = body["history"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| (step["topic"].as_str().unwrap(), &step["offset"]))
        .collect();
    assert_eq!(history, [("parcels", &json!(0)), ("parcels", &json!(1)), ("parcels_sent", &json!(0))]);
    assert_eq!(body["complete"], true);
}

#[tokio::test]
async fn an_id_that_failed_on_its_way_shows_the_dead_letter_and_why() {
    let server = server().await;
    server.view.apply(&event("parcels", 0, "p", r#"{"grams":1}"#, 1000));
    let mut letter = event("sender.dlq", 0, "p", r#"{"grams":1}"#, 2000);
    letter.headers.push(Header::new(headers::FAILURE_KIND, "reject"));
    letter.headers.push(Header::new(headers::FAILURE_MESSAGE, "too light".repeat(1000)));
    server.view.apply(&letter);
    let shown = &server.get("/parcels/p").await.json()["latest"]["sender.dlq"]["headers"];
    assert_eq!(shown["wasmill-failure-kind"], "reject");
    let message = shown["wasmill-failure-message"].as_str().unwrap();
    assert!(message.starts_with("too light") && message.len() <= 512, "{message}");
}

#[tokio::test]
async fn payloads_that_are_not_json_are_shown_as_what_they_are() {
    let server = server().await;
    let mut record = event("parcels", 0, "text", "not json", 1);
    server.view.apply(&record);
    record.position.offset = 1;
    record.key = Some("bytes".into());
    record.payload = Some(Bytes::from_static(b"\xff\x00"));
    server.view.apply(&record);
    record.position.offset = 2;
    record.key = Some("none".into());
    record.payload = None;
    server.view.apply(&record);
    let latest =
        async |id: &str| server.get(&format!("/parcels/{id}")).await.json()["latest"]["parcels"].clone();
    assert_eq!(latest("text").await["payload_text"], "not json");
    assert_eq!(latest("bytes").await["payload_base64"], "/wA=");
    assert_eq!(latest("none").await["tombstone"], true);
}

#[tokio::test]
async fn records_without_a_usable_key_are_skipped() {
    let server = server().await;
    let unusable =
        [None, Some(Bytes::from_static(b"\xff")), Some(Bytes::from("x".repeat(256))), Some(Bytes::new())];
    for (offset, key) in (0..).zip(unusable) {
        let record = Event { key, ..event("parcels", offset, "", "{}", 1) };
        server.view.apply(&record);
    }
    assert_eq!(server.get("/parcels").await.json()["items"], json!([]));
}

#[tokio::test]
async fn an_unknown_id_is_404_once_everything_was_read_and_503_before() {
    let server = server_with(plan()).await;
    server.view.apply(&event("parcels", 0, "p", "{}", 1));
    let answer = server.get("/parcels/q").await;
    assert_eq!((answer.status, &*answer.problem()), (StatusCode::SERVICE_UNAVAILABLE, "rebuilding"));
    assert!(answer.header("retry-after").is_some());
    assert_eq!(server.get("/parcels/p").await.json()["complete"], false);
    let list = server.get("/parcels").await.json();
    assert_eq!((&list["complete"], list["items"].as_array().unwrap().len()), (&json!(false), 1));

    server.view.caught_up();
    let answer = server.get("/parcels/q").await;
    assert_eq!((answer.status, &*answer.problem()), (StatusCode::NOT_FOUND, "no-such-id"));
    assert_eq!(server.get("/parcels/p").await.json()["complete"], true);
    assert_eq!(server.get("/parcels").await.json()["complete"], true);
}

#[tokio::test]
async fn a_topic_that_was_made_anew_is_shown_as_it_is_now_and_its_keys_are_free() {
    let server = server_with(HttpPlan { body_timeout: Duration::from_millis(300), ..plan() }).await;
    server.view.caught_up();
    server.post_with_key("k", r#"{"parcel_id":"p","grams":1}"#).await;
    server.post_with_key("l", r#"{"parcel_id":"gone","grams":1}"#).await;
    server.read_back();

    server.broker.log.lock().unwrap().clear();
    server.view.is_behind();
    let meanwhile = server.get("/parcels/gone").await.json();
    assert_eq!(meanwhile["latest"]["parcels"]["payload"]["grams"], 1);
    assert_eq!(meanwhile["complete"], false);

    server.post(r#"{"parcel_id":"p","grams":2}"#).await;
    server.read_back();
    server.view.caught_up();
    let now = server.get("/parcels/p").await.json();
    assert_eq!(now["latest"]["parcels"]["payload"]["grams"], 2);
    assert_eq!((now["history"].as_array().unwrap().len(), &now["complete"]), (1, &json!(true)));
    assert_eq!(server.get("/parcels/gone").await.problem(), "no-such-id");
    // Once their claims are void.
    let again = server.post_until_created("l", r#"{"parcel_id":"gone","grams":1}"#).await;
    assert_eq!(again.header("idempotency-replayed"), None);
}

#[tokio::test]
async fn what_was_accepted_but_not_read_back_is_shown_as_such() {
    let server = server().await;
    let location = server.post(r#"{"grams":1}"#).await.header("location").unwrap().to_owned();
    let body = server.get(&location).await.json();
    assert_eq!(body["accepted"], json!({ "topic": "parcels", "partition": 0, "offset": 0 }));
    assert_eq!((&body["latest"], &body["complete"]), (&json!({}), &json!(false)));

    server.read_back();
    let body = server.get(&location).await.json();
    assert!(body.get("accepted").is_none());
    assert_eq!(
        (&body["latest"]["parcels"]["payload"]["grams"], &body["complete"]),
        (&json!(1), &json!(true))
    );
}

#[tokio::test]
async fn an_acknowledgement_after_the_record_was_read_back_changes_nothing() {
    let server = server().await;
    server.view.apply(&event("parcels", 7, "p", "{}", 1));
    server.view.acknowledged(0, "p", &Position { topic: "parcels".into(), partition: 0, offset: 7 });
    assert!(server.get("/parcels/p").await.json().get("accepted").is_none());
}

#[tokio::test]
async fn the_list_is_newest_first_and_pages_through_everything_once() {
    let server = server().await;
    for n in 0..25 {
        server.view.apply(&event("parcels", n, &format!("p.{}/ä", n % 20), "{}", 1000 + n));
    }
    let mut ids = Vec::new();
    let mut next = Some("/parcels?limit=7".to_string());
    while let Some(path) = next {
        let page = server.get(&path).await.json();
        ids.extend(page["items"].as_array().unwrap().iter().map(|i| i["id"].as_str().unwrap().to_owned()));
        next = page["next"].as_str().map(str::to_owned);
    }
    let expected: Vec<_> =
        [4, 3, 2, 1, 0].into_iter().chain((5..20).rev()).map(|n| format!("p.{n}/ä")).collect();
    assert_eq!(ids, expected);
    for query in ["limit=0", "limit=1001", "limit=x", "after=x", "after=x.y"] {
        let answer = server.get(&format!("/parcels?{query}")).await;
        assert_eq!((answer.status, &*answer.problem()), (StatusCode::BAD_REQUEST, "query"), "{query}");
    }
}

#[tokio::test]
async fn a_view_that_dropped_ids_says_so() {
    let server = server().await;
    for n in 0..101 {
        server.view.apply(&event("parcels", n, &format!("p-{n}"), "{}", 1000 + n));
    }
    let answer = server.get("/parcels/p-0").await;
    assert_eq!((answer.status, &*answer.problem()), (StatusCode::NOT_FOUND, "not-in-view"));
    assert_eq!(server.get("/parcels/p-1").await.json()["complete"], true);
    // It comes back, but who knows with what past.
    server.view.apply(&event("parcels", 101, "p-0", "{}", 2000));
    assert_eq!(server.get("/parcels/p-0").await.json()["complete"], false);
    let list = server.get("/parcels").await.json();
    assert_eq!(list["complete"], false);
    assert!(list["incomplete_because"][0].as_str().unwrap().contains("dropped"));
}

#[tokio::test]
async fn a_long_history_keeps_its_newest_records_and_counts_the_others() {
    let server = server().await;
    for n in 0..70 {
        server.view.apply(&event("parcels", n, "p", "{}", n));
    }
    let body = server.get("/parcels/p").await.json();
    let history = body["history"].as_array().unwrap();
    assert_eq!((history.len(), &history[0]["offset"]), (64, &json!(6)));
    assert_eq!((&body["history_dropped"], &body["complete"]), (&json!(6), &json!(false)));
}
