//! The command line: one file a verb. What was asked for goes to standard output, all else to standard
//! error; the exit code is 0, 1 (it didn't work) or 2 (usage).

/// Prints a line of what was asked for.
macro_rules! answer {
    ($($line:tt)*) => { $crate::cli::answer(format_args!($($line)*)) };
}

/// Prints a line to the person at the terminal.
macro_rules! tell {
    ($($line:tt)*) => { $crate::cli::tell(format_args!($($line)*)) };
}

mod bench;
mod broker;
mod cargo;
mod check;
mod component;
mod dev;
mod dlq;
mod host;
mod interrupt;
mod invoke;
mod new;
mod parked;
mod pipeline;
mod replay;
mod rollback;
mod run;
mod simulate;
mod span;
mod trace;
mod versions;

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use miette::MietteHandlerOpts;

use crate::telemetry::{self, LogFormat};
use pipeline::Pipeline;

/// Runs sandboxed WebAssembly components on Kafka events, exactly once.
#[derive(Parser)]
#[command(name = "wasmill", version, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    pipeline: Pipeline,

    /// How log lines look; WASMILL_LOG=debug shows more of them. By default those of `run` are text on a terminal and JSON
    /// elsewhere, and those of the other verbs are text.
    #[arg(long, value_enum, global = true, env = "WASMILL_LOG_FORMAT", help_heading = pipeline::OF_ALL)]
    log_format: Option<LogFormat>,

    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Run(run::Args),
    Dev(dev::Args),
    Check(check::Args),
    Invoke(invoke::Args),
    New(new::Args),
    Simulate(simulate::Args),
    Trace(trace::Args),
    Dlq(dlq::Args),
    Replay(replay::Args),
    Parked(parked::Args),
    Versions(versions::Args),
    Rollback(rollback::Args),
    Bench(bench::Args),
    #[command(hide = true)]
    Anchor(bench::AnchorArgs),
}

/// An answer that nobody reads on (`| head`), or that the disk has no room for, ends the verb: what it has done is done.
fn answer(line: fmt::Arguments<'_>) {
    if let Err(error) = writeln!(io::stdout().lock(), "{line}") {
        if error.kind() != io::ErrorKind::BrokenPipe {
            tell!("the answer can't be written: {error}; what it tells of is done");
        }
        std::process::exit(1);
    }
}

/// What is said on the side never ends anything: a host goes on whose log has no room left.
fn tell(line: fmt::Arguments<'_>) {
    let _nobody_to_complain_to = writeln!(io::stderr().lock(), "{line}");
}

/// The whole program.
pub fn main() -> ExitCode {
    let Cli { pipeline, log_format, verb } = Cli::parse();
    // The other verbs speak for themselves: of the log they show what went wrong.
    let level = match verb {
        Verb::Run(_) => "info",
        // What a component says about each of its failures is among them; a replay tells these itself.
        Verb::Replay(_) => "error",
        _ => "warn",
    };
    let log_format = log_format.unwrap_or(match verb {
        Verb::Run(_) if !io::stderr().is_terminal() => LogFormat::Json,
        _ => LogFormat::Text,
    });
    let logs = telemetry::init(log_format, level);
    // Names and paths stay whole, to be copied and searched for. It fails only if it was set before.
    let _ = miette::set_hook(Box::new(|_| Box::new(MietteHandlerOpts::new().wrap_lines(false).build())));
    let result = match verb {
        Verb::Run(args) => run::run(&pipeline, &args, &logs),
        Verb::Check(args) => check::run(&pipeline, &args),
        Verb::Invoke(args) => invoke::run(&pipeline, args),
        Verb::Dev(args) => dev::run(&pipeline, log_format, &args),
        Verb::New(args) => new::run(&pipeline, args),
        Verb::Simulate(args) => pipeline.load().and_then(|loaded| simulate::run(&loaded.plan, args)),
        Verb::Trace(args) => pipeline.load().and_then(|loaded| trace::run(&loaded.plan, args)),
        Verb::Dlq(args) => dlq::run(&pipeline, args),
        Verb::Replay(args) => replay::run(&pipeline, &args),
        Verb::Parked(args) => parked::run(&pipeline, &args),
        Verb::Versions(args) => versions::run(&pipeline, &args),
        Verb::Rollback(args) => rollback::run(&pipeline, &args),
        Verb::Bench(args) => bench::run(&pipeline, &args),
        Verb::Anchor(args) => bench::anchor(&pipeline, &args),
    };
    result.unwrap_or_else(|report| {
        tell!("{report:?}");
        ExitCode::FAILURE
    })
}
