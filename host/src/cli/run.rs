//! `wasmill run`: the host.

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use super::pipeline::Pipeline;
use crate::supervisor::{self, Ended, StateFolder};
use crate::telemetry::HandlerLogs;

/// Runs the pipeline until SIGINT or SIGTERM, then drains.
///
/// Exits with 0 when everything was committed, with 1 when it wasn't or nothing could be started.
/// A second signal ends it at once.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  wasmill run                                on what pipeline.toml says
  wasmill run --brokers kafka-1:9092         on Apache Kafka
  wasmill run --brokers embedded             on a broker in memory, for trying things out")]
pub(super) struct Args {
    /// Where the host keeps compiled code and the versions to roll back to; ~/.local/state/wasmill by default.
    #[arg(long, env = "WASMILL_STATE", value_name = "FOLDER")]
    state: Option<PathBuf>,
}

impl Args {
    /// To a host that is a process of its own.
    pub(super) fn pass_on(&self, mut host: Command) -> Command {
        if let Some(state) = &self.state {
            host.arg("--state").arg(state);
        }
        host
    }
}

pub(super) fn run(pipeline: &Pipeline, args: &Args, logs: &HandlerLogs) -> miette::Result<ExitCode> {
    let loaded = pipeline.load_to_run()?;
    let state = StateFolder::open(args.state.as_deref());
    match supervisor::run(pipeline.pipeline_file(), loaded, state, logs)? {
        Ended::Drained => Ok(ExitCode::SUCCESS),
        // Threads that are stuck in a call can't be joined: leave without them.
        Ended::Abandoned => std::process::exit(1),
    }
}
