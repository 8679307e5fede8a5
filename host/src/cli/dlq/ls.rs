//! `wasmill dlq ls`: how many events failed, of which handler and why.

use std::process::ExitCode;
use std::sync::Arc;

use indicatif::ProgressBar;
use miette::IntoDiagnostic;

use crate::cli::span::{self, Point, Span};
use crate::cli::{broker, host};
use crate::config::plan::Plan;
use crate::dead_letters::list::{Listing, list};
use crate::dead_letters::marks::{self, Marks};
use crate::dead_letters::{CAUSES, subscribers};

/// Letters that are listed one by one.
const MOST_EACH: usize = 1000;

/// Groups the dead letters of a pipeline by handler and cause: how many, how old, and the newest of each.
///
/// Reads the dead-letter topics from their beginning, or from `--since` on.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  wasmill dlq ls
  wasmill dlq ls mail --since 1h --each
  wasmill dlq ls --cause timeout --json | jq -r '.groups[].newest'")]
pub(super) struct Args {
    /// Only those of this handler or sink.
    handler: Option<String>,

    /// Only those that failed for this cause.
    #[arg(long, value_name = "KIND", value_parser = CAUSES)]
    cause: Option<String>,

    /// Only those since this time: `2026-11-25T08:00:00Z`, or `30m` or `'2 days'` ago.
    #[arg(long, value_parser = span::time, value_name = "TIME")]
    since: Option<Point>,

    /// Lists each of them, too: the newest 1,000, the oldest of them first.
    #[arg(long)]
    each: bool,

    /// Also those that were put back or discarded.
    #[arg(long)]
    all: bool,

    /// The address of the host that runs the embedded broker; by default the one in pipeline.toml.
    #[arg(long, value_parser = host::url)]
    url: Option<String>,

    /// Prints one JSON object, on stdout.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(plan: &Plan, args: &Args) -> miette::Result<ExitCode> {
    let subscribers = subscribers(plan, args.handler.as_deref())?;
    let topics: Vec<Arc<str>> = subscribers.iter().map(|of| of.dead_letter.clone()).collect();
    let cluster = broker::connect(args.url.as_deref(), plan)?;
    let since = args.since.as_ref().unwrap_or(&Point::Beginning);
    let span = Span::resolve(&cluster, &topics, since, &Point::End)?;
    let gone = if args.all { Marks::new() } else { marks::of(&cluster, &span.ranges)? };
    let mut tail = broker::within(&cluster, &span.ranges)?;
    let spinner = ProgressBar::new_spinner().with_message("reading");
    let wanted = Listing {
        of: args.handler.as_ref().and(subscribers.first()),
        takes: &|letter| span.takes(letter),
        cause: args.cause.as_deref(),
        each: if args.each { MOST_EACH } else { 0 },
    };
    let listed = list(&mut tail, &cluster, &gone, &wanted, |read| spinner.set_position(read))?;
    spinner.finish_and_clear();
    if args.json {
        answer!("{}", serde_json::to_string_pretty(&listed).into_diagnostic()?);
    } else {
        answer!("{listed}");
    }
    Ok(ExitCode::SUCCESS)
}
