//! `wasmill dlq redrive` and `discard`: dead letters are put back, or let go.

use std::collections::BTreeSet;
use std::fmt;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use clap::builder::NonEmptyStringValueParser;
use indicatif::ProgressBar;
use miette::{IntoDiagnostic, miette};

use super::letter::Failed;
use super::marks;
use super::settling::{Act, Report, Settling};
use super::{CAUSES, Subscriber, subscribers};
use crate::cli::span::{self, Point, Span};
use crate::cli::{broker, host};
use crate::config::plan::{Plan, TopicKind, TopicPlan};
use crate::event::{Event, Position};
use crate::log::Committer as _;
use crate::text::{count, one_line};

/// Letters of the report that people see.
const SHOWN_TO_PEOPLE: usize = 10;
/// Letters of one transaction, at most.
const BATCH: usize = 100;

/// Puts dead letters back into the topics that their events came from.
///
/// Exactly once on Apache Kafka: what was put back is remembered, so a redrive can be stopped and begun again. Only the
/// handler that failed takes the event once more; the others of this pipeline that read its topic leave it out. An event
/// that was put back often enough stays a dead letter.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  wasmill dlq redrive mail --dry-run
  wasmill dlq redrive mail --cause reject --since 1h --rate 50
  wasmill dlq redrive mail --at mail.dlq/0/3")]
pub(super) struct RedriveArgs {
    #[command(flatten)]
    wanted: Wanted,

    /// Events a second, at most.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..), value_name = "N")]
    rate: Option<u32>,

    /// An event that was put back so often already stays where it is.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..), value_name = "N")]
    max_redrives: u32,
}

/// Lets go of dead letters: they are not listed and not put back any more, which can't be taken back. The records stay.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  wasmill dlq discard mail --cause reject --reason 'only a test'
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

    /// Only those since then: `30m`, `'2 days'` (so long ago) or `2026-11-25T08:00:00Z`.
    #[arg(long, value_parser = span::time, value_name = "TIME")]
    since: Option<Point>,

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
        Some(cluster.only_committer(&marks).map_err(refused)?)
    };
    let mut settling = Settling::begin(&cluster, marks, act, committer)?;
    // What fails again meanwhile is for another time.
    let since = wanted.since.as_ref().unwrap_or(&Point::Beginning);
    let span = Span::resolve(&cluster, std::slice::from_ref(subscriber.dead_letter), since, &Point::End)?;
    let mut tail = broker::within(&cluster, &span.ranges)?;
    let bar = ProgressBar::new_spinner().with_message("settled");
    let mut unmet: BTreeSet<&Position> = wanted.at.iter().collect();
    let mut left = wanted.limit.unwrap_or(usize::MAX);
    let batch = rate.map_or(BATCH, |rate| (rate as usize / 10).clamp(1, BATCH));
    while let Some(letters) = broker::batch(&mut tail, &cluster, batch)? {
        let (chosen, others): (Vec<Event>, Vec<Event>) =
            letters.into_iter().partition(|letter| span.takes(letter) && wanted.takes(letter));
        for letter in &chosen {
            unmet.remove(&letter.position);
        }
        for Event { position, .. } in &others {
            if unmet.remove(position) {
                let why = "it is none of those that the other options choose".to_string();
                settling.report.failed.push((position.to_string(), why));
            }
        }
        let (begun, before) = (Instant::now(), settling.report.count);
        settling.settle(chosen.into_iter(), left)?;
        let done = settling.report.count - before;
        left -= usize::try_from(done).unwrap_or(left).min(left);
        bar.set_position(settling.report.count);
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
        let since = if wanted.since.is_some() { ", or it is older than `--since`" } else { "" };
        let nothing = |position: &Position| (position.to_string(), format!("there is no such record{since}"));
        report.failed.extend(unmet.into_iter().map(nothing));
    }
    report.dry_run = wanted.dry_run;
    if let Some(committer) = committer {
        committer.close(Duration::from_secs(4));
    }
    if wanted.json {
        answer!("{}", serde_json::to_string_pretty(&report).into_diagnostic()?);
    } else {
        answer!("{}", Shown { report: &report, act });
    }
    Ok(if report.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Wanted {
    fn takes(&self, letter: &Event) -> bool {
        self.cause.as_ref().is_none_or(|cause| Failed::of(letter).cause() == cause)
            && self.key.as_ref().is_none_or(|key| letter.key.as_deref() == Some(key.as_bytes()))
            && (self.at.is_empty() || self.at.contains(&letter.position))
    }
}

struct Shown<'a> {
    report: &'a Report,
    act: &'a Act<'a>,
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { dry_run, count: number, letters, already, too_often, failed } = self.report;
        let done = match (self.act, dry_run) {
            (Act::Redrive { .. }, false) => "put back",
            (Act::Redrive { .. }, true) => "would be put back",
            (Act::Discard { .. }, false) => "discarded",
            (Act::Discard { .. }, true) => "would be discarded",
        };
        write!(f, "{} {done}", count(*number, "dead letter"))?;
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
        if *number > SHOWN_TO_PEOPLE as u64 {
            write!(f, "\n  and {} more", number - SHOWN_TO_PEOPLE as u64)?;
        }
        for (position, why) in failed {
            write!(f, "\n{position} stays: {}", one_line(why))?;
        }
        Ok(())
    }
}
