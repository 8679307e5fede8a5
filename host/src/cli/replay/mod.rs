//! `wasmill replay`: past events through a handler once more, without publishing, and what differs in its outputs.
//!
//! What the handler published is read first, and kept as a digest for each output, by the event that it came from: some
//! 50 bytes. Then the events come by, batch by batch, and what the component makes of them is digested and compared. Of
//! the few differences that are shown, the old records are read again at the end. So a million events take some 100 MB,
//! however large they are.

mod compare;
mod difference;
mod ignore;
mod json;
mod published;
mod report;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use std::process::ExitCode;

use indicatif::{ProgressBar, ProgressStyle};
use miette::{IntoDiagnostic, WrapErr, miette};

use self::compare::{Fate, Fingerprint, Now};
use self::difference::Difference;
use self::ignore::Ignored;
use self::published::{Entry, Published};
use self::report::Report;
use super::pipeline::Pipeline;
use super::span::{Point, Span};
use super::{broker, component, host};
use crate::config::Loaded;
use crate::config::plan::HandlerPlan;
use crate::event::{Event, Failure, FailureKind, Handler, Outcome, Record, TopicPartition};
use crate::guest::{ComponentFile, ComponentHandler};
use crate::log::kafka::{Cluster, ConnectError};
use crate::shard::{Beyond, Identity, is_for_another, records};

/// Attempts at an event where the handler's `retry.attempts` knows no end.
const ATTEMPTS: u32 = 10;
/// How often the group's offsets are asked for, at most: for 4 s each time.
const ASKED: u32 = 4;

/// Runs past events through a handler without publishing, and compares its outputs with those that were published.
///
/// Each event comes out as one of: equal; changed (its outputs or its failure differ); missing (it had outputs, and
/// has none now); new (it had none, and has some now); failed (it didn't before); mended (it failed before, and goes
/// through now). Outputs are matched by the headers that the host writes on them, dead letters too. An event that the
/// running host has not handled yet is not run, nor is one that was put back for another handler: both are counted.
///
/// Payloads that are JSON objects or arrays are compared as JSON: layout and the order of members don't count. The
/// wasmill- headers don't count either. A handler that asks for a retry is called again at once, up to `retry.attempts`
/// (10 times where that is "forever"). Outputs that retention or compaction removed, or that went to a topic that
/// `publish` no longer names, count as never published. An output that its topic refused as too large counts as mended.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Times and offsets:
  beginning, end           where the topics begin, or end when the replay does
  2h, '3 days'             so long ago
  2026-11-25T08:00:00Z     by RFC 3339, with any offset from UTC
  1200                     this offset, in every partition
  readings/0/1200          this offset, in this partition alone

Examples:
  wasmill replay alarm --from 2h
  wasmill replay alarm --component target/wasm32-wasip2/release/alarm.wasm --from 2h --expect-equal
  wasmill replay alarm --from readings/0/1200 --to readings/0/1201
  wasmill replay alarm --from beginning --ignore /id --ignore /raised/at --json | jq .counts")]
pub(super) struct Args {
    /// The handler's name in pipeline.toml: its limits, grants and environment apply.
    handler: String,

    /// Another component to run instead of the handler's file.
    #[arg(long, value_name = "FILE")]
    component: Option<PathBuf>,

    /// The first event: a time or an offset, see below.
    #[arg(long, value_name = "TIME|OFFSET")]
    from: Point,

    /// Where to stop: this one is not replayed any more. By default the end when the replay began.
    #[arg(long, value_name = "TIME|OFFSET", default_value = "end")]
    to: Point,

    /// A part of JSON payloads that may differ, as a JSON pointer such as `/id`; can be given several times.
    #[arg(long, value_name = "POINTER", value_parser = ignore::pointer)]
    ignore: Vec<String>,

    /// Exits with 1 if any event came out differently.
    #[arg(long)]
    expect_equal: bool,

    /// At most this many differences are shown in full; all are counted.
    #[arg(long, value_name = "N", default_value_t = 10)]
    show: usize,

    /// The address of the host that runs the embedded broker; by default the one in pipeline.toml.
    #[arg(long, value_parser = host::url)]
    url: Option<String>,

    /// Prints one JSON object, on stdout.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(pipeline: &Pipeline, args: &Args) -> miette::Result<ExitCode> {
    let loaded = pipeline.load()?;
    let (plan, handler) = handler(&loaded, args)?;
    let cluster = broker::connect(args.url.as_deref(), &loaded.plan)?;
    let span = Span::resolve(&cluster, &plan.subscribe, &args.from, &args.to)?;
    // First how far the handler is, then what it published: that has come by then.
    let handled = handled(&cluster, &plan, &span)?;
    let ignored = Ignored(args.ignore.clone());
    let published = Published::read(&cluster, &plan, &span, &handled, &ignored)?;

    let identity = Identity::of_handler(&plan, handler.digest());
    let mut replay = Replay {
        report: Report::new(&plan.name, &identity.digest),
        plan,
        identity,
        handler,
        handled,
        published,
        ignored,
        show: args.show,
        differences: Vec::new(),
    };
    replay.run(&cluster, &span)?;
    let Replay { mut report, differences, ignored, .. } = replay;
    report.shown = difference::told(&cluster, differences, &ignored)?;
    if args.json {
        answer!("{}", serde_json::to_string_pretty(&report).into_diagnostic()?);
    } else {
        answer!("{report}");
    }
    if args.expect_equal && report.counts.replayed() == 0 {
        tell!("there is no event to compare: look at --from and --to");
        return Ok(ExitCode::FAILURE);
    }
    let fails = args.expect_equal && report.counts.differing() > 0;
    Ok(if fails { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// What runs, by whose plan.
fn handler(loaded: &Loaded, args: &Args) -> miette::Result<(HandlerPlan, ComponentHandler)> {
    if loaded.plan.sinks.iter().any(|sink| *sink.name == args.handler) {
        return Err(miette!(
            help = "to have a sink try dead letters again, use `wasmill dlq redrive`",
            "`{}` is a sink: what it sends can't be taken back, so nothing is replayed to it",
            args.handler
        ));
    }
    let mut plan = component::find(&loaded.plan, &args.handler)?.clone();
    let handler = match &args.component {
        None => component::ready(&plan, ComponentFile::read(&plan.component), Some(&loaded.places))?,
        Some(other) => {
            let component = component::instead(&mut plan, other);
            component::ready(&plan, component, None)
                .wrap_err("the file that --component names can't be used")?
        }
    };
    Ok((plan, handler))
}

/// How far the host is in each partition. Of one that is not among them it has handled nothing.
fn handled(
    cluster: &Cluster,
    plan: &HandlerPlan,
    span: &Span,
) -> miette::Result<BTreeMap<TopicPartition, Beyond>> {
    let ask = || cluster.progress(&plan.group, span.ranges.keys().cloned());
    let mut answer = ask();
    // A busy host's transactions keep them from being read, each for a moment.
    for _ in 1..ASKED {
        if matches!(answer, Err(ConnectError::Unavailable(_))) {
            answer = ask();
        }
    }
    let progress = answer.map_err(|error| broker::refused(cluster, error))?;
    if progress.is_empty() && !span.is_empty() {
        return Err(miette!(
            help = "there is nothing to compare with: is this the pipeline that runs, and its cluster? (Kafka forgets the \
                    offsets of a group that has been away for 7 days, `offsets.retention.minutes`)",
            "`{}` has handled nothing there yet: its group `{}` has no committed offsets",
            plan.name,
            plan.group
        ));
    }
    let read = progress.into_iter().map(|(partition, progress)| match Beyond::of(&progress) {
        Ok(beyond) => Ok((partition, beyond)),
        Err(error) => Err(miette!("the notes beside the committed offset of {partition} {error}")),
    });
    read.collect()
}

struct Replay {
    plan: HandlerPlan,
    identity: Identity,
    handler: ComponentHandler,
    handled: BTreeMap<TopicPartition, Beyond>,
    published: Published,
    ignored: Ignored,
    report: Report,
    /// How many differences are shown, at most, and those that are.
    show: usize,
    differences: Vec<Difference>,
}

impl Replay {
    fn run(&mut self, cluster: &Cluster, span: &Span) -> miette::Result<()> {
        let mut tail = broker::within(cluster, &span.ranges)?;
        // Draws on stderr, and only on a terminal.
        let style =
            ProgressStyle::with_template("{bar:40} {pos}/{len}  {per_sec}  {msg}").into_diagnostic()?;
        let bar = ProgressBar::new(offsets(&span.ranges)).with_style(style);
        let mut at: BTreeMap<TopicPartition, Range<i64>> = span.ranges.clone();
        while let Some(events) = broker::batch(&mut tail, cluster, self.plan.limits.batch)? {
            // They come partition by partition.
            for last in events.iter().map(|event| &event.position) {
                at.entry(last.topic_partition()).and_modify(|range| range.start = last.offset + 1);
            }
            let events: Vec<&Event> =
                events.iter().filter(|event| span.takes(event) && self.is_to_run(event)).collect();
            self.handle(&events);
            bar.set_position(offsets(&span.ranges) - offsets(&at));
            bar.set_message(format!("{} differ", self.report.counts.differing()));
        }
        bar.finish_and_clear();
        Ok(())
    }

    fn is_to_run(&mut self, event: &Event) -> bool {
        let beyond = self.handled.get(&event.position.topic_partition());
        if !beyond.is_some_and(|beyond| beyond.is_done(event.position.offset)) {
            self.report.counts.not_handled_yet += 1;
            false
        } else if is_for_another(event, &self.plan.name) {
            self.report.counts.for_others += 1;
            false
        } else {
            true
        }
    }

    fn handle(&mut self, mut events: &[&Event]) {
        let first = vec![1; events.len()];
        while !events.is_empty() {
            // What was left out comes next; what is done is compared at once, and held no longer.
            let outcomes = self.handler.handle(events, &first[..events.len()]);
            let (done, rest) = events.split_at(outcomes.len());
            for (event, outcome) in done.iter().zip(outcomes) {
                self.compare(event, outcome);
            }
            events = rest;
        }
    }

    fn compare(&mut self, event: &Event, outcome: Outcome) {
        let settled = self
            .settle(event, outcome)
            .and_then(|outputs| records(event, outputs, &self.identity, &mut self.identity.stamp()));
        let now = match &settled {
            Ok(records) => Now::Published(records.iter().map(|r| self.of_record(r)).collect()),
            Err(failure) => Now::Failed(Fingerprint::of_failure(failure.kind.as_str(), &failure.message)),
        };
        let before = self.published.of(&event.position);
        let fate = compare::fate(&before, &now);
        self.report.counts.add(fate);
        if fate != Fate::Equal && self.differences.len() < self.show {
            let place = |entry: &Entry| self.published.position(entry);
            self.differences.push(Difference::new(event, fate, &before, &now, settled, place));
        }
    }

    /// Tries on where the handler asks for it, without the waits between.
    fn settle(&mut self, event: &Event, mut outcome: Outcome) -> Outcome {
        let attempts = self.plan.retry.attempts.unwrap_or(ATTEMPTS);
        for attempt in 2..=attempts {
            if !matches!(&outcome, Err(Failure { kind: FailureKind::Retry, .. })) {
                break;
            }
            outcome = self.handler.handle(&[event], &[attempt]).pop().unwrap_or(outcome);
        }
        outcome
    }

    fn of_record(&self, record: &Record) -> Fingerprint {
        let Record { topic, key, payload, headers } = record;
        Fingerprint::of_output(topic, key.as_deref(), payload.as_deref(), headers, &self.ignored)
    }
}

fn offsets(ranges: &BTreeMap<TopicPartition, Range<i64>>) -> u64 {
    ranges.values().map(|range| u64::try_from(range.end - range.start).unwrap_or_default()).sum()
}
