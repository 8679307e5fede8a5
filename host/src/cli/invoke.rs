//! `wasmill invoke`: one handler over events from a file or standard input, without Kafka.

mod dead_letter;
mod input;
mod report;

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;

use miette::IntoDiagnostic;

use self::input::{Format, Input};
use self::report::Report;
use super::component::{self, find, instead};
use super::host;
use super::pipeline::Pipeline;
use crate::config::Places;
use crate::config::plan::HandlerPlan;
use crate::event::{Event, Handler, Outcome, Position};
use crate::guest::{ComponentFile, LoadError, Usage};
use crate::text::count;

/// Runs one handler over events, without Kafka.
///
/// Prints what the handler would publish, each event's failure, and how long the calls took. Nothing is
/// published and nothing is retried. Exits with 1 if any event failed, or the input can't be read to its end.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  echo '{\"sensor\": \"boiler\", \"celsius\": 93.5}' | wasmill invoke alarm --key boiler
  echo '{\"key\": \"boiler\", \"payload\": {\"celsius\": 93.5}}' >events.json
  wasmill invoke alarm events.json --format event --json
  wasmill invoke --from-dead-letter alarm.dlq/0/3
  wasmill invoke --from-dead-letter alarm.dlq/0/3 --component mended.wasm

docs/tutorial.md makes the handler `alarm`.")]
pub(super) struct Args {
    /// The handler's name in pipeline.toml.
    #[arg(required_unless_present = "from_dead_letter")]
    handler: Option<String>,

    /// Where the events are; stdin by default.
    file: Option<PathBuf>,

    /// What an event looks like.
    #[arg(long, value_enum, default_value_t = Format::Json)]
    format: Format,

    /// The key of every event that has none.
    #[arg(long)]
    key: Option<String>,

    /// At most this many events in one call; the handler's `limits.batch` by default.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    batch: Option<u32>,

    /// Runs the event of this dead letter again, by the handler that failed unless another one is named, and in the version
    /// that failed if the host has kept it.
    #[arg(long, value_name = "TOPIC/PARTITION/OFFSET", conflicts_with_all = ["file", "format", "key", "batch"])]
    from_dead_letter: Option<Position>,

    /// Runs this component as the handler: to see whether a mended one deals with the event.
    #[arg(long, value_name = "FILE")]
    component: Option<PathBuf>,

    /// The address of the host that runs the embedded broker; by default the one in pipeline.toml.
    #[arg(long, value_parser = host::url, conflicts_with_all = ["file", "format", "key", "batch"])]
    url: Option<String>,

    /// Where the host keeps versions; ~/.local/state/wasmill by default.
    #[arg(long, env = "WASMILL_STATE", value_name = "FOLDER")]
    state: Option<PathBuf>,

    /// Prints one JSON object, on stdout.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(pipeline: &Pipeline, args: Args) -> miette::Result<ExitCode> {
    if let Some(position) = &args.from_dead_letter {
        return dead_letter::run(&pipeline.load()?, position, &args);
    }
    let loaded = pipeline.load_without_broker()?;
    let handler = find(&loaded.plan, args.handler.as_deref().unwrap_or_default())?;
    let (from, input) = match &args.file {
        Some(path) => (path.display().to_string(), input::read_file(path, args.format)),
        None => {
            if io::stdin().is_terminal() {
                tell!("reading events from standard input, to its end (ctrl-d)");
            }
            ("standard input".into(), input::read(io::stdin().lock(), args.format))
        }
    };
    let Input { given, broken } = input;
    let good = count(given.len() as u64, "event");
    // What stands before a fault is handled all the same.
    let broken =
        match broken.map(|error| error.wrap_err(format!("can't read events from {from} after {good}"))) {
            Some(error) if given.is_empty() => return Err(error),
            broken => broken,
        };
    let attempts: Vec<u32> = given.iter().map(|given| given.attempt).collect();
    let events = input::place(given, handler, args.key.as_deref());
    let batch = args.batch.map_or(handler.limits.batch, |batch| batch as usize);

    let mut handler = handler.clone();
    let (component, places) = match &args.component {
        None => (ComponentFile::read(&handler.component), Some(&loaded.places)),
        Some(file) => (instead(&mut handler, file), None),
    };
    let (outcomes, usage) = handle(&handler, component, places, &events, &attempts, batch)?;
    let code = report(&handler, &events, &outcomes, usage, args.json)?;
    broken.map_or(Ok(code), Err)
}

fn report(
    handler: &HandlerPlan,
    events: &[Event],
    outcomes: &[Outcome],
    usage: Usage,
    json: bool,
) -> miette::Result<ExitCode> {
    let default_topic = handler.publish.first().map_or("", |topic| topic);
    let report = Report::new(default_topic, events, outcomes, usage);
    if json {
        answer!("{}", serde_json::to_string_pretty(&report).into_diagnostic()?);
    } else {
        report.print();
    }
    Ok(if report.failed > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn handle(
    plan: &HandlerPlan,
    component: Result<ComponentFile, LoadError>,
    places: Option<&Places>,
    events: &[Event],
    attempts: &[u32],
    batch: usize,
) -> miette::Result<(Vec<Outcome>, Usage)> {
    let mut handler = component::ready(plan, component, places)?;
    let events: Vec<_> = events.iter().collect();
    let mut outcomes = Vec::new();
    while outcomes.len() < events.len() {
        let next = outcomes.len()..events.len().min(outcomes.len() + batch);
        outcomes.extend(handler.handle(&events[next.clone()], &attempts[next]));
    }
    Ok((outcomes, handler.usage()))
}
