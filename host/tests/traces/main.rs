//! Distributed traces of the pipeline that ships: the `wasmill` program, a real Apache Kafka and a real SMTP server, and a
//! collector that decodes what it gets.

mod collector;
#[path = "../common/mod.rs"]
mod common;

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::time::Duration;

use collector::{Collector, attributes};
use common::host::{Host, Pipeline};
use common::kafka::{Broker, free_port};
use common::orders::{order, publish, read, text};
use common::smtp::SmtpServer;
use common::{http, wait_for};
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use serde_json::{Value, json};
use wasmill::event::headers::TRACEPARENT;

const CLIENT: &str = "00f067aa0ba902b7";

fn hex(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The value of a `traceparent`.
fn context(span: &Span) -> String {
    format!("00-{}-{}-01", hex(&span.trace_id), hex(&span.span_id))
}

fn of_trace(collector: &Collector, trace: &str) -> Vec<Span> {
    let mut spans = collector.spans();
    spans.retain(|span| hex(&span.trace_id) == trace);
    spans.sort_by_key(|span| span.start_time_unix_nano);
    spans
}

/// Waits until the trace has a span of this name.
fn until_ended(collector: &Collector, trace: &str, name: &str) -> Vec<Span> {
    let mut spans = Vec::new();
    wait_for(&format!("span `{name}`"), || {
        spans = of_trace(collector, trace);
        spans.iter().any(|span| span.name == name)
    });
    spans
}

fn one<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    let of_name: Vec<_> = spans.iter().filter(|span| span.name == name).collect();
    let [span] = of_name[..] else { panic!("{} spans `{name}` in {spans:#?}", of_name.len()) };
    span
}

fn shows(span: &Span, expected: &[(&str, &str)]) {
    let shown = attributes(&span.attributes);
    for (name, value) in expected {
        assert_eq!(
            shown.get(*name).map(String::as_str),
            Some(*value),
            "{name} of `{}`: {shown:?}",
            span.name
        );
    }
}

fn error(span: &Span) -> Option<String> {
    let failed = span.status.as_ref().is_some_and(|status| status.code() == StatusCode::Error);
    assert_eq!(failed, attributes(&span.attributes).contains_key("error.type"), "{span:?}");
    attributes(&span.attributes).remove("error.type")
}

fn place(host: &Host, order: &serde_json::Value, traceparent: &str) -> String {
    let answer =
        http::post(&host.url("/orders"), &order.to_string(), &[("traceparent", traceparent)]).unwrap();
    assert_eq!(answer.status, 201, "{}", answer.body);
    answer.json()["order_id"].as_str().unwrap().to_string()
}

#[test]
fn an_order_is_one_trace_from_its_request_to_its_mail() {
    let kafka = Broker::start_empty();
    let mut smtp = SmtpServer::start(&[]);
    let collector = Collector::start();
    let pipeline = Pipeline::shipped(|text| text);
    let smtp_url = format!("smtp://127.0.0.1:{}", smtp.port);
    let env = [
        ("SMTP_URL", &*smtp_url),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &*collector.endpoint),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20t0ps3cret"),
        ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test"),
        ("OTEL_BSP_SCHEDULE_DELAY", "100"),
        ("WASMILL_LOG", "debug"),
        ("WASMILL_LOG_FORMAT", "json"),
    ];
    let mut host = Host::start(&pipeline, &kafka.address, "one", &env);
    host.ready();

    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let id = place(&host, &order(2), &format!("00-{trace}-{CLIENT}-01"));
    smtp.mail();
    let spans = until_ended(&collector, trace, "process emails");
    leads_from_hop_to_hop(&spans, &smtp, &kafka.address);
    batches_and_events_are_linked(&collector, &spans);
    let resource = collector.resource();
    let told =
        ["service.name", "service.instance.id", "deployment.environment.name"].map(|name| &*resource[name]);
    assert_eq!(told, ["food-ordering", "one", "test"]);
    let shown = http::get(&host.url(&format!("/orders/{id}"))).unwrap().json();
    for step in shown["history"].as_array().unwrap() {
        assert!(step["headers"]["traceparent"].as_str().unwrap().contains(trace), "{step}");
    }

    failures_are_seen(&host, &collector, &kafka.address);
    what_is_not_sampled_is_not_exported(&host, &collector, &mut smtp, &kafka.address);

    // Who begins a trace here is sampled by default.
    assert_eq!(http::get(&host.url(&format!("/orders/{id}"))).unwrap().status, 200);
    wait_for("the span of a GET", || collector.spans().iter().any(|span| span.name == "GET /orders/{id}"));
    let asked = collector.spans().into_iter().find(|span| span.name == "GET /orders/{id}").unwrap();
    assert!(asked.parent_span_id.is_empty());
    shows(&asked, &[("http.route", "/orders/{id}"), ("http.response.status_code", "200")]);

    let told = format!("{:?}{}", collector.spans(), host.log());
    for secret in ["t0ps3cret", "Ada Park", "ada@example.com", "Pizza"] {
        assert!(!told.contains(secret), "{secret}");
    }
    assert_eq!(collector.authorization().as_deref(), Some("Bearer t0ps3cret"));
    let metrics = http::get(&host.url("/metrics")).unwrap().body;
    assert!(metrics.contains("\nwasmill_spans_dropped_total 0.0\n"), "{metrics}");
    let (status, _) = host.stop("TERM");
    assert!(status.success());
}

/// Request, publication, three handlers, the sink and the mail server: each a child of the one before.
fn leads_from_hop_to_hop(spans: &[Span], smtp: &SmtpServer, brokers: &str) {
    let way = [
        ("POST /orders", SpanKind::Server),
        ("send orders", SpanKind::Producer),
        ("process orders", SpanKind::Consumer),
        ("process order_details", SpanKind::Consumer),
        ("process order_confirmed", SpanKind::Consumer),
        ("process emails", SpanKind::Consumer),
        ("smtp send", SpanKind::Client),
    ];
    assert_eq!(spans.len(), way.len(), "{spans:#?}");
    let mut parent = CLIENT.to_string();
    for (name, kind) in way {
        let span = one(spans, name);
        assert_eq!((span.kind(), hex(&span.parent_span_id)), (kind, parent), "{name}");
        assert_eq!(error(span), None, "{name}");
        assert!(span.end_time_unix_nano >= span.start_time_unix_nano);
        parent = hex(&span.span_id);
    }
    shows(
        one(spans, "POST /orders"),
        &[
            ("http.request.method", "POST"),
            ("http.route", "/orders"),
            ("url.path", "/orders"),
            ("url.scheme", "http"),
            ("http.response.status_code", "201"),
        ],
    );
    let hops = [
        ("process orders", "orders", "order-formatter", "order_details"),
        ("process order_details", "order_details", "transaction-processor", "order_confirmed"),
        ("process order_confirmed", "order_confirmed", "email-composer", "emails"),
        ("process emails", "emails", "mail", "emails_sent"),
    ];
    for (name, from, handler, to) in hops {
        let (input, output) = (&read(brokers, from)[0], &read(brokers, to)[0]);
        shows(
            one(spans, name),
            &[
                ("messaging.system", "kafka"),
                ("messaging.operation.name", "process"),
                ("messaging.operation.type", "process"),
                ("messaging.destination.name", from),
                ("messaging.destination.partition.id", &input.position.partition.to_string()),
                ("messaging.kafka.offset", &input.position.offset.to_string()),
                ("messaging.consumer.group.name", &format!("wasmill.food-ordering.{handler}")),
                ("wasmill.handler", handler),
                ("wasmill.digest", text(output, "wasmill-digest")),
                ("wasmill.attempt", "1"),
            ],
        );
        assert_eq!(text(output, TRACEPARENT), context(one(spans, name)));
    }
    let sent = &read(brokers, "orders")[0];
    assert_eq!(text(sent, TRACEPARENT), context(one(spans, "send orders")));
    let partition = sent.position.partition.to_string();
    shows(
        one(spans, "send orders"),
        &[("messaging.destination.name", "orders"), ("messaging.destination.partition.id", &partition)],
    );
    let port = smtp.port.to_string();
    shows(one(spans, "smtp send"), &[("server.address", "127.0.0.1"), ("server.port", &port)]);
}

fn batches_and_events_are_linked(collector: &Collector, spans: &[Span]) {
    let by_id = |all: Vec<Span>| -> BTreeMap<Vec<u8>, Span> {
        all.into_iter().map(|span| (span.span_id.clone(), span)).collect()
    };
    for span in spans.iter().filter(|span| span.kind() == SpanKind::Consumer) {
        let [to_batch] = &span.links[..] else { panic!("{:?}", span.links) };
        // It ends with its commit, after the spans of its events.
        let mut batch = None;
        wait_for("span of a batch", || {
            batch = by_id(collector.spans()).remove(&to_batch.span_id);
            batch.is_some()
        });
        let batch = batch.unwrap();
        assert_eq!(batch.name, span.name.replace("process", "process batch"));
        assert_eq!((&batch.trace_id, &batch.parent_span_id), (&to_batch.trace_id, &Vec::new()));
        let [to_event] = &batch.links[..] else { panic!("{:?}", batch.links) };
        assert_eq!((&to_event.trace_id, &to_event.span_id), (&span.trace_id, &span.parent_span_id));
        shows(&batch, &[("messaging.batch.message_count", "1"), ("messaging.system", "kafka")]);
        assert!(batch.end_time_unix_nano >= span.end_time_unix_nano);
        assert_eq!(error(&batch), None);
    }
}

fn failures_are_seen(host: &Host, collector: &Collector, brokers: &str) {
    let with = |token: &str, to: &str| {
        let mut order = order(1);
        order["payment"] = json!({ "token": token });
        order["customer"]["email"] = json!(to);
        order
    };
    let refused = "0af7651916cd43dd8448eb211c80319c";
    place(host, &with("tok_invalid", "a@example.com"), &format!("00-{refused}-{CLIENT}-01"));
    let spans = until_ended(collector, refused, "process order_details");
    let failed = one(&spans, "process order_details");
    assert_eq!(error(failed).as_deref(), Some("reject"));
    shows(failed, &[("wasmill.fate", "dead-letter")]);
    // A dead letter is what the event was, and so of the same trace.
    wait_for("a dead letter", || !read(brokers, "transaction-processor.dlq").is_empty());
    let letter = &read(brokers, "transaction-processor.dlq")[0];
    assert_eq!(text(letter, TRACEPARENT), context(one(&spans, "process orders")));
    assert_eq!(failures_in_the_log(host, refused), ["transaction-processor"]);

    let put_off = "1af7651916cd43dd8448eb211c80319c";
    place(host, &with("tok_always_unavailable", "b@example.com"), &format!("00-{put_off}-{CLIENT}-01"));
    let mut tries = Vec::new();
    wait_for("five tries", || {
        tries = of_trace(collector, put_off);
        tries.retain(|span| span.name == "process order_details");
        tries.len() == 5
    });
    for (number, one) in (1..).zip(&tries) {
        let fate = if number < 5 { "retry" } else { "dead-letter" };
        shows(one, &[("wasmill.attempt", &number.to_string()), ("wasmill.fate", fate)]);
        assert_eq!(error(one).as_deref(), Some("retry"));
    }

    tries_of_what_brings_no_trace_are_one(collector, brokers, put_off);

    let unwanted = "2af7651916cd43dd8448eb211c80319c";
    place(host, &with("tok_visa", "reply-550@example.com"), &format!("00-{unwanted}-{CLIENT}-01"));
    let spans = until_ended(collector, unwanted, "process emails");
    assert_eq!(error(one(&spans, "smtp send")).as_deref(), Some("refused"));
    assert_eq!(error(one(&spans, "process emails")).as_deref(), Some("reject"));
    assert_eq!(failures_in_the_log(host, unwanted), ["mail"]);
}

/// Whose lines tell of a failure within the trace.
fn failures_in_the_log(host: &Host, trace: &str) -> Vec<String> {
    let log = host.log();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let of_trace = lines.filter(|line| line["trace"] == trace && line["dead_letters"] == 1);
    of_trace.map(|line| line["handler"].as_str().unwrap_or_default().to_string()).collect()
}

/// The payload that was put off, from a producer that knows nothing of traces.
fn tries_of_what_brings_no_trace_are_one(collector: &Collector, brokers: &str, put_off: &str) {
    let details = read(brokers, "order_details");
    let known = details.iter().find(|event| text(event, TRACEPARENT).contains(put_off)).unwrap();
    let payload = String::from_utf8(known.payload.clone().unwrap().to_vec()).unwrap();
    publish(brokers, "order_details", [("alone".to_string(), payload)]);
    let mut begun = String::new();
    wait_for("its dead letter", || {
        let letters = read(brokers, "transaction-processor.dlq");
        let letter = letters.iter().find(|letter| letter.key.as_deref() == Some(b"alone"));
        begun = letter.map(|letter| text(letter, TRACEPARENT).to_string()).unwrap_or_default();
        letter.is_some()
    });
    let mut tries = Vec::new();
    wait_for("five tries", || {
        tries = of_trace(collector, &begun[3..35]);
        tries.len() == 5
    });
    assert_eq!((context(&tries[0]), hex(&tries[0].parent_span_id)), (begun, String::new()));
    for again in &tries[1..] {
        assert_eq!(again.parent_span_id, tries[0].span_id);
    }
}

fn what_is_not_sampled_is_not_exported(
    host: &Host,
    collector: &Collector,
    smtp: &mut SmtpServer,
    brokers: &str,
) {
    let (silent, loud) = ("3af7651916cd43dd8448eb211c80319c", "4af7651916cd43dd8448eb211c80319c");
    let traceparent = format!("00-{silent}-{CLIENT}-00");
    let id = place(host, &order(3), &traceparent);
    while !smtp.mail().to_string().contains("34.50 EUR") {}
    // Through the same hops after it, so all that there was of it has come before.
    let answer = http::request(
        "PUT",
        &host.url(&format!("/orders/{id}")),
        &order(4).to_string(),
        &[("traceparent", &format!("00-{loud}-{CLIENT}-01"))],
    );
    assert_eq!(answer.unwrap().status, 200);
    until_ended(collector, loud, "process emails");
    assert_eq!(of_trace(collector, silent), []);
    let mails = read(brokers, "emails");
    let carried = mails.iter().map(|mail| text(mail, TRACEPARENT));
    assert_eq!(carried.filter(|carried| carried.contains(silent) && carried.ends_with("-00")).count(), 1);
}

#[test]
fn a_collector_that_is_away_or_silent_costs_spans_and_nothing_else() {
    // Nobody takes what is sent here, and nobody answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoints =
        [free_port(), silent.local_addr().unwrap().port()].map(|port| format!("http://127.0.0.1:{port}"));
    for (number, endpoint) in endpoints.iter().enumerate() {
        let pipeline = Pipeline::shipped(|text| text);
        let env = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &**endpoint),
            ("OTEL_BSP_SCHEDULE_DELAY", "50"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "10"),
        ];
        let mut host = Host::start(&pipeline, "embedded", "one", &env);
        host.ready();
        for _ in 0..20 {
            assert_eq!(http::post(&host.url("/orders"), &order(1).to_string(), &[]).unwrap().status, 201);
        }
        wait_for("twenty mails", || pipeline.eml_files().len() == 20);
        let dropped = || {
            let metrics = http::get(&host.url("/metrics")).unwrap().body;
            let line = metrics.lines().find_map(|line| line.strip_prefix("wasmill_spans_dropped_total "));
            line.unwrap().parse::<f64>().unwrap()
        };
        wait_for("spans that are dropped", || dropped() > 0.0);
        if number == 0 {
            wait_for("a word of it in the log", || host.log().contains("of traces dropped"));
        }
        let log = host.log();
        let (status, took) = host.stop("TERM");
        assert!(status.success() && took < Duration::from_secs(15), "{status} after {took:?}\n{log}");
    }
}
