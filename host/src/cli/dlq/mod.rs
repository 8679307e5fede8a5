//! `wasmill dlq`: what became of events that no handler could deal with.

pub(super) mod letter;
mod ls;
mod marks;
mod settle;
mod settling;
mod show;

use std::process::ExitCode;
use std::sync::Arc;

use clap::Subcommand;
use miette::miette;

use super::pipeline::Pipeline;
use crate::config::plan::Plan;

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

/// What [`Failed::cause`](letter::Failed::cause) can be.
const CAUSES: [&str; 7] = ["retry", "reject", "trap", "timeout", "memory", "contract", letter::UNKNOWN];

/// Whose dead letters.
#[derive(Clone, Copy)]
struct Subscriber<'a> {
    name: &'a str,
    subscribe: &'a [Arc<str>],
    dead_letter: &'a Arc<str>,
}

/// All handlers and sinks, or one of them.
fn subscribers<'a>(plan: &'a Plan, only: Option<&str>) -> miette::Result<Vec<Subscriber<'a>>> {
    let handlers = plan.handlers.iter().map(|handler| Subscriber {
        name: &handler.name,
        subscribe: &handler.subscribe,
        dead_letter: &handler.dead_letter,
    });
    let sinks = plan.sinks.iter().map(|sink| Subscriber {
        name: &sink.name,
        subscribe: &sink.subscribe,
        dead_letter: &sink.dead_letter,
    });
    let all: Vec<_> = handlers.chain(sinks).collect();
    let found: Vec<_> = all.iter().copied().filter(|of| only.is_none_or(|only| only == of.name)).collect();
    if let (true, Some(only)) = (found.is_empty(), only) {
        let names: Vec<&str> = all.iter().map(|of| of.name).collect();
        let help = format!("there are {}", names.join(", "));
        return Err(miette!(help = help, "pipeline.toml has no handler or sink `{only}`"));
    }
    Ok(found)
}
