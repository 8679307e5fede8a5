//! `wasmill dlq redrive` and `discard`: dead letters are put back, or let go.

use std::fmt;
use std::process::ExitCode;

use clap::builder::NonEmptyStringValueParser;
use indicatif::ProgressBar;
use miette::IntoDiagnostic;

use crate::cli::interrupt::Interrupt;
use crate::cli::span::{self, Point, Span};
use crate::cli::{broker, host};
use crate::config::plan::Plan;
use crate::dead_letters::settle::{Act, MAX_REDRIVES, Report, Wanted, settle};
use crate::dead_letters::{CAUSES, only};
use crate::event::Position;
use crate::text::{count, one_line};

/// Letters of the report that people see.
const SHOWN_TO_PEOPLE: usize = 10;

/// Puts dead letters back into the topics that their events came from.
///
/// Exactly once on Apache Kafka: what was put back is remembered, so a redrive can be stopped (Ctrl-C) and begun again. Only the
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
    which: Which,

    /// At most this many events a second.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..), value_name = "N")]
    rate: Option<u32>,

    /// An event that was put back this many times already stays where it is.
    #[arg(long, default_value_t = MAX_REDRIVES, value_parser = clap::value_parser!(u32).range(1..), value_name = "N")]
    max_redrives: u32,
}

/// Discards dead letters for good: they are not listed and not put back any more. The records stay in the topic.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  wasmill dlq discard mail --cause reject --reason 'only a test'
  wasmill dlq discard mail --at mail.dlq/0/3 --reason 'the address is gone'")]
pub(super) struct DiscardArgs {
    #[command(flatten)]
    which: Which,

    /// Why; it is kept with the letter's position.
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    reason: String,
}

/// Which dead letters.
#[derive(Debug, clap::Args)]
struct Which {
    /// The handler or sink that they belong to.
    handler: String,

    /// Only those that failed for this cause.
    #[arg(long, value_name = "KIND", value_parser = CAUSES)]
    cause: Option<String>,

    /// Only those since this time: `2026-11-25T08:00:00Z`, or `30m` or `'2 days'` ago.
    #[arg(long, value_parser = span::time, value_name = "TIME")]
    since: Option<Point>,

    /// Only those of this key, as text.
    #[arg(long)]
    key: Option<String>,

    /// Only the one at this position; can be given several times.
    #[arg(long, value_name = "TOPIC/PARTITION/OFFSET")]
    at: Vec<Position>,

    /// At most this many.
    #[arg(long, value_name = "N")]
    limit: Option<usize>,

    /// Changes nothing, and says what would be done.
    #[arg(long)]
    dry_run: bool,

    /// The address of the host that runs the embedded broker; by default the one in pipeline.toml.
    #[arg(long, value_parser = host::url)]
    url: Option<String>,

    /// Prints one JSON object, on stdout.
    #[arg(long)]
    json: bool,
}

pub(super) fn redrive(plan: &Plan, args: &RedriveArgs) -> miette::Result<ExitCode> {
    run(plan, &args.which, Act::Redrive { max: args.max_redrives }, args.rate)
}

pub(super) fn discard(plan: &Plan, args: &DiscardArgs) -> miette::Result<ExitCode> {
    run(plan, &args.which, Act::Discard { reason: args.reason.clone() }, None)
}

fn run(plan: &Plan, which: &Which, act: Act, rate: Option<u32>) -> miette::Result<ExitCode> {
    let Which { handler, cause, since, key, at, limit, dry_run, url, json } = which;
    let wanted = Wanted {
        cause: cause.clone(),
        key: key.clone(),
        at: at.clone(),
        limit: *limit,
        dry_run: *dry_run,
        rate,
    };
    let subscriber = only(plan, handler)?;
    wanted.are_of(&subscriber)?;
    let cluster = broker::connect(url.as_deref(), plan)?;
    let since = since.as_ref().unwrap_or(&Point::Beginning);
    let topics = std::slice::from_ref(subscriber.dead_letter);
    let bar = ProgressBar::new_spinner().with_message("settled");
    // What fails again meanwhile is for another time.
    let span = Span::resolve(&cluster, topics, since, &Point::End)?;
    let takes = |letter: &_| span.takes(letter);
    let interrupt = Interrupt::listen()?;
    let report = settle(&cluster, &subscriber, &act, &wanted, &span.ranges, takes, |done| {
        bar.set_position(done);
        !interrupt.given()
    })?;
    bar.finish_and_clear();
    if *json {
        answer!("{}", serde_json::to_string_pretty(&report).into_diagnostic()?);
    } else {
        answer!("{}", Shown { report: &report, act: &act });
    }
    Ok(if report.failed.is_empty() && !report.stopped { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

struct Shown<'a> {
    report: &'a Report,
    act: &'a Act,
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { dry_run, stopped, count: number, letters, already, too_often, failed_count, failed } =
            self.report;
        if *stopped {
            f.write_str("stopped")?;
            f.write_str(if *dry_run { "\n" } else { "; begun again, it goes on from here\n" })?;
        }
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
        if *failed_count > failed.len() as u64 {
            write!(f, "\nand {} more stay", failed_count - failed.len() as u64)?;
        }
        Ok(())
    }
}
