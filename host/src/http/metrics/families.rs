//! What `/metrics` tells, in this order.

use std::fmt;

use super::{Family, Samples, Scrape, Tell, TellHistogram};
use crate::event::FailureKind;
use crate::histogram::Histogram;
use crate::status::{Lag, MailFigures, SubscriberReport};

const NONE: &[&str] = &[];
const SUBSCRIBER: &[&str] = &["subscriber"];
const SUBSCRIBER_TOPIC: &[&str] = &["subscriber", "topic"];

pub(in crate::http) const FAMILIES: &[Family] = &[
    counter(
        "wasmill_events_total",
        SUBSCRIBER,
        "Events that were handled; one that is tried again counts each time.",
        |s, tell| each(s, tell, |s| s.status.events),
    ),
    counter(
        "wasmill_outputs_total",
        SUBSCRIBER,
        "Records that were published for them, dead letters apart.",
        |s, tell| each(s, tell, |s| s.status.outputs),
    ),
    counter(
        "wasmill_failures_total",
        &["subscriber", "kind"],
        "Events that failed, each try counted: retry, reject, trap, timeout, memory or contract.",
        |s, tell| {
            for SubscriberReport { status, .. } in &s.report.subscribers {
                // Those too that have not been yet: who looks for a change needs a beginning.
                for kind in FailureKind::ALL {
                    let count = status.figures.failures.get(&kind).copied().unwrap_or_default();
                    tell(&[&status.name, kind.as_str()], count as f64)?;
                }
            }
            Ok(())
        },
    ),
    counter(
        "wasmill_retries_total",
        SUBSCRIBER,
        "Events that were put off, to be tried again.",
        |s, tell| each(s, tell, |s| s.status.retries),
    ),
    counter("wasmill_dead_letters_total", SUBSCRIBER, "Events that became dead letters.", |s, tell| {
        each(s, tell, |s| s.status.dead_letters)
    }),
    counter("wasmill_commits_total", SUBSCRIBER, "Transactions that were committed.", |s, tell| {
        each(s, tell, |s| s.status.commits)
    }),
    counter(
        "wasmill_refusals_total",
        SUBSCRIBER,
        "Turns that the log refused: aborted transactions, a broker that is away.",
        |s, tell| each(s, tell, |s| s.status.refusals),
    ),
    histogram("wasmill_batch_events", SUBSCRIBER, "Events that were handled at a time.", |s, tell| {
        each_histogram(s, tell, |s| Some(&s.status.figures.batch_events))
    }),
    histogram("wasmill_handling_seconds", SUBSCRIBER, "How long a handler took for a batch.", |s, tell| {
        each_histogram(s, tell, |s| Some(&s.status.figures.handling_us))
    }),
    histogram(
        "wasmill_commit_seconds",
        SUBSCRIBER,
        "How long a transaction took, from when it was complete.",
        |s, tell| each_histogram(s, tell, |s| Some(&s.status.figures.commit_us)),
    ),
    histogram(
        "wasmill_since_request_seconds",
        SUBSCRIBER,
        "From an HTTP request to the commit of what its event came to here.",
        |s, tell| each_histogram(s, tell, |s| Some(&s.status.figures.since_request_us)),
    ),
    gauge(
        "wasmill_lag",
        SUBSCRIBER_TOPIC,
        "Events that are not done, in the partitions that this process owns: waiting to be looked at, \
         for their next try, or behind a parked key. Markers of transactions that were not read yet \
         count too; where partitions end is asked every 5 s.",
        |s, tell| lag(s, tell, |lag| lag.events),
    ),
    gauge(
        "wasmill_lag_largest_partition",
        SUBSCRIBER_TOPIC,
        "Of wasmill_lag, what the partition has that has most.",
        |s, tell| lag(s, tell, |lag| lag.largest_partition),
    ),
    gauge("wasmill_parked_keys", SUBSCRIBER, "Keys that wait for the next try of an event.", |s, tell| {
        each(s, tell, |s| s.shards.iter().map(|shard| shard.parked_keys as u64).sum())
    }),
    gauge(
        "wasmill_full_partitions",
        SUBSCRIBER,
        "Partitions that are paused because so much of them waits behind parked keys.",
        |s, tell| each(s, tell, |s| s.shards.iter().map(|shard| shard.full_partitions.len() as u64).sum()),
    ),
    gauge(
        "wasmill_guest_memory_peak_bytes",
        SUBSCRIBER,
        "The most memory that an instance of the running version has had here.",
        |s, tell| {
            for SubscriberReport { status, shards, .. } in &s.report.subscribers {
                if let Some(bytes) = shards.iter().filter_map(|shard| shard.peak_memory_bytes).max() {
                    tell(&[&status.name], bytes as f64)?;
                }
            }
            Ok(())
        },
    ),
    gauge(
        "wasmill_version_info",
        &["subscriber", "digest", "previous"],
        "The running version, and the one before.",
        |s, tell| {
            for SubscriberReport { status, .. } in &s.report.subscribers {
                let previous = status.version.previous.as_deref().unwrap_or_default();
                tell(&[&status.name, &status.digest, previous], 1.0)?;
            }
            Ok(())
        },
    ),
    gauge(
        "wasmill_version_refused",
        SUBSCRIBER,
        "Whether the component's file, as it is now, was refused, so that the version before goes on.",
        |s, tell| each(s, tell, |s| u64::from(s.status.version.refused.is_some())),
    ),
    gauge(
        "wasmill_version_first_offset",
        &["subscriber", "digest", "topic", "partition"],
        "The first offset of each partition that the running version handled.",
        |s, tell| {
            for SubscriberReport { status, .. } in &s.report.subscribers {
                for (place, offset) in &status.version.first_offsets {
                    let (topic, partition) = place.rsplit_once('/').unwrap_or((place, ""));
                    tell(&[&status.name, &status.digest, topic, partition], *offset as f64)?;
                }
            }
            Ok(())
        },
    ),
    counter(
        "wasmill_swaps_total",
        SUBSCRIBER,
        "Changes of the running version, rollbacks included.",
        |s, tell| each(s, tell, |s| s.status.version.swaps),
    ),
    gauge(
        "wasmill_compile_seconds",
        SUBSCRIBER,
        "What compiling the running version took, or reading its code from the cache.",
        |s, tell| {
            for SubscriberReport { status, .. } in &s.report.subscribers {
                if let Some(ms) = status.version.compile_ms {
                    tell(&[&status.name], ms / 1000.0)?;
                }
            }
            Ok(())
        },
    ),
    counter(
        "wasmill_mail_deliveries_total",
        &["subscriber", "result"],
        "Mails that were tried: sent, deferred by the server, refused by it for good, or blocked, for \
         want of a server, an answer or a login.",
        |s, tell| {
            for (name, mail) in mails(s) {
                let results = [
                    ("sent", mail.sent),
                    ("deferred", mail.deferred),
                    ("refused", mail.refused),
                    ("blocked", mail.blocked),
                ];
                for (result, count) in results {
                    tell(&[name, result], count as f64)?;
                }
            }
            Ok(())
        },
    ),
    histogram(
        "wasmill_mail_delivery_seconds",
        SUBSCRIBER,
        "How long a try to deliver a mail took, connecting included.",
        |s, tell| each_histogram(s, tell, |s| s.status.mail.as_ref().map(|mail| &mail.delivery_us)),
    ),
    counter(
        "wasmill_mail_connections_total",
        SUBSCRIBER,
        "Connections to a mail server that were opened.",
        |s, tell| mails(s).try_for_each(|(name, mail)| tell(&[name], mail.connections as f64)),
    ),
    counter(
        "wasmill_http_requests_total",
        &["resource", "method", "status"],
        "Requests to a resource that were answered, by the class of the status.",
        |s, tell| {
            for (resource, methods) in &s.report.requests {
                for (method, answers) in methods {
                    for (status, count) in &answers.by_status {
                        tell(&[resource, method, status], *count as f64)?;
                    }
                }
            }
            Ok(())
        },
    ),
    histogram(
        "wasmill_http_request_seconds",
        &["resource", "method"],
        "From a request to a resource, its headers read, to the beginning of the answer.",
        |s, tell| {
            for (resource, methods) in &s.report.requests {
                for (method, answers) in methods {
                    tell(&[resource, method], &answers.took_us)?;
                }
            }
            Ok(())
        },
    ),
    counter(
        "wasmill_spans_dropped_total",
        NONE,
        "Spans of traces that the collector didn't get.",
        |s, tell| tell(&[], s.report.spans_dropped as f64),
    ),
    gauge("wasmill_broker_up", NONE, "Whether the broker answers.", |s, tell| {
        switch(tell, s.report.broker.reachable)
    }),
    gauge("wasmill_ready", NONE, "What /readyz says.", |s, tell| switch(tell, s.report.ready)),
    counter("wasmill_config_reloads_total", NONE, "Changes of pipeline.toml that were taken.", |s, tell| {
        tell(&[], s.report.config.reloads as f64)
    }),
    counter(
        "wasmill_config_refused_total",
        NONE,
        "Changes of pipeline.toml that were refused.",
        |s, tell| tell(&[], s.report.config.refused as f64),
    ),
    gauge("wasmill_config_ok", NONE, "Whether pipeline.toml, as it is now, is what runs.", |s, tell| {
        switch(tell, s.report.config.error.is_none())
    }),
    // What all programs tell of themselves has no prefix.
    gauge("process_resident_memory_bytes", NONE, "Resident memory size in bytes.", |s, tell| {
        s.process.resident_bytes().map_or(Ok(()), |bytes| tell(&[], bytes as f64))
    }),
    counter(
        "process_cpu_seconds_total",
        NONE,
        "Total user and system CPU time spent in seconds.",
        |s, tell| s.process.processor_seconds().map_or(Ok(()), |seconds| tell(&[], seconds)),
    ),
    gauge("process_threads", NONE, "Number of OS threads in the process.", |s, tell| {
        s.process.threads().map_or(Ok(()), |threads| tell(&[], threads as f64))
    }),
    gauge("process_open_fds", NONE, "Number of open file descriptors.", |s, tell| {
        s.process.files().map_or(Ok(()), |files| tell(&[], files as f64))
    }),
];

type Labels = &'static [&'static str];

const fn counter(
    name: &'static str,
    labels: Labels,
    help: &'static str,
    tell: fn(&Scrape, Tell<'_>) -> fmt::Result,
) -> Family {
    Family { name, labels, help, samples: Samples::Counter(tell) }
}

const fn gauge(
    name: &'static str,
    labels: Labels,
    help: &'static str,
    tell: fn(&Scrape, Tell<'_>) -> fmt::Result,
) -> Family {
    Family { name, labels, help, samples: Samples::Gauge(tell) }
}

const fn histogram(
    name: &'static str,
    labels: Labels,
    help: &'static str,
    tell: fn(&Scrape, TellHistogram<'_>) -> fmt::Result,
) -> Family {
    Family { name, labels, help, samples: Samples::Histogram(tell) }
}

fn each(scrape: &Scrape, tell: Tell<'_>, value: impl Fn(&SubscriberReport) -> u64) -> fmt::Result {
    scrape.report.subscribers.iter().try_for_each(|s| tell(&[&s.status.name], value(s) as f64))
}

fn each_histogram(
    scrape: &Scrape,
    tell: TellHistogram<'_>,
    histogram: impl Fn(&SubscriberReport) -> Option<&Histogram>,
) -> fmt::Result {
    for subscriber in &scrape.report.subscribers {
        if let Some(histogram) = histogram(subscriber) {
            tell(&[&subscriber.status.name], histogram)?;
        }
    }
    Ok(())
}

fn lag(scrape: &Scrape, tell: Tell<'_>, value: impl Fn(&Lag) -> u64) -> fmt::Result {
    for subscriber in &scrape.report.subscribers {
        for (topic, lag) in &subscriber.lag {
            tell(&[&subscriber.status.name, topic], value(lag) as f64)?;
        }
    }
    Ok(())
}

/// Of the sinks that send mails.
fn mails(scrape: &Scrape) -> impl Iterator<Item = (&str, &MailFigures)> {
    let subscribers = scrape.report.subscribers.iter();
    subscribers.filter_map(|s| Some((s.status.name.as_str(), s.status.mail.as_ref()?)))
}

fn switch(tell: Tell<'_>, on: bool) -> fmt::Result {
    tell(&[], f64::from(u8::from(on)))
}
