//! `wasmill bench`: the host with a component against native loops that do the same by hand, on one broker, in one run.
//!
//! Each contestant is a process of its own, started anew for each round, on fresh topics; their rounds alternate, each time
//! in another order, so that what disturbs the machine disturbs all of them. The events of a throughput round become visible at once, in one
//! transaction, when the contestant has warmed up.

mod contestant;
mod latency;
mod plot;
mod report;
mod sweep;
mod throughput;

use std::convert::Infallible;
use std::fs::{self, File};
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use indicatif::ProgressBar;
use miette::{IntoDiagnostic, WrapErr, miette};
use wasmill_anchors::{COMPONENT, Loop, SMALLEST_ORDER, Task};

use self::contestant::Kind;
use self::report::{Report, Settings};
use self::sweep::sweep;
use super::broker;
use super::interrupt::Interrupt;
use super::pipeline::Pipeline;
use crate::config::plan::{Brokers, KafkaPlan, TopicKind, TopicPlan};
use crate::log::kafka::Cluster;

/// Measures the host against native loops that do the same work, on the same broker.
///
/// Prints events a second, processor time an event, commits a second, memory, and how long events take at several
/// rates, each as min / median / max over the rounds, and as ratios of the medians. It makes topics named `wasmill-bench-…`,
/// which stay. Take a broker that nobody else uses, on a quiet machine.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  wasmill bench --brokers 127.0.0.1:9092
  wasmill bench --brokers 127.0.0.1:9092 --batch 100 --rounds 3 --json
  wasmill bench --brokers 127.0.0.1:9092 --rates 1000 --events 100000
  wasmill bench --brokers 127.0.0.1:9092 --plot bench.svg")]
pub(super) struct Args {
    /// The component that the host runs.
    #[arg(long, default_value = COMPONENT, value_name = "FILE")]
    component: PathBuf,

    /// Of each contestant, and of each rate.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,

    /// Events of a throughput round.
    #[arg(
        long,
        default_value_t = 300_000,
        value_parser = clap::value_parser!(u64).range(LEAST_EVENTS..=2_000_000)
    )]
    events: u64,

    /// Events of a native loop's transaction and of a call of the component, at most. The host gathers several calls in
    /// one transaction.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    batch: u32,

    /// Bytes of a payload; 161 at least.
    #[arg(long, default_value_t = 313, value_parser = clap::value_parser!(u32).range(SMALLEST_ORDER as i64..=900_000))]
    bytes: u32,

    /// Partitions of the topics; the host runs a shard for each, a native loop is one.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    partitions: u32,

    /// Processes of the host, which share the partitions.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=16))]
    processes: u32,

    /// Events a second at which latency is measured; or a share of what the slowest of them can do, such
    /// as `50%`. None: `0`.
    #[arg(long, value_delimiter = ',', default_values = ["20", "1000", "50%", "80%"], value_name = "RATE,…")]
    rates: Vec<Rate>,

    /// Of one measurement of latency.
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u64).range(2..), value_name = "SECONDS")]
    seconds: u64,

    /// Where the report is written as well, as JSON, after each round.
    #[arg(long, default_value = "bench.json", value_name = "FILE")]
    out: PathBuf,

    /// Measures other sizes of batches and payloads as well, one round each (some 10 minutes), and draws them into
    /// this file, as SVG.
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,

    /// Prints the report as JSON, on stdout.
    #[arg(long)]
    json: bool,
}

/// What a contestant does before it is measured, in bytes and in events.
const WARM_UP_BYTES: usize = 64 * 1024 * 1024;
const WARM_UP: usize = 5000;

/// Of a throughput round, in bytes of payloads: one transaction publishes them, and the broker keeps them.
const MOST_BYTES: u64 = 512 * 1024 * 1024;
/// Of a throughput round, whatever their size: fewer would measure next to nothing.
const LEAST_EVENTS: u64 = 1000;

#[derive(Clone, Copy, Debug)]
enum Rate {
    PerSecond(u32),
    /// Of what the slowest contestant does in the median of its rounds.
    Percent(u32),
}

impl std::str::FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.parse::<u32>().map_err(|_| format!("`{text}` is no number"));
        match text.strip_suffix('%') {
            Some(percent) => number(percent).map(Self::Percent),
            None => number(text).map(Self::PerSecond),
        }
    }
}

/// What all rounds have in common.
#[derive(Clone)]
struct Ground {
    cluster: Cluster,
    brokers: String,
    component: PathBuf,
    batch: u32,
    bytes: usize,
    partitions: u32,
    processes: u32,
    out: PathBuf,
    bar: ProgressBar,
    interrupt: Interrupt,
}

pub(super) fn run(pipeline: &Pipeline, args: &Args) -> miette::Result<ExitCode> {
    let brokers = brokers(pipeline)?;
    let most = most_events(args.bytes as usize);
    if args.events > most {
        return Err(miette!(
            help = format!("--events {most} is the most with --bytes {}", args.bytes),
            "a round of {} events of {} bytes is too much for one transaction",
            args.events,
            args.bytes
        ));
    }
    let component = fs::canonicalize(&args.component).into_diagnostic().wrap_err_with(|| {
        format!("there is no component at {} (`just components` builds it)", args.component.display())
    })?;
    let plan = KafkaPlan {
        brokers: Brokers::Addresses(brokers.clone()),
        properties: Default::default(),
        instance: "bench".into(),
    };
    if let Some(file) = &args.plot {
        // Before the work, not after it.
        File::options()
            .append(true)
            .create(true)
            .open(file)
            .into_diagnostic()
            .wrap_err_with(|| format!("can't write {}", file.display()))?;
    }
    let cluster = Cluster::connect(&plan, "bench").into_diagnostic()?;
    let ground = Ground {
        cluster,
        brokers,
        component,
        batch: args.batch,
        bytes: args.bytes as usize,
        partitions: args.partitions,
        processes: args.processes,
        out: args.out.clone(),
        bar: ProgressBar::new_spinner(),
        interrupt: Interrupt::listen()?,
    };
    ground.bar.enable_steady_tick(Duration::from_millis(200));
    let mut report = Report::new(Settings {
        batch: args.batch,
        payload_bytes: args.bytes,
        partitions: args.partitions,
        processes: args.processes,
        events: args.events,
        rounds: args.rounds,
    });
    // That it can't be written is said before the work, and what an earlier run has written is not taken for this one's.
    report.write(&args.out)?;
    for round in 1..=args.rounds {
        for kind in Kind::in_turn(round) {
            ground.bar.set_message(format!("throughput, round {round} of {}: {kind}", args.rounds));
            report.throughput(kind, throughput::round(&ground, kind, args.events)?);
        }
        report.write(&args.out)?;
    }
    let slowest = report.slowest();
    for rate in &args.rates {
        let rate = match *rate {
            Rate::PerSecond(rate) => rate,
            Rate::Percent(percent) => (slowest * f64::from(percent) / 100.0) as u32,
        };
        if rate == 0 {
            continue;
        }
        for round in 1..=args.rounds {
            for kind in Kind::in_turn(round) {
                ground.bar.set_message(format!("{rate}/s, round {round} of {}: {kind}", args.rounds));
                report.latency(rate, kind, latency::round(&ground, kind, rate, args.seconds)?);
            }
            report.write(&args.out)?;
        }
    }
    if let Some(file) = &args.plot {
        let sweep = sweep(&ground, args.events, args.seconds)?;
        plot::draw(&sweep, file).map_err(|error| miette!("can't draw {}: {error}", file.display()))?;
        report.sweep(sweep);
    }
    ground.bar.finish_and_clear();
    report.write(&args.out)?;
    if args.json {
        answer!("{}", report.json()?);
    } else {
        answer!("{report}");
    }
    Ok(ExitCode::SUCCESS)
}

fn brokers(pipeline: &Pipeline) -> miette::Result<String> {
    match pipeline.named_brokers() {
        Some(brokers) if brokers != "embedded" => Ok(brokers.into()),
        Some(_) | None => Err(miette!(
            help = "`just kafka` starts one on 127.0.0.1:9092: then `wasmill bench --brokers 127.0.0.1:9092`",
            "a bench needs an Apache Kafka: name one with --brokers"
        )),
    }
}

/// Of a throughput round, where each has so many bytes.
fn most_events(bytes: usize) -> u64 {
    (MOST_BYTES / bytes as u64).max(LEAST_EVENTS)
}

impl Ground {
    /// Fails once this process is told to stop, so that it takes its contestants with it.
    fn may_go_on(&self) -> miette::Result<()> {
        if self.interrupt.given() {
            return Err(miette!("stopped; the rounds that were complete are in {}", self.out.display()));
        }
        Ok(())
    }

    /// Of each process of the host: all of them together have one for each partition.
    fn shards(&self) -> u32 {
        self.partitions.div_ceil(self.processes)
    }

    /// How many events a contestant does before the first one that counts.
    fn warm_up(&self) -> u64 {
        (WARM_UP_BYTES / self.bytes).clamp(100, WARM_UP) as u64
    }

    /// New topics, and what they are for.
    fn task(&self, kind: Kind) -> miette::Result<Task> {
        let name = format!("wasmill-bench-{}", uuid::Uuid::now_v7().simple());
        let task = Task {
            brokers: self.brokers.clone(),
            input: format!("{name}-in"),
            output: format!("{name}-out"),
            name: kind.group(&name),
            batch: self.batch as usize,
        };
        let topics = [&task.input, &task.output].map(|topic| TopicPlan {
            name: topic.as_str().into(),
            partitions: self.partitions as i32,
            replication: -1,
            kind: TopicKind::Events,
        });
        self.cluster.ensure_topics(&topics).map_err(|error| broker::refused(&self.cluster, error))?;
        Ok(task)
    }
}

/// One native loop, until it is killed or its standard input ends: what `bench` runs beside itself.
#[derive(Debug, clap::Args)]
pub(super) struct AnchorArgs {
    which: contestant::Native,
    name: String,
    input: String,
    output: String,
    batch: usize,
}

pub(super) fn anchor(pipeline: &Pipeline, args: &AnchorArgs) -> miette::Result<ExitCode> {
    let task = Task {
        brokers: brokers(pipeline)?,
        name: args.name.clone(),
        input: args.input.clone(),
        output: args.output.clone(),
        batch: args.batch,
    };
    thread::spawn(end_with_the_input);
    let which = match args.which {
        contestant::Native::Plain => Loop::Plain,
        contestant::Native::Overlapped => Loop::Overlapped,
    };
    let never: Infallible = which.run(&task).into_diagnostic()?;
    match never {}
}

/// It ends with the process that holds the other end, however that one ends.
fn end_with_the_input() {
    let _however = io::copy(&mut io::stdin(), &mut io::sink());
    std::process::exit(1)
}
