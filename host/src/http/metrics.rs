//! `/metrics`: the figures of [`Status`], as Prometheus reads them (text format 0.0.4).
//!
//! There is one source of figures: each scrape encodes one report, and nothing is counted a second time. Labels are
//! bounded by pipeline.toml: of versions only the running one has samples.

use std::fmt;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::prometheus_text::{CONTENT_TYPE, encode};
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use super::problem::Problem;
use crate::histogram::Histogram;
use crate::process::Process;
use crate::shard::Figures as OfTurns;
use crate::status::{Report, Status, SubscriberReport, SubscriberStatus};

/// A counter of each subscriber: its name without `wasmill_` and `_total`, what it counts, and where it stands.
type Counter = (&'static str, &'static str, fn(&SubscriberStatus) -> u64);

const COUNTERS: [Counter; 7] = [
    ("events", "Events that were handled, one that is tried again each time.", |s| s.events),
    ("outputs", "Records that were published for them, dead letters apart.", |s| s.outputs),
    ("dead_letters", "Events that became dead letters.", |s| s.dead_letters),
    ("retries", "Events that were put off, to be tried again.", |s| s.retries),
    ("commits", "Transactions that were committed.", |s| s.commits),
    ("refusals", "Turns that the log refused: aborted transactions, a broker that is away.", |s| s.refusals),
    ("swaps", "Changes of the running version, rollbacks included.", |s| s.version.swaps),
];

/// A histogram of each subscriber: its name without `wasmill_`, its unit, what it counts, where it stands, and how many of
/// its numbers are one of the unit.
type Spread = (&'static str, Option<Unit>, &'static str, fn(&OfTurns) -> &Histogram, f64);

const SPREADS: [Spread; 4] = [
    ("batch_events", None, "Events that were handled at a time.", |figures| &figures.batch_events, 1.0),
    (
        "handling",
        Some(Unit::Seconds),
        "How long a handler took for a batch.",
        |figures| &figures.handling_us,
        1e6,
    ),
    (
        "commit",
        Some(Unit::Seconds),
        "How long a transaction took, from when it was complete.",
        |figures| &figures.commit_us,
        1e6,
    ),
    (
        "since_request",
        Some(Unit::Seconds),
        "From an HTTP request to the commit of what its event came to here.",
        |figures| &figures.since_request_us,
        1e6,
    ),
];

pub(super) async fn metrics(State(status): State<Status>) -> Result<Response, Problem> {
    let text = text(status.report()).map_err(|fmt::Error| {
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "metrics", "The metrics can't be written")
    })?;
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response())
}

fn text(report: Report) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("wasmill");
    registry.register_collector(Box::new(Figures(report)));
    let mut text = String::new();
    encode(&mut text, &registry)?;
    // What all programs tell of themselves has no prefix.
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Itself(Process::new(std::process::id()))));
    encode(&mut text, &registry)?;
    Ok(text)
}

/// Where there is no /proc, it says nothing.
#[derive(Debug)]
struct Itself(Process);

impl Collector for Itself {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Self(process) = self;
        let mut families = Families(encoder);
        if let Ok(bytes) = process.resident_bytes() {
            families
                .gauge("process_resident_memory_bytes", "Resident memory size in bytes.")?
                .encode_gauge(&bytes)?;
        }
        if let Ok(seconds) = process.processor_seconds() {
            let help = "Total user and system CPU time spent in seconds.";
            families
                .counter("process_cpu_seconds", help)?
                .encode_counter::<NoLabelSet, _, u64>(&seconds, None)?;
        }
        if let Ok(threads) = process.threads() {
            families
                .gauge("process_threads", "Number of OS threads in the process.")?
                .encode_gauge(&threads)?;
        }
        if let Ok(files) = process.files() {
            families
                .gauge("process_open_fds", "Number of open file descriptors.")?
                .encode_gauge(&(files as u64))?;
        }
        Ok(())
    }
}

#[derive(Debug)]
struct Figures(Report);

impl Collector for Figures {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Self(report) = self;
        let mut families = Families(encoder);
        for (name, help, value) in COUNTERS {
            let mut family = families.counter(name, help)?;
            for subscriber in &report.subscribers {
                let labels = [("subscriber", &*subscriber.status.name)];
                count(family.encode_family(&labels)?, value(&subscriber.status))?;
            }
        }
        let mut failures = families.counter("failures", "Events that failed, each try counted.")?;
        for SubscriberReport { status, .. } in &report.subscribers {
            for (kind, number) in &status.figures.failures {
                let labels = [("subscriber", status.name.as_str()), ("kind", kind.as_str())];
                count(failures.encode_family(&labels)?, *number)?;
            }
        }
        for (name, unit, help, histogram, one) in SPREADS {
            let mut family =
                families.0.encode_descriptor(name, help, unit.as_ref(), MetricType::Histogram)?;
            for SubscriberReport { status, .. } in &report.subscribers {
                let labels = [("subscriber", status.name.as_str())];
                spread(family.encode_family(&labels)?, histogram(&status.figures), one)?;
            }
        }
        self.versions(&mut families)?;

        let help = "Keys that wait for the next try of an event.";
        let mut parked = families.gauge("parked_keys", help)?;
        for SubscriberReport { status, shards } in &report.subscribers {
            let keys: usize = shards.iter().map(|shard| shard.parked_keys).sum();
            parked.encode_family(&[("subscriber", &*status.name)])?.encode_gauge(&(keys as u64))?;
        }
        let help = "Partitions that are paused because so much of them waits behind parked keys.";
        let mut full = families.gauge("full_partitions", help)?;
        for SubscriberReport { status, shards } in &report.subscribers {
            let partitions: usize = shards.iter().map(|shard| shard.full_partitions.len()).sum();
            full.encode_family(&[("subscriber", &*status.name)])?.encode_gauge(&(partitions as u64))?;
        }

        families.switch("broker_up", "Whether the broker answers.", report.broker.reachable)?;
        families.switch("ready", "What /readyz says.", report.ready)?;
        let config = &report.config;
        count(
            families.counter("config_reloads", "Changes of pipeline.toml that were taken.")?,
            config.reloads,
        )?;
        count(
            families.counter("config_refused", "Changes of pipeline.toml that were refused.")?,
            config.refused,
        )?;
        let help = "Whether pipeline.toml, as it is now, is what runs.";
        families.switch("config_ok", help, config.error.is_none())
    }
}

impl Figures {
    /// Of each subscriber's running version.
    fn versions(&self, families: &mut Families<'_>) -> fmt::Result {
        let subscribers = || {
            let Self(report) = self;
            report.subscribers.iter().map(|SubscriberReport { status, .. }| (status, &status.version))
        };
        let help = "The running version, and the one before.";
        let mut info = families.0.encode_descriptor("version", help, None, MetricType::Info)?;
        for (SubscriberStatus { name, digest, .. }, version) in subscribers() {
            let previous = version.previous.as_deref().unwrap_or_default();
            info.encode_info(&[("subscriber", name.as_str()), ("digest", digest), ("previous", previous)])?;
        }
        let help = "What compiling the running version took.";
        let mut compile =
            families.0.encode_descriptor("compile", help, Some(&Unit::Seconds), MetricType::Gauge)?;
        for (SubscriberStatus { name, .. }, version) in subscribers() {
            if let Some(ms) = version.compile_ms {
                compile.encode_family(&[("subscriber", name.as_str())])?.encode_gauge(&(ms / 1000.0))?;
            }
        }
        let help = "The first offset of each partition that the running version handled.";
        let mut first = families.gauge("version_first_offset", help)?;
        for (SubscriberStatus { name, digest, .. }, version) in subscribers() {
            for (place, offset) in &version.first_offsets {
                let (topic, partition) = place.rsplit_once('/').unwrap_or((place, ""));
                let labels = [
                    ("subscriber", name.as_str()),
                    ("digest", digest),
                    ("topic", topic),
                    ("partition", partition),
                ];
                first.encode_family(&labels)?.encode_gauge(offset)?;
            }
        }
        Ok(())
    }
}

struct Families<'a>(DescriptorEncoder<'a>);

impl Families<'_> {
    fn counter<'s>(&'s mut self, name: &'s str, help: &str) -> Result<MetricEncoder<'s>, fmt::Error> {
        self.0.encode_descriptor(name, help, None, MetricType::Counter)
    }

    fn gauge<'s>(&'s mut self, name: &'s str, help: &str) -> Result<MetricEncoder<'s>, fmt::Error> {
        self.0.encode_descriptor(name, help, None, MetricType::Gauge)
    }

    fn switch(&mut self, name: &str, help: &str, on: bool) -> fmt::Result {
        self.gauge(name, help)?.encode_gauge(&u32::from(on))
    }
}

/// Numbers of which so many are one of the unit.
fn spread(mut encoder: MetricEncoder<'_>, histogram: &Histogram, one: f64) -> fmt::Result {
    let bound = |bound: Option<u64>| bound.map_or(f64::INFINITY, |bound| bound as f64 / one);
    let buckets: Vec<_> = histogram.buckets().map(|(of, count)| (bound(of), count)).collect();
    encoder.encode_histogram::<NoLabelSet>(histogram.sum() as f64 / one, histogram.count(), &buckets, None)
}

fn count(mut counter: MetricEncoder<'_>, value: u64) -> fmt::Result {
    counter.encode_counter::<NoLabelSet, _, u64>(&value, None)
}
