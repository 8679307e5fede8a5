//! How long an event takes, from when it is due to when its output is read, committed.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use miette::{IntoDiagnostic, miette};
use wasmill_anchors::pace;

use super::Ground;
use super::contestant::{Contestant, Kind};
use crate::cli::broker;
use crate::log::LogError;
use crate::log::kafka::Start;

/// What comes first is left out.
const SETTLING: Duration = Duration::from_secs(1);
/// For the last events to come.
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
    let topic: [Arc<str>; 1] = [task.output.as_str().into()];
    let mut tail = broker::tail(&ground.cluster, &topic, &Start::End)?;
    // It has its place before the first event comes.
    while !tail.caught_up() {
        tail.poll(1, Duration::from_millis(100)).into_diagnostic()?;
    }
    let duration = SETTLING + Duration::from_secs(seconds);
    let (brokers, input, first, bytes) =
        (task.brokers.clone(), task.input.clone(), ground.warm_up(), ground.bytes);
    let pacing = thread::spawn(move || pace(&brokers, &input, first, rate, duration, bytes));
    let settled = micros() + SETTLING.as_micros() as u64;
    let expected = (duration.as_secs_f64() * f64::from(rate)) as u64;
    let until = Instant::now() + duration + PATIENCE;
    let (mut seen, mut took) = (0, Vec::new());
    while seen < expected {
        if Instant::now() > until {
            return Err(miette!("{kind} has done {seen} of {expected} events at {rate}/s"));
        }
        let events = match tail.poll(10_000, Duration::from_millis(20)) {
            Ok(events) => events,
            Err(LogError::Unavailable(_)) => continue,
            Err(error @ LogError::Fatal(_)) => return Err(error).into_diagnostic(),
        };
        let now = micros();
        seen += events.len() as u64;
        let placed = events.iter().filter_map(|event| placed_at_us(event.payload.as_deref()?));
        took.extend(placed.filter(|placed| *placed >= settled).map(|placed| now.saturating_sub(placed)));
    }
    pacing.join().map_err(|_| miette!("the pace has broken down"))?.into_diagnostic()?;
    took.sort_unstable();
    let at = |share: f64| {
        let index = ((took.len() as f64 * share) as usize).min(took.len().saturating_sub(1));
        took.get(index).map_or(f64::NAN, |us| *us as f64 / 1000.0)
    };
    Ok(Latency { p50: at(0.5), p99: at(0.99), p999: at(0.999) })
}

/// Since the Unix epoch.
pub(super) fn micros() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64)
}

/// Cheaper than to parse the whole.
pub(super) fn placed_at_us(payload: &[u8]) -> Option<u64> {
    const NAME: &[u8] = b"\"placed_at_us\":";
    let at = payload.windows(NAME.len()).rposition(|window| window == NAME)? + NAME.len();
    let digits = payload[at..].iter().take_while(|byte| byte.is_ascii_digit());
    Some(digits.fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::placed_at_us;

    #[test]
    fn the_time_is_found_in_a_payload() {
        assert_eq!(placed_at_us(br#"{"a":1,"placed_at_us":1790000000000000}"#), Some(1_790_000_000_000_000));
        assert_eq!(placed_at_us(b"{}"), None);
    }
}
