//! How fast: all events are there at once, and the contestant has them to itself.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;

use miette::miette;
use wasmill_anchors::{Task, details, number, order, placed_at_us};

use super::Ground;
use super::contestant::{Contestant, Kind, extents, load, offsets};
use crate::cli::broker;
use crate::event::{Event, TopicPartition};
use crate::process::Process;
use crate::text;

/// Of one round.
#[derive(Clone, Copy, Debug)]
pub(super) struct Throughput {
    pub(super) events_per_s: f64,
    /// User and system.
    pub(super) cpu_us_per_event: f64,
    /// Of a partition of the output, on average: a transaction counts in each partition that it touches. Only of one partition
    /// it is what the contestant commits.
    pub(super) commits_per_s: f64,
    pub(super) peak_memory_mb: f64,
}

pub(super) fn round(ground: &Ground, kind: Kind, events: u64) -> miette::Result<Throughput> {
    let task = ground.task(kind)?;
    let mut contestant = Contestant::start(ground, kind, &task)?;
    let mut offsets = offsets(ground)?;
    let before = extents(ground, &mut offsets, &task.output)?;
    let processor = contestant.sum(Process::processor_seconds)?;

    let warm_up = ground.warm_up();
    let visible_ms = load(&task, warm_up..warm_up + events, ground.bytes)? / 1000;
    let processor = contestant.until_done(ground, &task)? - processor;
    let peak_memory_mb = contestant.sum(|process| Ok(process.peak_bytes()? as f64 / 1e6))?;
    let after = extents(ground, &mut offsets, &task.output)?;
    let made: BTreeMap<_, _> = after
        .into_iter()
        .map(|(partition, extent)| {
            let from = before.get(&partition).map_or(extent.start, |extent| extent.end);
            (partition, from..extent.end)
        })
        .collect();
    let Outputs { last_ms } = outputs(ground, &task, warm_up..warm_up + events, &made)?;
    // What is no record is the marker of a transaction in that partition.
    let offsets: i64 = made.values().map(|range| range.end - range.start).sum();
    let commits = offsets.unsigned_abs() - events;
    let seconds = last_ms.saturating_sub(visible_ms).max(1) as f64 / 1000.0;
    Ok(Throughput {
        events_per_s: events as f64 / seconds,
        cpu_us_per_event: processor * 1e6 / events as f64,
        commits_per_s: commits as f64 / seconds / f64::from(ground.partitions),
        peak_memory_mb,
    })
}

struct Outputs {
    /// When the last one was sent.
    last_ms: u64,
}

/// Reads all: who has not made one output of each event, or has made another one, is not measured.
fn outputs(
    ground: &Ground,
    task: &Task,
    numbers: Range<u64>,
    made: &BTreeMap<TopicPartition, Range<i64>>,
) -> miette::Result<Outputs> {
    let mut missing: HashSet<u64> = numbers.collect();
    let mut wrong = None;
    let mut last_ms = 0;
    let mut tail = broker::within(&ground.cluster, made)?;
    broker::read_to_the_end(&mut tail, &ground.cluster, |output| {
        let number = output.key.as_deref().and_then(number).filter(|number| missing.remove(number));
        if wrong.is_none() && !number.is_some_and(|number| is_right(number, &output, ground.bytes)) {
            wrong = Some(output.payload.unwrap_or_default());
        }
        last_ms = last_ms.max(output.timestamp_ms.unwrap_or_default().unsigned_abs());
    })?;
    if let Some(payload) = wrong {
        let payload = text::cut(&text::one_line(&String::from_utf8_lossy(&payload)), 300);
        return Err(miette!(
            "{} has made something else of an event, or made it twice: {payload}",
            task.name
        ));
    }
    if !missing.is_empty() {
        return Err(miette!("{} has left out {} events", task.name, missing.len()));
    }
    Ok(Outputs { last_ms })
}

fn is_right(number: u64, output: &Event, bytes: usize) -> bool {
    let payload = output.payload.as_deref().unwrap_or_default();
    let expected =
        placed_at_us(payload).and_then(|placed| details(order(number, placed, bytes).1.as_bytes()).ok());
    expected.as_deref() == Some(payload)
}
