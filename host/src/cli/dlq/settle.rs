//! `wasmill dlq redrive` and `discard`: dead letters are put back, or let go.
//!
//! Each is one transaction: the event's record, if it is put back, and a mark in the topic `<dead letters>.settled`,
//! by the letter's position. So it is done once, however often it is stopped or begun; and since all of them share
//! one transactional.id, a second one that begins ends the first.

use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use clap::builder::NonEmptyStringValueParser;
use indicatif::ProgressBar;
use miette::{IntoDiagnostic, miette};
use serde::Serialize;

use super::letter::Failed;
use super::marks::{self, Mark, Marks, Settled};
use super::{CAUSES, Subscriber, subscribers};
use crate::cli::{broker, host};
use crate::config::plan::{Plan, TopicKind, TopicPlan};
use crate::event::headers::{REDRIVE_FOR, REDRIVE_OF, REDRIVES};
use crate::event::{Event, Header, Position, Record, header};
use crate::log::kafka::{Cluster, Committer, Membership};
use crate::log::{Commit, CommitError, Committer as _, LogError};
use crate::shard::original;
use crate::status::now_ms;
use crate::text::{count, one_line};

/// Letters that the report names.
const SHOWN: usize = 100;
/// Those that people see.
const SHOWN_TO_PEOPLE: usize = 10;
/// Letters of one transaction, at most.
const BATCH: usize = 100;
/// Attempts at one transaction, and the wait between two.
const ATTEMPTS: u32 = 10;
const AGAIN: Duration = Duration::from_millis(500);

/// Puts dead letters back into the topics that their events came from.
///
/// Exactly once on Apache Kafka: what was put back is remembered, so a redrive can be stopped and begun again. Only the
/// handler that failed takes the event once more; the others of this pipeline that read its topic leave it out. An event
/// that was put back often enough stays a dead letter.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  wasmill dlq redrive alarm --dry-run
  wasmill dlq redrive alarm --cause timeout --since 1h --rate 50
  wasmill dlq redrive alarm --at alarm.dlq/0/3")]
pub(super) struct RedriveArgs {
    #[command(flatten)]
    wanted: Wanted,

    /// Events a second, at most.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..), value_name = "N")]
    rate: Option<u32>,

    /// An event that was put back so often already stays where it is.
    #[arg(long, default_value_t = 3, value_name = "N")]
    max_redrives: u32,
}

/// Lets go of dead letters: they are not listed and not put back any more, which can't be taken back. The records stay.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  wasmill dlq discard alarm --cause reject --reason 'test readings'
  wasmill dlq discard mail --at mail.dlq/0/3 --reason 'the address is gone'")]
pub(super) struct DiscardArgs {
    #[command(flatten)]
    wanted: Wanted,

    /// Why: it is kept beside the letter's position.
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    reason: String,
}

/// Which dead letters.
#[derive(Debug, clap::Args)]
struct Wanted {
    /// The handler or sink whose they are.
    handler: String,

    /// Only those that failed so.
    #[arg(long, value_name = "KIND", value_parser = CAUSES)]
    cause: Option<String>,

    /// Only those of the last while, such as `30m` or `2 days`.
    #[arg(long, value_parser = humantime::parse_duration, value_name = "TIME")]
    since: Option<Duration>,

    /// Only those of this key, as text.
    #[arg(long)]
    key: Option<String>,

    /// Only the one that stands there; can be given several times.
    #[arg(long, value_name = "TOPIC/PARTITION/OFFSET")]
    at: Vec<Position>,

    /// So many, at most.
    #[arg(long, value_name = "N")]
    limit: Option<usize>,

    /// Changes nothing, and says what would be done.
    #[arg(long)]
    dry_run: bool,

    /// Where the host listens that runs the embedded broker; by default where the pipeline says.
    #[arg(long, value_parser = host::url)]
    url: Option<String>,

    /// Prints one JSON object, on stdout.
    #[arg(long)]
    json: bool,
}

enum Act<'a> {
    Redrive { max: u32, subscribe: &'a [Arc<str>], name: &'a str },
    Discard { reason: &'a str },
}

pub(super) fn redrive(plan: &Plan, args: &RedriveArgs) -> miette::Result<ExitCode> {
    let subscriber = subscriber(plan, &args.wanted)?;
    let Subscriber { name, subscribe, .. } = subscriber;
    settle(
        plan,
        &args.wanted,
        &subscriber,
        &Act::Redrive { max: args.max_redrives, subscribe, name },
        args.rate,
    )
}

pub(super) fn discard(plan: &Plan, args: &DiscardArgs) -> miette::Result<ExitCode> {
    let subscriber = subscriber(plan, &args.wanted)?;
    settle(plan, &args.wanted, &subscriber, &Act::Discard { reason: &args.reason }, None)
}

fn subscriber<'a>(plan: &'a Plan, wanted: &Wanted) -> miette::Result<Subscriber<'a>> {
    let subscriber = subscribers(plan, Some(&wanted.handler))?.remove(0);
    match wanted.at.iter().find(|position| position.topic != *subscriber.dead_letter) {
        Some(elsewhere) => Err(miette!(
            help = "`wasmill dlq ls` tells where dead letters stand",
            "{elsewhere} is no dead letter of `{}`: those are in {}",
            subscriber.name,
            subscriber.dead_letter
        )),
        None => Ok(subscriber),
    }
}

fn settle(
    plan: &Plan,
    wanted: &Wanted,
    subscriber: &Subscriber<'_>,
    act: &Act<'_>,
    rate: Option<u32>,
) -> miette::Result<ExitCode> {
    let cluster = broker::connect(wanted.url.as_deref(), plan)?;
    let marks = marks::topic(subscriber.dead_letter);
    let refused = |error| broker::refused(&cluster, error);
    let committer = if wanted.dry_run {
        None
    } else {
        let letters = plan.topics.iter().find(|topic| topic.name == *subscriber.dead_letter);
        let replication = letters.map_or(-1, |topic| topic.replication);
        let topic = TopicPlan { name: marks.clone(), partitions: 1, replication, kind: TopicKind::Marks };
        cluster.ensure_topics(&[topic]).map_err(refused)?;
        // Before the marks are read: whoever did the same before this can add no more.
        Some(cluster.only_committer(&marks).map_err(refused)?)
    };
    let mut settling = Settling {
        cluster: &cluster,
        marks,
        act,
        committer,
        settled: Marks::new(),
        now: HashSet::new(),
        report: Report::default(),
    };
    settling.read_marks_again()?;
    let start = broker::since(wanted.since);
    let mut tail = broker::tail(&cluster, std::slice::from_ref(subscriber.dead_letter), &start)?;
    let bar = ProgressBar::new_spinner().with_message("settled");
    let mut unmet: BTreeSet<&Position> = wanted.at.iter().collect();
    let mut left = wanted.limit.unwrap_or(usize::MAX);
    let batch = rate.map_or(BATCH, |rate| (rate as usize / 10).clamp(1, BATCH));
    while let Some(letters) = broker::batch(&mut tail, &cluster, batch)? {
        unmet.retain(|position| letters.iter().all(|letter| letter.position != **position));
        let chosen = letters.into_iter().filter(|letter| wanted.takes(letter));
        let (begun, before) = (Instant::now(), settling.report.settled);
        settling.settle(chosen, left)?;
        let done = settling.report.settled - before;
        left -= usize::try_from(done).unwrap_or(left).min(left);
        bar.set_position(settling.report.settled);
        if left == 0 {
            break;
        }
        if let Some(rate) = rate.filter(|_| !wanted.dry_run) {
            let due = Duration::from_secs_f64(done as f64 / f64::from(rate));
            thread::sleep(due.saturating_sub(begun.elapsed()));
        }
    }
    bar.finish_and_clear();
    let Settling { mut report, committer, .. } = settling;
    if left > 0 {
        let nothing = |position: &Position| (position.to_string(), "there is no such record".to_string());
        report.failed.extend(unmet.into_iter().map(nothing));
    }
    report.dry_run = wanted.dry_run;
    if let Some(committer) = committer {
        committer.close(Duration::from_secs(4));
    }
    if wanted.json {
        answer!("{}", serde_json::to_string_pretty(&report).into_diagnostic()?);
    } else {
        answer!("{}", Shown { report: &report, act, dry_run: wanted.dry_run });
    }
    Ok(if report.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Wanted {
    fn takes(&self, letter: &Event) -> bool {
        broker::is_since(letter, self.since)
            && self.cause.as_ref().is_none_or(|cause| Failed::of(letter).cause() == cause)
            && self.key.as_ref().is_none_or(|key| letter.key.as_deref() == Some(key.as_bytes()))
            && (self.at.is_empty() || self.at.contains(&letter.position))
    }
}

/// What was done, and what not.
#[derive(Debug, Default, Serialize)]
struct Report {
    /// Nothing was done: this is what would be.
    dry_run: bool,
    /// Put back, or let go.
    settled: u64,
    /// The first [`SHOWN`] of these, as `topic/partition/offset`.
    letters: Vec<String>,
    /// They were before.
    already: u64,
    /// They were put back as often as they may be.
    too_often: u64,
    /// What can't be put back, as `topic/partition/offset`, and why.
    failed: Vec<(String, String)>,
}

struct Settling<'a> {
    cluster: &'a Cluster,
    marks: Arc<str>,
    act: &'a Act<'a>,
    /// None for a dry run.
    committer: Option<Committer>,
    /// Before this one began, and by it.
    settled: Marks,
    /// Those of this run.
    now: HashSet<Vec<u8>>,
    report: Report,
}

impl Settling<'_> {
    fn ends_with(&self, error: &dyn fmt::Display) -> miette::Report {
        miette!(
            help = "begun again, it goes on where it stopped",
            "{} settled, and then: {error}",
            count(self.report.settled, "dead letter")
        )
    }

    fn read_marks_again(&mut self) -> miette::Result<()> {
        self.settled = marks::read(self.cluster, std::slice::from_ref(&self.marks))?;
        Ok(())
    }

    /// At most so many of them.
    fn settle(&mut self, letters: impl Iterator<Item = Event>, most: usize) -> miette::Result<()> {
        let mut open = Vec::new();
        for letter in letters {
            if open.len() == most {
                break;
            }
            if marks::is_settled(&self.settled, &letter) {
                self.report.already += 1;
                continue;
            }
            // What was put back a moment ago has failed again: that is for another time.
            let of = original(&letter).and_then(|event| Some(header(&event.headers, REDRIVE_OF)?.to_vec()));
            if of.is_some_and(|of| self.now.contains(&of)) {
                continue;
            }
            match self.act.record(&letter) {
                Ok(record) => open.push((letter, record)),
                Err(NotPutBack::TooOften) => self.report.too_often += 1,
                Err(why) => self.report.failed.push((letter.position.to_string(), why.to_string())),
            }
        }
        self.now.extend(open.iter().map(|(letter, _)| letter.position.to_string().into_bytes()));
        let mut attempts = 0;
        while !open.is_empty() {
            let Some(committer) = &mut self.committer else { break };
            let mark = self.act.mark();
            let marks = open.iter().map(|(letter, _)| mark.record(&self.marks, &letter.position));
            let events = open.iter().filter_map(|(_, record)| record.clone());
            // The events first, so that the number of a refused record is its letter's.
            let commit = Commit { publish: events.chain(marks).collect(), ..Commit::default() };
            match committer.commit(&commit, &Membership::None) {
                Ok(()) => break,
                Err(CommitError::Unpublishable { record, reason, .. }) if record < open.len() => {
                    let (letter, _) = open.remove(record);
                    self.report.failed.push((letter.position.to_string(), reason));
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
                    // It may have been committed, and only its answer lost.
                    let before = open.len();
                    self.read_marks_again()?;
                    open.retain(|(letter, _)| !marks::is_settled(&self.settled, letter));
                    self.report.settled += (before - open.len()) as u64;
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
        self.report.settled += open.len() as u64;
        let shown = open.iter().map(|(letter, _)| letter.position.to_string());
        self.report.letters.extend(shown.take(SHOWN.saturating_sub(self.report.letters.len())));
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

impl Act<'_> {
    /// What is to be published besides the mark.
    fn record(&self, letter: &Event) -> Result<Option<Record>, NotPutBack> {
        let Self::Redrive { max, subscribe, name } = self else { return Ok(None) };
        let event = original(letter).ok_or(NotPutBack::NoLetter)?;
        let topic = event.position.topic;
        if !subscribe.contains(&topic) {
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
        headers.push(Header::new(REDRIVE_FOR, (*name).to_string()));
        headers.push(Header::new(REDRIVE_OF, letter.position.to_string()));
        Ok(Some(Record { topic, key: event.key, payload: event.payload, headers }))
    }

    fn mark(&self) -> Mark {
        match self {
            Self::Redrive { .. } => Mark::now(Settled::Redriven, None, now_ms()),
            Self::Discard { reason } => Mark::now(Settled::Discarded, Some(reason), now_ms()),
        }
    }
}

struct Shown<'a> {
    report: &'a Report,
    act: &'a Act<'a>,
    dry_run: bool,
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { settled, letters, already, too_often, failed, .. } = self.report;
        let done = match (self.act, self.dry_run) {
            (Act::Redrive { .. }, false) => "put back",
            (Act::Redrive { .. }, true) => "would be put back",
            (Act::Discard { .. }, false) => "discarded",
            (Act::Discard { .. }, true) => "would be discarded",
        };
        write!(f, "{} {done}", count(*settled, "dead letter"))?;
        if *already > 0 {
            write!(f, "; {already} had been settled before")?;
        }
        if *too_often > 0 {
            let max = match self.act {
                Act::Redrive { max, .. } => *max,
                Act::Discard { .. } => 0,
            };
            let times = count(max.into(), "time");
            write!(
                f,
                "; {too_often} were put back {times} already, which is all that `--max-redrives` lets"
            )?;
        }
        for position in letters.iter().take(SHOWN_TO_PEOPLE) {
            write!(f, "\n  {position}")?;
        }
        if *settled > SHOWN_TO_PEOPLE as u64 {
            write!(f, "\n  and {} more", settled - SHOWN_TO_PEOPLE as u64)?;
        }
        for (position, why) in failed {
            write!(f, "\n{position} stays: {}", one_line(why))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::headers::SOURCE;

    fn letter(headers: &[(&str, &str)]) -> Event {
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
        let subscribe = ["in".into()];
        let act = Act::Redrive { max: 2, subscribe: &subscribe, name: "h" };
        let first = letter(&[("mine", "1"), (SOURCE, "in/0/7"), ("wasmill-failure-kind", "trap")]);
        let record = act.record(&first).unwrap().unwrap();
        let expected = [("mine", "1"), (REDRIVES, "1"), (REDRIVE_FOR, "h"), (REDRIVE_OF, "h.dlq/0/3")];
        assert_eq!(record.headers, expected.map(|(name, value)| Header::new(name, value)));
        assert_eq!((&*record.topic, record.key, record.payload), ("in", Some("k".into()), Some("p".into())));
        let again = |count| letter(&[(SOURCE, "in/0/9"), ("wasmill-original-redrives", count)]);
        let record = act.record(&again("1")).unwrap().unwrap();
        assert_eq!(header(&record.headers, REDRIVES), Some(b"2".as_slice()));
        assert_eq!(act.record(&again("2")), Err(NotPutBack::TooOften));
        assert_eq!(act.record(&letter(&[])), Err(NotPutBack::NoLetter));
        assert_eq!(act.record(&letter(&[(SOURCE, "out/0/1")])), Err(NotPutBack::NotRead("out".into())));
    }
}
