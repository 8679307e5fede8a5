//! The shipped pipeline.toml, as the plan that it becomes.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use wasmill::config::plan::{Brokers, LimitsPlan, MailPlan, RetryPlan, Secret, SmtpEncryption};
use wasmill::config::{self, ConfigErrors, Loaded, Overrides};

#[test]
fn the_shipped_pipeline_yields_its_plan_without_a_warning() {
    let loaded = shipped(&[]).map_err(|errors| errors.errors).expect("a sound pipeline");
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    let plan = loaded.plan;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf();
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
    assert!(orders.schema.as_ref().is_some_and(|schema| schema.source().is_object()));

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
    // In the order of their names: what hosts tell each other comes last, and has one order.
    let claims = [("wasmill.food-ordering.claims", 1, -1)];
    assert_eq!(topics, expected.into_iter().map(|name| (name, 3, -1)).chain(claims).collect::<Vec<_>>());
}

#[test]
fn the_shipped_pipeline_takes_its_mail_server_from_the_environment() {
    let env = [
        ("SMTP_URL", "smtps://mail.example.com"),
        ("SMTP_USERNAME", "ada"),
        ("SMTP_PASSWORD", "hunter2"),
        ("WASMILL_LISTEN", "0.0.0.0:80"),
    ];
    let plan = shipped(&env).map_err(|errors| errors.errors).expect("a sound pipeline").plan;
    let MailPlan::Smtp(smtp) = &plan.sinks[0].mail else { panic!("{:?}", plan.sinks[0].mail) };
    assert_eq!(
        (smtp.host.as_str(), smtp.port, smtp.encryption),
        ("mail.example.com", 465, SmtpEncryption::Tls)
    );
    assert_eq!(smtp.credentials, Some(("ada".into(), Secret::new("hunter2"))));
    assert!(!format!("{plan:?}").contains("hunter2"));
}

fn shipped(env: &[(&str, &str)]) -> Result<Loaded, ConfigErrors> {
    let env: BTreeMap<&str, &str> = env.iter().copied().collect();
    let env = |name: &str| env.get(name).map(|value| value.to_string());
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("pipeline.toml");
    config::parse(include_str!("../../pipeline.toml").into(), &path, &env, &Overrides::default())
}

fn names(topics: &[Arc<str>]) -> Vec<&str> {
    topics.iter().map(|topic| &**topic).collect()
}
