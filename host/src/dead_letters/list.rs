//! How many events failed, of which handler and why.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::fmt;
use std::time::Duration;

use comfy_table::Table;
use comfy_table::presets::NOTHING;
use serde::Serialize;

use super::Subscriber;
use super::letter::Failed;
use super::marks::{self, Marks};
use crate::event::{Event, Position, now_ms};
use crate::log::kafka::{Cluster, Tail};
use crate::reading;
use crate::text::{count, cut, one_line};

/// Bytes of a message in the table.
const MESSAGE: usize = 60;
/// Bytes of a key in the table.
const KEY: usize = 40;

/// Reads these letters, those left out that are in `settled`. Of each handler and cause only those of `cause`, if there is
/// one; and the newest of them one by one, at most `each`.
pub(crate) fn list(
    tail: &mut Tail,
    cluster: &Cluster,
    settled: &Marks,
    wanted: &Listing<'_>,
    progress: impl Fn(u64),
) -> miette::Result<Listed> {
    let mut groups = Groups::default();
    let mut newest = Newest::default();
    let see = |letter: Event| {
        let is_asked_for = wanted.of.is_none_or(|of| of.has(&letter)) && (wanted.takes)(&letter);
        if !is_asked_for || marks::is_settled(settled, &letter) {
            return;
        }
        if groups.add(&letter, wanted.cause) && wanted.each > 0 {
            newest.add(&letter, wanted.each);
        }
    };
    reading::read_to_the_end(tail, cluster, see, progress)?;
    let letters = (wanted.each > 0).then(|| newest.oldest_first());
    Ok(Listed { groups: groups.0.into_values().collect(), letters, now_ms: now_ms() })
}

/// Which are listed, and how.
pub(crate) struct Listing<'a> {
    /// Only those of this one: others may share its topic.
    pub(crate) of: Option<&'a Subscriber<'a>>,
    /// Whether it is from the time that was asked for.
    pub(crate) takes: &'a dyn Fn(&Event) -> bool,
    /// Only those that failed so.
    pub(crate) cause: Option<&'a str>,
    /// Letters that are listed one by one, too: the newest.
    pub(crate) each: usize,
}

#[derive(Serialize)]
pub(crate) struct Listed {
    groups: Vec<Group>,
    #[serde(skip_serializing_if = "Option::is_none")]
    letters: Option<Vec<Letter>>,
    #[serde(skip)]
    now_ms: i64,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Letter {
    /// As `topic/partition/offset`.
    position: String,
    /// As text.
    key: Option<String>,
    cause: String,
    /// Milliseconds since the epoch: when it failed for good.
    failed_ms: Option<i64>,
    message: String,
}

/// Of many letters those that failed last. The partitions of their topics are not read in the order of time.
#[derive(Default)]
struct Newest(BinaryHeap<Reverse<(Option<i64>, Position, Letter)>>);

impl Newest {
    /// At most so many stay.
    fn add(&mut self, letter: &Event, most: usize) {
        let (position, letter) = (letter.position.clone(), Letter::of(letter));
        self.0.push(Reverse((letter.failed_ms, position, letter)));
        if self.0.len() > most {
            self.0.pop();
        }
    }

    fn oldest_first(self) -> Vec<Letter> {
        self.0.into_sorted_vec().into_iter().rev().map(|Reverse((.., letter))| letter).collect()
    }
}

impl Letter {
    fn of(letter: &Event) -> Self {
        let failed = Failed::of(letter);
        Self {
            position: letter.position.to_string(),
            key: letter.key.as_deref().map(|key| String::from_utf8_lossy(key).into_owned()),
            cause: failed.cause().to_string(),
            failed_ms: failed.last_failed_ms.or(letter.timestamp_ms),
            message: failed.message.unwrap_or_default(),
        }
    }
}

/// Dead letters of one handler and one cause.
#[derive(Debug, PartialEq, Serialize)]
struct Group {
    handler: String,
    cause: String,
    count: u64,
    /// Milliseconds since the epoch: when the first of them failed for good.
    oldest_ms: Option<i64>,
    newest_ms: Option<i64>,
    /// The newest, as `topic/partition/offset`, and what it says.
    newest: String,
    message: String,
}

/// By handler and cause.
#[derive(Default)]
struct Groups(BTreeMap<(String, String), Group>);

impl Groups {
    /// Whether it is one that was asked for.
    fn add(&mut self, letter: &Event, cause: Option<&str>) -> bool {
        let failed = Failed::of(letter);
        let kind = failed.cause().to_string();
        if cause.is_some_and(|cause| cause != kind) {
            return false;
        }
        let handler = failed.handler.unwrap_or_else(|| letter.position.topic.to_string());
        let at = failed.last_failed_ms.or(letter.timestamp_ms);
        let group = self.0.entry((handler.clone(), kind.clone())).or_insert_with(|| Group {
            handler,
            cause: kind,
            count: 0,
            oldest_ms: at,
            newest_ms: None,
            newest: String::new(),
            message: String::new(),
        });
        group.count += 1;
        group.oldest_ms = group.oldest_ms.min(at);
        if at >= group.newest_ms {
            group.newest_ms = at;
            group.newest = letter.position.to_string();
            group.message = failed.message.unwrap_or_default();
        }
        true
    }
}

impl Listed {
    fn ago(&self, ms: Option<i64>) -> String {
        let ago =
            ms.map(|ms| Duration::from_secs(u64::try_from(self.now_ms - ms).unwrap_or_default() / 1000));
        ago.map(|ago| humantime::format_duration(ago).to_string()).unwrap_or_default()
    }

    fn each(&self, letters: &[Letter], all: u64) -> String {
        let mut table = Table::new();
        table.load_preset(NOTHING).set_header(["letter", "key", "cause", "age", "message"]);
        for letter in letters {
            table.add_row([
                letter.position.clone(),
                one_line(&cut(letter.key.as_deref().unwrap_or_default(), KEY)),
                one_line(&letter.cause),
                self.ago(letter.failed_ms),
                one_line(&cut(&letter.message, MESSAGE)),
            ]);
        }
        let rest = all - letters.len() as u64;
        let more =
            if rest > 0 { format!("\nand {} before them", count(rest, "other")) } else { String::new() };
        format!("\n\n{}{more}", table.trim_fmt())
    }
}

impl fmt::Display for Listed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(last) = self.groups.iter().max_by_key(|group| group.newest_ms) else {
            return write!(f, "no dead letters");
        };
        let mut table = Table::new();
        table.load_preset(NOTHING).set_header([
            "handler",
            "cause",
            "letters",
            "oldest",
            "newest",
            "newest at",
            "message",
        ]);
        for group in &self.groups {
            table.add_row([
                one_line(&group.handler),
                one_line(&group.cause),
                group.count.to_string(),
                self.ago(group.oldest_ms),
                self.ago(group.newest_ms),
                group.newest.clone(),
                one_line(&cut(&group.message, MESSAGE)),
            ]);
        }
        let all: u64 = self.groups.iter().map(|group| group.count).sum();
        write!(
            f,
            "{}{}\n\n{}; ages since they failed. `wasmill dlq show {}` shows one whole",
            table.trim_fmt(),
            self.letters.as_deref().map(|letters| self.each(letters, all)).unwrap_or_default(),
            count(all, "dead letter"),
            last.newest
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Header;
    use crate::event::headers::{FAILURE_KIND, FAILURE_MESSAGE, HANDLER, LAST_FAILED_MS};

    fn letter(offset: i64, handler: &str, kind: &str, message: &str, at: i64) -> Event {
        let headers = [(HANDLER, handler), (FAILURE_KIND, kind), (FAILURE_MESSAGE, message)];
        let headers = headers.iter().filter(|(_, value)| !value.is_empty());
        let mut headers: Vec<Header> =
            headers.map(|(name, value)| Header::new(*name, (*value).to_string())).collect();
        headers.push(Header::new(LAST_FAILED_MS, at.to_string()));
        let position = Position { topic: "h.dlq".into(), partition: 0, offset };
        Event { position, timestamp_ms: Some(at), key: None, payload: None, headers }
    }

    #[test]
    fn letters_are_grouped_by_handler_and_cause_and_the_newest_speaks_for_each() {
        let mut groups = Groups::default();
        for letter in [
            letter(0, "h", "reject", "first", 1_000),
            letter(1, "h", "trap", "un\u{1b}reachable\nat x", 61_000),
            letter(2, "h", "reject", "third", 31_000),
            letter(3, "", "", "", 5_000),
        ] {
            groups.add(&letter, None);
        }
        let letters = Some(vec![Letter::of(&letter(1, "h", "trap", "un\u{1b}reachable\nat x", 61_000))]);
        let listed = Listed { groups: groups.0.into_values().collect(), letters, now_ms: 91_000 };
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(
            listed.to_string().lines().map(words).collect::<Vec<_>>(),
            [
                "handler cause letters oldest newest newest at message",
                "h reject 2 1m 30s 1m h.dlq/0/2 third",
                "h trap 1 30s 30s h.dlq/0/1 un\u{fffd}reachable⏎at x",
                "h.dlq unknown 1 1m 26s 1m 26s h.dlq/0/3",
                "",
                "letter key cause age message",
                "h.dlq/0/1 trap 30s un\u{fffd}reachable⏎at x",
                "and 3 others before them",
                "",
                "4 dead letters; ages since they failed. `wasmill dlq show h.dlq/0/1` shows one whole",
            ]
        );
    }

    #[test]
    fn the_newest_are_those_that_failed_last_in_whatever_order_they_are_read() {
        let mut newest = Newest::default();
        for letter in
            [letter(4, "h", "trap", "", 40), letter(5, "h", "trap", "", 50), letter(1, "h", "trap", "", 10)]
        {
            newest.add(&letter, 2);
        }
        let positions: Vec<String> =
            newest.oldest_first().into_iter().map(|letter| letter.position).collect();
        assert_eq!(positions, ["h.dlq/0/4", "h.dlq/0/5"]);
    }

    #[test]
    fn a_cause_that_is_asked_for_is_all_that_is_listed() {
        let mut groups = Groups::default();
        for letter in [letter(0, "h", "reject", "", 1), letter(1, "h", "trap", "", 2)] {
            groups.add(&letter, Some("trap"));
        }
        assert_eq!(groups.0.into_keys().collect::<Vec<_>>(), [("h".to_string(), "trap".to_string())]);
        assert_eq!(Listed { groups: vec![], letters: None, now_ms: 0 }.to_string(), "no dead letters");
    }
}
