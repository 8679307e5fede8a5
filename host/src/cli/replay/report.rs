//! What `wasmill replay` prints: how many events came out how, and some of the differences.

use std::fmt;

use serde::Serialize;
use serde_json::Value;

use super::compare::Fate;
use super::difference::{FailureShown, OutputShown, Shown, What};
use crate::text::{count, cut, one_line, readable, short};

/// Bytes of a value, and changes of an output, that are shown to people.
const VALUE: usize = 200;
const CHANGES: usize = 20;

/// What `--json` prints.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    handler: String,
    /// The sha-256 of the component that ran.
    digest: String,
    pub(super) counts: Counts,
    #[serde(rename = "differences")]
    pub(super) shown: Vec<Shown>,
}

/// Events.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Counts {
    equal: u64,
    changed: u64,
    missing: u64,
    new: u64,
    failed: u64,
    mended: u64,
    // These have not run.
    pub(super) not_handled_yet: u64,
    pub(super) for_others: u64,
}

impl Counts {
    pub(super) fn add(&mut self, fate: Fate) {
        *match fate {
            Fate::Equal => &mut self.equal,
            Fate::Changed => &mut self.changed,
            Fate::Missing => &mut self.missing,
            Fate::New => &mut self.new,
            Fate::Failed => &mut self.failed,
            Fate::Mended => &mut self.mended,
        } += 1;
    }

    pub(super) fn replayed(&self) -> u64 {
        self.equal + self.differing()
    }

    pub(super) fn differing(&self) -> u64 {
        self.changed + self.missing + self.new + self.failed + self.mended
    }
}

impl Report {
    pub(super) fn new(handler: &str, digest: &str) -> Self {
        let (handler, digest) = (handler.into(), digest.into());
        Self { handler, digest, counts: Counts::default(), shown: Vec::new() }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for shown in &self.shown {
            writeln!(f, "{shown}")?;
        }
        let differing = self.counts.differing();
        if differing > self.shown.len() as u64 {
            let more = count(differing - self.shown.len() as u64, "more difference");
            writeln!(f, "({more}: `--show N` shows so many)")?;
        }
        let Counts { equal, changed, missing, new, failed, mended, not_handled_yet, for_others } =
            self.counts;
        let ran = count(equal + differing, "event");
        write!(f, "{}, {}: {ran} replayed, {equal} equal", self.handler, short(&self.digest))?;
        let others = [
            (changed, "changed"),
            (missing, "missing"),
            (new, "new"),
            (failed, "failed"),
            (mended, "mended"),
            (not_handled_yet, "not handled yet"),
            (for_others, "put back for another handler"),
        ];
        others.iter().filter(|(n, _)| *n > 0).try_for_each(|(n, what)| write!(f, ", {n} {what}"))
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { position, fate, failed_before, fails_now, outputs, more_outputs, reordered } = self;
        write!(f, "{} {}", one_line(position), fate.as_str())?;
        for (when, failure) in [("failed before", failed_before), ("fails now", fails_now)] {
            if let Some(FailureShown { kind, message }) = failure {
                let message = readable(message).replace('\n', "\n    ");
                write!(f, "\n  {when}: {}: {message}", one_line(kind))?;
            }
        }
        outputs.iter().try_for_each(|output| write!(f, "\n{output}"))?;
        if *more_outputs > 0 {
            write!(f, "\n  and {}", count(*more_outputs as u64, "more output"))?;
        }
        if *reordered {
            write!(f, "\n  its outputs come in another order")?;
        }
        Ok(())
    }
}

impl fmt::Display for OutputShown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, topic, key, changes, payload, .. } = self;
        let sign = match what {
            What::Changed => '~',
            What::Dropped => '-',
            What::Added => '+',
        };
        let key = key.as_ref().map_or_else(|| "(no key)".into(), plain);
        write!(f, "  {sign} {} {key}", one_line(topic))?;
        if *what != What::Changed {
            write!(f, " {}", payload.as_ref().map_or_else(|| "(null)".into(), plain))?;
        }
        for change in changes.iter().take(CHANGES) {
            let of = |value: &Option<Value>| value.as_ref().map_or_else(|| "nothing".into(), quoted);
            write!(f, "\n      {}: {} -> {}", line(&change.at), of(&change.before), of(&change.now))?;
        }
        match changes.len().saturating_sub(CHANGES) {
            0 => Ok(()),
            more => write!(f, "\n      and {}", count(more as u64, "more change")),
        }
    }
}

/// As JSON, so that a text can be told from a number, and nothing from an empty one.
fn quoted(value: &Value) -> String {
    line(&value.to_string())
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| quoted(value), line)
}

fn line(text: &str) -> String {
    one_line(&cut(text, VALUE))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::difference::Change;
    use super::*;

    fn report() -> Report {
        let mut report = Report::new("h", "0123456789abcdef");
        for fate in [Fate::Equal, Fate::Changed, Fate::Mended, Fate::Failed] {
            report.counts.add(fate);
        }
        report.counts.not_handled_yet = 3;
        let output = |what, changes, payload| OutputShown {
            what,
            topic: "out".into(),
            key: Some("k\u{1b}[2J".into()),
            position: None,
            changes,
            payload,
        };
        let changes = vec![
            Change { at: "/a\u{9b}".into(), before: Some(json!("1\n\u{1b}")), now: Some(json!(1)) },
            Change { at: "/b".into(), before: None, now: Some(json!({"c": "\u{9b}"})) },
        ];
        let shown = |fate, outputs| Shown {
            position: "in/0/7".into(),
            fate,
            failed_before: None,
            fails_now: None,
            outputs,
            more_outputs: 0,
            reordered: false,
        };
        let failure = || Some(FailureShown { kind: "trap".into(), message: "boom\u{7}\nat x".into() });
        report.shown = vec![
            Shown { reordered: true, ..shown(Fate::Changed, vec![output(What::Changed, changes, None)]) },
            Shown {
                failed_before: failure(),
                more_outputs: 2,
                ..shown(Fate::Mended, vec![output(What::Added, vec![], Some(json!({"a": 1})))])
            },
        ];
        report
    }

    #[test]
    fn differences_are_shown_and_nothing_commands_the_terminal() {
        assert_eq!(
            report().to_string(),
            "in/0/7 changed\n  \
               ~ out k\u{fffd}[2J\n      \
                   /a\u{fffd}: \"1\\n\\u001b\" -> 1\n      \
                   /b: nothing -> {\"c\":\"\u{fffd}\"}\n  \
               its outputs come in another order\n\
             in/0/7 mended\n  \
               failed before: trap: boom\u{fffd}\n    at x\n  \
               + out k\u{fffd}[2J {\"a\":1}\n  \
               and 2 more outputs\n\
             (1 more difference: `--show N` shows so many)\n\
             h, 0123456789ab: 4 events replayed, 1 equal, 1 changed, 1 failed, 1 mended, 3 not handled yet"
        );
    }

    #[test]
    fn programs_get_all_counts() {
        let counts = &serde_json::to_value(report()).unwrap()["counts"];
        assert_eq!(
            *counts,
            json!({"equal": 1, "changed": 1, "missing": 0, "new": 0, "failed": 1, "mended": 1,
                   "not_handled_yet": 3, "for_others": 0})
        );
    }
}
