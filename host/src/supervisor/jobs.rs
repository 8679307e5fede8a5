//! What a host does besides running shards: it creates topics, watches the broker and feeds the HTTP view.

use std::sync::Arc;
use std::time::{Duration, Instant};

use miette::IntoDiagnostic;
use tracing::{info, warn};

use super::signal::Signal;
use super::subscriber::Grounds;
use super::threads::Task;
use crate::config::plan::TopicPlan;
use crate::event::now_ms;
use crate::http::{Claims, View};
use crate::log::kafka::{Cluster, End, Start};
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

/// Creates the topics that are missing, trying until the broker lets it or it is stopped. All of `there` are given when
/// they are there.
pub(super) fn create_topics(
    grounds: &Grounds,
    topics: &[TopicPlan],
    there: Vec<Signal>,
) -> miette::Result<Task> {
    let Grounds { cluster, status, .. } = grounds.clone();
    let topics = topics.to_vec();
    status.starting("the topics are not ready yet");
    grounds.threads.spawn("topics".into(), &grounds.stop.child(), move |stop| {
        let mut told = Told::default();
        while !stop.given() {
            match cluster.ensure_topics(&topics) {
                Ok(created) => {
                    if !created.is_empty() {
                        info!("created topics: {}", created.join(", "));
                    }
                    there.iter().for_each(Signal::give);
                    // Others may be awaited by now.
                    if !stop.given() {
                        status.started();
                    }
                    return;
                }
                // Others see to it by now.
                Err(_) if stop.given() => return,
                Err(error) => {
                    let error = error.to_string();
                    status.starting(&format!("the topics are not ready: {error}"));
                    told.once("the topics are not ready", error);
                }
            }
            stop.wait(AGAIN);
        }
    })
}

/// Asks the broker, every now and then, whether it is there: for /readyz, and for the one line in the log that
/// says so.
pub(super) fn watch_broker(grounds: &Grounds) -> miette::Result<()> {
    let (prober, status) = (grounds.cluster.prober().into_diagnostic()?, grounds.status.clone());
    grounds.threads.spawn("broker-watch".into(), &grounds.stop, move |stop| {
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
    })?;
    Ok(())
}

/// Reads the topics of all views from their beginning, and on. While the broker is away the view says that it doesn't
/// know everything; after that it is read from the beginning again, which repeats without harm.
///
/// It begins when the reader before it has ended, since both write to what their views share, and the topics are there.
pub(super) fn feed_view(
    grounds: &Grounds,
    view: View,
    before: Option<Task>,
    there: Signal,
) -> miette::Result<Task> {
    let topics = view.topics();
    let Grounds { cluster, status, stop: host, .. } = grounds.clone();
    grounds.threads.spawn("http-view".into(), &grounds.stop.child(), move |stop| {
        // Stopped or not: a reader that comes after this one relies on it.
        if let Some(before) = &before {
            before.ended.wait_unless(&host);
        }
        there.wait_unless(stop);
        let mut told = Told::default();
        while !stop.given() {
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
    stop: &Signal,
) -> Result<(), String> {
    let mut tail = cluster.tail(topics, &Start::Beginning).map_err(|error| error.to_string())?;
    let mut caught_up = false;
    let mut asked = Instant::now();
    // What somebody waits for.
    let mut question = None;
    let mut offsets = None;
    while !stop.given() {
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
        match &question {
            Some((questions, written)) if tail.has_reached(written) => {
                view.is_current(*questions);
                question = None;
            }
            Some(_) => {}
            None => {
                if let Some(questions) = view.questions() {
                    if offsets.is_none() {
                        offsets = cluster.offsets(End::Written).ok();
                    }
                    match offsets.as_mut().map(|offsets| offsets.extents(topics)) {
                        Some(Ok(written)) => question = Some((questions, written)),
                        // Whoever waits is told in time; the next turn asks again.
                        Some(Err(error)) => tracing::debug!("where the topics of the view end: {error}"),
                        None => {}
                    }
                }
            }
        }
    }
    Ok(())
}

/// Reads what the hosts of the pipeline claim, from a while ago on: older claims are void. After the broker was away
/// it is read again from a while ago on, which repeats without harm.
pub(super) fn feed_claims(grounds: &Grounds, claims: Claims, there: Signal) -> miette::Result<Task> {
    let Grounds { cluster, status, .. } = grounds.clone();
    grounds.threads.spawn("http-claims".into(), &grounds.stop.child(), move |stop| {
        there.wait_unless(stop);
        let mut told = Told::default();
        while !stop.given() {
            if let Err(error) = follow_claims(&cluster, &claims, &status, stop)
                && !status.broker_away()
            {
                told.once("the claims of idempotency keys can't be read", error);
            }
            stop.wait(AGAIN);
        }
    })
}

fn follow_claims(cluster: &Cluster, claims: &Claims, status: &Status, stop: &Signal) -> Result<(), String> {
    let start = Start::Time(now_ms() - claims.lookback().as_millis() as i64);
    let mut tail = cluster.tail(&[claims.topic()], &start).map_err(|error| error.to_string())?;
    let mut asked = Instant::now();
    while !stop.given() && !status.broker_away() {
        if asked.elapsed() > GROWTH {
            if tail.is_outgrown().map_err(|error| error.to_string())? {
                return Err("their topic has more partitions by now".into());
            }
            asked = Instant::now();
        }
        for event in tail.poll(VIEW_BATCH, VIEW_WAIT).map_err(|error| error.to_string())? {
            claims.apply(&event);
        }
        if tail.caught_up() {
            claims.caught_up();
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
