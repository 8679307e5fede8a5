//! `wasmill dev`: the pipeline, and the components' sources under watch. What is saved is built, the host swaps it,
//! and the time from the one to the other is told.
//!
//! The host is a process of its own, `wasmill run` with the same options: it swaps what it would swap in production,
//! and ends as it would. Signals are passed on to it, and its exit code is this verb's. Nothing here ends it.

mod build;
mod changes;
mod child;
mod crates;

use std::pin::pin;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use miette::IntoDiagnostic;
use tokio::time::{interval, timeout};

use self::changes::{Changed, Changes};
use self::child::{Child, Signals};
use self::crates::{Crate, Found};
use super::host::Host;
use super::pipeline::Pipeline;
use crate::config::plan::Plan;
use crate::telemetry::LogFormat;

/// How long the host may take to swap before it is taken for a refusal.
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs the pipeline, rebuilds components whose sources are saved, and tells when the host has swapped them.
///
/// A component's crate is the one whose target folder it is in, or, for NAME.wasm, the folder NAME beside it with a
/// Cargo.toml; the crates that it depends on by path are watched as well. At the start all of them are built. A
/// crate that doesn't compile changes nothing: the version that runs goes on.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  wasmill dev                                on what pipeline.toml says
  wasmill dev --brokers kafka-1:9092         on Apache Kafka")]
pub(super) struct Args {}

pub(super) fn run(pipeline: &Pipeline, log_format: LogFormat, _args: &Args) -> miette::Result<ExitCode> {
    let plan = pipeline.load()?.plan;
    let Found { mut crates, unwatched } = crates::find(&plan);
    for reason in unwatched {
        tell!("{reason}");
    }
    // What is not built now may still be there from before; if not, the host says so.
    build::build_all(&mut crates);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().into_diagnostic()?;
    runtime.block_on(async {
        let mut signals = Signals::listen()?;
        let mut host = Child::start(pipeline.of_child("run", log_format)?)?;
        let mut rounds = pin!(rounds(pipeline, plan, crates));
        let mut ending = false;
        loop {
            tokio::select! {
                code = host.ended() => return code,
                signal = signals.next() => {
                    ending = true;
                    host.signal(signal);
                }
                // It ends only by an error; the host goes on without it.
                error = &mut rounds, if !ending => {
                    ending = true;
                    tell!("nothing is watched any more: {error:?}");
                }
            }
        }
    })
}

/// Builds and has swapped what is saved, for ever. A new pipeline.toml has its own crates.
async fn rounds(pipeline: &Pipeline, mut plan: Plan, mut crates: Vec<Crate>) -> miette::Report {
    loop {
        let mut changes = match Changes::watch(pipeline.file(), &crates) {
            Ok(changes) => changes,
            Err(error) => return error,
        };
        // Without an address nobody can be asked.
        let asked = plan.http.as_ref().filter(|http| http.listen.port() != 0);
        let host = asked.and_then(|_| Host::new(None, &plan).ok());
        plan = loop {
            let Changed { saved, crates: changed, pipeline: other } = changes.settled().await;
            for group in build::groups(&crates, &changed) {
                round(&mut crates, &group, saved, host.as_ref(), &mut changes).await;
            }
            // What is wrong with it, the host says.
            if let Some(Ok(loaded)) = other.then(|| pipeline.load()) {
                break loaded.plan;
            }
        };
        crates = crates::find(&plan).crates;
    }
}

/// One build, and the swaps that follow from it.
async fn round(
    crates: &mut [Crate],
    group: &[usize],
    saved: Instant,
    host: Option<&Host>,
    changes: &mut Changes,
) {
    let begun = Instant::now();
    if !build::build(crates, group).await {
        let names: Vec<_> =
            group.iter().flat_map(|index| &crates[*index].handlers).map(|name| &**name).collect();
        tell!("{}: not built; the version that runs goes on", names.join(", "));
        return;
    }
    let built = begun.elapsed().as_secs_f64();
    for index in group {
        let names = crates[*index].handlers.clone();
        match crates[*index].put_in_place() {
            Ok(None) => {
                for name in names {
                    tell!("{name}: the component is the same as before (build {built:.1} s)");
                }
            }
            Ok(Some(digest)) => {
                for name in names {
                    let Some(host) = host else {
                        tell!(
                            "{name}: built in {built:.1} s; the host has no known address to ask for the swap"
                        );
                        continue;
                    };
                    tokio::select! {
                        swapped = swapped(host, &name, &digest) => if swapped {
                            let after = saved.elapsed().as_secs_f64();
                            tell!("{name}: swapped in {after:.1} s after the save (build {built:.1} s)");
                        } else {
                            let seconds = PATIENCE.as_secs();
                            tell!("{name}: not swapped within {seconds} s; the host's log above says why");
                        },
                        // The next round tells of the next version.
                        () = changes.any() => {}
                    }
                }
            }
            Err(error) => tell!("{}: {error:?}", names.join(", ")),
        }
    }
}

/// Whether the host runs this version of the handler, soon. It is asked again and again: it doesn't say so by itself.
async fn swapped(host: &Host, handler: &str, digest: &str) -> bool {
    let asking = async {
        let mut often = interval(Duration::from_millis(20));
        loop {
            often.tick().await;
            // A host that starts or is busy may not answer.
            if host.digest(handler).await.is_ok_and(|runs| runs.as_deref() == Some(digest)) {
                return;
            }
        }
    };
    timeout(PATIENCE, asking).await.is_ok()
}
