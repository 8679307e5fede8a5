//! How fast: all events are there at once, and the contestant has them to itself.

use std::ops::Range;
use std::sync::Arc;

use miette::miette;
use serde_json::Value;
use wasmill_anchors::{Task, details, order};

use super::Ground;
use super::contestant::{Contestant, Kind, ends, load, offsets};
use crate::cli::broker;
use crate::event::{Event, TopicPartition};
use crate::process::Process;

/// Of one round.
#[derive(Clone, Copy, Debug)]
pub(super) struct Throughput {
    pub(super) events_per_s: f64,
    /// User and system.
    pub(super) cpu_us_per_event: f64,
    pub(super) commits_per_s: f64,
    pub(super) peak_memory_mb: f64,
}

pub(super) fn round(ground: &Ground, kind: Kind, events: u64) -> miette::Result<Throughput> {
    let task = ground.task(kind)?;
    let mut contestant = Contestant::start(ground, kind, &task)?;
    let mut offsets = offsets(ground)?;
    let topic: [Arc<str>; 1] = [task.output.as_str().into()];
    let refused = |error| broker::refused(&ground.cluster, error);
    let before = offsets.extents(&topic).map_err(refused)?;
    let processor = contestant.sum(Process::processor_seconds)?;

    let warm_up = ground.warm_up();
    load(&task, warm_up..warm_up + events, ground.bytes)?;
    contestant.until_quiet(ground, &task, warm_up + events)?;

    let processor = contestant.sum(Process::processor_seconds)? - processor;
    let peak_memory_mb = contestant.sum(|process| Ok(process.peak_bytes()? as f64 / 1e6))?;
    let markers_and_all = ends(ground, &mut offsets, &task.output)?;
    let markers_before =
        before.values().map(|extent| u64::try_from(extent.end).unwrap_or_default()).sum::<u64>();
    let commits = markers_and_all.saturating_sub(markers_before + events);

    let after = offsets.extents(&topic).map_err(refused)?;
    let mut first = i64::MAX;
    let mut last = i64::MIN;
    for (partition, extent) in &after {
        let from = before.get(partition).map_or(extent.start, |extent| extent.end);
        // The markers of transactions are among the offsets.
        let early = read(ground, partition, from..(from + 50).min(extent.end))?;
        let late = read(ground, partition, (extent.end - 50).max(from)..extent.end)?;
        for event in early.first().into_iter().chain(late.last()) {
            check(&task, event, ground.bytes)?;
            let at = event.timestamp_ms.unwrap_or_default();
            (first, last) = (first.min(at), last.max(at));
        }
    }
    let seconds = (last - first).max(1) as f64 / 1000.0;
    Ok(Throughput {
        events_per_s: events as f64 / seconds,
        cpu_us_per_event: processor * 1e6 / events as f64,
        commits_per_s: commits as f64 / seconds / f64::from(ground.partitions),
        peak_memory_mb,
    })
}

fn read(ground: &Ground, partition: &TopicPartition, range: Range<i64>) -> miette::Result<Vec<Event>> {
    let mut events = Vec::new();
    let mut tail = broker::within(&ground.cluster, &[(partition.clone(), range)].into())?;
    broker::read_to_the_end(&mut tail, &ground.cluster, |event| events.push(event))?;
    Ok(events)
}

/// Who does less work, or other work, is not measured.
fn check(task: &Task, output: &Event, bytes: usize) -> miette::Result<()> {
    let payload = output.payload.as_deref().unwrap_or_default();
    let value: Value = serde_json::from_slice(payload).unwrap_or_default();
    let number = output.key.as_deref().and_then(|key| std::str::from_utf8(key).ok()?.get(2..)?.parse().ok());
    let placed = value["placed_at_us"].as_u64();
    let expected = number.zip(placed).and_then(|(n, at)| details(order(n, at, bytes).1.as_bytes()).ok());
    if expected.as_deref() == Some(payload) {
        Ok(())
    } else {
        Err(miette!(
            "{} has made something else of its event: {}",
            task.name,
            crate::text::cut(&crate::text::one_line(&String::from_utf8_lossy(payload)), 300)
        ))
    }
}
