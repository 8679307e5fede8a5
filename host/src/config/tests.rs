//! Promises about the plan; what mistakes look like stands in tests/config.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

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
fn a_view_shows_the_dead_letters_of_those_who_read_its_topics() {
    let plan = plan(
        "kafka.brokers = 'embedded'
         http.resources.as = { topic = 'a', key = 'id', view = ['a', 'b'] }
         handlers.g = { component = 'g.wasm', subscribe = ['a'], publish = ['b'], dead_letter = 'dead' }
         handlers.h = { component = 'h.wasm', subscribe = ['b', 'c'], publish = ['c'] }
         handlers.i = { component = 'i.wasm', subscribe = ['c'], dead_letter = 'far' }
         sinks.j = { subscribe = ['b'], smtp = 'file:outbox/', dead_letter = 'dead' }",
    );
    let resource = &plan.http.unwrap().resources[0];
    let shown: Vec<&str> = resource.shown().map(AsRef::as_ref).collect();
    assert_eq!(shown, ["a", "b", "dead", "h.dlq"]);
}

#[test]
fn a_pipeline_without_a_name_is_called_after_its_folder() {
    for (path, name) in [("/srv/Wind Farm/pipeline.toml", "wind-farm"), ("/pipeline.toml", "pipeline")] {
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
fn every_certificate_of_a_ca_file_counts() {
    let ca = include_str!("../../tests/config/ca.pem");
    assert_eq!(smtp::trusted(format!("# one\n{ca}\n# and another\n{ca}")).unwrap().certificates.len(), 2);
    let with_a_broken_one = ca.replace("-----END", "!-----END");
    assert!(smtp::trusted(format!("{ca}{with_a_broken_one}")).is_err());
    assert!(smtp::trusted(String::new()).is_err());
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
