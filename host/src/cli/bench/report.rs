//! What `bench` prints in the end, as tables or as JSON.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use miette::{IntoDiagnostic, WrapErr};
use serde::Serialize;

use super::contestant::Kind;
use super::latency::Latency;
use super::sweep::Sweep;
use super::throughput::Throughput;
use crate::histogram::median;
use crate::text::count;

pub(super) struct Report {
    settings: Settings,
    throughput: BTreeMap<Kind, Vec<Throughput>>,
    latency: BTreeMap<u32, BTreeMap<Kind, Vec<Latency>>>,
    sweep: Option<Sweep>,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Settings {
    pub(super) batch: u32,
    pub(super) payload_bytes: u32,
    pub(super) partitions: u32,
    /// Of the host.
    pub(super) processes: u32,
    pub(super) events: u64,
    pub(super) rounds: u32,
}

/// Over the rounds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
struct Spread {
    min: f64,
    median: f64,
    max: f64,
}

impl Spread {
    fn of(figures: impl Iterator<Item = f64>) -> Self {
        let mut figures: Vec<f64> = figures.collect();
        figures.sort_by(f64::total_cmp);
        let or_nan = |figure: Option<f64>| figure.unwrap_or(f64::NAN);
        Self {
            min: or_nan(figures.first().copied()),
            median: or_nan(median(&figures)),
            max: or_nan(figures.last().copied()),
        }
    }
}

#[derive(Debug, Serialize)]
pub(super) struct Summary<'a> {
    settings: Settings,
    throughput: Vec<Figure>,
    latency: Vec<AtRate>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sweep: Option<&'a Sweep>,
}

#[derive(Debug, Serialize)]
struct AtRate {
    events_per_s: u32,
    figures: Vec<Figure>,
}

/// One thing that was measured of each contestant.
#[derive(Debug, Serialize)]
struct Figure {
    name: &'static str,
    plain: Spread,
    overlapped: Spread,
    host: Spread,
    /// Of the medians.
    host_to_plain: f64,
    host_to_overlapped: f64,
}

impl Figure {
    fn new<T>(name: &'static str, of: &BTreeMap<Kind, Vec<T>>, figure: impl Fn(&T) -> f64) -> Self {
        let spread = |kind| Spread::of(of.get(&kind).into_iter().flatten().map(&figure));
        let [plain, overlapped, host] = Kind::ALL.map(spread);
        let ratio = |native: Spread| host.median / native.median;
        Self {
            name,
            plain,
            overlapped,
            host,
            host_to_plain: ratio(plain),
            host_to_overlapped: ratio(overlapped),
        }
    }
}

impl Report {
    pub(super) fn new(settings: Settings) -> Self {
        Self { settings, throughput: BTreeMap::new(), latency: BTreeMap::new(), sweep: None }
    }

    pub(super) fn throughput(&mut self, kind: Kind, round: Throughput) {
        self.throughput.entry(kind).or_default().push(round);
    }

    pub(super) fn latency(&mut self, rate: u32, kind: Kind, round: Latency) {
        self.latency.entry(rate).or_default().entry(kind).or_default().push(round);
    }

    pub(super) fn sweep(&mut self, sweep: Sweep) {
        self.sweep = Some(sweep);
    }

    /// What the slowest contestant does, in events a second, by the medians of the rounds.
    pub(super) fn slowest(&self) -> f64 {
        let medians =
            self.throughput.values().map(|of| Spread::of(of.iter().map(|round| round.events_per_s)).median);
        medians.fold(f64::INFINITY, f64::min)
    }

    pub(super) fn json(&self) -> miette::Result<String> {
        serde_json::to_string_pretty(&self.summary()).into_diagnostic()
    }

    /// What is known so far: a bench takes minutes, and one that breaks off has measured something too.
    pub(super) fn write(&self, file: &Path) -> miette::Result<()> {
        fs::write(file, self.json()?)
            .into_diagnostic()
            .wrap_err_with(|| format!("can't write {}", file.display()))
    }

    fn summary(&self) -> Summary<'_> {
        let figure = |name, figure: fn(&Throughput) -> f64| Figure::new(name, &self.throughput, figure);
        // How many partitions a transaction touches is each contestant's own way.
        let commits = if self.settings.partitions == 1 { "commits/s" } else { "commits/s a partition" };
        Summary {
            settings: self.settings.clone(),
            throughput: vec![
                figure("events/s", |round| round.events_per_s),
                figure("cpu us/event", |round| round.cpu_us_per_event),
                figure(commits, |round| round.commits_per_s),
                figure("peak memory MB", |round| round.peak_memory_mb),
            ],
            latency: self
                .latency
                .iter()
                .map(|(rate, of)| AtRate {
                    events_per_s: *rate,
                    figures: vec![
                        Figure::new("p50 ms", of, |round| round.p50),
                        Figure::new("p99 ms", of, |round| round.p99),
                        Figure::new("p99.9 ms", of, |round| round.p999),
                    ],
                })
                .collect(),
            sweep: self.sweep.as_ref(),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Summary { settings, throughput, latency, .. } = self.summary();
        let Settings { batch, payload_bytes, partitions, processes, events, rounds } = settings;
        writeln!(
            f,
            "{rounds} rounds of {events} events of {payload_bytes} bytes, batches of {batch}, {}, {} of the host; \
             min / median / max\n",
            count(partitions.into(), "partition"),
            if processes == 1 { "one process".into() } else { format!("{processes} processes") }
        )?;
        let mut table = Table::new();
        table.load_preset(NOTHING).set_header([
            "",
            "plain",
            "overlapped",
            "host",
            "host/plain",
            "host/overlapped",
        ]);
        (1..6)
            .filter_map(|n| table.column_mut(n).map(|column| column.set_cell_alignment(CellAlignment::Right)))
            .count();
        throughput.iter().for_each(|figure| add(&mut table, figure.name.into(), figure));
        for AtRate { events_per_s, figures } in &latency {
            figures
                .iter()
                .for_each(|figure| add(&mut table, format!("{} at {events_per_s}/s", figure.name), figure));
        }
        write!(f, "{}", table.trim_fmt())
    }
}

fn add(table: &mut Table, name: String, figure: &Figure) {
    let Figure { plain, overlapped, host, host_to_plain, host_to_overlapped, .. } = figure;
    let spread = |Spread { min, median, max }: &Spread| {
        let number =
            |number: &f64| if *number >= 1000.0 { format!("{number:.0}") } else { format!("{number:.2}") };
        format!("{} / {} / {}", number(min), number(median), number(max))
    };
    table.add_row([
        name,
        spread(plain),
        spread(overlapped),
        spread(host),
        format!("{host_to_plain:.2}"),
        format!("{host_to_overlapped:.2}"),
    ]);
}

#[cfg(test)]
mod tests {
    use super::super::contestant::Native;
    use super::*;

    #[test]
    fn a_ratio_is_of_the_medians() {
        let settings =
            Settings { batch: 1000, payload_bytes: 313, partitions: 1, processes: 1, events: 10, rounds: 3 };
        let mut report = Report::new(settings);
        let round = |events_per_s| Throughput {
            events_per_s,
            cpu_us_per_event: 1.0,
            commits_per_s: 1.0,
            peak_memory_mb: 1.0,
        };
        for (host, plain) in [(10.0, 8.0), (30.0, 20.0), (20.0, 10.0)] {
            report.throughput(Kind::Host, round(host));
            report.throughput(Kind::Native(Native::Plain), round(plain));
        }
        let figure = &report.summary().throughput[0];
        assert_eq!((figure.host.min, figure.host.median, figure.host.max), (10.0, 20.0, 30.0));
        assert_eq!((report.slowest(), figure.host_to_plain), (10.0, 2.0));
    }
}
