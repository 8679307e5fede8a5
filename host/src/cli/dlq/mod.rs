//! `wasmill dlq`: what became of events that no handler could deal with.

mod ls;
mod settle;
mod show;

use std::process::ExitCode;

use clap::Subcommand;

use super::pipeline::Pipeline;

/// Looks at dead letters, the events that failed for good, and puts them back.
///
/// Each handler and sink has a topic of its own for them, `<name>.dlq`. A dead letter is the event, byte for byte,
/// with its failure in headers.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Ls(ls::Args),
    Show(show::Args),
    Redrive(settle::RedriveArgs),
    Discard(settle::DiscardArgs),
}

pub(super) fn run(pipeline: &Pipeline, args: Args) -> miette::Result<ExitCode> {
    let plan = pipeline.load()?.plan;
    match args.verb {
        Verb::Ls(args) => ls::run(&plan, &args),
        Verb::Show(args) => show::run(&plan, &args),
        Verb::Redrive(args) => settle::redrive(&plan, &args),
        Verb::Discard(args) => settle::discard(&plan, &args),
    }
}
