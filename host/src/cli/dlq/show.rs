//! `wasmill dlq show`: one dead letter, whole.

use std::process::ExitCode;

use miette::IntoDiagnostic;

use crate::cli::{broker, host};
use crate::config::plan::Plan;
use crate::dead_letters::whole::Whole;
use crate::event::Position;

/// Shows a dead letter: the event as it was, and everything that is known of its failure.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  wasmill dlq show mail.dlq/0/3
  wasmill dlq show mail.dlq/0/3 --json | jq .payload")]
pub(super) struct Args {
    /// Its position, as `wasmill dlq ls` and `wasmill trace` print it.
    #[arg(value_name = "TOPIC/PARTITION/OFFSET")]
    position: Position,

    /// The address of the host that runs the embedded broker; by default the one in pipeline.toml.
    #[arg(long, value_parser = host::url)]
    url: Option<String>,

    /// Prints one JSON object, on stdout.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(plan: &Plan, args: &Args) -> miette::Result<ExitCode> {
    let cluster = broker::connect(args.url.as_deref(), plan)?;
    let letter = Whole::read(&cluster, &args.position)?;
    if args.json {
        answer!("{}", serde_json::to_string_pretty(&letter).into_diagnostic()?);
    } else {
        answer!("{letter}");
    }
    Ok(ExitCode::SUCCESS)
}
