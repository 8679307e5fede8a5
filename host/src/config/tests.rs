//! Promises about the plan; what mistakes look like stands in tests/config.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::plan::*;
use super::*;

pub(super) const SHIPPED: &str = include_str!("../../../pipeline.toml");

fn shipped_path() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("pipeline.toml")
}

pub(super) fn parse_with(text: &str, env: &[(&str, &str)]) -> Result<Loaded, ConfigErrors> {
    let env: BTreeMap<&str, &str> = env.iter().copied().collect();
    let env = |name: &str| env.get(name).map(|value| value.to_string());
    parse(text.into(), &shipped_path(), &env, &Overrides::default())
}

fn plan(text: &str) -> Plan {
    parse_with(text, &[]).map_err(|errors| errors.errors).expect("a sound pipeline").plan
}

fn names(topics: &[Arc<str>]) -> Vec<&str> {
    topics.iter().map(|topic| &**topic).collect()
}

#[test]
fn the_shipped_pipeline_yields_its_plan_without_a_warning() {
    let loaded = parse_with(SHIPPED, &[]).map_err(|errors| errors.errors).expect("a sound pipeline");
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    let plan = loaded.plan;
    let root = shipped_path().parent().unwrap().to_path_buf();
    assert_eq!((plan.name.as_str(), &plan.root), ("food-ordering", &root));
    assert_eq!(plan.kafka.brokers, Brokers::Embedded);
    assert!(!plan.kafka.instance.is_empty());

    let http = plan.http.unwrap();
    assert_eq!(http.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(http.body_limit, 512 * 1024);
    assert_eq!((http.header_timeout, http.body_timeout), (Duration::from_secs(10), Duration::from_secs(30)));
    let [orders] = &http.resources[..] else { panic!("one resource, not {:?}", http.resources) };
    assert_eq!((orders.name.as_str(), &*orders.topic, orders.key.as_str()), ("orders", "orders", "order_id"));
    let stages = ["orders", "order_details", "order_confirmed", "order_declined", "emails", "emails_sent"];
    assert_eq!(names(&orders.view), stages);
    assert!(orders.schema.as_ref().is_some_and(Value::is_object));

    let ways: Vec<(&str, Vec<&str>, Vec<&str>)> =
        plan.handlers.iter().map(|h| (&*h.name, names(&h.subscribe), names(&h.publish))).collect();
    assert_eq!(
        ways,
        [
            ("email-composer", vec!["order_confirmed", "order_declined"], vec!["emails"]),
            ("order-formatter", vec!["orders"], vec!["order_details"]),
            ("transaction-processor", vec!["order_details"], vec!["order_confirmed", "order_declined"]),
        ]
    );
    let processor = &plan.handlers[2];
    assert_eq!(processor.group, "wasmill.food-ordering.transaction-processor");
    assert_eq!(processor.component, root.join("components/transaction-processor.wasm"));
    assert_eq!(&*processor.dead_letter, "transaction-processor.dlq");
    assert_eq!(processor.env["DECLINE_OVER_CENTS"].expose(), "100000");
    assert_eq!(processor.env["EMAIL_TEMPLATE"].expose(), "{customer_id}@example.com");
    let limits = LimitsPlan { memory: 64 << 20, time: Duration::from_secs(1), batch: 1000 };
    let (backoff_min, backoff_max) = (Duration::from_millis(200), Duration::from_secs(30));
    let retry = RetryPlan { attempts: Some(5), backoff_min, backoff_max };
    for handler in &plan.handlers {
        assert_eq!(
            (&handler.limits, &handler.retry, handler.shards),
            (&limits, &retry, 1),
            "{}",
            handler.name
        );
    }

    let [mail] = &plan.sinks[..] else { panic!("one sink, not {:?}", plan.sinks) };
    assert!(matches!(&mail.mail, MailPlan::Folder(folder) if *folder == root.join("outbox/")));
    assert_eq!((names(&mail.subscribe), mail.receipts.as_deref()), (vec!["emails"], Some("emails_sent")));
    assert_eq!((mail.retry.attempts, mail.batch, mail.timeout), (None, 1, Duration::from_secs(30)));

    let topics: Vec<(&str, i32, i32)> =
        plan.topics.iter().map(|t| (&*t.name, t.partitions, t.replication)).collect();
    let mut expected: Vec<&str> = stages.to_vec();
    expected.extend(["email-composer.dlq", "mail.dlq", "order-formatter.dlq", "transaction-processor.dlq"]);
    expected.sort_unstable();
    assert_eq!(topics, expected.into_iter().map(|name| (name, 3, -1)).collect::<Vec<_>>());
}

#[test]
fn the_shipped_pipeline_takes_its_mail_server_from_the_environment() {
    let env = [
        ("SMTP_URL", "smtps://mail.example.com"),
        ("SMTP_USERNAME", "ada"),
        ("SMTP_PASSWORD", "hunter2"),
        ("WASMILL_LISTEN", "0.0.0.0:80"),
    ];
    let plan = parse_with(SHIPPED, &env).map_err(|errors| errors.errors).expect("a sound pipeline").plan;
    let MailPlan::Smtp(smtp) = &plan.sinks[0].mail else { panic!("{:?}", plan.sinks[0].mail) };
    assert_eq!(
        (smtp.host.as_str(), smtp.port, smtp.encryption),
        ("mail.example.com", 465, SmtpEncryption::Tls)
    );
    assert_eq!(smtp.credentials, Some(("ada".into(), Secret::new("hunter2"))));
    assert!(!format!("{plan:?}").contains("hunter2"));
}

#[test]
fn the_flag_for_brokers_wins_over_the_file() {
    let overrides = Overrides { brokers: Some("kafka:9092".into()), instance: None };
    for text in ["[kafka]\nbrokers = \"embedded\"", ""] {
        let loaded = parse(text.into(), Path::new("pipeline.toml"), &|_| None, &overrides).unwrap();
        assert_eq!(loaded.plan.kafka.brokers, Brokers::Addresses("kafka:9092".into()));
    }
    let overrides = Overrides { brokers: Some("kafka:nine".into()), instance: None };
    let errors = parse(String::new(), Path::new("pipeline.toml"), &|_| None, &overrides).unwrap_err().errors;
    assert!(errors[0].message.starts_with("--brokers or $WASMILL_KAFKA_BROKERS"), "{errors:?}");
}

#[test]
fn a_topic_s_own_settings_win_over_the_defaults() {
    let plan = plan(
        "kafka = { brokers = 'embedded', partitions = 6, replication = 2 }
         topics = { a = { partitions = 12 }, b = { replication = 3 } }
         handlers.h = { component = 'h.wasm', subscribe = ['a'], publish = ['b'] }",
    );
    let topics: Vec<(&str, i32, i32)> =
        plan.topics.iter().map(|t| (&*t.name, t.partitions, t.replication)).collect();
    assert_eq!(topics, [("a", 12, 2), ("b", 6, 3), ("h.dlq", 6, 2)]);
}

#[test]
fn a_pipeline_without_a_name_is_called_after_its_folder() {
    for (path, name) in [("/srv/Food Shop/pipeline.toml", "food-shop"), ("/pipeline.toml", "pipeline")] {
        let text = "[kafka]\nbrokers = 'embedded'".to_string();
        let loaded = parse(text, Path::new(path), &|_| None, &Overrides::default()).unwrap();
        assert_eq!(loaded.plan.name, name);
    }
}

#[test]
fn placeholders_are_replaced_in_values_alone() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("secret"), "from a file\n").unwrap();
    let text = r#"
        # "${UNSET}" in a comment is nobody's business.
        [kafka]
        brokers = "embedded"
        [kafka.properties]
        "${key}" = "${SET}/${EMPTY:-default}/${EMPTY}/${UNSET:-}/${file:secret}/$${SET}/$/{}"
        toml = "${TOML}"
        number = 5
        yes = true
    "#;
    let env = |name: &str| match name {
        "SET" => Some("value".to_string()),
        "EMPTY" => Some(String::new()),
        "TOML" => Some("\"\nnumber = 6".to_string()),
        _ => None,
    };
    let path = folder.path().join("pipeline.toml");
    let loaded = parse(text.into(), &path, &env, &Overrides::default()).unwrap();
    let properties: Vec<(&str, &str)> =
        loaded.plan.kafka.properties.iter().map(|(name, value)| (name.as_str(), value.expose())).collect();
    assert_eq!(
        properties,
        [
            ("${key}", "value/default///from a file/${SET}/$/{}"),
            ("number", "5"),
            ("toml", "\"\nnumber = 6"),
            ("yes", "true"),
        ]
    );
}

#[test]
fn mail_urls_say_how_the_connection_is_encrypted() {
    let smtp = |url: &str| match smtp::parse(url, Path::new("/"), None, None) {
        Ok(MailPlan::Smtp(smtp)) => (smtp.host, smtp.port, smtp.encryption, smtp.credentials),
        other => panic!("{url}: {other:?}"),
    };
    let secret = |user: &str, password: &str| Some((user.to_string(), Secret::new(password)));
    use SmtpEncryption::*;
    assert_eq!(smtp("smtp://mail"), ("mail".into(), 25, Opportunistic, None));
    assert_eq!(smtp("smtp://mail:2525?tls=opportunistic"), ("mail".into(), 2525, Opportunistic, None));
    assert_eq!(smtp("smtp://mail/?tls=required"), ("mail".into(), 587, StartTls, None));
    assert_eq!(smtp("smtps://a%40b:p%3A%2Fw@mail"), ("mail".into(), 465, Tls, secret("a@b", "p:/w")));
    assert_eq!(smtp("smtp://u:p@127.0.0.1:1"), ("127.0.0.1".into(), 1, Opportunistic, secret("u", "p")));
    assert_eq!(smtp("smtp://u:p@[::1]"), ("::1".into(), 25, Opportunistic, secret("u", "p")));
    assert_eq!(smtp("smtp://u:p@localhost"), ("localhost".into(), 25, Opportunistic, secret("u", "p")));
    for (url, folder) in [("file:out", "/srv/out"), ("file:/tmp/out/", "/tmp/out/"), ("file:///tmp", "/tmp")]
    {
        let mail = smtp::parse(url, Path::new("/srv"), None, None);
        assert!(matches!(&mail, Ok(MailPlan::Folder(is)) if is == Path::new(folder)), "{url}: {mail:?}");
    }
}

#[test]
fn units_and_names_are_read_as_people_write_them() {
    let (ms, hour) = (Duration::from_millis(1), Duration::from_secs(3600));
    for (text, millis) in [("250 ms", 250), ("250ms", 250), ("1m 30s", 90_000), ("5 min", 300_000)] {
        assert_eq!(units::duration(text, ms, hour), Ok(Duration::from_millis(millis)), "{text}");
    }
    for text in ["", "1", "-1 s", "s", "1 fortnight", "0 s", "2 hours", "99999999999999999999 s"] {
        assert!(units::duration(text, ms, hour).is_err(), "{text}");
    }
    for (text, bytes) in [("16 MiB", 16 << 20), ("16MiB", 16 << 20), ("1 MB", 1_000_000), ("42", 42)] {
        assert_eq!(units::size(text, 1, 4 << 30), Ok(bytes), "{text}");
    }
    for text in ["", "MiB", "-1", "0", "1 apple", "5 GiB", "1e99 GiB"] {
        assert!(units::size(text, 1, 4 << 30).is_err(), "{text}");
    }
    for brokers in ["a", "a:1", "a:1, b:2", "[::1]:9092", "[::1]", "10.0.0.1:9092", "SASL_SSL://a:1"] {
        assert_eq!(units::brokers(brokers), Ok(()), "{brokers}");
    }
    for brokers in ["", ",", "a:1,", "a:", ":1", "a:65536", "a b:1"] {
        assert!(units::brokers(brokers).is_err(), "{brokers}");
    }
    assert_eq!(units::topic(&"a".repeat(249)), Ok(()));
    assert!(units::topic(&"a".repeat(250)).is_err());
}
