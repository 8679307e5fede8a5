//! `Idempotency-Key`.

use super::*;
use crate::event::{header, headers};
use crate::log::PublishError;

const BODY: &str = r#"{"grams":1}"#;

#[tokio::test]
async fn a_repetition_publishes_nothing_and_gets_the_first_answer() {
    let server = server().await;
    let first = server.post_with_key("k-1", BODY).await;
    // In quotes it is the same key, and whitespace between tokens is the same body.
    let second = server.post_with_key("\"k-1\"", "{ \"grams\": 1 }").await;
    assert_eq!((first.status, second.status), (StatusCode::CREATED, StatusCode::CREATED));
    assert_eq!(
        (first.body.clone(), first.header("location")),
        (second.body.clone(), second.header("location"))
    );
    assert_eq!(
        (first.header("idempotency-replayed"), second.header("idempotency-replayed")),
        (None, Some("true"))
    );
    let [event] = &server.broker.events()[..] else { panic!("one record") };
    assert_eq!(header(&event.headers, headers::IDEMPOTENCY_KEY), Some(&b"k-1"[..]));
}

#[tokio::test]
async fn a_key_belongs_to_one_request() {
    let server = server().await;
    server.post_with_key("k", BODY).await;
    let answer = server.post_with_key("k", r#"{"grams":2}"#).await;
    assert_eq!(
        (answer.status, &*answer.problem()),
        (StatusCode::UNPROCESSABLE_ENTITY, "idempotency-key-reused")
    );
    let id = server.post_with_key("k", BODY).await.json()["parcel_id"].as_str().unwrap().to_owned();
    let put = [("content-type", "application/json"), ("idempotency-key", "k")];
    let answer = server.send(Method::PUT, &format!("/parcels/{id}"), &put, BODY).await;
    assert_eq!(answer.problem(), "idempotency-key-reused");
    assert_eq!(server.broker.events().len(), 1);
}

#[tokio::test]
async fn bad_keys_are_refused() {
    let server = server().await;
    for key in ["", "\"\"", "with space", &"x".repeat(256)] {
        let answer = server.post_with_key(key, BODY).await;
        assert_eq!(
            (answer.status, &*answer.problem()),
            (StatusCode::BAD_REQUEST, "idempotency-key"),
            "{key}"
        );
    }
    let twice = [("content-type", "application/json"), ("idempotency-key", "a"), ("idempotency-key", "b")];
    let answer = server.send(Method::POST, "/parcels", &twice, BODY).await;
    assert_eq!(answer.problem(), "idempotency-key");
    assert!(server.broker.events().is_empty());
}

#[tokio::test]
async fn a_hundred_at_once_publish_one_record() {
    let server = server().await;
    server.broker.mode.send_replace(Mode::Hold);
    let requests = async {
        let mut answers = Vec::new();
        let all: Vec<_> = (0..100).map(|_| Box::pin(server.post_with_key("k", BODY))).collect();
        for request in join_all(all).await {
            assert_eq!(request.status, StatusCode::CREATED);
            answers.push(request.json());
        }
        answers
    };
    let release = async {
        until(|| server.broker.mode.receiver_count() == 1).await;
        server.broker.mode.send_replace(Mode::Acknowledge);
    };
    let (answers, ()) = tokio::join!(requests, release);
    assert!(answers.iter().all(|answer| *answer == answers[0]));
    assert_eq!(server.broker.events().len(), 1);
}

#[tokio::test]
async fn a_client_that_hangs_up_finds_out_by_repeating() {
    let server = server().await;
    hang_up(&server, server.post_with_key("k", BODY)).await;
    server.broker.mode.send_replace(Mode::Acknowledge);
    let second = server.post_with_key("k", BODY).await;
    assert_eq!((second.status, second.header("idempotency-replayed")), (StatusCode::CREATED, Some("true")));
    assert_eq!(server.broker.events().len(), 1);
}

#[tokio::test]
async fn keys_survive_a_restart_through_the_topic() {
    let old = server().await;
    let first = old.post_with_key("k", BODY).await;

    let new = server_on(plan(), old.broker.clone()).await;
    // Whether this is a repetition isn't known before the topic has been read.
    let early = new.post_with_key("k", BODY);
    tokio::pin!(early);
    assert!(tokio::time::timeout(Duration::from_millis(100), &mut early).await.is_err());
    new.read_back();
    new.view.caught_up();
    let second = early.await;
    assert_eq!((second.status, &second.body), (first.status, &first.body));
    assert_eq!(second.header("idempotency-replayed"), Some("true"));
    assert_eq!(new.post_with_key("k", r#"{"grams":2}"#).await.problem(), "idempotency-key-reused");
    assert_eq!(new.broker.events().len(), 1);
}

#[tokio::test]
async fn while_keys_cannot_be_read_back_requests_with_one_are_put_off() {
    let mut plan = plan();
    plan.body_timeout = Duration::from_millis(100);
    let server = server_with(plan).await;
    let answer = server.post_with_key("k", BODY).await;
    assert_eq!((answer.status, &*answer.problem()), (StatusCode::SERVICE_UNAVAILABLE, "rebuilding"));
    assert!(answer.header("retry-after").is_some());
    assert_eq!(server.post(BODY).await.status, StatusCode::CREATED);
}

#[tokio::test]
async fn after_a_lost_acknowledgement_a_repetition_does_not_publish_again() {
    let server = server().await;
    server.broker.mode.send_replace(Mode::WriteAndFail(PublishError::Unavailable("lost".into())));
    let answer = server.post_with_key("k", BODY).await;
    assert_eq!(answer.problem(), "unknown-outcome");
    server.broker.mode.send_replace(Mode::Acknowledge);
    server.read_back();
    let answer = server.post_with_key("k", BODY).await;
    assert_eq!((answer.status, answer.header("idempotency-replayed")), (StatusCode::CREATED, Some("true")));
    assert_eq!(server.broker.events().len(), 1);
}

#[tokio::test]
async fn a_repetition_before_the_record_is_read_back_waits_for_it() {
    let server = server().await;
    server.broker.mode.send_replace(Mode::WriteAndFail(PublishError::Unavailable("lost".into())));
    assert_eq!(server.post_with_key("k", BODY).await.problem(), "unknown-outcome");
    server.broker.mode.send_replace(Mode::Acknowledge);
    let repetition = server.post_with_key("k", BODY);
    tokio::pin!(repetition);
    assert!(tokio::time::timeout(Duration::from_millis(100), &mut repetition).await.is_err());
    server.read_back();
    let answer = repetition.await;
    assert_eq!((answer.status, answer.header("idempotency-replayed")), (StatusCode::CREATED, Some("true")));
    assert_eq!(server.broker.events().len(), 1);
}

#[tokio::test]
async fn every_request_is_answered_soon_when_the_broker_goes_away_and_in_time_when_it_is_silent() {
    let server = server().await;
    server.broker.mode.send_replace(Mode::Hold);
    for (away, key, held) in [(false, "k", 2), (true, "l", 4)] {
        let (keyed, plain) = (server.post_with_key(key, BODY), server.post(BODY));
        let waiting = async { tokio::join!(keyed, plain) };
        let going = async {
            until(|| server.broker.mode.receiver_count() == held).await;
            for _ in 0..2 {
                server.status.broker_answered(if away { Err("gone".into()) } else { Ok(()) });
            }
        };
        let ((keyed, plain), ()) =
            tokio::time::timeout(Duration::from_secs(if away { 4 } else { 8 }), async {
                tokio::join!(waiting, going)
            })
            .await
            .expect("an answer in time");
        for answer in [keyed, plain] {
            assert_eq!((&*answer.problem(), answer.header("retry-after")), ("unknown-outcome", Some("5")));
        }
    }
}

#[tokio::test]
async fn a_refused_request_leaves_its_key_free() {
    let server = server().await;
    server.broker.mode.send_replace(Mode::Fail(PublishError::Overloaded));
    assert_eq!(server.post_with_key("k", BODY).await.problem(), "overloaded");
    assert_eq!(server.post_with_key("k", "{}").await.problem(), "invalid-body");
    server.broker.mode.send_replace(Mode::Acknowledge);
    assert_eq!(server.post_with_key("k", r#"{"grams":2}"#).await.status, StatusCode::CREATED);
}

#[tokio::test]
async fn remembered_keys_are_bounded() {
    let server = server().await;
    for n in 0..150 {
        assert_eq!(server.post_with_key(&format!("k-{n}"), BODY).await.status, StatusCode::CREATED);
    }
    assert_eq!(server.get("/status").await.json()["view"]["resources"]["parcels"]["idempotency_keys"], 100);
}

/// All of them, polled together.
pub(super) async fn join_all<F: Future + Unpin>(mut futures: Vec<F>) -> Vec<F::Output> {
    let mut outputs: Vec<Option<F::Output>> = futures.iter().map(|_| None).collect();
    std::future::poll_fn(|cx| {
        for (future, output) in futures.iter_mut().zip(&mut outputs) {
            if output.is_none()
                && let std::task::Poll::Ready(ready) = std::pin::Pin::new(future).poll(cx)
            {
                *output = Some(ready);
            }
        }
        if outputs.iter().all(Option::is_some) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    outputs.into_iter().flatten().collect()
}
