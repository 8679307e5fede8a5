//! A changed plan, while clients are connected and records under way.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;

const BODY: &str = r#"{"grams":1}"#;

/// Parcels as they were, and letters.
fn with_letters() -> HttpPlan {
    let mut plan = plan();
    let mut letters = plan.resources[0].clone();
    (letters.name, letters.topic, letters.view) =
        ("letters".into(), "letters".into(), vec!["letters".into()]);
    plan.resources.push(letters);
    plan
}

/// Letters alone.
fn without_parcels() -> HttpPlan {
    let mut plan = with_letters();
    plan.resources.remove(0);
    plan
}

/// Parcels whose bodies have to satisfy less.
fn with_another_schema() -> HttpPlan {
    let mut plan = plan();
    plan.resources[0].schema = None;
    plan
}

/// A kept-alive connection.
struct Connection(TcpStream);

impl Connection {
    async fn open(server: &Server) -> Self {
        Self(TcpStream::connect(server.address).await.unwrap())
    }

    /// The status of one answer.
    async fn get(&mut self, path: &str) -> u16 {
        self.0.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await.unwrap();
        self.answer().await
    }

    async fn answer(&mut self) -> u16 {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.0.read_u8().await.unwrap());
        }
        let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
        let length = head.split("content-length: ").nth(1).unwrap().lines().next().unwrap().parse().unwrap();
        self.0.read_exact(&mut vec![0; length]).await.unwrap();
        head["http/1.1 ".len()..][..3].parse().unwrap()
    }
}

#[tokio::test]
async fn a_connection_that_was_there_before_sees_what_is_added_and_what_is_gone() {
    let mut server = server().await;
    let mut connection = Connection::open(&server).await;
    assert_eq!(connection.get("/letters").await, 404);
    server.reload(&with_letters());
    assert_eq!(connection.get("/letters").await, 200);
    assert_eq!(connection.get("/parcels").await, 200);
    server.reload(&without_parcels());
    assert_eq!(connection.get("/parcels").await, 404);
    assert_eq!(connection.get("/letters").await, 200);
}

#[tokio::test]
async fn a_changed_limit_counts_from_the_next_request_on() {
    let mut server = server().await;
    let mut plan = plan();
    plan.body_limit = 5;
    server.reload(&plan);
    assert_eq!(server.post(BODY).await.problem(), "too-large");
}

#[tokio::test]
async fn requests_under_way_are_answered_also_when_their_resource_is_gone() {
    let mut server = server().await;
    let head = "POST /parcels HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
                idempotency-key: k\r\ncontent-length: 11\r\n\r\n";
    let mut held = Connection::open(&server).await;
    server.broker.mode.send_replace(Mode::Hold);
    held.0.write_all(format!("{head}{BODY}").as_bytes()).await.unwrap();
    until(|| server.broker.mode.receiver_count() == 1).await;
    server.reload(&without_parcels());
    server.broker.mode.send_replace(Mode::Acknowledge);
    assert_eq!(held.answer().await, 201);
    assert_eq!(server.broker.events().len(), 1);
}

#[tokio::test]
async fn a_request_whose_body_comes_after_the_reload_finds_the_new_readers_keys() {
    let mut server = server().await;
    let first = server.post_with_key("k", BODY).await;
    let mut slow = Connection::open(&server).await;
    let head = "POST /parcels HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
                idempotency-key: k\r\ncontent-length: 11\r\n\r\n{";
    let slots = server.app.borrow().bodies.slots.clone();
    let all = slots.available_permits();
    slow.0.write_all(head.as_bytes()).await.unwrap();
    until(|| slots.available_permits() < all).await;
    server.reload(&with_letters());
    slow.0.write_all(&BODY.as_bytes()[1..]).await.unwrap();
    server.read_back();
    server.view.caught_up();
    assert_eq!((first.status.as_u16(), slow.answer().await), (201, 201));
    assert_eq!(server.broker.events().len(), 1);
}

#[tokio::test]
async fn an_unchanged_resource_keeps_its_ids_and_its_keys() {
    let mut server = server().await;
    let first = server.post_with_key("k", BODY).await;
    server.read_back();
    let path = first.header("location").unwrap().to_owned();
    assert_eq!(server.get(&path).await.json()["complete"], true);

    server.reload(&with_letters());
    let meanwhile = server.get(&path).await;
    assert_eq!((meanwhile.status, &meanwhile.json()["complete"]), (StatusCode::OK, &json!(false)));
    assert_eq!(server.get("/status").await.json()["view"]["caught_up"], false);
    assert_eq!(server.get("/parcels/other").await.problem(), "rebuilding");

    server.read_back();
    server.view.caught_up();
    assert_eq!(server.get(&path).await.json()["complete"], true);
    assert_eq!(server.get("/parcels/other").await.problem(), "no-such-id");
    let second = server.post_with_key("k", BODY).await;
    assert_eq!((&second.body, second.header("idempotency-replayed")), (&first.body, Some("true")));
    assert_eq!(server.broker.events().len(), 1);
}

#[tokio::test]
async fn a_changed_resource_is_read_anew_and_what_is_under_way_keeps_its_key() {
    let mut server = server().await;
    let path = server.post(BODY).await.header("location").unwrap().to_owned();
    server.read_back();
    hang_up(&server, server.post_with_key("k", BODY)).await;
    server.reload(&with_another_schema());
    assert_eq!(server.get(&path).await.problem(), "rebuilding");
    server.read_back();
    server.view.caught_up();
    assert_eq!(server.get(&path).await.status, StatusCode::OK);

    // The first one's record is not in the topic yet.
    let again = server.post_with_key("k", BODY);
    tokio::pin!(again);
    assert!(tokio::time::timeout(Duration::from_millis(100), &mut again).await.is_err());
    server.broker.mode.send_replace(Mode::Acknowledge);
    assert_eq!(again.await.header("idempotency-replayed"), Some("true"));
    assert_eq!(server.broker.events().len(), 2);
}

#[tokio::test]
async fn a_shutdown_waits_for_records_from_before_a_reload() {
    let mut server = server().await;
    hang_up(&server, server.post(BODY)).await;
    server.reload(&with_letters());
    server.reload(&without_parcels());
    shuts_down_once_its_record_is_there(server).await;
}

#[tokio::test]
async fn no_request_is_refused_or_published_twice_while_plans_come_and_go() {
    let mut server = server().await;
    let (address, ended) = (server.address, watch::Sender::new(false));
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..8 {
        let ended = ended.subscribe();
        clients.spawn(async move {
            let mut connection = Connection(TcpStream::connect(address).await.unwrap());
            let mut accepted = 0;
            while !*ended.borrow() {
                let head = "POST /parcels HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n";
                let key = format!("idempotency-key: {client}-{accepted}\r\ncontent-length: 11\r\n\r\n");
                connection.0.write_all(format!("{head}{key}{BODY}").as_bytes()).await.unwrap();
                assert_eq!(connection.answer().await, 201);
                accepted += 1;
            }
            accepted
        });
    }
    let plans = [with_letters(), with_another_schema(), plan()];
    for plan in plans.iter().cycle().take(60) {
        let before = server.broker.events().len();
        until(|| server.broker.events().len() > before).await;
        server.reload(plan);
        server.read_back();
        server.view.caught_up();
    }
    ended.send_replace(true);
    let accepted: usize = clients.join_all().await.into_iter().sum();
    let mut keys: Vec<_> = server
        .broker
        .events()
        .iter()
        .map(|event| crate::event::header(&event.headers, headers::IDEMPOTENCY_KEY).unwrap().to_vec())
        .collect();
    keys.sort();
    keys.dedup();
    assert_eq!((server.broker.events().len(), keys.len()), (accepted, accepted));
}
