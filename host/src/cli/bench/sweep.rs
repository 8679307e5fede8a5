//! How throughput and latency depend on the size of a batch and of a payload: what `bench --plot` draws.

use std::collections::BTreeMap;

use serde::Serialize;
use wasmill_anchors::SMALLEST_ORDER;

use super::contestant::Kind;
use super::{Ground, LEAST_EVENTS, latency, most_events, throughput};

const BATCHES: [u32; 4] = [10, 100, 1000, 5000];
/// In bytes.
const PAYLOADS: [u32; 5] = [SMALLEST_ORDER as u32, 313, 1000, 10_000, 100_000];
/// Of a round.
const MOST_BATCHES: u64 = 1000;
/// Events a second at which latency is measured, unless some contestant's peak is less than twice that.
const RATE: f64 = 1000.0;

#[derive(Debug, Serialize)]
pub(super) struct Sweep {
    /// Over the events of a batch.
    pub(super) batch: Vec<Point>,
    /// Over the bytes of a payload.
    pub(super) payload: Vec<Point>,
}

#[derive(Debug, Serialize)]
pub(super) struct Point {
    pub(super) size: u32,
    /// At which latency was measured.
    pub(super) rate: u32,
    pub(super) figures: BTreeMap<&'static str, Figures>,
}

/// Of a contestant, in one round.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Figures {
    pub(super) events_per_s: f64,
    pub(super) p99_ms: f64,
}

/// With what `ground` says of all else.
pub(super) fn sweep(ground: &Ground, events: u64, seconds: u64) -> miette::Result<Sweep> {
    let of_batch = |batch| point(&Ground { batch, ..ground.clone() }, batch, events, seconds);
    let of_payload =
        |bytes| point(&Ground { bytes: bytes as usize, ..ground.clone() }, bytes, events, seconds);
    Ok(Sweep {
        batch: BATCHES.into_iter().map(of_batch).collect::<Result<_, _>>()?,
        payload: PAYLOADS.into_iter().map(of_payload).collect::<Result<_, _>>()?,
    })
}

fn point(ground: &Ground, size: u32, events: u64, seconds: u64) -> miette::Result<Point> {
    let Ground { batch, bytes, bar, .. } = ground;
    let events = events.min(most_events(*bytes)).min(MOST_BATCHES * u64::from(*batch)).max(LEAST_EVENTS);
    let mut peaks = BTreeMap::new();
    for kind in Kind::ALL {
        bar.set_message(format!("batches of {batch}, {bytes} bytes, throughput: {kind}"));
        peaks.insert(kind, throughput::round(ground, kind, events)?.events_per_s);
    }
    let slowest = peaks.values().copied().fold(f64::INFINITY, f64::min);
    let rate = RATE.min(slowest / 2.0).max(1.0) as u32;
    let mut figures = BTreeMap::new();
    for (kind, events_per_s) in peaks {
        bar.set_message(format!("batches of {batch}, {bytes} bytes, {rate}/s: {kind}"));
        let p99_ms = latency::round(ground, kind, rate, seconds)?.p99;
        figures.insert(kind.as_str(), Figures { events_per_s, p99_ms });
    }
    Ok(Point { size, rate, figures })
}
