//! How long an event takes, from when it is due to when its output is read, committed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use miette::{IntoDiagnostic, WrapErr, miette};
use wasmill_anchors::{micros, pace, placed_at_us};

use super::Ground;
use super::contestant::{Contestant, Kind};
use crate::cli::broker;
use crate::event::Event;
use crate::histogram::percentile;
use crate::log::LogError;
use crate::log::kafka::{Start, Tail};

/// What comes first is left out.
const SETTLING: Duration = Duration::from_secs(1);
/// For the reader to take its place, and for the last events to come.
const PATIENCE: Duration = Duration::from_secs(20);

/// Of one round, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Latency {
    pub(super) p50: f64,
    pub(super) p99: f64,
    pub(super) p999: f64,
}

pub(super) fn round(ground: &Ground, kind: Kind, rate: u32, seconds: u64) -> miette::Result<Latency> {
    let task = ground.task(kind)?;
    let _contestant = Contestant::start(ground, kind, &task)?;
    let duration = SETTLING + Duration::from_secs(seconds);
    let until = Instant::now() + duration + PATIENCE;
    let topic: [Arc<str>; 1] = [task.output.as_str().into()];
    let mut tail = broker::tail(&ground.cluster, &topic, &Start::End)?;
    // It has its place before the first event comes.
    while !tail.caught_up() {
        if Instant::now() > until {
            return Err(miette!("the end of {} can't be reached", task.output));
        }
        poll(&mut tail, Duration::from_millis(100))?;
    }
    let (first, bytes) = (ground.warm_up(), ground.bytes);
    let settled = micros() + SETTLING.as_micros() as u64;
    let expected = (duration.as_secs_f64() * f64::from(rate)) as u64;
    let stop = AtomicBool::new(false);
    let mut took = thread::scope(|scope| {
        let mut pacing =
            Some(scope.spawn(|| pace(&task.brokers, &task.input, first, rate, duration, bytes, &stop)));
        // Why events don't come, if the load is to blame.
        let paced = || {
            ground.may_go_on()?;
            match pacing.take_if(|pacing| pacing.is_finished()) {
                Some(pacing) => {
                    pacing.join().map_err(|_| miette!("the load has broken down"))?.into_diagnostic()
                }
                None => Ok(()),
            }
        };
        let took = listen(&mut tail, expected, settled, until, paced);
        // Of no use to anybody any more, and joined where the scope ends.
        stop.store(true, Ordering::Relaxed);
        took
    })
    .wrap_err_with(|| format!("{kind} at {rate}/s"))?;
    took.sort_unstable();
    let ms = |percent| percentile(&took, percent).map_or(f64::NAN, |us| us as f64 / 1000.0);
    Ok(Latency { p50: ms(50.0), p99: ms(99.0), p999: ms(99.9) })
}

/// How long each of so many events took, in microseconds, but for those that were due before all had settled.
fn listen(
    tail: &mut Tail,
    expected: u64,
    settled: u64,
    until: Instant,
    mut paced: impl FnMut() -> miette::Result<()>,
) -> miette::Result<Vec<u64>> {
    let (mut seen, mut took) = (0, Vec::new());
    while seen < expected {
        paced()?;
        if Instant::now() > until {
            return Err(miette!("{seen} of {expected} events are done"));
        }
        let events = poll(tail, Duration::from_millis(20))?;
        let now = micros();
        seen += events.len() as u64;
        let placed = events.iter().filter_map(|event| placed_at_us(event.payload.as_deref()?));
        took.extend(placed.filter(|placed| *placed >= settled).map(|placed| now.saturating_sub(placed)));
    }
    Ok(took)
}

/// A broker that is away for a moment is part of what is measured.
fn poll(tail: &mut Tail, wait: Duration) -> miette::Result<Vec<Event>> {
    match tail.poll(10_000, wait) {
        Ok(events) => Ok(events),
        Err(LogError::Unavailable(_)) => Ok(Vec::new()),
        Err(error @ LogError::Fatal(_)) => Err(error).into_diagnostic(),
    }
}
