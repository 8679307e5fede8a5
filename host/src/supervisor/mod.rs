//! The supervisor: owns the plan, the component versions and the shards, from the first line of the log to
//! the last.
//!
//! Only it touches signals. It starts a thread for each shard (`subscriber`), those that create topics, watch the
//! broker and feed the HTTP view (`jobs`), and a small tokio runtime for HTTP. All of them end by one `Stop`, and
//! all are joined, under one deadline. (What serves one object's callbacks, a publisher or the clock of the guests'
//! deadlines, has a thread of that object's own, which ends with it.)

mod jobs;
mod run;
mod stop;
mod subscriber;
mod threads;
mod versions;

use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use miette::{IntoDiagnostic, WrapErr, miette};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing::{info, warn};

pub use versions::{VersionErrors, Versions, load_components, load_versions};

use crate::config::Loaded;
use crate::config::plan::{Brokers, HttpPlan, Plan};
use crate::http;
use crate::log::kafka::Cluster;
use crate::status::Status;
use stop::Stop;
use threads::Threads;

/// From the signal to the end of the process, at most: what is still busy then is left behind.
const DRAIN: Duration = Duration::from_secs(12);

/// The number of the signal that says "file size limit exceeded" (setrlimit(2)) on Linux and the BSDs.
const SIGXFSZ: i32 = 25;

/// Signals this close together are one.
const ONE_SIGNAL: Duration = Duration::from_millis(500);

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Everything was committed, every group was left.
    Drained,
    /// Something was still busy at the deadline. What it had not committed comes again at the next start.
    Abandoned,
}

/// Runs the plan until SIGINT or SIGTERM, then drains. A second signal ends the process at once.
pub fn run(loaded: &Loaded) -> miette::Result<Ended> {
    let plan = &loaded.plan;
    // Whatever can be wrong is found before anything is started.
    info!("compiling {} components", plan.handlers.len());
    let versions = load_versions(loaded)?;
    let runtime = runtime()?;
    let listener = plan.http.as_ref().map(|http| bind(&runtime, http)).transpose()?;
    let cluster = Cluster::connect(&plan.kafka, &plan.name).into_diagnostic()?;
    let status = Status::new(&plan.name, cluster.bootstrap(), cluster.is_embedded());
    let stop = Stop::default();
    let stopping = stop_on_signal(&runtime, &stop)?;
    let mut threads = Threads::new(stop.clone());
    announce(plan, &cluster, listener.as_ref().map(|(_, address)| *address));

    // HTTP answers from now on, if only that it isn't ready.
    jobs::watch_broker(&mut threads, &cluster, &status)?;
    let mut server = None;
    let mut view = None;
    if let (Some(http_plan), Some((listener, _))) = (&plan.http, listener) {
        let publisher = cluster.publisher(http_plan.body_timeout).into_diagnostic()?;
        let (app, its_view) = http::App::new(http_plan, status.clone(), publisher);
        view = Some(its_view);
        server = Some(runtime.spawn(http::serve(listener, app, ended(stopping))));
    }

    let topics = jobs::create_topics(&mut threads, &cluster, &plan.topics, &status)?;
    if wait_for(&topics, &stop) {
        if let Some(view) = view {
            jobs::feed_view(&mut threads, &cluster, view, &status)?;
        }
        for handler in &plan.handlers {
            let version = versions.get(&handler.name);
            subscriber::run_handler(&mut threads, &cluster, handler, version, &status)?;
        }
        for sink in &plan.sinks {
            subscriber::run_sink(&mut threads, &cluster, sink, &status)?;
        }
        status.started();
        info!("running {} handlers and {} sinks", plan.handlers.len(), plan.sinks.len());
    }

    let mut ready = false;
    while !stop.wait(Duration::from_millis(200)) {
        if !ready && status.report().ready {
            ready = true;
            info!("ready");
        }
    }
    let late = threads.join(DRAIN);
    if let Some(server) = server
        && let Err(error) = runtime.block_on(server)
    {
        warn!("the HTTP server ended badly: {error}");
    }
    runtime.shutdown_background();
    if late.is_empty() {
        if cluster.is_embedded() {
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

fn runtime() -> miette::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("http")
        .enable_all()
        .build()
        .into_diagnostic()
}

fn bind(runtime: &Runtime, plan: &HttpPlan) -> miette::Result<(tokio::net::TcpListener, SocketAddr)> {
    let listener = runtime.block_on(tokio::net::TcpListener::bind(plan.listen)).map_err(|error| {
        miette!(
            help = "another process has the port, perhaps another host: choose another one with `listen` in [http]; in the \
                    pipeline that ships, by WASMILL_LISTEN",
            "can't listen on {}: {error}",
            plan.listen
        )
    })?;
    let address = listener.local_addr().into_diagnostic()?;
    Ok((listener, address))
}

/// Turns the first signal into a stop, and the second into the end.
fn stop_on_signal(runtime: &Runtime, stop: &Stop) -> miette::Result<watch::Receiver<bool>> {
    let _inside = runtime.enter();
    let mut interrupt = signal(SignalKind::interrupt()).into_diagnostic().wrap_err("SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).into_diagnostic().wrap_err("SIGTERM")?;
    // Listening is enough: then a file that may not grow any further fails the write, not the process.
    let _ = signal(SignalKind::from_raw(SIGXFSZ)).into_diagnostic().wrap_err("SIGXFSZ")?;
    let (say, stopping) = watch::channel(false);
    let stop = stop.clone();
    runtime.spawn(async move {
        let mut next = async || {
            tokio::select! {
                _ = interrupt.recv() => "SIGINT",
                _ = terminate.recv() => "SIGTERM",
            }
        };
        let name = next().await;
        info!("{name}: finishing what is under way (once more to leave at once)");
        stop.stop();
        // Nobody listens when the pipeline has no HTTP.
        let _ = say.send(true);
        // Whoever signals a process group may reach us twice, by our parent as well.
        let first = Instant::now();
        let name = loop {
            let name = next().await;
            if first.elapsed() > ONE_SIGNAL {
                break name;
            }
        };
        warn!("{name} again: leaving; what is not committed comes again at the next start");
        std::process::exit(1);
    });
    Ok(stopping)
}

async fn ended(mut stopping: watch::Receiver<bool>) {
    // An error means that the sender is gone, which is an end as well.
    let _ = stopping.wait_for(|stopping| *stopping).await;
}

fn announce(plan: &Plan, cluster: &Cluster, listening: Option<SocketAddr>) {
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
    if let (Some(address), Some(http)) = (listening, &plan.http) {
        for resource in &http.resources {
            info!("listening: http://{address}/{}", resource.name);
        }
        if http.resources.is_empty() {
            info!("listening: http://{address}");
        }
    }
}

/// Waits for what a thread says, unless the host is stopped first.
fn wait_for(there: &Receiver<()>, stop: &Stop) -> bool {
    loop {
        match there.recv_timeout(Duration::from_millis(100)) {
            Ok(()) => return true,
            Err(RecvTimeoutError::Disconnected) => return false,
            Err(RecvTimeoutError::Timeout) if stop.stopped() => return false,
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
}
