//! The supervisor: owns what runs, from the first line of the log to the last.
//!
//! In a host only it touches signals and watches files. The `deployer` decides, on a thread of its own, what is to run, and
//! starts and stops the rest: a thread for each shard (`subscriber`), those that create topics, watch the broker and feed
//! the HTTP view (`jobs`), the one that asks where partitions end (`lag`), and those that answer HTTP (`web`), on a small tokio runtime. All of them end by one `Signal`,
//! and all are joined, under one deadline. (What serves one object's callbacks, a publisher or the clock of the guests'
//! deadlines, has a thread of that object's own, which ends with it. Traces are sent until the others have ended, and then
//! for 2 s at most.)

mod back_seat;
mod deployer;
mod descriptors;
mod history;
mod inbox;
mod jobs;
mod lag;
mod pipeline_file;
mod readers;
mod run;
mod signal;
mod slot;
mod state_folder;
mod subscriber;
mod terminal;
mod threads;
mod versions;
mod watch;
mod web;

use std::net::TcpListener;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use miette::{IntoDiagnostic, WrapErr, miette};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{info, warn};

pub use pipeline_file::PipelineFile;
pub use state_folder::StateFolder;
pub use versions::{VersionErrors, check_components, check_versions};

use crate::config::Loaded;
use crate::config::plan::{Brokers, Plan};
use crate::http::Admin;
use crate::log::kafka::Cluster;
use crate::status::Status;
use crate::stops::Stops;
use crate::telemetry::HandlerLogs;
use crate::telemetry::traces::Tracer;
use crate::text::count;
use deployer::{Candidates, Deployer, Parts, Workshop};
use inbox::Inbox;
use signal::Signal;
use subscriber::Grounds;
use terminal::Terminal;
use threads::Threads;
use watch::Watch;
use web::Web;

/// From the signal to the end of the process, at most: what is still busy then is left behind.
const DRAIN: Duration = Duration::from_secs(12);

/// The number of the signal that says "file size limit exceeded" (setrlimit(2)) on Linux and the BSDs.
const SIGXFSZ: i32 = 25;

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Everything was committed, every group was left.
    Drained,
    /// Something was still busy at the deadline. What it had not committed comes again at the next start.
    Abandoned,
}

/// Runs the plan, and what pipeline.toml and the components become meanwhile, until SIGINT or SIGTERM; then drains. A
/// second signal ends the process at once.
pub fn run(
    file: PipelineFile,
    loaded: Loaded,
    state: StateFolder,
    logs: &HandlerLogs,
) -> miette::Result<Ended> {
    let plan = &loaded.plan;
    descriptors::raise_the_limit();
    // Whatever can be wrong is found before anything is started.
    info!("compiling {} components", plan.handlers.len());
    let inbox = Inbox::default();
    let mut watch = Watch::new(inbox.clone());
    watch.follow(&deployer::files(&file, &loaded).collect());
    let mut workshop = Workshop::new(plan, &state)?;
    let candidates = workshop.candidates(&loaded)?;
    let runtime = runtime()?;
    let (admin, commands) = Admin::new(Admin::token_from_env()?, logs.clone());
    let web = Web::new(runtime.handle().clone(), admin);
    let bound = web.bind(plan.http.as_ref()).map_err(|error| miette!(help = error.remedy(), "{error}"))?;
    let cluster = Cluster::connect(&plan.kafka, &plan.name).into_diagnostic()?;
    let tracer = Tracer::from_env(&plan.name, &plan.kafka.instance);
    let status = Status::new(&plan.name, cluster.bootstrap(), cluster.is_embedded()).traced(tracer.clone());
    let stop = Signal::default();
    listen_to_signals(&runtime, &stop, &inbox)?;
    announce(plan, &cluster);

    let threads = Threads::default();
    let grounds = Grounds { threads: threads.clone(), cluster, status, stop: stop.clone() };
    let parts =
        Parts { grounds: grounds.clone(), file, workshop, web, watch, inbox, commands, logs: logs.clone() };
    let started = start(parts, loaded, candidates, bound);
    if started.is_err() {
        // A start that fails half-way must not leave shards behind.
        stop.give();
    }

    let mut ready = false;
    while !stop.wait(Duration::from_millis(200)) {
        logs.tell_left_out(false);
        if !ready && grounds.status.report().ready {
            ready = true;
            info!("ready");
        }
    }
    let late = threads.join(DRAIN);
    tracer.close();
    runtime.shutdown_background();
    logs.tell_left_out(true);
    started?;
    if late.is_empty() {
        if grounds.cluster.is_embedded() {
            info!("stopped; the embedded broker is gone, and all that it held with it");
        } else {
            info!("drained: what was begun is committed, the rest waits in Kafka");
        }
        Ok(Ended::Drained)
    } else {
        warn!(
            "gave up after {} s on: {}; what they had not committed comes again at the next start",
            DRAIN.as_secs(),
            late.join(", ")
        );
        Ok(Ended::Abandoned)
    }
}

fn start(
    parts: Parts,
    loaded: Loaded,
    candidates: Candidates,
    bound: Option<TcpListener>,
) -> miette::Result<()> {
    let grounds = parts.grounds.clone();
    jobs::watch_broker(&grounds)?;
    lag::watch_lag(&grounds)?;
    let (handlers, sinks) = (loaded.plan.handlers.len(), loaded.plan.sinks.len());
    let deployer = Mutex::new(Deployer::start(parts, loaded, candidates, bound)?);
    info!("running {} and {}", count(handlers as u64, "handler"), count(sinks as u64, "sink"));
    grounds.threads.spawn("deployer".into(), &grounds.stop, move |stop| {
        deployer.lock().unwrap_or_else(PoisonError::into_inner).run(stop);
    })?;
    Ok(())
}

fn runtime() -> miette::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("http")
        .enable_all()
        .build()
        .into_diagnostic()
}

/// Turns the first SIGINT or SIGTERM into a stop, the second into the end, and SIGHUP into a reload.
fn listen_to_signals(runtime: &Runtime, stop: &Signal, inbox: &Inbox) -> miette::Result<()> {
    let terminal = Terminal::at_start();
    let _inside = runtime.enter();
    let mut stops = Stops::listen()?;
    // Listening is enough: then a file that may not grow any further fails the write, not the process.
    let _ = signal(SignalKind::from_raw(SIGXFSZ)).into_diagnostic().wrap_err("SIGXFSZ")?;
    let mut hang_up = signal(SignalKind::hangup()).into_diagnostic().wrap_err("SIGHUP")?;
    let (inbox, ends) = (inbox.clone(), stop.clone());
    runtime.spawn(async move {
        while hang_up.recv().await.is_some() {
            if terminal.took_its_leave() {
                info!("SIGHUP, and the terminal is gone: finishing what is under way");
                ends.give();
            } else {
                inbox.reload();
            }
        }
    });
    let stop = stop.clone();
    runtime.spawn(async move {
        let name = stops.next().await;
        info!("{name}: finishing what is under way (once more to leave at once)");
        stop.give();
        let name = stops.another().await;
        warn!("{name} again: leaving; what is not committed comes again at the next start");
        std::process::exit(1);
    });
    Ok(())
}

fn announce(plan: &Plan, cluster: &Cluster) {
    match plan.kafka.brokers {
        Brokers::Embedded => warn!(
            "embedded broker at {}: for trying things out. It keeps events in memory only, the newest 5 MB of \
             each partition, and delivers at least once; point --brokers at Apache Kafka for exactly once",
            cluster.bootstrap()
        ),
        Brokers::Addresses(_) => {
            info!("brokers {}, as instance `{}`: exactly once", cluster.bootstrap(), plan.kafka.instance);
        }
    }
}
