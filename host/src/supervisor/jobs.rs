//! What a host does besides running shards: it creates topics, watches the broker and feeds the HTTP view.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use miette::IntoDiagnostic;
use tracing::{info, warn};

use super::stop::Stop;
use super::threads::Threads;
use crate::config::plan::TopicPlan;
use crate::http::View;
use crate::log::kafka::{Cluster, Start};
use crate::status::Status;

/// Between two questions to the broker whether it is there, and how long one may take.
const WATCH_EVERY: Duration = Duration::from_secs(2);
const WATCH_TIMEOUT: Duration = Duration::from_millis(1500);
/// Between two attempts at what the broker did not let us do.
const AGAIN: Duration = Duration::from_secs(2);
/// How often the HTTP view asks whether a topic has got more partitions.
const GROWTH: Duration = Duration::from_secs(60);
/// The most events that the HTTP view takes at once.
const VIEW_BATCH: usize = 1000;
const VIEW_WAIT: Duration = Duration::from_millis(100);

/// Creates the topics that are missing, trying until the broker lets it. What comes out says that they are there.
pub(super) fn create_topics(
    threads: &mut Threads,
    cluster: &Cluster,
    topics: &[TopicPlan],
    status: &Status,
) -> miette::Result<Receiver<()>> {
    let (cluster, topics, status) = (cluster.clone(), topics.to_vec(), status.clone());
    let (say, there) = sync_channel(1);
    threads.spawn("topics".into(), move |stop| {
        let mut told = Told::default();
        while !stop.stopped() {
            match cluster.ensure_topics(&topics) {
                Ok(created) => {
                    if !created.is_empty() {
                        info!("created topics: {}", created.join(", "));
                    }
                    // Nobody waits any more when the host is stopping.
                    let _ = say.send(());
                    return;
                }
                Err(error) => {
                    let error = error.to_string();
                    status.starting(&format!("the topics are not ready: {error}"));
                    told.once("the topics are not ready", error);
                }
            }
            stop.wait(AGAIN);
        }
    })?;
    Ok(there)
}

/// Asks the broker, every now and then, whether it is there: for /readyz, and for the one line in the log that
/// says so.
pub(super) fn watch_broker(threads: &mut Threads, cluster: &Cluster, status: &Status) -> miette::Result<()> {
    let (prober, status) = (cluster.prober().into_diagnostic()?, status.clone());
    threads.spawn("broker-watch".into(), move |stop| {
        let mut away = false;
        loop {
            let answer = prober.ping(WATCH_TIMEOUT);
            status.broker_answered(answer.clone());
            if away != status.broker_away() {
                away = !away;
                match answer {
                    Ok(()) => info!("a broker answers again"),
                    Err(error) => warn!("no broker can be reached: {error}; trying on, nothing is lost"),
                }
            }
            if stop.wait(WATCH_EVERY) {
                return;
            }
        }
    })
}

/// Reads the topics of all views from their beginning, and on. While the broker is away the view says that it doesn't
/// know everything; after that it is read from the beginning again, which repeats without harm.
pub(super) fn feed_view(
    threads: &mut Threads,
    cluster: &Cluster,
    view: View,
    status: &Status,
) -> miette::Result<()> {
    let topics = view.topics();
    let (cluster, status) = (cluster.clone(), status.clone());
    threads.spawn("http-view".into(), move |stop| {
        let mut told = Told::default();
        while !stop.stopped() {
            let ended = follow(&cluster, &topics, &view, &status, stop);
            view.is_behind();
            // That the broker is away is said by who watches it.
            if let Err(error) = ended
                && !status.broker_away()
            {
                told.once("the view of the topics is behind", error);
            }
            stop.wait(AGAIN);
        }
    })
}

/// Follows the topics until `stop`, until one of them grows, or until the broker goes away.
fn follow(
    cluster: &Cluster,
    topics: &[Arc<str>],
    view: &View,
    status: &Status,
    stop: &Stop,
) -> Result<(), String> {
    let mut tail = cluster.tail(topics, &Start::Beginning).map_err(|error| error.to_string())?;
    let mut caught_up = false;
    let mut asked = Instant::now();
    while !stop.stopped() {
        if status.broker_away() {
            return Ok(());
        }
        if asked.elapsed() > GROWTH {
            if tail.is_outgrown().map_err(|error| error.to_string())? {
                info!("a topic of the view has more partitions: reading again from the start");
                return Ok(());
            }
            asked = Instant::now();
        }
        for event in tail.poll(VIEW_BATCH, VIEW_WAIT).map_err(|error| error.to_string())? {
            view.apply(&event);
        }
        if !caught_up && tail.caught_up() {
            caught_up = true;
            view.caught_up();
        }
    }
    Ok(())
}

/// Says the same complaint once, not with every attempt.
#[derive(Default)]
struct Told(Option<String>);

impl Told {
    fn once(&mut self, what: &str, error: String) {
        if self.0.as_ref() != Some(&error) {
            warn!("{what}: {error}; trying on");
            self.0 = Some(error);
        }
    }
}
