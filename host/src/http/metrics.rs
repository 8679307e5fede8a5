//! `/metrics`: the figures of [`Status`], as Prometheus reads them (text format 0.0.4).
//!
//! There is one source of figures: each scrape encodes one report, and nothing is counted a second time. And there is one
//! table of what is told, [`families`]: docs/reference/metrics.md is made of it, and says what bounds the labels.

mod families;

use std::fmt;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::prometheus_text::{CONTENT_TYPE, encode};
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::problem::Problem;
use crate::histogram::Histogram;
use crate::process::Process;
use crate::status::{Report, Status};

pub(super) use families::FAMILIES;

/// Samples of one name.
pub(super) struct Family {
    /// As it is printed. It ends with its unit, and a counter's with `_total`.
    pub(super) name: &'static str,
    pub(super) labels: &'static [&'static str],
    pub(super) help: &'static str,
    pub(super) samples: Samples,
}

/// Tells each sample: the values of its labels, and its own.
pub(super) enum Samples {
    Counter(fn(&Scrape, Tell<'_>) -> fmt::Result),
    Gauge(fn(&Scrape, Tell<'_>) -> fmt::Result),
    /// Of whole numbers: where the unit is seconds, of microseconds.
    Histogram(fn(&Scrape, TellHistogram<'_>) -> fmt::Result),
}

pub(super) type Tell<'a> = &'a mut dyn FnMut(&[&str], f64) -> fmt::Result;
pub(super) type TellHistogram<'a> = &'a mut dyn FnMut(&[&str], &Histogram) -> fmt::Result;

/// What there is to tell.
#[derive(Debug)]
pub(super) struct Scrape {
    report: Report,
    /// Where there is no /proc, it says nothing.
    process: Process,
}

pub(super) async fn metrics(State(status): State<Status>) -> Result<Response, Problem> {
    let text = text(status.report()).map_err(|fmt::Error| {
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "metrics", "The metrics can't be written")
    })?;
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response())
}

fn text(report: Report) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Scrape { report, process: Process::new(std::process::id()) }));
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        FAMILIES.iter().try_for_each(|family| family.encode(self, &mut encoder))
    }
}

impl Family {
    pub(super) fn kind(&self) -> MetricType {
        match self.samples {
            Samples::Counter(_) => MetricType::Counter,
            Samples::Gauge(_) => MetricType::Gauge,
            Samples::Histogram(_) => MetricType::Histogram,
        }
    }

    /// The name without what the encoder adds to a counter's.
    fn stem(&self) -> &'static str {
        self.name.strip_suffix("_total").unwrap_or(self.name)
    }

    /// None of plain numbers.
    pub(super) fn unit(&self) -> Option<&'static str> {
        ["seconds", "bytes"].into_iter().find(|unit| self.stem().ends_with(unit))
    }

    fn encode(&self, scrape: &Scrape, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut family = encoder.encode_descriptor(self.stem(), self.help, None, self.kind())?;
        match self.samples {
            Samples::Counter(tell) => tell(scrape, &mut |labels, value| {
                self.sample(&mut family, labels, |mut sample| {
                    sample.encode_counter::<NoLabelSet, _, u64>(&value, None)
                })
            }),
            Samples::Gauge(tell) => tell(scrape, &mut |labels, value| {
                self.sample(&mut family, labels, |mut sample| sample.encode_gauge(&value))
            }),
            Samples::Histogram(tell) => {
                let one = if self.unit() == Some("seconds") { 1e6 } else { 1.0 };
                tell(scrape, &mut |labels, histogram| {
                    self.sample(&mut family, labels, |sample| spread(sample, histogram, one))
                })
            }
        }
    }

    fn sample(
        &self,
        family: &mut MetricEncoder<'_>,
        values: &[&str],
        encode: impl FnOnce(MetricEncoder<'_>) -> fmt::Result,
    ) -> fmt::Result {
        let labels: Vec<_> = self.labels.iter().copied().zip(values.iter().copied()).collect();
        encode(family.encode_family(&labels)?)
    }
}

/// Numbers of which so many are one of the unit.
fn spread(mut encoder: MetricEncoder<'_>, histogram: &Histogram, one: f64) -> fmt::Result {
    let bound = |bound: Option<u64>| bound.map_or(f64::INFINITY, |bound| bound as f64 / one);
    let buckets: Vec<_> = histogram.buckets().map(|(of, count)| (bound(of), count)).collect();
    encoder.encode_histogram::<NoLabelSet>(histogram.sum() as f64 / one, histogram.count(), &buckets, None)
}
