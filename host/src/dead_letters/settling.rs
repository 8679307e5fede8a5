//! The settling of dead letters: each in one transaction, the event's record, if it is put back, and a mark in the topic
//! `<dead letters>.settled`, by the letter's position. So it is done once, however often it is stopped or begun; and since
//! all of them share one transactional.id, a second one that begins ends the first.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use miette::miette;
use serde::Serialize;

use super::Subscriber;
use super::marks::{self, Mark, Marks, Settled};
use super::settle::Act;
use crate::event::headers::{REDRIVE_FOR, REDRIVE_OF, REDRIVES};
use crate::event::{Event, Header, Position, Record, TopicPartition, header, now_ms};
use crate::log::kafka::{Cluster, Committer, Membership};
use crate::log::{Commit, CommitError, Committer as _, LogError};
use crate::shard::original;
use crate::text::count;

/// Letters that the report names, of those that were settled and of those that weren't.
const SHOWN: usize = 100;
/// Attempts at one transaction, and the wait between two.
const ATTEMPTS: u32 = 10;
const AGAIN: Duration = Duration::from_millis(500);

/// What was done, and what not.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    /// Nothing was done: this is what would be.
    pub(crate) dry_run: bool,
    /// It was told to stop; there may be more.
    pub(crate) stopped: bool,
    /// How many were put back, or let go.
    pub(crate) count: u64,
    /// The first [`SHOWN`] of these, as `topic/partition/offset`.
    pub(crate) letters: Vec<String>,
    /// They were before.
    pub(crate) already: u64,
    /// They were put back as often as they may be.
    pub(crate) too_often: u64,
    /// How many can't be put back.
    pub(crate) failed_count: u64,
    /// The first [`SHOWN`] of these, as `topic/partition/offset`, and why.
    pub(crate) failed: Vec<(String, String)>,
}

impl Report {
    fn done<'a>(&mut self, letters: impl ExactSizeIterator<Item = &'a Event>) {
        self.count += letters.len() as u64;
        let shown = letters.map(|letter| letter.position.to_string());
        self.letters.extend(shown.take(SHOWN.saturating_sub(self.letters.len())));
    }

    pub(super) fn fail(&mut self, position: &Position, why: impl fmt::Display) {
        self.failed_count += 1;
        if self.failed.len() < SHOWN {
            self.failed.push((position.to_string(), why.to_string()));
        }
    }
}

pub(crate) struct Settling<'a> {
    cluster: &'a Cluster,
    marks: Arc<str>,
    ranges: &'a BTreeMap<TopicPartition, Range<i64>>,
    subscriber: &'a Subscriber<'a>,
    act: &'a Act,
    /// None for a dry run.
    pub(crate) committer: Option<Committer>,
    /// Before this one began, and by it.
    settled: Marks,
    pub(crate) report: Report,
}

impl<'a> Settling<'a> {
    /// Of the letters in `ranges`. A dry run is one without a committer. With one, that is made before the marks are read: whoever did the same before
    /// this can add no more.
    pub(crate) fn begin(
        cluster: &'a Cluster,
        marks: Arc<str>,
        ranges: &'a BTreeMap<TopicPartition, Range<i64>>,
        subscriber: &'a Subscriber<'a>,
        act: &'a Act,
        committer: Option<Committer>,
    ) -> miette::Result<Self> {
        let (settled, report) = Default::default();
        let mut settling = Self { cluster, marks, ranges, subscriber, act, committer, settled, report };
        settling.read_marks_again()?;
        Ok(settling)
    }

    fn ends_with(&self, error: &dyn fmt::Display) -> miette::Report {
        miette!(
            help = "begun again, it goes on where it stopped",
            "{} settled, and then: {error}",
            count(self.report.count, "dead letter")
        )
    }

    fn read_marks_again(&mut self) -> miette::Result<()> {
        self.settled = marks::of(self.cluster, self.ranges)?;
        Ok(())
    }

    /// After a commit that failed. It may have been made, and only its answer lost; and the producer may be another one now,
    /// which has put out somebody who did the same in between.
    fn leave_out_what_is_done(&mut self, open: &mut Vec<(Event, Option<Record>)>) -> miette::Result<()> {
        self.read_marks_again()?;
        let (done, rest): (Vec<_>, Vec<_>) =
            open.drain(..).partition(|(letter, _)| marks::is_settled(&self.settled, letter));
        self.report.done(done.iter().map(|(letter, _)| letter));
        *open = rest;
        Ok(())
    }

    /// At most so many of them.
    pub(crate) fn settle(&mut self, letters: impl Iterator<Item = Event>, most: usize) -> miette::Result<()> {
        let mut open = Vec::new();
        for letter in letters {
            if open.len() == most {
                break;
            }
            if marks::is_settled(&self.settled, &letter) {
                self.report.already += 1;
                continue;
            }
            match self.act.record(&letter, self.subscriber) {
                Ok(record) => open.push((letter, record)),
                Err(NotPutBack::TooOften) => self.report.too_often += 1,
                Err(why) => self.report.fail(&letter.position, why),
            }
        }
        let mut attempts = 0;
        while !open.is_empty() {
            let Some(committer) = &mut self.committer else { break };
            let marks =
                open.iter().map(|(letter, _)| self.act.mark(letter).record(&self.marks, &letter.position));
            let events = open.iter().filter_map(|(_, record)| record.clone());
            // The events first, so that the number of a refused record is its letter's.
            let commit = Commit { publish: events.chain(marks).collect(), ..Commit::default() };
            match committer.commit(&commit, &Membership::None) {
                Ok(()) => break,
                Err(CommitError::Unpublishable { record, reason, .. }) if record < open.len() => {
                    let (letter, _) = open.remove(record);
                    self.report.fail(&letter.position, reason);
                    self.leave_out_what_is_done(&mut open)?;
                }
                Err(CommitError::Aborted(reason)) if attempts < ATTEMPTS => {
                    tracing::debug!("{reason}; trying again");
                    attempts += 1;
                    thread::sleep(AGAIN);
                    while let Err(error) = committer.recover() {
                        if attempts >= ATTEMPTS || matches!(error, LogError::Fatal(_)) {
                            return Err(self.ends_with(&error));
                        }
                        attempts += 1;
                        thread::sleep(AGAIN);
                    }
                    self.leave_out_what_is_done(&mut open)?;
                }
                Err(CommitError::Fenced(_)) => {
                    return Err(miette!(
                        help = "let that one end; begun again, this one goes on where it stopped",
                        "somebody else has begun to settle these dead letters"
                    ));
                }
                Err(error) => {
                    return Err(self.ends_with(&error));
                }
            }
        }
        self.report.done(open.iter().map(|(letter, _)| letter));
        self.settled.extend(open.iter().map(|(letter, _)| (letter.position.to_string(), None)));
        Ok(())
    }
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum NotPutBack {
    #[error("it was put back as often as it may be")]
    TooOften,
    #[error("its headers don't say where its event stood")]
    NoLetter,
    #[error("its event came from `{0}`, which the handler doesn't read any more")]
    NotRead(Arc<str>),
}

impl Act {
    /// What is to be published besides the mark.
    fn record(&self, letter: &Event, subscriber: &Subscriber<'_>) -> Result<Option<Record>, NotPutBack> {
        let Self::Redrive { max } = self else { return Ok(None) };
        let event = original(letter).ok_or(NotPutBack::NoLetter)?;
        let topic = event.position.topic;
        if !subscriber.subscribe.contains(&topic) {
            return Err(NotPutBack::NotRead(topic));
        }
        let count =
            header(&event.headers, REDRIVES).and_then(|count| std::str::from_utf8(count).ok()?.parse().ok());
        let before: u32 = count.unwrap_or(0);
        if before >= *max {
            return Err(NotPutBack::TooOften);
        }
        let mut headers = event.headers;
        headers.retain(|header| ![REDRIVES, REDRIVE_FOR, REDRIVE_OF].contains(&&*header.name));
        headers.push(Header::new(REDRIVES, (before + 1).to_string()));
        headers.push(Header::new(REDRIVE_FOR, subscriber.name.to_string()));
        headers.push(Header::new(REDRIVE_OF, letter.position.to_string()));
        Ok(Some(Record { topic, key: event.key, payload: event.payload, headers }))
    }

    fn mark(&self, letter: &Event) -> Mark {
        match self {
            Self::Redrive { .. } => Mark::now(Settled::Redriven, None, letter, now_ms()),
            Self::Discard { reason } => Mark::now(Settled::Discarded, Some(reason), letter, now_ms()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::headers::SOURCE;

    fn letter(headers: &[(&'static str, &str)]) -> Event {
        let headers = headers.iter().map(|(name, value)| Header::new(*name, (*value).to_string()));
        Event {
            position: Position { topic: "h.dlq".into(), partition: 0, offset: 3 },
            timestamp_ms: None,
            key: Some("k".into()),
            payload: Some("p".into()),
            headers: headers.collect(),
        }
    }

    #[test]
    fn an_event_goes_back_as_it_was_addressed_to_its_handler_and_counted() {
        let (subscribe, dead_letter) = (["in".into()], "h.dlq".into());
        let h = Subscriber { name: "h", subscribe: &subscribe, dead_letter: &dead_letter, replication: 1 };
        let act = Act::Redrive { max: 2 };
        let first = letter(&[("mine", "1"), (SOURCE, "in/0/7"), ("wasmill-failure-kind", "trap")]);
        let record = act.record(&first, &h).unwrap().unwrap();
        let expected = [("mine", "1"), (REDRIVES, "1"), (REDRIVE_FOR, "h"), (REDRIVE_OF, "h.dlq/0/3")];
        assert_eq!(record.headers, expected.map(|(name, value)| Header::new(name, value)));
        assert_eq!((&*record.topic, record.key, record.payload), ("in", Some("k".into()), Some("p".into())));
        let again = |count| letter(&[(SOURCE, "in/0/9"), ("wasmill-original-redrives", count)]);
        let record = act.record(&again("1"), &h).unwrap().unwrap();
        assert_eq!(header(&record.headers, REDRIVES), Some(b"2".as_slice()));
        assert_eq!(act.record(&again("2"), &h), Err(NotPutBack::TooOften));
        assert_eq!(act.record(&letter(&[]), &h), Err(NotPutBack::NoLetter));
        assert_eq!(act.record(&letter(&[(SOURCE, "out/0/1")]), &h), Err(NotPutBack::NotRead("out".into())));
    }
}
