//! The shards of a handler or a sink: a thread each, started over with a new consumer and a new producer
//! when the log or the plan stops them.
//!
//! Two shards of one number never run at a time, since they have one transactional.id and one place in the group: who
//! takes over from another waits until that one has committed and left.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::random;
use tracing::{error, info, warn};

use super::run::{Next, Place, run};
use super::signal::Signal;
use super::slot::{Deployed, Slot};
use super::threads::{Task, Threads};
use crate::config::plan::{HandlerPlan, SinkPlan};
use crate::event::Handler;
use crate::guest::ComponentHandler;
use crate::log::kafka::{Cluster, ConnectError};
use crate::mail::{self, Delivery, Fate, MailSink};
use crate::shard::{Fatal, Identity, Shard};
use crate::status::{MailFigures, ShardState, Status, SubscriberKind, SubscriberStatus};

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
pub(super) struct Shards(Vec<(u32, Task)>);

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
        self.resize(plan.shards, |number, before| {
            let slot = slot.clone();
            let subscriber = Subscriber::new(grounds, number, &plan.name, &plan.group, &plan.subscribe);
            subscriber.spawn(topics, before, move |subscriber, doubt, stop| {
                let mut deployed = slot.reader();
                let mut next = || deployed.take_new().map(|deployed| next(&deployed)).transpose();
                let Some(first) = next()? else { unreachable!("a new reader has taken nothing yet") };
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
        self.resize(plan.shards, |number, before| {
            let plan = plan.clone();
            let subscriber = Subscriber::new(grounds, number, &plan.name, &plan.group, &plan.subscribe);
            subscriber.spawn(topics, before, move |subscriber, doubt, stop| {
                let (status, name) = (subscriber.grounds.status.clone(), plan.name.clone());
                let tell = move |tried: &Delivery| status.update(&name, |s| count_mail(s, tried));
                let first = Next {
                    identity: Identity::of_sink(&plan, mail::VERSION.into()),
                    max_events: plan.batch,
                    stuck_after: STUCK + 2 * plan.timeout,
                    handler: MailSink::new(&plan, tell).map_err(|error| Fatal(error.to_string()))?,
                };
                subscriber.run_once(first, &mut || Ok(None), doubt, stop)
            })
        })
    }

    /// Tells all of them to commit what is under way and to leave. Those who take over their numbers wait for them.
    pub(super) fn stop(&self) {
        self.0.iter().for_each(|(_, shard)| shard.stop.give());
    }

    /// Whether all of them have ended.
    pub(super) fn are_gone(&self) -> bool {
        self.0.iter().all(|(_, shard)| shard.ended.given())
    }

    /// `start` starts one, after the one that had its number before.
    fn resize(
        &mut self,
        count: u32,
        start: impl Fn(u32, Option<Task>) -> miette::Result<Task>,
    ) -> miette::Result<()> {
        for (_, shard) in self.0.iter().filter(|(number, _)| *number >= count) {
            shard.stop.give();
        }
        for number in 0..count {
            let before = self.0.iter().rfind(|(of, _)| *of == number).map(|(_, shard)| shard.clone());
            if before.as_ref().is_some_and(|before| !before.stop.given()) {
                continue;
            }
            let shard = start(number, before)?;
            self.0.push((number, shard));
        }
        self.0.retain(|(_, shard)| !shard.ended.given());
        Ok(())
    }
}

/// What `/status` shows of a handler before it has done anything.
pub(super) fn handler_status(plan: &HandlerPlan, digest: &str) -> SubscriberStatus {
    SubscriberStatus {
        name: plan.name.to_string(),
        kind: SubscriberKind::Handler,
        group: plan.group.clone(),
        subscribe: names(&plan.subscribe),
        publish: names(&plan.publish),
        dead_letter: plan.dead_letter.to_string(),
        digest: digest.into(),
        ..SubscriberStatus::default()
    }
}

/// As [`handler_status`], of a sink.
pub(super) fn sink_status(plan: &SinkPlan) -> SubscriberStatus {
    SubscriberStatus {
        name: plan.name.to_string(),
        kind: SubscriberKind::Sink,
        group: plan.group.clone(),
        subscribe: names(&plan.subscribe),
        publish: names(plan.receipts.as_slice()),
        dead_letter: plan.dead_letter.to_string(),
        digest: mail::VERSION.into(),
        mail: Some(MailFigures::default()),
        ..SubscriberStatus::default()
    }
}

fn count_mail(status: &mut SubscriberStatus, Delivery { fate, took, connections }: &Delivery) {
    let mail = status.mail.get_or_insert_default();
    *match fate {
        Fate::Sent => &mut mail.sent,
        Fate::Deferred => &mut mail.deferred,
        Fate::Refused => &mut mail.refused,
        Fate::Blocked => &mut mail.blocked,
    } += 1;
    mail.connections += connections;
    mail.delivery_us.record_time(*took);
}

fn names(topics: &[Arc<str>]) -> Vec<String> {
    topics.iter().map(|topic| topic.to_string()).collect()
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
struct Subscriber {
    grounds: Grounds,
    name: Arc<str>,
    group: String,
    topics: Vec<Arc<str>>,
    number: u32,
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
    fn new(grounds: &Grounds, number: u32, name: &Arc<str>, group: &str, topics: &[Arc<str>]) -> Self {
        let (grounds, name, topics) = (grounds.clone(), name.clone(), topics.to_vec());
        Self { grounds, name, group: group.into(), topics, number }
    }

    /// Runs the shard on a thread of its own, starting it over when it breaks. `run_once` runs it once: with why it
    /// broke the last time.
    fn spawn(
        self,
        topics: &Signal,
        before: Option<Task>,
        run_once: impl Fn(&Self, Option<&str>, &Signal) -> Result<(), Broken> + Send + 'static,
    ) -> miette::Result<Task> {
        let (threads, stop, topics) =
            (self.grounds.threads.clone(), self.grounds.stop.child(), topics.clone());
        let name = format!("{}/{}", self.name, self.number);
        let presence = Presence::new(&self);
        threads.spawn(name, &stop, move |stop| {
            let _until_the_thread_ends = &presence;
            // Stopped or not: whoever comes after this one relies on it.
            if let Some(before) = &before {
                before.ended.wait_unless(&self.grounds.stop);
            }
            topics.wait_unless(stop);
            self.run(&run_once, stop);
        })
    }

    fn run(&self, run_once: &impl Fn(&Self, Option<&str>, &Signal) -> Result<(), Broken>, stop: &Signal) {
        let (handler, shard) = (&*self.name, self.number);
        let mut wait = RESTART_MIN;
        let mut doubt: Option<String> = None;
        let mut has_run = false;
        while !stop.given() {
            let started = Instant::now();
            has_run = true;
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
        if has_run && !self.grounds.stop.given() {
            info!(handler, shard, "drained: what was begun is committed, the group is left");
        }
    }

    fn run_once<H: Handler>(
        &self,
        first: Next<H>,
        next: &mut impl FnMut() -> Result<Option<Next<H>>, Fatal>,
        doubt: Option<&str>,
        stop: &Signal,
    ) -> Result<(), Broken> {
        let (name, number, Grounds { cluster, status, .. }) = (&*self.name, self.number, &self.grounds);
        let Next { identity, max_events, stuck_after, handler } = first;
        let (commits, source) = cluster.shard(&self.group, name, number, &self.topics)?;
        let place = Place { name, shard: number, stuck_after, doubt, status };
        let mut shard = Shard::new(identity, max_events, source, commits, handler, random());
        let waker = shard.waker();
        stop.wakes(&waker);
        shard.trace(self.grounds.status.tracer().subscriber(name, &self.group));
        let result = run(&mut shard, place, next, stop);
        // Its partitions go to somebody else.
        status.reached(name, number, BTreeMap::new(), None);
        shard.close(CLOSE);
        Ok(result?)
    }

    fn beat(&self, state: ShardState) {
        self.grounds.status.beat(&self.name, self.number, state, STUCK);
    }
}

/// A shard in the status, from before its thread begins until it has ended, however that ends.
struct Presence {
    status: Status,
    name: Arc<str>,
    number: u32,
}

impl Presence {
    fn new(subscriber: &Subscriber) -> Self {
        let Subscriber { grounds, name, number, .. } = subscriber;
        grounds.status.shard_comes(name, *number);
        Self { status: grounds.status.clone(), name: name.clone(), number: *number }
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.status.shard_is_gone(&self.name, self.number);
    }
}
