//! Who publishes for an idempotency key: several hosts on one broker, some of which die.

use super::repeats::join_all;
use super::*;
use crate::log::PublishError;

const BODY: &str = r#"{"grams":1}"#;

#[tokio::test]
async fn of_a_hundred_requests_to_two_hosts_one_publishes() {
    let broker = Broker::new();
    let (one, two) = (server_on(plan(), broker.clone()).await, server_on(plan(), broker.clone()).await);
    for server in [&one, &two] {
        server.view.caught_up();
    }
    let (stop, stopped) = oneshot::channel();
    let requests = async {
        let servers = [&one, &two].into_iter().cycle();
        let all = servers.take(100).map(|server| Box::pin(server.post_with_key("k", BODY))).collect();
        let answers = join_all(all).await;
        stop.send(()).unwrap();
        answers
    };
    let readers = async {
        let mut stopped = stopped;
        while stopped.try_recv().is_err() {
            one.read_back();
            two.read_back();
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let (answers, ()) = tokio::join!(requests, readers);
    let fresh = answers.iter().filter(|answer| answer.header("idempotency-replayed").is_none()).count();
    assert_eq!((fresh, broker.events().len()), (1, 1));
    for answer in &answers {
        assert_eq!((answer.status, &answer.body), (StatusCode::CREATED, &answers[0].body));
    }
}

#[tokio::test]
async fn a_record_that_never_arrived_is_published_by_a_repetition_once_that_is_certain() {
    let server = server_with(hasty()).await;
    server.view.caught_up();
    server.broker.mode.send_replace(Mode::Fail(PublishError::Unavailable("lost".into())));
    let first = server.post_with_key("k", BODY).await;
    assert_eq!((&*first.problem(), first.header("retry-after")), ("unknown-outcome", Some("5")));
    server.broker.mode.send_replace(Mode::Acknowledge);
    let early = server.post_with_key("k", BODY).await;
    assert_eq!((&*early.problem(), early.header("retry-after")), ("under-way", Some("5")));

    let started = std::time::Instant::now();
    let answer = server.post_until_created("k", BODY).await;
    assert_eq!(answer.header("idempotency-replayed"), None);
    // The first one could have arrived for so long.
    assert!(started.elapsed() > Duration::from_secs(1));
    assert_eq!(server.broker.events().len(), 1);
}

#[tokio::test]
async fn a_key_that_another_host_has_claimed_belongs_to_its_request() {
    let broker = Broker::new();
    let (one, two) = (server_on(plan(), broker.clone()).await, server_on(plan(), broker.clone()).await);
    one.view.caught_up();
    two.view.caught_up();
    hang_up(&one, one.post_with_key("k", BODY)).await;
    let other = two.post_with_key("k", r#"{"grams":2}"#).await;
    assert_eq!(other.problem(), "idempotency-key-reused");
    broker.mode.send_replace(Mode::Acknowledge);
    until(|| broker.events().len() == 1).await;
}

#[tokio::test]
async fn a_host_that_died_with_a_key_does_not_hold_it_for_ever() {
    let broker = Broker::new();
    let (one, two) = (server_on(hasty(), broker.clone()).await, server_on(hasty(), broker.clone()).await);
    one.view.caught_up();
    two.view.caught_up();
    // It has claimed, and will never publish.
    hang_up(&one, one.post_with_key("k", BODY)).await;
    assert_eq!(two.post_with_key("k", BODY).await.problem(), "under-way");
    broker.mode.send_replace(Mode::Fail(PublishError::Unavailable("dead".into())));
    until(|| broker.mode.receiver_count() == 0).await;
    broker.mode.send_replace(Mode::Acknowledge);
    two.post_until_created("k", BODY).await;
    assert_eq!(broker.events().len(), 1);
}

#[tokio::test]
async fn a_void_claims_record_is_looked_for_before_another_is_published() {
    let broker = Broker::new();
    let (one, two) = (server_on(hasty(), broker.clone()).await, server_on(hasty(), broker.clone()).await);
    one.view.caught_up();
    two.view.caught_up();
    assert_eq!(one.post_with_key("k", BODY).await.status, StatusCode::CREATED);
    // The other one's view is late: what it hasn't read is asked for once the claim is void.
    let repetitions = async {
        loop {
            let answer = two.post_with_key("k", BODY).await;
            if answer.status == StatusCode::CREATED {
                break answer;
            }
        }
    };
    let reader = async {
        until(|| two.view.questions().is_some()).await;
        two.read_back();
        two.view.is_current(two.view.questions().unwrap());
    };
    let (answer, ()) = tokio::join!(repetitions, reader);
    assert_eq!(answer.header("idempotency-replayed"), Some("true"));
    assert_eq!(broker.events().len(), 1);
}

#[tokio::test]
async fn while_claims_cannot_be_read_back_nothing_is_published() {
    let server = server_with(hasty()).await;
    server.view.caught_up();
    server.broker.claimed.lock().unwrap().1.clear();
    let answer = server.post_with_key("k", BODY).await;
    assert_eq!((&*answer.problem(), answer.header("retry-after")), ("not-claimed", Some("5")));
    assert!(server.broker.events().is_empty());
    assert_eq!(server.post(BODY).await.status, StatusCode::CREATED);
}

/// Whose claims are void after some two seconds.
fn hasty() -> HttpPlan {
    HttpPlan { body_timeout: Duration::from_millis(300), ..plan() }
}

impl Server {
    /// Repeats the request, as its client would; what is asked of the reader meanwhile is answered.
    pub(super) async fn post_until_created(&self, key: &str, body: &str) -> Answer {
        let repetitions = async {
            loop {
                let answer = self.post_with_key(key, body).await;
                if answer.status == StatusCode::CREATED {
                    break answer;
                }
                assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
            }
        };
        let reader = async {
            loop {
                if let Some(questions) = self.view.questions() {
                    self.read_back();
                    self.view.is_current(questions);
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::select! {
            answer = tokio::time::timeout(Duration::from_secs(20), repetitions) => answer.expect("in time"),
            () = reader => unreachable!("it reads on"),
        }
    }
}
