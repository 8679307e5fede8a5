//! A whole host as a user of a real Apache Kafka that may do what docs/how-to/kafka.md lists, and nothing else: a group that is
//! missing is told, and what is listed is enough.
#![cfg(target_os = "linux")]

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use common::host::{Host, Pipeline, until, wasmill};
use common::kafka::{self, Broker};
use common::orders::{order, publish, read};
use common::{DEADLINE, http};
use serde_json::Value;

const LOGIN: &str = r#"
[kafka.properties]
"security.protocol" = "sasl_plaintext"
"sasl.mechanism" = "PLAIN"
"sasl.username" = "ada"
"sasl.password" = "secret"
"#;

/// What the broker says of a group.
const DENIED: &str = "Group authorization failed";

const TOPICS: [&str; 6] =
    ["orders", "order_details", "order_confirmed", "order_declined", "emails", "emails_sent"];
const SUBSCRIBERS: [&str; 4] = ["order-formatter", "transaction-processor", "email-composer", "mail"];

#[test]
fn a_group_that_may_not_be_read_is_told_and_what_the_manual_lists_is_enough() {
    let folder = tempfile::tempdir().unwrap();
    let (port, sasl) = (kafka::free_port(), kafka::free_port());
    let properties = folder.path().join("properties");
    fs::write(&properties, kafka::with_login(port, sasl, "secret") + ACLS).unwrap();
    let broker = Broker::start_with_properties(&folder.path().join("data"), port, &properties);
    let brokers = format!("127.0.0.1:{sasl}");

    // What may not be described is not taken for absent.
    let pipeline = Pipeline::shipped(|text| text + LOGIN);
    let verb = |args: &[&str]| {
        let mut verb = wasmill();
        verb.args(args).args(["--brokers", &brokers]).current_dir(pipeline.path()).output().unwrap()
    };
    let trace = verb(&["trace", "broken"]);
    let said = String::from_utf8_lossy(&trace.stderr);
    assert_eq!(trace.status.code(), Some(1), "{said}");
    assert!(said.contains("Topic authorization failed"), "{said}");

    let letters = SUBSCRIBERS.map(|name| format!("{name}.dlq"));
    let settled = letters.each_ref().map(|name| format!("{name}.settled"));
    let claims = "wasmill.food-ordering.claims";
    let mut topics: Vec<&str> = TOPICS.into();
    topics.extend(letters.iter().chain(&settled).map(String::as_str));
    topics.push(claims);
    let topics: Vec<&str> = topics.iter().flat_map(|topic| ["--topic", topic]).collect();
    allow(&broker, &["Read", "Write", "Create"], &topics);
    let ours = ["wasmill.food-ordering.", "--resource-pattern-type", "prefixed"];
    allow(&broker, &["Write"], &[&["--transactional-id"], &ours[..]].concat());

    // The groups are forgotten.
    let mut host = Host::start(&pipeline, &brokers, "one", &[]);
    let told = |host: &Host| {
        let readiness = http::get(&host.url("/readyz"));
        readiness.is_some_and(|answer| answer.status == 503 && answer.body.contains(DENIED))
    };
    until(Duration::from_secs(60), || host.log().contains(DENIED) && told(&host))
        .unwrap_or_else(|()| panic!("{}", host.log()));

    // It needs no restart when they are remembered.
    allow(&broker, &["Read"], &[&["--group"], &ours[..]].concat());
    host.ready();
    let place = || {
        let headers = [("idempotency-key", "one")];
        http::post(&host.url("/orders"), &order(1).to_string(), &headers).unwrap()
    };
    let (first, again) = (place(), place());
    assert_eq!((first.status, again.status), (201, 201), "{first:?} {again:?}");
    until(DEADLINE, || pipeline.eml_files().len() == 1).unwrap_or_else(|()| panic!("{}", host.log()));
    assert_eq!(read(&broker.address, "orders").len(), 1);

    // A dead letter is listed, and put back.
    publish(&broker.address, "orders", [("broken".into(), "no order".into())]);
    until(DEADLINE, || read(&broker.address, "order-formatter.dlq").len() == 1).unwrap();
    let says = |args: &[&str]| -> Value {
        let output = verb(&[args, &["--json"]].concat());
        assert!(output.status.success(), "{args:?}: {output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    };
    assert_eq!(says(&["dlq", "ls"])["groups"][0]["count"], 1);
    assert_eq!(says(&["dlq", "redrive", "order-formatter"])["count"], 1);
    let trace = says(&["trace", "broken"]);
    assert!(trace["hops"].as_array().unwrap().iter().any(|hop| hop["put_back"] == true), "{trace}");
    let log = host.log();
    let (status, _) = host.stop("TERM");
    assert!(status.success(), "{log}");
}

/// Who comes without a name may do all: the broker itself and this test.
const ACLS: &str = "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer\nsuper.users=User:ANONYMOUS\n";

/// By Apache Kafka's own tool.
fn allow(broker: &Broker, operations: &[&str], resources: &[&str]) {
    let libraries = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.kafka/libs/*");
    let mut tool = Command::new("java");
    tool.arg("-cp").arg(libraries).arg("org.apache.kafka.tools.AclCommand");
    tool.args(["--bootstrap-server", &broker.address, "--add", "--allow-principal", "User:ada"]);
    operations.iter().for_each(|operation| _ = tool.args(["--operation", operation]));
    let output = tool.args(resources).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}
