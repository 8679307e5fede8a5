//! What `simulate` prints in the end, as a table or as JSON.

use std::fmt;
use std::time::Duration;

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use serde::Serialize;

use super::journeys::Journeys;
use crate::histogram::percentile;
use crate::text;

#[derive(Serialize)]
pub(super) struct Report {
    posted: u64,
    refused: u64,
    /// What the host said and how often, the most frequent first.
    refusals: Vec<Refusal>,
    /// In the last topic of the view, or in a dead letter topic.
    done: u64,
    missing: u64,
    dead_lettered: u64,
    /// From the first POST until all were done, or were followed no longer.
    seconds: f64,
    /// Why they were followed no longer: the broker has gone.
    broker_gone: Option<String>,
    /// From a POST to its answer.
    answer: Latency,
    /// From a POST until its record was seen in each topic of the view, and in each dead letter topic
    /// that got any.
    topics: Vec<TopicReport>,
    seed: u32,
}

#[derive(Serialize)]
struct Refusal {
    count: u64,
    reason: String,
}

#[derive(Serialize)]
struct TopicReport {
    topic: String,
    dead_letters: bool,
    /// Keys of ours that were seen here.
    seen: u64,
    /// Records beyond the first of each key.
    repeated: u64,
    #[serde(flatten)]
    latency: Latency,
}

/// Null where nothing was seen.
#[derive(Serialize)]
struct Latency {
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
}

impl Report {
    pub(super) fn new(journeys: &Journeys, seed: u32, took: Duration, broker_gone: Option<String>) -> Self {
        let mut refusals: Vec<_> = journeys
            .refusals
            .iter()
            .map(|(reason, count)| Refusal { count: *count, reason: reason.clone() })
            .collect();
        refusals.sort_by_key(|refusal| std::cmp::Reverse(refusal.count));
        Self {
            posted: journeys.answers.len() as u64 + journeys.refused(),
            refused: journeys.refused(),
            refusals,
            done: journeys.done(),
            missing: journeys.missing(),
            dead_lettered: journeys.posted().filter(|j| j.is_dead_lettered(journeys.view)).count() as u64,
            seconds: (took.as_secs_f64() * 1000.0).round() / 1000.0,
            broker_gone,
            answer: Latency::new(journeys.answers.clone()),
            topics: (0..journeys.topics.len())
                .map(|topic| TopicReport::new(journeys, topic))
                .filter(|report| !report.dead_letters || report.seen > 0)
                .collect(),
            seed,
        }
    }

    /// Whether the host took all, and all are done.
    pub(super) fn is_complete(&self) -> bool {
        self.refused == 0 && self.missing == 0
    }
}

impl TopicReport {
    fn new(journeys: &Journeys, topic: usize) -> Self {
        let latencies: Vec<_> = journeys.posted().filter_map(|journey| journey.latency(topic)).collect();
        let seen = latencies.len() as u64;
        let records: u64 = journeys.posted().map(|journey| u64::from(journey.count(topic))).sum();
        Self {
            topic: journeys.topics[topic].to_string(),
            dead_letters: topic >= journeys.view,
            seen,
            repeated: records - seen,
            latency: Latency::new(latencies),
        }
    }
}

impl Latency {
    fn new(mut latencies: Vec<Duration>) -> Self {
        latencies.sort_unstable();
        let ms = |percent| {
            let latency = percentile(&latencies, percent)?;
            Some((latency.as_secs_f64() * 10_000.0).round() / 10.0)
        };
        Self { p50_ms: ms(50.0), p99_ms: ms(99.0) }
    }

    fn cells(&self) -> [String; 2] {
        [self.p50_ms, self.p99_ms].map(|ms| ms.map_or("-".into(), |ms| format!("{ms:.1} ms")))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new();
        table.load_preset(NOTHING).set_header(["topic", "seen", "repeated", "p50", "p99"]);
        let [p50, p99] = self.answer.cells();
        table.add_row([
            "POST answered".into(),
            (self.posted - self.refused).to_string(),
            String::new(),
            p50,
            p99,
        ]);
        for topic in &self.topics {
            let [p50, p99] = topic.latency.cells();
            table.add_row([
                topic.topic.clone(),
                topic.seen.to_string(),
                topic.repeated.to_string(),
                p50,
                p99,
            ]);
        }
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        writeln!(f, "{}\n", table.trim_fmt())?;
        write!(
            f,
            "{} posted, followed for {:.1} s: {} done, {} missing, {} refused, {} of the done as dead letters \
             (seed {})",
            self.posted, self.seconds, self.done, self.missing, self.refused, self.dead_lettered, self.seed
        )?;
        for Refusal { count, reason } in self.refusals.iter().take(5) {
            write!(f, "\nrefused {}: {}", text::count(*count, "time"), text::one_line(reason))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_are_told_to_a_tenth_of_a_millisecond() {
        let latency = Latency::new((1..=200).rev().map(Duration::from_millis).collect());
        assert_eq!((latency.p50_ms, latency.p99_ms), (Some(100.0), Some(198.0)));
        let latency = Latency::new(vec![Duration::from_micros(1_540)]);
        assert_eq!((latency.p50_ms, latency.p99_ms), (Some(1.5), Some(1.5)));
        let latency = Latency::new(Vec::new());
        assert_eq!((latency.p50_ms, latency.p99_ms), (None, None));
    }
}
