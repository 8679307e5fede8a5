//! The shards of a handler or a sink: a thread each, started over with a new consumer and a new producer
//! when the log or the plan stops them.
//!
//! Two shards of one number never run at a time, since they have one transactional.id and one place in the group: who
//! takes over from another waits until that one has committed and left.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::random;
use tracing::{error, info, warn};

use super::run::{Next, Place, run};
use super::signal::Signal;
use super::slot::{Deployed, Slot};
use super::threads::Threads;
use crate::config::plan::{HandlerPlan, SinkPlan};
use crate::event::Handler;
use crate::guest::ComponentHandler;
use crate::log::kafka::{Cluster, ConnectError};
use crate::mail::{self, MailSink};
use crate::shard::{Fatal, Identity, Shard};
use crate::status::{ShardState, Status, SubscriberKind, SubscriberStatus};

/// A shard that has failed starts over after the first of these, then after twice as long, up to the last.
const RESTART_MIN: Duration = Duration::from_secs(1);
const RESTART_MAX: Duration = Duration::from_secs(30);
/// The longest wait where only the broker is missing: it should not wait for us when it is back.
const RECONNECT_MAX: Duration = Duration::from_secs(2);
/// A shard that has run this long before it failed starts over as if it were the first time.
const RESTART_FORGIVEN: Duration = Duration::from_secs(60);
/// For each half of a shard to leave in order.
const CLOSE: Duration = Duration::from_secs(4);
/// A loop that hasn't come round for this long, on top of what its handler may take, is stuck.
const STUCK: Duration = Duration::from_secs(30);

/// What every shard of the host needs.
#[derive(Clone)]
pub(super) struct Grounds {
    pub(super) threads: Threads,
    pub(super) cluster: Cluster,
    pub(super) status: Status,
    /// Ends everything.
    pub(super) stop: Signal,
}

/// The running shards of a handler or a sink.
#[derive(Default)]
pub(super) struct Shards(Vec<Running>);

struct Running {
    number: u32,
    stop: Signal,
    ended: Signal,
}

impl Shards {
    /// Runs as many shards of the handler; those that it has already go on. The first ones begin when `topics` says
    /// that their topics are there.
    pub(super) fn run_handler(
        &mut self,
        grounds: &Grounds,
        plan: &HandlerPlan,
        slot: &Slot,
        topics: &Signal,
    ) -> miette::Result<()> {
        self.resize(plan.shards, |number, after| {
            let (slot, stuck_after) = (slot.clone(), STUCK + 3 * plan.limits.time);
            let subscriber =
                Subscriber::new(grounds, number, stuck_after, &plan.name, &plan.group, &plan.subscribe);
            subscriber.spawn(topics, after, move |subscriber, doubt, stop| {
                let mut deployed = slot.reader();
                let mut next = || deployed.take_new().map(|deployed| next(&deployed)).transpose();
                // A slot is never empty; its topics may be others by now.
                let Some(first) = next()? else {
                    return Err(Broken::Unavailable("its topics are not there yet".into()));
                };
                subscriber.run_once(first, &mut next, doubt, stop)
            })
        })
    }

    /// As [`run_handler`](Self::run_handler), of a sink.
    pub(super) fn run_sink(
        &mut self,
        grounds: &Grounds,
        plan: &SinkPlan,
        topics: &Signal,
    ) -> miette::Result<()> {
        self.resize(plan.shards, |number, after| {
            let (plan, stuck_after) = (plan.clone(), STUCK + 2 * plan.timeout);
            let subscriber =
                Subscriber::new(grounds, number, stuck_after, &plan.name, &plan.group, &plan.subscribe);
            subscriber.spawn(topics, after, move |subscriber, doubt, stop| {
                let first = Next {
                    identity: Identity::of_sink(&plan, mail::VERSION.into()),
                    max_events: plan.batch,
                    stuck_after,
                    handler: MailSink::new(&plan).map_err(|error| Fatal(error.to_string()))?,
                };
                subscriber.run_once(first, &mut || Ok(None), doubt, stop)
            })
        })
    }

    /// Tells all of them to commit what is under way and to leave. Those who take over their numbers wait for them.
    pub(super) fn stop(&self) {
        self.0.iter().for_each(|shard| shard.stop.give());
    }

    /// Whether all of them have ended.
    pub(super) fn are_gone(&self) -> bool {
        self.0.iter().all(|shard| shard.ended.given())
    }

    fn resize(
        &mut self,
        count: u32,
        start: impl Fn(u32, Option<Signal>) -> miette::Result<(Signal, Signal)>,
    ) -> miette::Result<()> {
        for shard in self.0.iter().filter(|shard| shard.number >= count) {
            shard.stop.give();
        }
        for number in 0..count {
            let before = self.0.iter().rfind(|shard| shard.number == number);
            if before.is_some_and(|before| !before.stop.given()) {
                continue;
            }
            let (stop, ended) = start(number, before.map(|before| before.ended.clone()))?;
            self.0.push(Running { number, stop, ended });
        }
        self.0.retain(|shard| !shard.ended.given());
        Ok(())
    }
}

/// What `/status` shows of a handler before it has done anything.
pub(super) fn handler_status(plan: &HandlerPlan, digest: &str) -> SubscriberStatus {
    SubscriberStatus {
        name: plan.name.to_string(),
        kind: SubscriberKind::Handler,
        group: plan.group.clone(),
        subscribe: plan.subscribe.iter().map(|topic| topic.to_string()).collect(),
        digest: digest.to_string(),
        ..SubscriberStatus::default()
    }
}

/// As [`handler_status`], of a sink.
pub(super) fn sink_status(plan: &SinkPlan) -> SubscriberStatus {
    SubscriberStatus {
        name: plan.name.to_string(),
        kind: SubscriberKind::Sink,
        group: plan.group.clone(),
        subscribe: plan.subscribe.iter().map(|topic| topic.to_string()).collect(),
        digest: mail::VERSION.into(),
        ..SubscriberStatus::default()
    }
}

fn next(deployed: &Deployed) -> Result<Next<ComponentHandler>, Fatal> {
    let Deployed { plan, version, .. } = deployed;
    Ok(Next {
        identity: Identity::of_handler(plan, version.digest().clone()),
        max_events: plan.limits.batch,
        stuck_after: STUCK + 3 * plan.limits.time,
        handler: ComponentHandler::new(version.clone(), plan).map_err(|error| Fatal(error.to_string()))?,
    })
}

/// One shard, and all that it takes to start it over.
#[derive(Clone)]
struct Subscriber {
    grounds: Grounds,
    name: Arc<str>,
    group: String,
    topics: Vec<Arc<str>>,
    number: u32,
    /// At the start.
    stuck_after: Duration,
}

/// Why a shard ended before it was told to.
enum Broken {
    /// The broker isn't there yet.
    Unavailable(String),
    Fatal(String),
}

impl From<ConnectError> for Broken {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::Unavailable(reason) => Self::Unavailable(reason),
            error @ ConnectError::Property { .. } => Self::Fatal(error.to_string()),
            ConnectError::Fatal(reason) => Self::Fatal(reason),
        }
    }
}

impl From<Fatal> for Broken {
    fn from(Fatal(reason): Fatal) -> Self {
        Self::Fatal(reason)
    }
}

impl Subscriber {
    fn new(
        grounds: &Grounds,
        number: u32,
        stuck_after: Duration,
        name: &Arc<str>,
        group: &str,
        topics: &[Arc<str>],
    ) -> Self {
        let (grounds, name, topics) = (grounds.clone(), name.clone(), topics.to_vec());
        Self { grounds, name, group: group.into(), topics, number, stuck_after }
    }

    /// Runs the shard on a thread of its own, starting it over when it breaks; gives what ends it and what tells
    /// that it has ended. `run` runs it once: with why it broke the last time.
    fn spawn(
        self,
        topics: &Signal,
        after: Option<Signal>,
        run: impl Fn(&Self, Option<&str>, &Signal) -> Result<(), Broken> + Send + 'static,
    ) -> miette::Result<(Signal, Signal)> {
        let stop = self.grounds.stop.child();
        let (threads, name, topics) =
            (self.grounds.threads.clone(), format!("{}/{}", self.name, self.number), topics.clone());
        let ended = threads.spawn(name, &stop, move |stop| {
            // Both end within a deadline of their own, or with the host.
            for first in after.iter().chain([&topics]) {
                while !first.wait(Duration::from_millis(100)) && !stop.given() {}
            }
            self.run(&run, stop);
        })?;
        Ok((stop, ended))
    }

    fn run(&self, run_once: &impl Fn(&Self, Option<&str>, &Signal) -> Result<(), Broken>, stop: &Signal) {
        let (handler, shard) = (&*self.name, self.number);
        let mut wait = RESTART_MIN;
        let mut doubt: Option<String> = None;
        self.beat(ShardState::Starting);
        while !stop.given() {
            let started = Instant::now();
            let Err(broken) = run_once(self, doubt.as_deref(), stop) else { break };
            if started.elapsed() > RESTART_FORGIVEN {
                wait = RESTART_MIN;
            }
            match broken {
                Broken::Unavailable(reason) => {
                    wait = wait.min(RECONNECT_MAX);
                    warn!(handler, shard, "{reason}; trying on");
                    self.beat(ShardState::Waiting(reason));
                }
                Broken::Fatal(reason) => {
                    let seconds = wait.as_secs();
                    error!(handler, shard, "{reason}; nothing is lost; starting over in {seconds} s");
                    self.beat(ShardState::Failed(reason.clone()));
                    doubt = Some(reason);
                }
            }
            stop.wait(wait);
            wait = (wait * 2).min(RESTART_MAX);
        }
        self.beat(ShardState::Stopped);
        if !self.grounds.stop.given() {
            info!(handler, shard, "drained: what was begun is committed, the group is left");
            self.grounds.status.shard_is_gone(handler, shard);
        }
    }

    fn run_once<H: Handler>(
        &self,
        first: Next<H>,
        next: &mut impl FnMut() -> Result<Option<Next<H>>, Fatal>,
        doubt: Option<&str>,
        stop: &Signal,
    ) -> Result<(), Broken> {
        let (name, shard, cluster) = (&*self.name, self.number, &self.grounds.cluster);
        let Next { identity, max_events, stuck_after, handler } = first;
        // The producer first: it ends what its predecessor left open before anything is polled.
        let committer = cluster.committer(name, shard)?;
        let source = cluster.source(&self.group, name, shard, &self.topics)?;
        let place = Place { name, shard, stuck_after, doubt, status: &self.grounds.status };
        let mut shard = Shard::new(identity, max_events, source, committer, handler, random());
        let result = run(&mut shard, place, next, stop);
        shard.close(CLOSE);
        Ok(result?)
    }

    fn beat(&self, state: ShardState) {
        self.grounds.status.beat(&self.name, self.number, state, self.stuck_after);
    }
}
