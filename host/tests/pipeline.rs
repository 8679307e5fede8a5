//! The pipeline that ships, as a user runs it: the `wasmill` program, real components, a real Apache Kafka (or the
//! embedded broker), and a real SMTP server.

mod common;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use common::host::{self, Host, Pipeline, until};
use common::http;
use common::kafka::{Broker, free_port};
use common::orders::{
    Customers, KEYS, cluster, every_order_is_there_once_and_in_order, numbers, order, read, text,
    wait_for_all,
};
use common::smtp::SmtpServer;
use serde_json::{Value, json};
use wasmill::event::headers::{FAILURE_KIND, FAILURE_MESSAGE};
use wasmill::event::{Record, headers};
use wasmill::log::Publish;

/// One at a time: each of these tests needs the machine for itself.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn wasmill(pipeline: &Pipeline, host: &Host, brokers: &str, args: &[&str]) -> (bool, String, String) {
    let output = common::host::wasmill()
        .args(args)
        .args(["--brokers", brokers])
        .current_dir(pipeline.path())
        .env("WASMILL_LISTEN", &host.address)
        .output()
        .unwrap();
    let utf8 = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.success(), utf8(output.stdout), utf8(output.stderr))
}

#[test]
fn an_order_becomes_an_email_at_a_real_smtp_server() {
    let _alone = alone();
    let kafka = Broker::start_empty();
    let mut smtp = SmtpServer::start(&[]);
    let pipeline = Pipeline::shipped(|text| text);
    let smtp_url = format!("smtp://127.0.0.1:{}", smtp.port);
    let mut host = Host::start(&pipeline, &kafka.address, "one", &[("SMTP_URL", &smtp_url)]);
    host.ready();

    // Created, updated, declined.
    let answer = http::post(&host.url("/orders"), &order(2).to_string(), &[]).unwrap();
    assert_eq!(answer.status, 201, "{}", answer.body);
    let id = answer.json()["order_id"].as_str().unwrap().to_string();
    let mail = smtp.mail();
    assert!(mail.to_string().contains("ada@example.com"), "{mail}");
    assert!(mail.to_string().contains("23.00 EUR"), "{mail}");
    let answer = http::put(&host.url(&format!("/orders/{id}")), &order(3).to_string()).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);
    let mail = smtp.mail().to_string();
    assert!(mail.contains("34.50 EUR") && mail.contains("updated"), "{mail}");
    let answer = http::post(&host.url("/orders"), &order(90).to_string(), &[]).unwrap();
    assert_eq!(answer.status, 201);
    let mail = smtp.mail().to_string();
    assert!(mail.contains("could not be paid"), "{mail}");

    // The view and the trace show the whole way.
    let mut shown = Value::Null;
    until(Duration::from_secs(10), || {
        shown = http::get(&host.url(&format!("/orders/{id}"))).unwrap().json();
        shown["latest"]["emails_sent"].is_object()
    })
    .unwrap_or_else(|()| panic!("no receipt in {shown}"));
    for topic in ["orders", "order_details", "order_confirmed", "emails"] {
        assert!(shown["latest"][topic].is_object(), "{topic} in {shown}");
    }
    let (found, trace, errors) = wasmill(&pipeline, &host, &kafka.address, &["trace", &id]);
    assert!(found, "{errors}");
    for topic in ["orders", "order_details", "order_confirmed", "emails", "emails_sent"] {
        assert_eq!(trace.matches(&format!(" {topic} ")).count(), 2, "{topic} in\n{trace}");
    }

    shows_why_a_payment_failed(&host);
    refuses_what_no_order_is(&host);
    turns_bad_records_into_dead_letters(&kafka.address);
    shows_dead_letters_and_runs_them_again(&pipeline, &host, &kafka.address);

    // Few: the mail server waits when nobody reads what it tells.
    let args = ["simulate", "-n", "15", "--rate", "100", "--json"];
    let (all, report, errors) = wasmill(&pipeline, &host, &kafka.address, &args);
    assert!(all, "{report}\n{errors}");

    gives_each_mail_its_fate(&host, &mut smtp, &kafka.address);

    // A new process knows what the topics know.
    let (status, took) = host.stop("INT");
    assert!(status.success() && took < Duration::from_secs(15), "{status} after {took:?}");
    let mut host = Host::start(&pipeline, &kafka.address, "one", &[("SMTP_URL", &smtp_url)]);
    host.ready();
    let mut again = Value::Null;
    until(Duration::from_secs(20), || {
        again = http::get(&host.url(&format!("/orders/{id}"))).unwrap().json();
        again["complete"] == true
    })
    .unwrap_or_else(|()| panic!("{again}"));
    assert_eq!(again["latest"], shown["latest"]);
    let (status, took) = host.stop("TERM");
    assert!(status.success() && took < Duration::from_secs(15), "{status} after {took:?}");
}

/// All of one order, so on one partition: refused for good, refused once, fine.
fn gives_each_mail_its_fate(host: &Host, smtp: &mut SmtpServer, brokers: &str) {
    let mut id = None;
    for to in ["reply-550@example.com", "once-450-x@example.com", "fine@example.com"] {
        let mut order = order(1);
        order["customer"]["email"] = json!(to);
        let answer = match &id {
            None => http::post(&host.url("/orders"), &order.to_string(), &[]).unwrap(),
            Some(id) => http::put(&host.url(&format!("/orders/{id}")), &order.to_string()).unwrap(),
        };
        id = Some(answer.json()["order_id"].as_str().unwrap().to_string());
    }
    // Others may be under way still.
    let mut next_to = |to: &str| while !smtp.mail()["to"].to_string().contains(to) {};
    next_to("once-450-x@");
    next_to("fine@");
    let mut letters = Vec::new();
    until(Duration::from_secs(20), || {
        letters = read(brokers, "mail.dlq");
        !letters.is_empty()
    })
    .unwrap_or_else(|()| panic!("no dead letter"));
    assert_eq!(letters.len(), 1);
    assert_eq!(text(&letters[0], FAILURE_KIND), "reject");
    assert!(text(&letters[0], FAILURE_MESSAGE).contains("550"), "{letters:?}");
}

fn shows_why_a_payment_failed(host: &Host) {
    let mut unpayable = order(1);
    unpayable["payment"] = json!({ "token": "tok_invalid" });
    let answer = http::post(&host.url("/orders"), &unpayable.to_string(), &[]).unwrap();
    assert_eq!(answer.status, 201, "{}", answer.body);
    let id = answer.json()["order_id"].as_str().unwrap().to_string();
    let mut shown = Value::Null;
    until(Duration::from_secs(20), || {
        shown = http::get(&host.url(&format!("/orders/{id}"))).unwrap().json();
        shown["latest"]["transaction-processor.dlq"]["headers"][FAILURE_MESSAGE].is_string()
    })
    .unwrap_or_else(|()| panic!("no reason in {shown}"));
}

fn refuses_what_no_order_is(host: &Host) {
    let post = |body: &str| http::post(&host.url("/orders"), body, &[]).unwrap();
    assert_eq!(post("{\"customer\":").status, 400);
    let mut huge = order(1);
    huge["items"][0]["quantity"] = json!(9_223_372_036_854_775_808_u64);
    huge["currency"] = json!("euro");
    let answer = post(&huge.to_string());
    assert_eq!(answer.status, 422);
    let faults = answer.json()["errors"].to_string();
    assert!(faults.contains("/items/0/quantity") && faults.contains("/currency"), "{faults}");
    let mut long = order(1);
    long["items"][0]["name"] = json!("x".repeat(10_000_000));
    assert_eq!(post(&long.to_string()).status, 413);
}

/// Records that bypass HTTP: the handler, not the host, says what is wrong with them.
fn turns_bad_records_into_dead_letters(brokers: &str) {
    let publisher = cluster(brokers).publisher(Duration::from_secs(30)).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut overflow = order(1);
    overflow["order_id"] = json!("o");
    overflow["items"][0]["quantity"] = json!(9_223_372_036_854_775_808_u64);
    let bad = [
        (None, Some("not JSON".to_string())),
        (Some("null payload"), None),
        (Some("o"), Some(overflow.to_string())),
        (Some("o"), Some(json!({"order_id": "o"}).to_string())),
        // As large as its topic takes: the dead letter, with its headers, is larger.
        (Some("o"), Some("x".repeat(1_048_000))),
    ];
    let count = bad.len();
    for (key, payload) in bad {
        let record = Record {
            topic: "orders".into(),
            key: key.map(Into::into),
            payload: payload.map(Into::into),
            headers: vec![],
        };
        runtime.block_on(publisher.publish(record, Duration::from_secs(10))).unwrap();
    }
    let mut letters = Vec::new();
    until(Duration::from_secs(20), || {
        letters = read(brokers, "order-formatter.dlq");
        letters.len() == count
    })
    .unwrap_or_else(|()| panic!("{letters:#?}"));
    for letter in &letters {
        assert_eq!(text(letter, FAILURE_KIND), "reject");
        assert_eq!(text(letter, headers::HANDLER), "order-formatter");
        assert_eq!(text(letter, headers::DIGEST).len(), 64);
        assert!(text(letter, headers::SOURCE).starts_with("orders/"));
    }
    let messages: Vec<_> = letters.iter().map(|letter| text(letter, FAILURE_MESSAGE)).collect();
    assert!(messages.iter().any(|m| m.contains("items[0].quantity")), "{messages:?}");
}

fn shows_dead_letters_and_runs_them_again(pipeline: &Pipeline, host: &Host, brokers: &str) {
    let wasmill = |args: &[&str]| wasmill(pipeline, host, brokers, args);
    let (ok, listed, errors) = wasmill(&["dlq", "ls", "order-formatter", "--json"]);
    assert!(ok, "{errors}");
    let listed: Value = serde_json::from_str(&listed).unwrap();
    let [group] = listed["groups"].as_array().unwrap().as_slice() else { panic!("{listed:#}") };
    assert_eq!((&group["cause"], &group["count"]), (&json!("reject"), &json!(5)));
    let (ok, table, _) = wasmill(&["dlq", "ls"]);
    assert!(ok && table.contains("order-formatter.dlq/") && table.contains("6 dead letters"), "{table}");
    let (ok, none, _) = wasmill(&["dlq", "ls", "--cause", "trap"]);
    assert!(ok && none.contains("no dead letters"), "{none}");

    let letter = read(brokers, "order-formatter.dlq")
        .into_iter()
        .find(|letter| text(letter, FAILURE_MESSAGE).contains("items[0].quantity"))
        .unwrap();
    let position = letter.position.to_string();
    let (ok, shown, errors) = wasmill(&["dlq", "show", &position, "--json"]);
    assert!(ok, "{errors}");
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["payload"]["json"]["order_id"], "o", "{shown:#}");
    assert_eq!((&shown["kind"], &shown["attempts"]), (&json!("reject"), &json!(1)));
    let (ok, _, errors) = wasmill(&["dlq", "show", "order-formatter.dlq/0/999999"]);
    assert!(!ok && errors.contains("there is no record at"), "{errors}");

    let (failed, again, errors) = wasmill(&["invoke", "--from-dead-letter", &position, "--json"]);
    let again: Value = serde_json::from_str(&again).unwrap_or_else(|_| panic!("{again}\n{errors}"));
    assert!(!failed && errors.contains("it failed by: reject"), "{errors}");
    let event = &again["events"][0];
    assert_eq!(event["position"], text(&letter, headers::SOURCE));
    assert_eq!(event["failure"]["message"], text(&letter, FAILURE_MESSAGE));
}

#[test]
fn an_order_becomes_an_eml_file_on_the_embedded_broker() {
    let _alone = alone();
    let pipeline = Pipeline::shipped(|text| text);
    let mut host = Host::start(&pipeline, "embedded", "one", &[]);
    host.ready();
    let answer = http::post(&host.url("/orders"), &order(2).to_string(), &[]).unwrap();
    assert_eq!(answer.status, 201, "{}", answer.body);
    let sent = until(Duration::from_secs(30), || !pipeline.eml_files().is_empty());
    sent.unwrap_or_else(|()| panic!("no e-mail:\n{}", host.log()));
    let mail = std::fs::read_to_string(&pipeline.eml_files()[0]).unwrap();
    assert!(mail.contains("To: ada@example.com"), "{mail}");
    let (all, report, errors) = wasmill(&pipeline, &host, "embedded", &["simulate", "-n", "20", "--json"]);
    assert!(all, "{report}\n{errors}");
    assert!(host.log().contains("at least once"), "{}", host.log());
    // As whoever signals a process group does.
    host::signal(host.pid(), "TERM");
    let (status, _) = host.stop("TERM");
    assert!(status.success());
}

/// Waits until the last topic has as many records as were placed, then checks each of them in each topic.
fn every_order_went_through_once_and_in_order(brokers: &str, placed: &BTreeMap<String, u64>, host: &Host) {
    wait_for_all(brokers, "emails", placed).unwrap_or_else(|late| panic!("{late}\n{}", host.log()));
    for topic in ["order_details", "order_confirmed", "emails"] {
        every_order_is_there_once_and_in_order(topic, &numbers(brokers, topic), placed);
    }
    for handler in ["order-formatter", "transaction-processor", "email-composer"] {
        assert!(read(brokers, &format!("{handler}.dlq")).is_empty(), "dead letters of {handler}");
    }
}

/// Without the mail sink, whose promise is another one: at least once.
fn without_mail(text: String) -> String {
    let sinks = text.find("[sinks.mail]").unwrap();
    text[..sinks].replace(", \"emails_sent\"]", "]")
}

fn handled(host: &Host, handler: &str) -> u64 {
    let Some(status) = host.status() else { return 0 };
    match host::subscriber(&status, handler) {
        Value::Null => 0,
        subscriber => subscriber["events"].as_u64().unwrap(),
    }
}

#[test]
fn twenty_kills_lose_nothing_double_nothing_and_keep_the_order_of_each_key() {
    let _alone = alone();
    let kafka = Broker::start_empty();
    let pipeline = Pipeline::shipped(without_mail);
    let mut first = Host::start(&pipeline, &kafka.address, "mill", &[]);
    first.ready();
    let customers = Customers::start(&kafka.address, 1000);
    let mut host = first;
    for kill in 1..=20_u64 {
        // In mid-stream: each kill comes after a different number of events.
        let some = 1 + kill * 97 % 700;
        until(Duration::from_secs(60), || handled(&host, "email-composer") >= some)
            .unwrap_or_else(|()| panic!("no progress before kill {kill}\n{}", host.log()));
        host.sigkill();
        host = Host::start(&pipeline, &kafka.address, "mill", &[]);
    }
    let placed = customers.stop();
    every_order_went_through_once_and_in_order(&kafka.address, &placed, &host);
    let (status, _) = host.stop("TERM");
    assert!(status.success());
}

#[test]
fn a_second_host_shares_the_work_and_takes_over_within_15_seconds_of_a_kill() {
    let _alone = alone();
    let kafka = Broker::start_empty();
    let pipeline = Pipeline::shipped(without_mail);
    let mut one = Host::start(&pipeline, &kafka.address, "one", &[]);
    one.ready();
    let customers = Customers::start(&kafka.address, 500);
    for _ in 0..2 {
        let two = Host::start(&pipeline, &kafka.address, "two", &[]);
        until(Duration::from_secs(30), || handled(&two, "order-formatter") > 100)
            .unwrap_or_else(|()| panic!("the second host gets no share\n{}", two.log()));
        let (status, _) = two.stop("TERM");
        assert!(status.success());
    }
    let two = Host::start(&pipeline, &kafka.address, "two", &[]);
    until(Duration::from_secs(60), || handled(&two, "email-composer") > 100)
        .unwrap_or_else(|()| panic!("the second host gets no share\n{}", two.log()));

    one.sigkill();
    let killed = Instant::now();
    // What is placed a moment after the kill must be through on every partition: the keys are on all of them.
    let before = keys_with_orders_since(&kafka.address, 0);
    assert_eq!(before.len() as u64, KEYS);
    let newest = before.values().max().copied().unwrap();
    until(Duration::from_secs(15), || {
        let now = keys_with_orders_since(&kafka.address, newest);
        now.len() as u64 == KEYS
    })
    .unwrap_or_else(|()| panic!("not taken over within 15 s\n{}", two.log()));
    println!("taken over {:.1} s after the kill", killed.elapsed().as_secs_f64());

    let placed = customers.stop();
    every_order_went_through_once_and_in_order(&kafka.address, &placed, &two);
}

/// The newest number of each key in the last topic, of those beyond `number`.
fn keys_with_orders_since(brokers: &str, number: u64) -> BTreeMap<String, u64> {
    let newest = numbers(brokers, "emails").into_iter().map(|(key, all)| (key, all[all.len() - 1]));
    newest.filter(|&(_, newest)| newest > number).collect()
}

#[test]
fn a_broker_that_is_killed_in_mid_stream_and_comes_back_loses_nothing_and_doubles_nothing() {
    let _alone = alone();
    let (data, port) = (tempfile::tempdir().unwrap(), free_port());
    let mut kafka = Broker::start_with(data.path(), port);
    let brokers = kafka.address.clone();
    let pipeline = Pipeline::shipped(without_mail);
    let mut host = Host::start(&pipeline, &brokers, "mill", &[]);
    host.ready();
    let customers = Customers::start(&brokers, 1000);
    for kill in 1..=3_u64 {
        let some = handled(&host, "email-composer") + 500 * kill;
        until(Duration::from_secs(30), || handled(&host, "email-composer") >= some)
            .unwrap_or_else(|()| panic!("no progress before kill {kill}\n{}", host.log()));
        kafka.kill();
        kafka = Broker::start_with(data.path(), port);
    }
    let placed = customers.stop();
    every_order_went_through_once_and_in_order(&brokers, &placed, &host);
    let (status, _) = host.stop("TERM");
    assert!(status.success());
}

#[test]
fn a_host_goes_on_by_itself_when_the_broker_is_back() {
    let _alone = alone();
    let (data, port) = (tempfile::tempdir().unwrap(), free_port());
    let kafka = Broker::start_with(data.path(), port);
    let brokers = kafka.address.clone();
    let pipeline = Pipeline::shipped(|text| text);
    let mut host = Host::start(&pipeline, &brokers, "one", &[]);
    host.ready();
    let through = |host: &Host, count: usize| {
        let answer = http::post(&host.url("/orders"), &order(1).to_string(), &[]).unwrap();
        assert_eq!(answer.status, 201, "{}\n{}", answer.body, host.log());
        until(Duration::from_secs(30), || pipeline.eml_files().len() == count)
            .unwrap_or_else(|()| panic!("e-mail {count} is missing\n{}", host.log()));
    };
    through(&host, 1);
    kafka.kill();
    let ready = |host: &Host, status| {
        until(Duration::from_secs(30), || {
            http::get(&host.url("/readyz")).is_some_and(|answer| answer.status == status)
        })
        .unwrap_or_else(|()| panic!("/readyz is not {status}\n{}", host.log()));
    };
    ready(&host, 503);
    // What happens meanwhile is not known, so nothing is said to be all or never to have been.
    let known = |host: &Host| http::get(&host.url("/orders")).unwrap().json();
    until(Duration::from_secs(10), || known(&host)["complete"] == false)
        .unwrap_or_else(|()| panic!("{}", known(&host)));
    assert_eq!(http::get(&host.url("/orders/unknown")).unwrap().status, 503);
    // Long enough for many attempts to connect, each of which leaves an error behind.
    until(Duration::from_secs(15), || false).unwrap_err();
    let _kafka = Broker::start_with(data.path(), port);
    ready(&host, 200);
    through(&host, 2);
    until(Duration::from_secs(30), || known(&host)["complete"] == true)
        .unwrap_or_else(|()| panic!("{}\n{}", known(&host), host.log()));
    assert_eq!(known(&host)["items"].as_array().unwrap().len(), 2);
    assert_eq!(http::get(&host.url("/orders/unknown")).unwrap().status, 404);
}

#[test]
fn a_log_that_cannot_be_written_stops_nothing() {
    let _alone = alone();
    let pipeline = Pipeline::shipped(|text| text);
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut host = Host::start_logging_to(&pipeline, "embedded", "one", &[], full);
    host.ready();
    let answer = http::post(&host.url("/orders"), &order(1).to_string(), &[]).unwrap();
    assert_eq!(answer.status, 201, "{}", answer.body);
    let (status, _) = host.stop("TERM");
    assert!(status.success(), "{status}");
}

/// A host in the middle of its work whose broker takes connections and answers nothing any more.
fn before_a_black_hole(pipeline: &Pipeline) -> (Broker, Host) {
    let kafka = Broker::start_empty();
    let mut host = Host::start(pipeline, &kafka.address, "one", &[]);
    host.ready();
    http::post(&host.url("/orders"), &order(1).to_string(), &[]).unwrap();
    kafka.signal("STOP");
    (kafka, host)
}

#[test]
fn sigterm_ends_the_host_within_15_seconds_while_the_broker_is_a_black_hole() {
    let _alone = alone();
    let pipeline = Pipeline::shipped(|text| text);
    let (kafka, host) = before_a_black_hole(&pipeline);
    let unready = until(Duration::from_secs(20), || {
        http::get(&host.url("/readyz")).is_some_and(|answer| answer.status == 503)
    });
    unready.unwrap_or_else(|()| panic!("/readyz stays true\n{}", host.log()));
    let (_, took) = host.stop("TERM");
    assert!(took < Duration::from_secs(15), "{took:?}");
    kafka.signal("CONT");
}

#[test]
fn a_second_signal_ends_the_host_at_once() {
    let _alone = alone();
    let pipeline = Pipeline::shipped(|text| text);
    // The first one drains, which a black hole makes long.
    let (kafka, host) = before_a_black_hole(&pipeline);
    host::signal(host.pid(), "INT");
    until(Duration::from_secs(10), || host.log().contains("once more to leave at once"))
        .unwrap_or_else(|()| panic!("{}", host.log()));
    // Two that come close together are one.
    until(Duration::from_secs(1), || false).unwrap_err();
    let (status, took) = host.stop("INT");
    assert_eq!(status.code(), Some(1));
    assert!(took < Duration::from_secs(2), "{took:?}");
    kafka.signal("CONT");
}

#[test]
fn sigterm_ends_the_host_within_15_seconds_while_it_waits_for_a_broker_to_start() {
    let _alone = alone();
    // Takes connections and never answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let pipeline = Pipeline::shipped(|text| text);
    let host = Host::start(&pipeline, &address, "one", &[]);
    let answers = || http::get(&host.url("/healthz")).is_some_and(|answer| answer.status == 200);
    until(Duration::from_secs(30), answers).unwrap_or_else(|()| panic!("{}", host.log()));
    let ready = http::get(&host.url("/readyz")).unwrap();
    assert_eq!(ready.status, 503, "{}", ready.body);
    let answer = http::post(&host.url("/orders"), &order(1).to_string(), &[]).unwrap();
    assert_eq!(answer.status, 503, "nothing is accepted without the broker: {}", answer.body);
    let (_, took) = host.stop("TERM");
    assert!(took < Duration::from_secs(15), "{took:?}");
}

#[test]
fn a_pipeline_that_cannot_run_says_everything_that_is_wrong_and_starts_nothing() {
    let pipeline = Pipeline::shipped(|text| text);
    std::fs::remove_file(pipeline.path().join("components/order-formatter.wasm")).unwrap();
    std::fs::write(pipeline.path().join("components/email-composer.wasm"), b"\0asm\x01\0\0\0").unwrap();
    let run = |args: &[&str]| {
        let output = common::host::wasmill()
            .args(args)
            .current_dir(pipeline.path())
            .env("WASMILL_LISTEN", "127.0.0.1:0")
            .output()
            .unwrap();
        // As words: the lines are broken and drawn for a terminal.
        let errors = String::from_utf8(output.stderr).unwrap().replace('│', " ");
        (output.status.code(), errors.split_whitespace().collect::<Vec<_>>().join(" "))
    };
    for verb in ["check", "run"] {
        let (code, errors) = run(&[verb, "--brokers", "embedded"]);
        assert_eq!(code, Some(1), "{errors}");
        assert!(errors.contains("no component at"), "{errors}");
        assert!(errors.contains("core WebAssembly module"), "{errors}");
        assert!(errors.contains("pipeline.toml:"), "{errors}");
    }
    assert_eq!(run(&["walk"]).0, Some(2));
    assert_eq!(run(&["check", "--config", "nowhere.toml"]).0, Some(1));
}
