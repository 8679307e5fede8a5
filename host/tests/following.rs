//! `simulate` and `trace` on an embedded broker. The host that they look at is a stand-in of a few lines,
//! so that what they report can be compared with what it did.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use wasmill::config::{self, Overrides};
use wasmill::event::headers::{HANDLER, SOURCE};
use wasmill::event::{Event, Header, Record};
use wasmill::log::Publish;
use wasmill::log::kafka::{Cluster, Publisher, Start};

const PIPELINE: &str = r#"
    name = "stand-in"
    [kafka]
    brokers = "embedded"
    [http.resources.things]
    topic = "in"
    key = "id"
    view = ["in", "out"]
    [handlers.copier]
    component = "copier.wasm"
    subscribe = ["in"]
    publish = ["out"]
"#;

#[test]
fn every_body_is_followed_to_its_last_topic_or_its_dead_letter() {
    let host = StandIn::start();
    let report = host.simulate(r#"{"n": 1} {"n": 2} {"n": 3, "fate": "dead letter"}"#, &["-n", "60"]);
    assert_eq!(report["posted"], 60, "{report}");
    assert_eq!((&report["done"], &report["missing"], &report["refused"]), (&json!(60), &json!(0), &json!(0)));
    let dead = report["dead_lettered"].as_u64().unwrap();
    assert!(dead > 0 && dead < 60, "{report}");
    let topic = |at: usize| (&report["topics"][at]["topic"], &report["topics"][at]["seen"]);
    assert_eq!(topic(0), (&json!("in"), &json!(60)));
    assert_eq!(topic(1), (&json!("out"), &json!(60 - dead)));
    assert_eq!(topic(2), (&json!("copier.dlq"), &json!(dead)));
    for at in 0..3 {
        let (p50, p99) = (&report["topics"][at]["p50_ms"], &report["topics"][at]["p99_ms"]);
        assert!(p50.as_f64().unwrap() <= p99.as_f64().unwrap(), "{report}");
    }
}

#[test]
fn what_goes_missing_is_missed_and_what_is_refused_is_told() {
    let host = StandIn::start();
    let bodies = r#"[{"n": 1, "fate": "lost"}, {"n": 2, "fate": "refused"}]"#;
    let report = host.simulate(bodies, &["-n", "20", "--timeout", "1s"]);
    let count = |field: &str| report[field].as_u64().unwrap();
    assert_eq!((count("done"), count("missing") + count("refused")), (0, 20), "{report}");
    assert!(count("missing") > 0 && count("refused") > 0, "{report}");
    assert_eq!(report["refusals"][0]["reason"], "422 Unprocessable Entity: not that one: /n must be odd");
}

#[test]
fn the_same_seed_posts_the_same_bodies() {
    let host = StandIn::start();
    let bodies = r#"{"n": 1} {"n": 3, "fate": "dead letter"}"#;
    let run = || host.simulate(bodies, &["-n", "40", "--seed", "7"])["dead_lettered"].clone();
    assert_eq!(run(), run());
}

#[test]
fn a_rate_is_kept() {
    let host = StandIn::start();
    let start = Instant::now();
    let report = host.simulate(r#"{"n": 1}"#, &["-n", "20", "--rate", "40"]);
    assert_eq!(report["done"], 20);
    assert!(start.elapsed() > Duration::from_millis(19 * 25), "{:?}", start.elapsed());
}

/// Nothing is made in advance for each request.
#[test]
fn when_the_broker_goes_away_it_is_told_soon_and_why() {
    let host = StandIn::start();
    let folder = tempfile::tempdir().unwrap();
    let bodies = folder.path().join("bodies.json");
    fs::write(&bodies, r#"{"n": 1, "fate": "lost"}"#).unwrap();
    let bodies = bodies.to_str().unwrap();
    let count = u32::MAX.to_string();
    let verb = ["simulate", "--json", "-n", &count, "--rate", "20", "--bodies", bodies];
    let simulate = command(folder.path(), &host.url, &verb)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while host.accepted.load(Ordering::Relaxed) == 0 {
        assert!(Instant::now() < deadline, "nothing was posted");
        thread::sleep(Duration::from_millis(20));
    }
    let brokers = host.brokers.clone();
    drop(host);
    let start = Instant::now();
    let output = simulate.wait_with_output().unwrap();
    assert!(start.elapsed() < Duration::from_secs(40), "{:?}", start.elapsed());
    assert_eq!(output.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let reason = format!("no broker answers at {brokers}: the last sign of it is ");
    assert!(report["broker_gone"].as_str().unwrap().starts_with(&reason), "{report}");
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains(&reason), "{error}");
}

#[test]
fn a_key_is_traced_through_all_topics() {
    let host = StandIn::start();
    let key = host.post(json!({ "n": 1 }));
    host.simulate(r#"{"n": 2}"#, &["-n", "20"]);

    let trace = host.trace(&key);
    let hops = trace["hops"].as_array().unwrap();
    assert_eq!(hops.len(), 2, "{trace}");
    assert_eq!((&hops[0]["topic"], &hops[0]["handler"]), (&json!("in"), &Value::Null));
    assert_eq!((&hops[1]["topic"], &hops[1]["handler"]), (&json!("out"), &json!("copier")));
    let (partition, offset) = (&hops[0]["partition"], &hops[0]["offset"]);
    assert_eq!(hops[1]["source"], format!("in/{partition}/{offset}"));
    assert!(hops[1]["latency_ms"].as_i64().unwrap() >= 0, "{trace}");

    let nothing = host.trace("no-such-key");
    assert_eq!((&nothing["hops"], &nothing["records_read"]), (&json!([]), &json!(42)));
}

#[test]
fn on_brokers_of_their_own_a_key_is_traced_without_any_host() {
    let host = StandIn::start();
    let key = host.post(json!({ "n": 1 }));
    let folder = tempfile::tempdir().unwrap();
    let pipeline = folder.path().join("pipeline.toml");
    let (before, http_on) = PIPELINE.split_once("[http.").unwrap();
    let (_, handlers) = http_on.split_once("[handlers.").unwrap();
    fs::write(&pipeline, format!("{before}[handlers.{handlers}")).unwrap();
    let trace = || {
        let output = Command::new(env!("CARGO_BIN_EXE_wasmill"))
            .args(["trace", "--json", &key, "--brokers", &host.brokers, "--config"])
            .arg(&pipeline)
            .output()
            .unwrap();
        serde_json::from_slice::<Value>(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
    };
    let deadline = Instant::now() + Duration::from_secs(30);
    while trace()["hops"].as_array().unwrap().len() < 2 {
        assert!(Instant::now() < deadline, "{}", trace());
    }
}

#[test]
fn without_a_host_or_bodies_the_verbs_say_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    for (verb, hint) in [("simulate", "--bodies"), ("trace", "wasmill run")] {
        let output = wasmill(folder.path(), "http://127.0.0.1:9", &[verb, "things"]);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert!(error.contains(hint), "{error}");
    }
}

#[test]
fn nothing_is_posted_to_a_host_of_another_pipeline() {
    let host = StandIn::start();
    let folder = tempfile::tempdir().unwrap();
    let pipeline = folder.path().join("pipeline.toml");
    fs::write(&pipeline, PIPELINE.replacen("name = \"", "name = \"other-", 1)).unwrap();
    let bodies = folder.path().join("bodies.json");
    fs::write(&bodies, r#"{"n": 1}"#).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_wasmill"))
        .args(["simulate", "-n", "1", "--url", &host.url, "--config"])
        .arg(&pipeline)
        .arg("--bodies")
        .arg(bodies)
        .env_remove("WASMILL_KAFKA_BROKERS")
        .output()
        .unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("runs the pipeline") && error.contains("--config"), "{error}");
}

/// Serves POST /things and /status, and copies what comes in as the body's "fate" says.
struct StandIn {
    url: String,
    brokers: String,
    /// Bodies that were taken.
    accepted: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    copier: Option<JoinHandle<()>>,
    /// Serves until it is dropped.
    runtime: Runtime,
}

impl StandIn {
    fn start() -> Self {
        let plan =
            config::parse(PIPELINE.into(), Path::new("pipeline.toml"), &|_| None, &Overrides::default());
        let plan = plan.unwrap().plan;
        let cluster = Cluster::connect(&plan.kafka, &plan.name).unwrap();
        cluster.ensure_topics(&plan.topics).unwrap();
        let publisher = Arc::new(cluster.publisher(Duration::from_secs(30)).unwrap());
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();

        let accepted = Arc::new(AtomicU64::new(0));
        let status =
            json!({ "pipeline": plan.name, "broker": { "brokers": cluster.bootstrap(), "embedded": true } });
        let app = Router::new()
            .route("/status", get(|| async { Json(status) }))
            .route("/things", post(accept))
            .with_state((publisher.clone(), accepted.clone()));
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let brokers = cluster.bootstrap().to_string();
        runtime.spawn(async { axum::serve(listener, app).await });

        let stop = Arc::new(AtomicBool::new(false));
        let copier = {
            let (stop, handle) = (stop.clone(), runtime.handle().clone());
            thread::spawn(move || {
                let mut tail = cluster.tail(&["in".into()], &Start::Beginning).unwrap();
                while !stop.load(Ordering::Relaxed) {
                    for event in tail.poll(100, Duration::from_millis(20)).unwrap() {
                        handle.block_on(copy(&publisher, event));
                    }
                }
            })
        };
        Self { url, brokers, accepted, stop, copier: Some(copier), runtime }
    }

    fn simulate(&self, bodies: &str, options: &[&str]) -> Value {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("bodies.json");
        fs::write(&file, bodies).unwrap();
        let verb = [&["simulate", "--json", "--bodies", file.to_str().unwrap()], options].concat();
        let output = wasmill(folder.path(), &self.url, &verb);
        let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
        let complete = report["missing"] == 0 && report["refused"] == 0;
        assert_eq!(output.status.code(), Some(i32::from(!complete)), "{output:?}");
        report
    }

    fn trace(&self, key: &str) -> Value {
        let folder = tempfile::tempdir().unwrap();
        let output = wasmill(folder.path(), &self.url, &["trace", "--json", key]);
        let trace: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
        assert_eq!(output.status.code(), Some(i32::from(trace["hops"] == json!([]))), "{output:?}");
        trace
    }

    /// Through the front door, as a client would.
    fn post(&self, body: Value) -> String {
        use http_body_util::{BodyExt, Full};
        use hyper_util::client::legacy::Client;
        use hyper_util::rt::TokioExecutor;
        let request = hyper::Request::post(format!("{}/things", self.url))
            .header("content-type", "application/json")
            .body(Full::new(bytes::Bytes::from(body.to_string())))
            .unwrap();
        let answer = self.runtime.block_on(async {
            let response = Client::builder(TokioExecutor::new()).build_http().request(request).await.unwrap();
            response.into_body().collect().await.unwrap().to_bytes()
        });
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        answer["id"].as_str().unwrap().to_string()
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.copier.take().unwrap().join().unwrap();
    }
}

async fn accept(
    State((publisher, accepted)): State<(Arc<Publisher>, Arc<AtomicU64>)>,
    Json(body): Json<Value>,
) -> (StatusCode, Json<Value>) {
    if body["fate"] == "refused" {
        let errors = [json!({ "pointer": "/n", "detail": "must be odd" }), json!({ "pointer": "/fate" })];
        return (
            StatusCode::UNPROCESSABLE_ENTITY,
            Json(json!({ "detail": "not that one", "errors": errors })),
        );
    }
    let id = uuid::Uuid::now_v7().to_string();
    let key = Some(id.clone().into());
    let record =
        Record { topic: "in".into(), key, payload: Some(body.to_string().into()), headers: Vec::new() };
    publisher.publish(record, Duration::from_secs(10)).await.unwrap();
    accepted.fetch_add(1, Ordering::Relaxed);
    (StatusCode::CREATED, Json(json!({ "id": id })))
}

async fn copy(publisher: &Publisher, event: Event) {
    let body: Value = serde_json::from_slice(event.payload.as_ref().unwrap()).unwrap();
    let topic = match body["fate"].as_str() {
        Some("lost") => return,
        Some("dead letter") => "copier.dlq",
        Some(_) | None => "out",
    };
    let headers =
        vec![Header::new(HANDLER, "copier"), Header::new(SOURCE, event.position.to_string().into_bytes())];
    let record = Record { topic: topic.into(), key: event.key, payload: event.payload, headers };
    publisher.publish(record, Duration::from_secs(10)).await.unwrap();
}

/// Runs a verb on the stand-in's pipeline.
fn wasmill(folder: &Path, url: &str, verb: &[&str]) -> Output {
    command(folder, url, verb).output().unwrap()
}

fn command(folder: &Path, url: &str, verb: &[&str]) -> Command {
    let pipeline = folder.join("pipeline.toml");
    fs::write(&pipeline, PIPELINE).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_wasmill"));
    command.args(verb).args(["--url", url, "--config"]).arg(pipeline).env_remove("WASMILL_KAFKA_BROKERS");
    command
}
