//! `wasmill dev`: the pipeline, and the components' sources under watch. What is saved is built, the host swaps it,
//! and the time from the one to the other is told.
//!
//! The host is a process of its own, `wasmill run` with the same options: it swaps what it would swap in production,
//! and ends as it would. Signals are passed on to it, and its exit code is this verb's. Nothing here ends it.
//!
//! Watching begins before anything is read and built, and never pauses: what is saved during a build is built after it.

mod build;
mod changes;
mod child;
mod crates;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use miette::IntoDiagnostic;
use rustix::process::Signal;
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
pub(super) struct Args {
    #[command(flatten)]
    host: super::run::Args,
}

pub(super) fn run(pipeline: &Pipeline, log_format: LogFormat, args: &Args) -> miette::Result<ExitCode> {
    // Before anything is read: what changes from here on is seen.
    let changes = Changes::watch(pipeline.file())?;
    let nothing = Watched { crates: Vec::new(), unwatched: Vec::new(), changes };
    let plan = pipeline.load()?.plan;
    let mut watched = nothing.become_of(&plan)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().into_diagnostic()?;
    runtime.block_on(async {
        let mut signals = Signals::listen()?;
        let first = watched.changes.take_crates();
        tokio::select! {
            // What is not built now may still be there from before; if not, the host says so.
            () = build::build_first(&mut watched.crates, &first) => {}
            // There is no host yet to pass it on to.
            signal = signals.next() => return Ok(ended_by(signal)),
        }
        let mut host = Child::start(args.host.pass_on(pipeline.of_child("run", log_format)?))?;
        let mut rounds = Some(Box::pin(rounds(pipeline, plan, watched)));
        loop {
            tokio::select! {
                code = host.ended() => return code,
                signal = signals.next() => {
                    // With the rounds ends the cargo that runs. A host that hangs up may only read everything anew.
                    if signal != Signal::HUP {
                        rounds = None;
                    }
                    host.signal(signal);
                }
                // It ends only by an error; the host goes on without it.
                error = end_of(&mut rounds) => {
                    rounds = None;
                    tell!("nothing is watched any more: {error:?}");
                }
            }
        }
    })
}

/// As shells have it.
fn ended_by(signal: Signal) -> ExitCode {
    ExitCode::from(u8::try_from(128 + signal.as_raw()).unwrap_or(1))
}

/// Never, of what isn't there.
async fn end_of<F: Future + Unpin>(rounds: &mut Option<F>) -> F::Output {
    match rounds {
        Some(rounds) => rounds.await,
        None => std::future::pending().await,
    }
}

/// The crates of a plan's components, under watch.
struct Watched {
    crates: Vec<Crate>,
    /// Said once.
    unwatched: Vec<String>,
    changes: Changes,
}

impl Watched {
    /// Takes up another plan. Nothing that is saved meanwhile is lost, and crates that are new are to be built.
    fn become_of(mut self, plan: &Plan) -> miette::Result<Self> {
        let Found { crates, unwatched } = crates::find(plan);
        for reason in unwatched.iter().filter(|reason| !self.unwatched.contains(reason)) {
            tell!("{reason}");
        }
        self.changes.follow(&crates, &self.crates)?;
        Ok(Self { crates, unwatched, ..self })
    }
}

/// Builds and has swapped what is saved, for ever. A new pipeline.toml has its own crates.
async fn rounds(pipeline: &Pipeline, mut plan: Plan, mut watched: Watched) -> miette::Report {
    loop {
        // Without an address nobody can be asked.
        let asked = plan.http.as_ref().filter(|http| http.listen.port() != 0);
        let host = asked.and_then(|_| Host::new(None, &plan).ok());
        plan = loop {
            let Changed { saved, crates: changed, pipeline: other } = watched.changes.settled().await;
            for group in build::groups(&watched.crates, &changed) {
                round(&mut watched.crates, &group, saved, host.as_ref(), &watched.changes).await;
            }
            // What is wrong with it, the host says.
            if let Some(Ok(loaded)) = other.then(|| pipeline.load()) {
                break loaded.plan;
            }
        };
        watched = match watched.become_of(&plan) {
            Ok(watched) => watched,
            Err(error) => return error,
        };
    }
}

/// One build, and the swaps that follow from it.
async fn round(
    crates: &mut [Crate],
    group: &[usize],
    saved: Instant,
    host: Option<&Host>,
    changes: &Changes,
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
