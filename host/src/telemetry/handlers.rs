//! What the log knows of each handler and sink of the plan: from which level on its lines are shown, how many its component
//! may print, and the newest of them.
//!
//! A line is a handler's if its field `handler` names it. Lines of the target `guest` are what a component prints: whatever it
//! does, it can't fill the log with them, or the disk. What is left out is counted, and told once in a while.

use std::collections::{BTreeMap, VecDeque};
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use tracing::level_filters::LevelFilter;
use tracing::{Metadata, warn};

/// The target of what components print.
pub(super) const PRINTED: &str = "guest";
/// Printed lines of a handler: so many at once, and a second.
const AT_ONCE: u32 = 1000;
const A_SECOND: u32 = 100;
/// How often it is told how many were left out.
const TELL: Duration = Duration::from_secs(10);

/// Lines of a handler that are kept, and their bytes.
const LINES: usize = 200;
const BYTES: usize = 64 * 1024;

/// Shared by the layers of the log and those who run handlers and show them; cheap to clone.
#[derive(Clone, Default)]
pub struct HandlerLogs(Arc<Mutex<BTreeMap<String, HandlerLog>>>);

#[derive(Default)]
struct HandlerLog {
    level: Option<LevelFilter>,
    /// Each printed line pays with its share of a second; this is when all of them are paid for.
    paid_at: Option<Instant>,
    left_out: Option<LeftOut>,
    newest: VecDeque<Line>,
    bytes: usize,
    /// How many there were.
    count: u64,
}

struct LeftOut {
    lines: u64,
    since: Instant,
}

/// As `/admin/handlers/NAME/logs` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// Counts the handler's lines, those that are gone included.
    pub number: u64,
    /// Since the Unix epoch.
    pub at_ms: i64,
    pub level: &'static str,
    /// By the component; the others are the host's.
    pub printed: bool,
    pub message: String,
    /// The id of the one trace that it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
    /// What else it says, by name.
    pub fields: BTreeMap<&'static str, String>,
}

impl HandlerLogs {
    /// These are the handlers and sinks of the plan now, with the level of each that has its own. Of others nothing is kept.
    pub fn follow<'a>(&self, named: impl IntoIterator<Item = (&'a str, Option<LevelFilter>)>) {
        let mut handlers = self.lock();
        let mut before = mem::take(&mut *handlers);
        for (name, level) in named {
            let known = before.remove(name).unwrap_or_default();
            handlers.insert(name.into(), HandlerLog { level, ..known });
        }
        drop(handlers);
        for (name, HandlerLog { left_out, .. }) in before {
            left_out.inspect(|left_out| left_out.tell(&name));
        }
        // Lines that nobody wanted so far aren't even made.
        tracing_core::callsite::rebuild_interest_cache();
    }

    /// The newest lines of a handler, the oldest of them first; none where there is no such handler.
    pub fn newest(&self, handler: &str) -> Option<Vec<Line>> {
        self.lock().get(handler).map(|log| log.newest.iter().cloned().collect())
    }

    /// Tells what was left out if it is time; at the end it is. To be called again and again.
    pub fn tell_left_out(&self, at_the_end: bool) {
        let is_due = |left_out: &mut LeftOut| at_the_end || left_out.since.elapsed() >= TELL;
        let due: Vec<_> = self
            .lock()
            .iter_mut()
            .filter_map(|(name, log)| Some((name.clone(), log.left_out.take_if(is_due)?)))
            .collect();
        // Not under the lock, which each line takes.
        due.iter().for_each(|(name, left_out)| left_out.tell(name));
    }

    /// The highest level that is shown of any handler because the plan says so.
    pub(super) fn highest(&self) -> LevelFilter {
        self.lock().values().filter_map(|log| log.level).max().unwrap_or(LevelFilter::OFF)
    }

    /// Whether a line of a handler is shown; a printed one, which may stand for `several` that were left out before, is
    /// counted if it isn't because there are too many.
    pub(super) fn admits(
        &self,
        handler: &str,
        metadata: &Metadata<'_>,
        several: Option<u64>,
        by_default: impl FnOnce() -> bool,
    ) -> bool {
        let mut handlers = self.lock();
        let Some(log) = handlers.get_mut(handler) else { return by_default() };
        let is_shown = log.level.map_or_else(by_default, |highest| *metadata.level() <= highest);
        is_shown && (metadata.target() != PRINTED || log.may_print(Instant::now(), several.unwrap_or(1)))
    }

    /// The line's number is made here.
    pub(super) fn keep(&self, handler: &str, line: Line) {
        if let Some(log) = self.lock().get_mut(handler) {
            log.keep(line);
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, HandlerLog>> {
        // Lines are plain data: a panic in between leaves nothing half-done that matters.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HandlerLog {
    fn may_print(&mut self, now: Instant, lines: u64) -> bool {
        let paid_at =
            self.paid_at.map_or(now, |paid_at| paid_at.max(now)) + Duration::from_secs(1) / A_SECOND;
        let is_affordable = paid_at - now <= Duration::from_secs(1) * AT_ONCE / A_SECOND;
        if is_affordable {
            self.paid_at = Some(paid_at);
        } else {
            self.left_out.get_or_insert(LeftOut { lines: 0, since: now }).lines += lines;
        }
        is_affordable
    }

    fn keep(&mut self, line: Line) {
        self.count += 1;
        self.bytes += line.bytes();
        self.newest.push_back(Line { number: self.count, ..line });
        while self.newest.len() > LINES || self.bytes > BYTES {
            let Some(oldest) = self.newest.pop_front() else { break };
            self.bytes -= oldest.bytes();
        }
    }
}

impl LeftOut {
    fn tell(&self, handler: &str) {
        let Self { lines: left_out, since } = self;
        let seconds = since.elapsed().as_secs().max(1);
        warn!(
            handler,
            left_out,
            "{left_out} more lines that the component printed are left out, of the last {seconds} s: more than {A_SECOND} a \
             second are too many"
        );
    }
}

impl Line {
    /// About what it holds in memory.
    fn bytes(&self) -> usize {
        let fields: usize = self.fields.iter().map(|(name, value)| name.len() + value.len()).sum();
        size_of::<Self>() + self.message.len() + self.trace.as_ref().map_or(0, String::len) + fields
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_may_be_printed_at_once_and_so_many_a_second_and_the_rest_is_counted() {
        let (mut log, start) = (HandlerLog::default(), Instant::now());
        let mut printed = |second: u64, tried: usize| {
            let now = start + Duration::from_secs(second);
            (0..tried).filter(|_| log.may_print(now, 1)).count()
        };
        assert_eq!(printed(0, 1500), 1000);
        assert_eq!(printed(0, 10), 0);
        assert_eq!(printed(3, 1000), 300);
        assert_eq!(printed(3600, 1001), 1000);
        assert!(!log.may_print(start + Duration::from_secs(3600), 800));
        let LeftOut { lines, since } = log.left_out.unwrap();
        assert_eq!((lines, since), (500 + 10 + 700 + 1 + 800, start));
    }

    #[test]
    fn the_newest_lines_are_kept_within_their_number_and_their_bytes() {
        let line = |message: String| Line {
            number: 0,
            at_ms: 0,
            level: "info",
            printed: true,
            message,
            trace: None,
            fields: BTreeMap::new(),
        };
        let mut log = HandlerLog::default();
        (0..250).for_each(|number| log.keep(line(number.to_string())));
        assert_eq!((log.newest.len(), &*log.newest[0].message, log.newest[0].number), (LINES, "50", 51));
        (0..30).for_each(|_| log.keep(line("x".repeat(4096))));
        assert!(log.newest.len() > 10 && log.newest.iter().map(Line::bytes).sum::<usize>() <= BYTES);
        log.keep(line("x".repeat(2 * BYTES)));
        assert_eq!((log.newest.len(), log.bytes), (0, 0));
    }

    #[test]
    fn of_those_who_are_not_in_the_plan_nothing_is_kept() {
        let logs = HandlerLogs::default();
        logs.follow([("one", None), ("two", Some(LevelFilter::DEBUG))]);
        assert_eq!((logs.newest("one"), logs.newest("three")), (Some(Vec::new()), None));
        assert_eq!(logs.highest(), LevelFilter::DEBUG);
        logs.follow([("one", Some(LevelFilter::WARN))]);
        assert_eq!((logs.newest("two"), logs.highest()), (None, LevelFilter::WARN));
    }
}
