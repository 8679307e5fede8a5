//! `wasmill simulate`: posts made-up bodies to the running host and follows them through the topics.
//!
//! One thread posts, this one follows. What a record's time of arrival means is kept simple: it is when a
//! reader of committed records has it in hand, on the clock that the POST was started by.

mod journeys;
mod post;
mod report;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use indicatif::{ProgressBar, ProgressStyle};
use miette::{IntoDiagnostic, WrapErr, miette};
use rand::Rng;
use serde_json::Value;
use tokio::sync::mpsc::{self, Receiver};

use crate::config::plan::{Plan, ResourcePlan};
use crate::log::LogError;
use crate::log::kafka::{Cluster, Start, Tail};

use super::broker;
use super::host::{self, Host};
use journeys::Journeys;
use post::{Answer, Posting};
use report::Report;

/// After so long without a record the broker is asked whether it is there.
const SILENCE: Duration = Duration::from_secs(3);
/// How long the broker may stay away once it was there.
const PATIENCE: Duration = Duration::from_secs(10);

/// Posts made-up bodies to the running host and follows each one through the topics.
///
/// The bodies come from the `examples` of the resource's JSON Schema. Every one gets a fresh key, made by the
/// host. Its journey ends in the last topic of the resource's `view` (of the pipeline that ships, the one with the
/// receipts of e-mails), or in a dead-letter topic. Exits with 1 when the host refused one, when one is still
/// missing after the timeout, or when the broker has gone.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  wasmill simulate
  wasmill simulate -n 10000 --rate 500 --json
  wasmill simulate readings --bodies my-readings.json --url http://127.0.0.1:9000")]
pub(super) struct Args {
    /// The resource to post to; the pipeline's only one by default.
    resource: Option<String>,

    /// How many to post.
    #[arg(short = 'n', long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    count: u32,

    /// How many to post a second, from 0.001; as fast as the host answers by default.
    #[arg(long, value_name = "R", value_parser = rate)]
    rate: Option<f64>,

    /// How many requests may be under way at the same time.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=1024))]
    parallel: u16,

    /// The address of the running host; by default the one in pipeline.toml.
    #[arg(long, value_parser = host::url)]
    url: Option<String>,

    /// Takes the bodies from a file instead: a JSON array, or one JSON object after another.
    #[arg(long, value_name = "FILE")]
    bodies: Option<PathBuf>,

    /// Chooses among the bodies; the same seed makes the same choices.
    #[arg(long)]
    seed: Option<u32>,

    /// How long to wait for the last ones after the last POST: 90s, 5m, 1h.
    #[arg(long, value_name = "TIME", default_value = "120s", value_parser = humantime::parse_duration)]
    timeout: Duration,

    /// Prints the summary as one JSON object, on stdout.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(plan: &Plan, args: Args) -> miette::Result<ExitCode> {
    let resource = resource(plan, args.resource.as_deref())?;
    let topics = topics(plan, resource)?;
    let bodies = bodies(resource, args.bodies.as_deref())?;
    let seed = args.seed.unwrap_or_else(|| rand::rng().random());
    let host = Host::new(args.url.as_deref(), plan)?;

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().into_diagnostic()?;
    let cluster = runtime.block_on(host.running(plan))?.cluster(plan)?;
    let mut tail = broker::tail(&cluster, &topics, &Start::End)?;
    reach_the_end(&mut tail, &cluster)?;

    let (answers, answered) = mpsc::channel(1024);
    let posting = Posting {
        host,
        resource: resource.name.clone(),
        key: resource.key.clone(),
        bodies,
        seed,
        count: args.count,
        rate: args.rate,
        answers,
    };
    let start = Instant::now();
    let mut journeys = Journeys::new(topics, resource.view.len());
    let gone = thread::scope(|scope| {
        // Ends when all is posted, or when `follow` gives up and drops its end of the channel.
        scope.spawn(|| runtime.block_on(posting.run(args.parallel)));
        follow(&mut tail, answered, &mut journeys, &args)
    })?;

    let gone = gone.map(|reason| broker::away(&cluster, &reason));
    let report = Report::new(&journeys, seed, start.elapsed(), gone.as_ref().map(ToString::to_string));
    if args.json {
        answer!("{}", serde_json::to_string_pretty(&report).into_diagnostic()?);
    } else {
        answer!("{report}");
    }
    match gone {
        Some(gone) => Err(gone),
        None if report.is_complete() => Ok(ExitCode::SUCCESS),
        None => Ok(ExitCode::FAILURE),
    }
}

/// Until every accepted one is done, `timeout` has passed since the last POST was answered, or the broker has
/// given no answer for [`PATIENCE`]: then it tells why.
fn follow(
    tail: &mut Tail,
    mut answered: Receiver<Answer>,
    journeys: &mut Journeys,
    args: &Args,
) -> miette::Result<Option<String>> {
    let style = "{bar:40} {pos}/{len} done  {per_sec}  {msg}";
    // Draws on stderr, and only on a terminal.
    let bar = ProgressBar::new(args.count.into())
        .with_style(ProgressStyle::with_template(style).into_diagnostic()?);
    let (mut last_answer, mut last_sign) = (Instant::now(), Instant::now());
    let mut gone = None;
    while journeys.missing() > 0 || !answered.is_closed() || !answered.is_empty() {
        let events = match tail.poll(10_000, Duration::from_millis(20)) {
            Ok(events) => events,
            Err(LogError::Unavailable(_)) => Vec::new(),
            Err(error @ LogError::Fatal(_)) => return Err(error).into_diagnostic(),
        };
        let now = Instant::now();
        for event in &events {
            journeys.arrived(event, now);
        }
        while let Ok(answer) = answered.try_recv() {
            journeys.answered(answer);
            last_answer = now;
        }
        let all_answered = answered.is_closed() && answered.is_empty();
        if all_answered {
            journeys.all_answered();
        }
        bar.set_position(journeys.done());
        bar.set_message(journeys.line());
        if all_answered && last_answer.elapsed() > args.timeout {
            break;
        }
        if !events.is_empty() {
            last_sign = now;
        } else if last_sign.elapsed() > SILENCE {
            // Nothing may have come because nothing is there: only the broker can tell.
            match tail.is_outgrown() {
                Ok(_) => last_sign = Instant::now(),
                Err(error) if last_sign.elapsed() > PATIENCE => {
                    let seconds = last_sign.elapsed().as_secs();
                    gone = Some(format!("the last sign of it is {seconds} s old; {error}"));
                    break;
                }
                Err(_) => {}
            }
        }
    }
    bar.finish_and_clear();
    Ok(gone)
}

/// So that nothing posted from here on is missed, and little that came before is read.
fn reach_the_end(tail: &mut Tail, cluster: &Cluster) -> miette::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !tail.caught_up() {
        if Instant::now() > deadline {
            return Err(broker::away(cluster, "the topics' ends can't be reached"));
        }
        match tail.poll(10_000, Duration::from_millis(100)) {
            Ok(_) | Err(LogError::Unavailable(_)) => {}
            Err(error @ LogError::Fatal(_)) => return Err(error).into_diagnostic(),
        }
    }
    Ok(())
}

fn resource<'a>(plan: &'a Plan, name: Option<&str>) -> miette::Result<&'a ResourcePlan> {
    let resources: &[ResourcePlan] = plan.http.as_ref().map_or(&[], |http| &http.resources);
    let names = || resources.iter().map(|r| r.name.as_str()).collect::<Vec<_>>().join(", ");
    match (name, resources) {
        (Some(name), _) => resources.iter().find(|resource| resource.name == name).ok_or_else(|| {
            miette!(help = format!("there are: {}", names()), "the pipeline has no resource {name}")
        }),
        (None, [only]) => Ok(only),
        (None, []) => Err(miette!("the pipeline has no [http.resources] to post to")),
        (None, _) => Err(miette!(help = format!("there are: {}", names()), "say which resource to post to")),
    }
}

/// The view's topics, in its order, then the dead letter topics that aren't among them.
fn topics(plan: &Plan, resource: &ResourcePlan) -> miette::Result<Vec<Arc<str>>> {
    if resource.view.is_empty() {
        return Err(miette!(
            help = "list the topics that a body passes through in the resource's `view`",
            "the resource {} has no view to follow",
            resource.name
        ));
    }
    let of_handlers = plan.handlers.iter().map(|handler| &handler.dead_letter);
    let of_sinks = plan.sinks.iter().map(|sink| &sink.dead_letter);
    let dead_letters: BTreeSet<_> =
        of_handlers.chain(of_sinks).filter(|topic| !resource.view.contains(topic)).cloned().collect();
    Ok(resource.view.iter().cloned().chain(dead_letters).collect())
}

/// Without the key, so that the host makes a new one for each.
fn bodies(resource: &ResourcePlan, file: Option<&Path>) -> miette::Result<Vec<Bytes>> {
    let values = match file {
        Some(file) => read(file).wrap_err_with(|| format!("can't take bodies from {}", file.display()))?,
        None => resource
            .schema
            .as_ref()
            .and_then(|schema| schema.source()["examples"].as_array().cloned())
            .unwrap_or_default(),
    };
    if values.is_empty() {
        return Err(miette!(
            help = "add `examples` at the top of the resource's JSON Schema, or name a file with --bodies",
            "there are no bodies to post to {}",
            resource.name
        ));
    }
    let without_key = |mut value: Value| {
        if let Some(body) = value.as_object_mut() {
            body.shift_remove(&resource.key);
        }
        Bytes::from(value.to_string())
    };
    Ok(values.into_iter().map(without_key).collect())
}

fn read(file: &Path) -> miette::Result<Vec<Value>> {
    let text = std::fs::read_to_string(file).into_diagnostic()?;
    let values: Result<Vec<Value>, _> = serde_json::Deserializer::from_str(&text).into_iter().collect();
    match values.into_diagnostic()?.as_slice() {
        [Value::Array(values)] => Ok(values.clone()),
        values => Ok(values.to_vec()),
    }
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        // A slower one would leave the range of the clock.
        Ok(rate) if rate.is_finite() && rate >= 0.001 => Ok(rate),
        Ok(_) | Err(_) => Err("wants a number from 0.001".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_a_number_that_the_clock_can_keep() {
        assert_eq!(rate("0.5"), Ok(0.5));
        for wrong in ["0", "-1", "1e-300", "inf", "NaN", "fast"] {
            assert!(rate(wrong).is_err(), "{wrong}");
        }
        assert!(Instant::now().checked_add(Duration::from_secs_f64(f64::from(u32::MAX) / 0.001)).is_some());
    }
}
