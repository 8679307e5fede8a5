//! A host with a canary in every place that may hold a secret: whatever it is asked, whatever fails, none of them is found
//! in what it says or keeps.
//!
//! Apache Kafka and the mail server really want these passwords. librdkafka tells all that it can, the log all that there is.
#![cfg(target_os = "linux")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use common::host::{Ended, Host, Pipeline, subscriber, until, wasmill};
use common::kafka::{self, Broker};
use common::orders::{order, publish, read};
use common::smtp::SmtpServer;
use common::{DEADLINE, built_guest, http, wait_for};
use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use serde_json::Value;
use wasmill::event::Event;

const KAFKA_PROPERTIES: &str = r#"
[kafka.properties]
"security.protocol" = "sasl_plaintext"
"sasl.mechanism" = "PLAIN"
"sasl.username" = "ada"
"sasl.password" = "${KAFKA_PASSWORD}"
"ssl.key.password" = "${file:key-password}"
debug = "all"
"#;

const HANDLERS: &str = r#"
[handlers.fate]
component = "fate.wasm"
subscribe = ["fates"]
publish = ["of-fate"]
env = { API_KEY = "${API_KEY}", PASSWORD = "LITERAL" }
retry = { attempts = 2, backoff = "10ms..20ms" }
"#;

/// What pipeline.toml becomes, one after the other, and what its refusal has to name.
const MISTAKES: [(&str, &str, &str); 10] = [
    ("PASSWORD = \"", "PASSWORD = ", "pipeline.toml"),
    ("env = { API_KEY", "env = { API_KEY = 1, API_KEY", "pipeline.toml"),
    ("retry = { attempts = 2", "retrie = { PASSWORD = \"LITERAL\", attempts = 2", "retrie"),
    ("subscribe = [\"fates\"]", "subscribe = [\"fates\"]\nkeep = \"${API_KEY}\"", "keep"),
    ("debug = \"all\"", "debug = \"all\"\n\"linger.ms\" = \"${API_KEY}\"", "linger.ms"),
    ("${file:key-password}", "another ${API_KEY}", "kafka.properties"),
    ("${file:key-password}", "${file:key-passwords}", "key-passwords"),
    ("${SMTP_URL:-file:outbox/}", "${SMTP_URL}?password=LITERAL", "smtp"),
    // As Java's clients have it.
    (
        "debug = \"all\"",
        "debug = \"all\"\n\"sasl.jaas.config\" = 'Login required username=\"ada\" password=\"LITERAL\";'",
        "sasl.jaas.config",
    ),
    ("${WASMILL_LISTEN:-127.0.0.1:8080}", "${API_KEY}", "listen"),
];

/// How pipeline.toml is looked at.
const CHECKS: [&str; 2] = ["check", "check --json"];
const VERBS: [&str; 13] = [
    "check --diff",
    "check --diff --json",
    "versions fate --json",
    "versions nobody",
    "rollback fate --json",
    "parked --json",
    "dlq ls --json",
    "dlq ls --each --json",
    "dlq show fate.dlq/0/0 --json",
    "dlq redrive fate --dry-run --json",
    "replay fate --from 1h --json",
    "invoke fate",
    "trace fine --json",
];

#[test]
fn no_secret_is_ever_said_or_kept() {
    let canary = Canaries::new();
    let (kafka, sasl) = secured(canary.of("kafka"));
    let mut mails = SmtpServer::start(&["--login", &format!("ada:{}", canary.of("smtp"))]);
    let smtp_port = mails.port;
    let smtp_url = |password: &str| format!("smtp://ada:{}@localhost:{}", encoded(password), smtp_port);
    let pipeline = Pipeline::shipped(pipeline(&canary));
    let text = fs::read_to_string(pipeline.path().join("pipeline.toml")).unwrap();
    pipeline.put("fate.wasm", &fs::read(built_guest("fate")).unwrap());
    pipeline.put("key-password", canary.of("key").as_bytes());
    let url = smtp_url(canary.of("smtp"));
    let otlp = format!("authorization=Bearer%20{}", encoded(canary.of("collector")));
    let env = [
        // Nobody listens there: what fails says the most.
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1"),
        ("OTEL_EXPORTER_OTLP_HEADERS", &otlp),
        ("KAFKA_PASSWORD", canary.of("kafka")),
        ("SMTP_URL", &url),
        ("API_KEY", canary.of("handler")),
        ("WASMILL_ADMIN_TOKEN", canary.of("admin.token")),
        ("WASMILL_LOG", "trace"),
    ];
    let mut said = Said::default();
    let mut host = Host::start(&pipeline, &sasl, "one", &env);
    host.ready();

    // What goes well, and what fails in every way.
    place(&host, &mut said, "tok_visa");
    assert_eq!(mails.mail()["user"], "ada", "the mail server knows the password");
    place(&host, &mut said, "tok_invalid");
    let fates = ["fine", "reject", "retry", "panic", "out of bounds", "long reject"];
    publish(&kafka.address, "fates", fates.map(|fate| (fate.to_string(), fate.to_string())));
    let dead = |name: &str| subscriber(&host.status().unwrap(), name)["dead_letters"].as_u64().unwrap();
    wait_for("dead letters", || dead("fate") == 5 && dead("transaction-processor") == 1);

    let token = canary.of("admin.token");
    said.all_pages(&host, Some(token), &text);
    assert!(said.texts["/admin/live"].contains("\"subscribers\""), "the token lets in");
    said.all_pages(&host, None, &text);
    said.all_pages(&host, Some(canary.of("wrong.token")), &text);
    let verbs = |said: &mut Said, verbs: &[&str]| {
        for verb in verbs {
            let mut command = wasmill();
            command.args(verb.split(' ')).args(["--brokers", &sasl]).current_dir(pipeline.path()).envs(env);
            command.env("WASMILL_LISTEN", &host.address).stdin(Stdio::null());
            let Ended { stdout, stderr, .. } = command.output().unwrap().into();
            said.add(verb, stdout + &stderr);
        }
    };
    verbs(&mut said, &CHECKS);
    verbs(&mut said, &VERBS);
    for (verb, word) in
        [("dlq ls --json", "reject"), ("versions fate --json", "digest"), ("check", "can run")]
    {
        assert!(said.texts[verb].contains(word), "{verb}: {}", said.texts[verb]);
    }

    // Files that can't be used, and what is said of them by all who look at them.
    let reload = |text: &str| {
        pipeline.put("pipeline.toml", text.as_bytes());
        let headers = [("authorization", &*format!("Bearer {token}"))];
        http::post(&host.url("/admin/reload"), "{}", &headers).expect("an answer")
    };
    for (right, wrong, named) in MISTAKES {
        assert!(text.contains(right), "{right}");
        let wrong = text.replace(right, &wrong.replace("LITERAL", canary.of("literal")));
        let answer = reload(&wrong);
        assert!(answer.status == 422 && answer.body.contains(named), "{named}: {}", answer.body);
        said.answer("reload", answer);
        verbs(&mut said, &CHECKS);
        said.all_pages(&host, Some(token), &wrong);
    }

    // A mail server that turns the host away, and a broker that does.
    let wrong = text.replace("${SMTP_URL:-file:outbox/}", &smtp_url(canary.of("wrong.smtp")));
    assert_eq!(reload(&wrong).status, 200, "{}", host.log());
    // The log is long: it is looked at once.
    let is_blocked = || {
        let status = host.status().unwrap();
        subscriber(&status, "mail")["mail"]["blocked"].as_u64().is_some_and(|blocked| blocked > 0)
    };
    // Who leaves may still take the first one, by the login that was right.
    let is_refused = || {
        place(&host, &mut said, "tok_visa");
        until(Duration::from_secs(5), is_blocked).is_ok()
    };
    until(DEADLINE, is_refused).unwrap_or_else(|()| panic!("{}", host.status().unwrap()));
    assert!(host.log().contains("(535)"));
    said.all_pages(&host, Some(token), &wrong);
    verbs(&mut said, &CHECKS);
    let mut env = env;
    let password = env.iter_mut().find(|(name, _)| *name == "KAFKA_PASSWORD").unwrap();
    password.1 = canary.of("wrong.kafka");
    let locked_out = Host::start(&pipeline, &sasl, "two", &env);
    wait_for("the broker's refusal", || locked_out.log().to_lowercase().contains("authentication failed"));
    said.answer("/status", http::get(&locked_out.url("/status")).expect("an answer"));
    locked_out.stop("TERM");

    for topic in kept_topics(&host.status().unwrap()) {
        for Event { key, payload, headers, .. } in read(&kafka.address, &topic) {
            let values = headers.into_iter().map(|header| header.value);
            for bytes in key.into_iter().chain(payload).chain(values) {
                said.add(&topic, String::from_utf8_lossy(&bytes).into());
            }
        }
    }
    assert!(said.texts.contains_key("fate.dlq"), "{:?}", said.texts.keys());
    assert!(host.log().contains("of traces dropped"), "there is no collector");
    host.stop("TERM");
    // The one came to its commits, the other not so far.
    for (name, most) in [("one.log", " TRACE committed"), ("two.log", "sasl.password")] {
        let log = fs::read_to_string(pipeline.path().join(name)).unwrap();
        assert!(log.contains(most), "{name} doesn't tell all");
        said.add(name, log);
    }
    said.folder(&pipeline.path().join("state"));
    said.holds_none_of(&canary);
}

#[test]
fn a_canary_is_found_in_each_of_its_forms() {
    let canary = Canaries::new();
    let secret = canary.of("kafka");
    for form in [
        secret.to_string(),
        encoded(secret),
        encoded(secret).to_lowercase(),
        STANDARD_NO_PAD.encode(secret),
        STANDARD_NO_PAD.encode(format!("\0ada\0{secret}")),
        URL_SAFE_NO_PAD.encode(format!("user:{secret}:more")),
        STANDARD_NO_PAD.encode(format!("x{secret}")),
    ] {
        assert!(forms(secret).iter().any(|known| form.contains(known)), "{form}");
    }
}

// ---

/// A secret for each of these.
struct Canaries(BTreeMap<&'static str, String>);

impl Canaries {
    fn new() -> Self {
        let names = ["kafka", "key", "smtp", "handler", "literal", "admin.token", "collector"];
        let wrong = ["wrong.kafka", "wrong.smtp", "wrong.token"];
        // With characters that URLs and shells would rather have encoded.
        let canary = |name| (name, format!("c4n4ry/{name}+{}", uuid::Uuid::now_v7().simple()));
        Self(names.into_iter().chain(wrong).map(canary).collect())
    }

    fn of(&self, name: &str) -> &str {
        &self.0[name]
    }
}

/// By what a secret is found: the part of it that no percent-encoding changes, as it is and in base64, behind whatever
/// stands before it.
fn forms(secret: &str) -> Vec<String> {
    let (_, core) = secret.rsplit_once('+').expect("a canary");
    let mut forms = vec![core.to_string()];
    for engine in [&STANDARD_NO_PAD, &URL_SAFE_NO_PAD] {
        for before in 0..3 {
            let encoded = engine.encode("\0".repeat(before) + core);
            // Whole characters of six bits of which none is a neighbour's.
            let (from, to) = ((before * 8).div_ceil(6), (before + core.len()) * 8 / 6);
            forms.push(encoded[from..to].to_string());
        }
    }
    forms
}

fn encoded(secret: &str) -> String {
    percent_encode(secret.as_bytes(), NON_ALPHANUMERIC).to_string()
}

/// All that was said, by who or what said it.
#[derive(Default)]
struct Said {
    texts: BTreeMap<String, String>,
}

impl Said {
    fn add(&mut self, by: &str, text: String) {
        let texts = self.texts.entry(by.into()).or_default();
        texts.push_str(&text);
        texts.push('\n');
    }

    fn answer(&mut self, by: &str, answer: http::Answer) {
        self.add(by, answer.head + "\n" + &answer.body);
    }

    /// What the host answers to everything that it can be asked.
    fn all_pages(&mut self, host: &Host, token: Option<&str>, toml: &str) {
        let token = token.map(|token| format!("Bearer {token}"));
        let headers: Vec<_> = token.iter().map(|token| ("authorization", &**token)).collect();
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/http/dashboard");
        let files = fs::read_dir(root).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
        let files = files.map(|file| format!("/dashboard/{file}"));
        let of_handlers = ["fate", "transaction-processor", "mail", "nobody"]
            .into_iter()
            .flat_map(|name| ["", "/logs", "/versions"].map(|what| format!("/admin/handlers/{name}{what}")));
        let others =
            ["/", "/healthz", "/readyz", "/status", "/metrics", "/openapi.json", "/orders", "/orders/fine"];
        let others = others.into_iter().chain(["/admin/parked", "/nowhere"]).map(String::from);
        for page in files.chain(of_handlers).chain(others) {
            self.answer(&page, http::request("GET", &host.url(&page), "", &headers).expect("an answer"));
        }
        let diff = serde_json::json!({ "toml": toml }).to_string();
        for (page, body) in [
            ("/admin/reload", "{}"),
            ("/admin/handlers/fate/rollback", "{\"to\":\"00\"}"),
            ("/admin/diff", &diff),
        ] {
            self.answer(page, http::post(&host.url(page), body, &headers).expect("an answer"));
        }
        self.add("/admin/live", first_event(host, &headers));
    }

    fn folder(&mut self, folder: &Path) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                self.folder(&path);
            } else {
                let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).into();
                self.add(&path.display().to_string(), text);
            }
        }
    }

    fn holds_none_of(&self, canaries: &Canaries) {
        let mut found = Vec::new();
        for (by, text) in &self.texts {
            for (name, secret) in &canaries.0 {
                for at in forms(secret).iter().filter_map(|form| text.find(form.as_str())) {
                    let from = text.floor_char_boundary(at.saturating_sub(200));
                    let to = text.ceil_char_boundary((at + 100).min(text.len()));
                    found.push(format!("{by} says the secret `{name}`: …{}…", &text[from..to]));
                }
            }
        }
        assert!(found.is_empty(), "{}", found.join("\n\n"));
    }
}

/// The shipped pipeline on a broker that wants a password, with a handler that fails.
fn pipeline(canary: &Canaries) -> impl Fn(String) -> String {
    let handlers = HANDLERS.replace("LITERAL", canary.of("literal"));
    move |shipped| {
        assert!(shipped.contains("# [kafka.properties]\n"));
        shipped.replace("# [kafka.properties]\n", KAFKA_PROPERTIES) + &handlers
    }
}

/// The broker, and where it wants `ada`'s password; its own address is open.
fn secured(password: &str) -> (Broker, String) {
    let [port, sasl] = [(); 2].map(|()| kafka::free_port());
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), kafka::with_login(port, sasl, password)).unwrap();
    (Broker::start_secured(port, file.path(), "ada:unused"), format!("127.0.0.1:{sasl}"))
}

fn place(host: &Host, said: &mut Said, payment: &str) {
    let mut order = order(2);
    order["payment"] = serde_json::json!({ "token": payment });
    let answer = http::post(&host.url("/orders"), &order.to_string(), &[]).expect("an answer");
    assert_eq!(answer.status, 201, "{}", answer.body);
    let id = answer.json()["order_id"].as_str().unwrap().to_string();
    said.answer("/orders", answer);
    let mut latest = Value::Null;
    until(2 * DEADLINE, || {
        let shown = http::get(&host.url(&format!("/orders/{id}"))).expect("an answer");
        latest = shown.json()["latest"].take();
        said.answer("/orders/{id}", shown);
        ["emails", "transaction-processor.dlq"].iter().any(|topic| latest[topic].is_object())
    })
    .unwrap_or_else(|()| panic!("stuck: {latest}"));
}

/// Every topic that a handler or a sink reads or writes.
fn kept_topics(status: &Value) -> BTreeSet<String> {
    let names = |value: &Value| {
        value.as_array().into_iter().flatten().filter_map(Value::as_str).map(String::from).collect::<Vec<_>>()
    };
    let of_one = |subscriber: &Value| {
        let letters = subscriber["dead_letter"].as_str().map(String::from);
        [names(&subscriber["subscribe"]), names(&subscriber["publish"]), letters.into_iter().collect()]
            .concat()
    };
    let topics = status["subscribers"].as_array().unwrap().iter().flat_map(of_one);
    topics.chain(["wasmill.food-ordering.claims".to_string()]).collect()
}

/// Of the stream that has no end; or what is answered instead.
fn first_event(host: &Host, headers: &[(&str, &str)]) -> String {
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let mut stream = TcpStream::connect(&host.address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    write!(stream, "GET /admin/live HTTP/1.1\r\nhost: {}\r\n{headers}\r\n", host.address).unwrap();
    let mut answer = Vec::new();
    let mut part = [0; 64 * 1024];
    loop {
        let length = stream.read(&mut part).expect("an answer");
        answer.extend_from_slice(&part[..length]);
        let text = String::from_utf8_lossy(&answer);
        // Its end, a refusal, or an event.
        if length == 0 || text.contains("\r\n\r\n{") || text.contains("\n\n\r\n") {
            return text.into();
        }
    }
}
