//! /metrics, read as Prometheus reads it.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::event::{FailureKind, TopicPartition};
use crate::http::metrics::FAMILIES;
use crate::shard::Reached;
use crate::status::{Extents, MailFigures, Parked, SubscriberStatus, VersionStatus};

/// One sample: its labels and its value.
type Sample = (BTreeMap<String, String>, f64);

/// The families of a text, by name; panics where it is not the text format 0.0.4.
struct Scrape {
    types: BTreeMap<String, String>,
    samples: BTreeMap<String, Vec<Sample>>,
}

impl Scrape {
    fn parse(text: &str) -> Self {
        let (mut types, mut samples) = (BTreeMap::new(), BTreeMap::<String, Vec<Sample>>::new());
        let mut helped: Option<&str> = None;
        assert!(text.ends_with('\n'));
        for line in text.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, help) = help.split_once(' ').expect("a help");
                assert!(help.ends_with('.'), "{line}");
                helped = Some(name);
            } else if let Some(typed) = line.strip_prefix("# TYPE ") {
                let (name, kind) = typed.split_once(' ').expect("a type");
                assert_eq!(helped, Some(name), "each type follows its help");
                assert!(types.insert(name.to_string(), kind.to_string()).is_none(), "{name} comes twice");
            } else {
                let (name, labels, value) = sample(line);
                let of_histogram =
                    ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
                let family =
                    of_histogram.filter(|name| types.get(*name).is_some_and(|kind| kind == "histogram"));
                assert_eq!(helped, Some(family.unwrap_or(&name)), "each sample follows its own type");
                let known = samples.entry(name).or_default();
                assert!(known.iter().all(|(others, _)| *others != labels), "{line} comes twice");
                known.push((labels, value));
            }
        }
        Self { types, samples }
    }

    fn labelled(&self, name: &str) -> &[Sample] {
        self.samples.get(name).map_or(&[], Vec::as_slice)
    }

    fn value(&self, name: &str) -> f64 {
        let [(labels, value)] = self.labelled(name) else { panic!("{name} has not one sample") };
        assert!(labels.is_empty() || labels.keys().eq(["subscriber"]), "{labels:?}");
        *value
    }
}

/// `name{label="value",…} number`, with `\\`, `\"` and `\n` in values.
fn sample(line: &str) -> (String, BTreeMap<String, String>, f64) {
    let end = line.find(['{', ' ']).expect("a name's end");
    let (name, mut rest) = line.split_at(end);
    assert!(name.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{line}");
    let mut labels = BTreeMap::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        while !rest.starts_with('}') {
            let (label, value) = rest.split_once("=\"").expect("a label");
            let (mut text, mut chars) = (String::new(), value.char_indices());
            let end = loop {
                match chars.next().expect("a closing quote") {
                    (at, '"') => break at,
                    (_, '\\') => match chars.next().expect("what is escaped").1 {
                        'n' => text.push('\n'),
                        escaped @ ('\\' | '"') => text.push(escaped),
                        other => panic!("\\{other} in {line}"),
                    },
                    (_, plain) => text.push(plain),
                }
            };
            assert!(labels.insert(label.to_string(), text).is_none(), "{line}");
            rest = value[end + 1..].trim_start_matches(',');
        }
        rest = &rest[1..];
    }
    (name.into(), labels, rest.strip_prefix(' ').expect("a value").parse().expect("a number"))
}

async fn scrape(server: &Server) -> Scrape {
    let answer = server.get("/metrics").await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    Scrape::parse(std::str::from_utf8(&answer.body).unwrap())
}

fn labels<const N: usize>(labels: [(&str, &str); N]) -> BTreeMap<String, String> {
    labels.into_iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
}

#[tokio::test]
async fn every_figure_of_the_status_is_there_under_its_documented_name() {
    let server = server().await;
    server.status.add_subscriber(SubscriberStatus {
        name: "sender".into(),
        digest: "abc".into(),
        events: 1,
        outputs: 2,
        dead_letters: 3,
        retries: 4,
        commits: 5,
        refusals: 6,
        version: VersionStatus {
            previous: Some("012".into()),
            swaps: 7,
            compile_ms: Some(1250.0),
            first_offsets: [("parcels/0".into(), 8), ("parcels_sent/12".into(), 0)].into(),
            refused: Some("no component".into()),
            ..VersionStatus::default()
        },
        mail: Some(MailFigures { sent: 12, deferred: 13, connections: 14, ..MailFigures::default() }),
        ..SubscriberStatus::default()
    });
    let parcels = |partition| TopicPartition { topic: "parcels".into(), partition };
    let ends = [(parcels(0), 100), (parcels(1), 50)].into();
    server.status.extents(Extents { ends, ..Extents::default() });
    for shard in 0..2 {
        server.status.shard_comes("sender", shard);
        let parked = Parked { count: 4, keys: vec![], full: vec![format!("parcels/{shard}")] };
        server.status.parked("sender", shard, parked);
        let reached = Reached { next: Some(40), undone: 3 };
        let peak = Some(100 + shard as usize);
        server.status.reached("sender", shard, [(parcels(shard as i32), reached)].into(), peak);
    }
    server.get("/parcels/unknown").await;
    server.status.update("sender", |status| {
        for us in [7, 1500, 400_000_000] {
            status.figures.handling_us.record(us);
        }
        status.figures.batch_events.record(1000);
        if let Some(mail) = &mut status.mail {
            mail.delivery_us.record(20_000);
        }
        status.figures.failures.insert(FailureKind::Timeout, 11);
    });
    // The first one is no change.
    for _ in 0..10 {
        server.status.config_loaded();
    }
    for _ in 0..10 {
        server.status.config_refused("no TOML");
    }
    server.status.broker_answered(Ok(()));
    let found = scrape(&server).await;

    for (name, value, kind) in [
        ("wasmill_events_total", 1.0, "counter"),
        ("wasmill_outputs_total", 2.0, "counter"),
        ("wasmill_dead_letters_total", 3.0, "counter"),
        ("wasmill_retries_total", 4.0, "counter"),
        ("wasmill_commits_total", 5.0, "counter"),
        ("wasmill_refusals_total", 6.0, "counter"),
        ("wasmill_swaps_total", 7.0, "counter"),
        ("wasmill_compile_seconds", 1.25, "gauge"),
        ("wasmill_guest_memory_peak_bytes", 101.0, "gauge"),
        ("wasmill_version_refused", 1.0, "gauge"),
        ("wasmill_mail_connections_total", 14.0, "counter"),
        ("wasmill_parked_keys", 8.0, "gauge"),
        ("wasmill_full_partitions", 2.0, "gauge"),
        ("wasmill_broker_up", 1.0, "gauge"),
        ("wasmill_ready", 0.0, "gauge"),
        ("wasmill_config_reloads_total", 9.0, "counter"),
        ("wasmill_config_refused_total", 10.0, "counter"),
        ("wasmill_config_ok", 0.0, "gauge"),
    ] {
        assert_eq!((found.value(name), &*found.types[name]), (value, kind), "{name}");
    }
    let info = [("subscriber", "sender"), ("digest", "abc"), ("previous", "012")];
    assert_eq!(found.labelled("wasmill_version_info"), [(labels(info), 1.0)]);
    let first = |topic, partition| {
        labels([("subscriber", "sender"), ("digest", "abc"), ("topic", topic), ("partition", partition)])
    };
    assert_eq!(
        found.labelled("wasmill_version_first_offset"),
        [(first("parcels", "0"), 8.0), (first("parcels_sent", "12"), 0.0)]
    );
    let of_topic = || labels([("subscriber", "sender"), ("topic", "parcels")]);
    assert_eq!(found.labelled("wasmill_lag"), [(of_topic(), 76.0)]);
    assert_eq!(found.labelled("wasmill_lag_largest_partition"), [(of_topic(), 63.0)]);
    let result = |result| labels([("subscriber", "sender"), ("result", result)]);
    let results = [("sent", 12.0), ("deferred", 13.0), ("refused", 0.0), ("blocked", 0.0)];
    let results = results.map(|(name, count)| (result(name), count));
    assert_eq!(found.labelled("wasmill_mail_deliveries_total"), results);
    let request = labels([("resource", "parcels"), ("method", "GET"), ("status", "4xx")]);
    assert_eq!(found.labelled("wasmill_http_requests_total"), [(request, 1.0)]);
    let request = labels([("resource", "parcels"), ("method", "GET")]);
    assert_eq!(found.labelled("wasmill_http_request_seconds_count"), [(request, 1.0)]);
    assert_eq!(found.value("wasmill_mail_delivery_seconds_sum"), 0.02);

    let kinds = FailureKind::ALL.map(|kind| {
        let labels = labels([("subscriber", "sender"), ("kind", kind.as_str())]);
        (labels, if kind == FailureKind::Timeout { 11.0 } else { 0.0 })
    });
    assert_eq!(found.labelled("wasmill_failures_total"), kinds);
    let bucket = |name: &str, le: &str| {
        let wanted = labels([("subscriber", "sender"), ("le", le)]);
        let buckets = found.labelled(&format!("{name}_bucket"));
        buckets.iter().find(|(labels, _)| *labels == wanted).map(|(_, count)| *count)
    };
    for (le, count) in [("5e-06", 0.0), ("1e-05", 1.0), ("0.002", 2.0), ("100", 2.0), ("+Inf", 3.0)] {
        assert_eq!(bucket("wasmill_handling_seconds", le), Some(count), "{le}");
    }
    assert_eq!(found.value("wasmill_handling_seconds_sum"), 400.001507);
    assert_eq!(found.value("wasmill_handling_seconds_count"), 3.0);
    assert_eq!(
        (bucket("wasmill_batch_events", "500"), bucket("wasmill_batch_events", "1000")),
        (Some(0.0), Some(1.0))
    );
    #[cfg(target_os = "linux")]
    for name in
        ["process_resident_memory_bytes", "process_cpu_seconds_total", "process_threads", "process_open_fds"]
    {
        assert!(found.value(name) >= 0.0);
    }
    let table: BTreeMap<_, _> =
        FAMILIES.iter().map(|family| (family.name.to_string(), family.kind().as_str().to_string())).collect();
    assert_eq!((found.types.len(), found.types), (FAMILIES.len(), table));
}

#[tokio::test]
async fn before_there_are_subscribers_the_text_is_sound_already() {
    let server = server().await;
    let found = scrape(&server).await;
    assert_eq!(found.labelled("wasmill_events_total"), []);
    assert_eq!((found.value("wasmill_broker_up"), found.value("wasmill_config_ok")), (0.0, 1.0));
}

#[tokio::test]
async fn labels_come_back_as_they_were_whatever_is_in_them() {
    let server = server().await;
    let names = ["plain", "a\"b", "back\\slash", "line\nbreak", "é{},="];
    for name in names {
        server.status.add_subscriber(SubscriberStatus { name: name.into(), ..Default::default() });
    }
    let found = scrape(&server).await;
    let shown: BTreeSet<_> = found
        .labelled("wasmill_events_total")
        .iter()
        .map(|(labels, _)| labels["subscriber"].as_str())
        .collect();
    assert_eq!(shown, BTreeSet::from(names));
}
