//! The threads of a running host: what each does, how each ends, and that all are joined.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use miette::{IntoDiagnostic, WrapErr};
use tracing::{error, warn};

use crate::config::plan::{HandlerPlan, SinkPlan};
use crate::event::Handler;
use crate::guest::{ComponentHandler, Version};
use crate::http::View;
use crate::log::kafka::{Cluster, Start};
use crate::mail::{self, MailSink};
use crate::shard::{Fatal, Identity, Shard, Stop, run};
use crate::status::{ShardState, Status, SubscriberStatus};

/// Between two questions to the broker whether it is there, and how long one may take.
const WATCH_EVERY: Duration = Duration::from_secs(2);
const WATCH_TIMEOUT: Duration = Duration::from_millis(1500);
/// A shard that has failed starts again after the first of these, then after twice as long, up to the second.
const RESTART_MIN: Duration = Duration::from_secs(1);
const RESTART_MAX: Duration = Duration::from_secs(30);
/// A shard that has run this long before it failed starts again as if it were the first time.
const RESTART_FORGIVEN: Duration = Duration::from_secs(60);
/// For each half of a shard to leave in order.
const CLOSE: Duration = Duration::from_secs(4);
/// A loop that hasn't come round for this long, on top of what its handler may take, is stuck.
const STUCK: Duration = Duration::from_secs(30);
/// The most events that the HTTP view takes at once.
const VIEW_BATCH: usize = 1000;
const VIEW_WAIT: Duration = Duration::from_millis(100);

pub(super) struct Threads {
    stop: Stop,
    running: Vec<(String, JoinHandle<()>)>,
    /// A thread drops its sender when it ends: the names of those that did arrive here.
    ended: (Sender<String>, Receiver<String>),
}

impl Threads {
    pub(super) fn new(stop: Stop) -> Self {
        Self { stop, running: Vec::new(), ended: channel() }
    }

    fn spawn(&mut self, name: String, body: impl FnOnce(&Stop) + Send + 'static) -> miette::Result<()> {
        let (stop, ended, its_name) = (self.stop.clone(), self.ended.0.clone(), name.clone());
        let thread = thread::Builder::new()
            .name(name.clone())
            .spawn(move || {
                body(&stop);
                // The receiver lives as long as the threads are waited for.
                let _ = ended.send(its_name);
            })
            .into_diagnostic()
            .wrap_err_with(|| format!("can't start the thread `{name}`"))?;
        self.running.push((name, thread));
        Ok(())
    }

    /// Asks the broker, every now and then, whether it is there: for /readyz.
    pub(super) fn watch_broker(&mut self, cluster: &Cluster, status: &Status) -> miette::Result<()> {
        let (prober, status) = (cluster.prober().into_diagnostic()?, status.clone());
        self.spawn("broker-watch".into(), move |stop| {
            loop {
                status.broker_answered(prober.ping(WATCH_TIMEOUT));
                if stop.wait(WATCH_EVERY) {
                    return;
                }
            }
        })
    }

    /// Reads the topics of all views from their beginning, and on.
    pub(super) fn feed_view(&mut self, cluster: &Cluster, view: View) -> miette::Result<()> {
        let topics = view.topics();
        let cluster = cluster.clone();
        self.spawn("http-view".into(), move |stop| {
            let mut said = None;
            while !stop.stopped() {
                if let Err(error) = follow(&cluster, &topics, &view, stop) {
                    if said.as_ref() != Some(&error) {
                        warn!("the view of the topics is behind: {error}; trying on");
                        said = Some(error);
                    }
                    stop.wait(WATCH_EVERY);
                }
            }
        })
    }

    pub(super) fn run_handler(
        &mut self,
        cluster: &Cluster,
        plan: &HandlerPlan,
        version: &Version,
        status: &Status,
    ) -> miette::Result<()> {
        status.add_subscriber(SubscriberStatus {
            name: plan.name.to_string(),
            kind: "handler",
            group: plan.group.clone(),
            subscribe: plan.subscribe.iter().map(|topic| topic.to_string()).collect(),
            digest: version.digest().to_string(),
            ..SubscriberStatus::default()
        });
        let stuck_after = STUCK + plan.limits.time;
        for number in 0..plan.shards {
            let (plan, version) = (plan.clone(), version.clone());
            let subscriber = Subscriber {
                cluster: cluster.clone(),
                status: status.clone(),
                identity: Identity::of_handler(&plan, version.digest().clone()),
                group: plan.group.clone(),
                topics: plan.subscribe.clone(),
                max_events: plan.limits.batch,
                number,
                stuck_after,
            };
            let handler = move || {
                ComponentHandler::new(version.clone(), &plan).map_err(|error| Fatal(error.to_string()))
            };
            self.spawn(subscriber.thread(), move |stop| subscriber.run(handler, stop))?;
        }
        Ok(())
    }

    pub(super) fn run_sink(
        &mut self,
        cluster: &Cluster,
        plan: &SinkPlan,
        status: &Status,
    ) -> miette::Result<()> {
        status.add_subscriber(SubscriberStatus {
            name: plan.name.to_string(),
            kind: "sink",
            group: plan.group.clone(),
            subscribe: plan.subscribe.iter().map(|topic| topic.to_string()).collect(),
            digest: mail::VERSION.into(),
            ..SubscriberStatus::default()
        });
        let stuck_after = STUCK + plan.timeout * plan.batch as u32;
        for number in 0..plan.shards {
            let plan = plan.clone();
            let subscriber = Subscriber {
                cluster: cluster.clone(),
                status: status.clone(),
                identity: Identity::of_sink(&plan, mail::VERSION.into()),
                group: plan.group.clone(),
                topics: plan.subscribe.clone(),
                max_events: plan.batch,
                number,
                stuck_after,
            };
            let sink = move || MailSink::new(&plan).map_err(|error| Fatal(error.to_string()));
            self.spawn(subscriber.thread(), move |stop| subscriber.run(sink, stop))?;
        }
        Ok(())
    }

    /// Waits for all threads to end, at most this long; gives the names of those that did not.
    pub(super) fn join(self, within: Duration) -> Vec<String> {
        let Self { mut running, ended: (sender, ended), stop: _ } = self;
        drop(sender);
        let deadline = Instant::now() + within;
        while !running.is_empty() {
            match ended.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(name) => running.retain(|(running, _)| *running != name),
                // A thread that panicked sends nothing, but its sender is gone.
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    return running.into_iter().map(|(name, _)| name).collect();
                }
            }
        }
        for (name, thread) in running {
            if thread.join().is_err() {
                error!("thread `{name}` panicked");
            }
        }
        Vec::new()
    }
}

/// Follows the topics until `stop`, or until the broker gives up on it.
fn follow(cluster: &Cluster, topics: &[Arc<str>], view: &View, stop: &Stop) -> Result<(), String> {
    let mut tail = cluster.tail(topics, &Start::Beginning).map_err(|error| error.to_string())?;
    let mut caught_up = false;
    while !stop.stopped() {
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

/// One shard of a handler or a sink, and all that it takes to start it over.
struct Subscriber {
    cluster: Cluster,
    status: Status,
    identity: Identity,
    group: String,
    topics: Vec<Arc<str>>,
    max_events: usize,
    number: u32,
    stuck_after: Duration,
}

impl Subscriber {
    fn thread(&self) -> String {
        format!("{}/{}", self.identity.name, self.number)
    }

    /// Runs the shard until `stop`. When it fails it starts over, with a new consumer and a new producer.
    fn run<H: Handler>(&self, make_handler: impl Fn() -> Result<H, Fatal>, stop: &Stop) {
        let mut wait = RESTART_MIN;
        while !stop.stopped() {
            self.beat(ShardState::Starting);
            let started = Instant::now();
            // A bug in the host must cost one shard a restart, not the process its life.
            let once = catch_unwind(AssertUnwindSafe(|| self.run_once(&make_handler, stop)));
            let reason = match once {
                Ok(Ok(())) => break,
                Ok(Err(Fatal(reason))) => reason,
                Err(panic) => {
                    let text = panic.downcast_ref::<String>().map(String::as_str);
                    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
                    format!("the shard panicked: {}", text.unwrap_or("no message"))
                }
            };
            if started.elapsed() > RESTART_FORGIVEN {
                wait = RESTART_MIN;
            }
            error!(
                handler = %self.identity.name, shard = self.number,
                "{reason}; nothing is lost; starting over in {} s", wait.as_secs()
            );
            self.beat(ShardState::Failed(reason));
            stop.wait(wait);
            wait = (wait * 2).min(RESTART_MAX);
        }
        self.beat(ShardState::Stopped);
    }

    fn run_once<H: Handler>(
        &self,
        make_handler: &impl Fn() -> Result<H, Fatal>,
        stop: &Stop,
    ) -> Result<(), Fatal> {
        let fatal = |error: &dyn std::fmt::Display| Fatal(error.to_string());
        let handler = make_handler()?;
        let name = &self.identity.name;
        // The producer first: it ends what its predecessor left open before anything is polled.
        let committer = self.cluster.committer(name, self.number).map_err(|error| fatal(&error))?;
        let source = self
            .cluster
            .source(&self.group, name, self.number, &self.topics)
            .map_err(|error| fatal(&error))?;
        let seed = rand::random();
        let mut shard = Shard::new(self.identity.clone(), self.max_events, source, committer, handler, seed);
        let result = run(&mut shard, self.number, self.stuck_after, &self.status, stop);
        shard.close(CLOSE);
        result
    }

    fn beat(&self, state: ShardState) {
        self.status.beat(&self.identity.name, self.number, state, self.stuck_after);
    }
}
