//! `wasmill run`: the host.

use std::process::ExitCode;

use crate::config::Loaded;
use crate::supervisor::{self, Ended};

/// Runs the pipeline until SIGINT or SIGTERM, then drains.
///
/// Exits with 0 when everything was committed, with 1 when it wasn't or nothing could be started.
/// A second signal ends it at once.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  wasmill run                                on what pipeline.toml says
  wasmill run --brokers kafka-1:9092         on Apache Kafka
  wasmill run --brokers embedded             on a broker in memory, for trying things out")]
pub(super) struct Args {}

pub(super) fn run(loaded: &Loaded, _args: &Args) -> miette::Result<ExitCode> {
    match supervisor::run(loaded)? {
        Ended::Drained => Ok(ExitCode::SUCCESS),
        // Threads that are stuck in a call can't be joined: leave without them.
        Ended::Abandoned => std::process::exit(1),
    }
}
