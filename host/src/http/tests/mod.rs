//! The ingress over real sockets, against a broker in memory.

mod claims;
mod commands;
mod connections;
mod dashboard;
mod describes;
mod reads;
mod reference;
mod reloads;
mod repeats;
mod scrapes;
mod view_model;
mod writes;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::http::{HeaderMap, Method, Request, StatusCode};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use super::*;
use crate::config::plan::{HttpPlan, ResourcePlan};
use crate::event::{Event, Header, Position, Record, headers, now_ms};
use crate::log::{PublishError, Publishing};
use crate::schema::Schema;
use crate::telemetry::HandlerLogs;

/// A topic of one partition for each name, all in one list.
#[derive(Clone)]
struct Broker {
    log: Arc<Mutex<Vec<Event>>>,
    mode: watch::Sender<Mode>,
    /// The claims topic, and those who read it.
    claimed: Arc<Mutex<(i64, Vec<Claims>)>>,
}

#[derive(Clone)]
enum Mode {
    Acknowledge,
    /// Not written.
    Fail(PublishError),
    /// Written, but the acknowledgement is lost.
    WriteAndFail(PublishError),
    /// Answers when the mode changes.
    Hold,
}

impl Broker {
    fn new() -> Self {
        Self { log: Arc::default(), mode: watch::Sender::new(Mode::Acknowledge), claimed: Arc::default() }
    }

    fn append(&self, record: Record) -> Position {
        let mut log = self.log.lock().unwrap();
        let offset = log.iter().filter(|e| e.position.topic == record.topic).count() as i64;
        let position = Position { topic: record.topic, partition: 0, offset };
        log.push(Event {
            position: position.clone(),
            timestamp_ms: Some(now_ms()),
            key: record.key,
            payload: record.payload,
            headers: record.headers,
        });
        position
    }

    /// Read back at once by everybody.
    fn claim(&self, record: Record) -> Position {
        let mut claimed = self.claimed.lock().unwrap();
        let position = Position { topic: record.topic, partition: 0, offset: claimed.0 };
        claimed.0 += 1;
        let event = Event {
            position: position.clone(),
            timestamp_ms: Some(now_ms()),
            key: record.key,
            payload: record.payload,
            headers: record.headers,
        };
        claimed.1.iter().for_each(|claims| claims.apply(&event));
        position
    }

    fn events(&self) -> Vec<Event> {
        self.log.lock().unwrap().clone()
    }
}

impl Publish for Broker {
    fn publish(&self, record: Record, _timeout: Duration) -> Publishing<'_> {
        Box::pin(async move {
            if &*record.topic == CLAIMS {
                return Ok(self.claim(record));
            }
            let mut mode = self.mode.subscribe();
            let mode = mode.wait_for(|mode| !matches!(mode, Mode::Hold)).await.unwrap().clone();
            match mode {
                Mode::Acknowledge => Ok(self.append(record)),
                Mode::Fail(error) => Err(error),
                Mode::WriteAndFail(error) => {
                    self.append(record);
                    Err(error)
                }
                Mode::Hold => unreachable!(),
            }
        })
    }
}

const CLAIMS: &str = "claims";

struct Server {
    address: SocketAddr,
    broker: Broker,
    view: View,
    /// The newest one.
    app: watch::Sender<Arc<App>>,
    status: Status,
    client: Client<HttpConnector, Full<Bytes>>,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<()>,
}

fn schema(source: Value) -> Arc<Schema> {
    Arc::new(Schema::compile(source).unwrap())
}

fn plan() -> HttpPlan {
    HttpPlan {
        listen: "127.0.0.1:0".parse().unwrap(),
        body_limit: 4096,
        header_timeout: Duration::from_secs(5),
        body_timeout: Duration::from_secs(5),
        claims: CLAIMS.into(),
        resources: vec![ResourcePlan {
            name: "parcels".into(),
            topic: "parcels".into(),
            key: "parcel_id".into(),
            schema: Some(schema(json!({
                "$schema": "https://json-schema.org/draft/2020-12/schema",
                "type": "object",
                "required": ["parcel_id", "grams"],
                "properties": {
                    "parcel_id": { "type": "string", "pattern": "^[^!]+$" },
                    "grams": { "$ref": "#/$defs/grams" },
                    "to": { "type": "object", "required": ["name"] },
                },
                "$defs": { "grams": { "type": "integer", "minimum": 0 } },
            }))),
            view: vec!["parcels".into(), "parcels_sent".into()],
            dead_letters: vec!["sender.dlq".into()],
            view_keys: 100,
        }],
    }
}

/// With a view that has caught up with nothing.
async fn server() -> Server {
    let server = server_with(plan()).await;
    server.view.caught_up();
    server
}

async fn server_with(plan: HttpPlan) -> Server {
    server_on(plan, Broker::new()).await
}

async fn server_on(plan: HttpPlan, broker: Broker) -> Server {
    commanded(plan, broker, None).await
}

async fn commanded(plan: HttpPlan, broker: Broker, admin: Option<Admin>) -> Server {
    let status = Status::new("test", "memory", false);
    let claims = Claims::new(CLAIMS.into(), Claims::life(plan.body_timeout));
    broker.claimed.lock().unwrap().1.push(claims.clone());
    claims.caught_up();
    let (app, view) = App::new(&plan, status.clone(), Arc::new(broker.clone()), claims, admin);
    let (app, newest) = watch::channel(Arc::new(app));
    let listener = tokio::net::TcpListener::bind(plan.listen).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    let serving = tokio::spawn(serve(listener, newest, async {
        let _ = stopped.await;
        Shutdown::Ended
    }));
    let client = Client::builder(TokioExecutor::new()).build_http();
    Server { address, broker, view, app, status, client, stop, serving }
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {:?}", self.body))
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// Its `type`, once it is certain that this is a well-formed problem.
    fn problem(&self) -> String {
        assert_eq!(self.header("content-type"), Some("application/problem+json"));
        let problem = self.json();
        assert_eq!(problem["status"], self.status.as_u16());
        assert!(problem["title"].is_string());
        problem["type"].as_str().unwrap().strip_prefix("urn:wasmill:problem:").unwrap().to_owned()
    }
}

impl Server {
    async fn send(&self, method: Method, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let uri = format!("http://{}{path}", self.address);
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::copy_from_slice(body.as_bytes()))).unwrap();
        let response = self.client.request(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer { status: parts.status, headers: parts.headers, body }
    }

    async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, &[], "").await
    }

    async fn post(&self, body: &str) -> Answer {
        self.send(Method::POST, "/parcels", &[("content-type", "application/json")], body).await
    }

    async fn post_with_key(&self, key: &str, body: &str) -> Answer {
        let headers = [("content-type", "application/json"), ("idempotency-key", key)];
        self.send(Method::POST, "/parcels", &headers, body).await
    }

    async fn put(&self, id: &str, body: &str) -> Answer {
        let path = format!("/parcels/{id}");
        self.send(Method::PUT, &path, &[("content-type", "application/json")], body).await
    }

    /// With a changed plan. The old view's reader has ended, the new one's has not begun.
    fn reload(&mut self, plan: &HttpPlan) {
        let current = self.app.borrow().clone();
        let (app, view) = current.succeed(plan, Arc::new(self.broker.clone()));
        self.app.send_replace(Arc::new(app));
        self.view.is_behind();
        self.view = view;
    }

    /// What the thread that reads the topics does.
    fn read_back(&self) {
        self.broker.events().iter().for_each(|event| self.view.apply(event));
    }
}

/// Sends a request that the broker holds, and hangs up once it has reached the broker.
async fn hang_up(server: &Server, request: impl Future<Output = Answer>) {
    server.broker.mode.send_replace(Mode::Hold);
    tokio::select! {
        answer = request => panic!("answered {} before the broker did", answer.status),
        () = until(|| server.broker.mode.receiver_count() == 1) => {}
    }
}

/// A shutdown waits for the one record that the broker holds.
async fn shuts_down_once_its_record_is_there(server: Server) {
    server.stop.send(()).unwrap();
    let mut serving = server.serving;
    assert!(tokio::time::timeout(Duration::from_millis(200), &mut serving).await.is_err());
    server.broker.mode.send_replace(Mode::Acknowledge);
    serving.await.unwrap();
    assert_eq!(server.broker.events().len(), 1);
}

/// Resolves when `condition` holds; fails after ten seconds.
async fn until(mut condition: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(tokio::time::Instant::now() < deadline, "never came true");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn event(topic: &str, offset: i64, key: &str, payload: &str, timestamp_ms: i64) -> Event {
    Event {
        position: Position { topic: topic.into(), partition: 0, offset },
        timestamp_ms: Some(timestamp_ms),
        key: Some(Bytes::copy_from_slice(key.as_bytes())),
        payload: Some(Bytes::copy_from_slice(payload.as_bytes())),
        headers: vec![Header::new("wasmill-handler", "sender"), Header::new("secret", "hidden")],
    }
}
