//! The shards of a handler or a sink: a thread each, started over with a new consumer and a new producer
//! when the log or the plan stops them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::random;
use tracing::{error, warn};

use super::run::run;
use super::stop::Stop;
use super::threads::Threads;
use crate::config::plan::{HandlerPlan, SinkPlan};
use crate::event::Handler;
use crate::guest::{ComponentHandler, Version};
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

pub(super) fn run_handler(
    threads: &mut Threads,
    cluster: &Cluster,
    plan: &HandlerPlan,
    version: &Version,
    status: &Status,
) -> miette::Result<()> {
    let digest = version.digest();
    status.add_subscriber(SubscriberStatus {
        name: plan.name.to_string(),
        kind: SubscriberKind::Handler,
        group: plan.group.clone(),
        subscribe: plan.subscribe.iter().map(|topic| topic.to_string()).collect(),
        digest: digest.to_string(),
        ..SubscriberStatus::default()
    });
    for number in 0..plan.shards {
        let (plan, version) = (plan.clone(), version.clone());
        let subscriber = Subscriber {
            cluster: cluster.clone(),
            status: status.clone(),
            identity: Identity::of_handler(&plan, digest.clone()),
            group: plan.group.clone(),
            topics: plan.subscribe.clone(),
            max_events: plan.limits.batch,
            number,
            stuck_after: STUCK + 3 * plan.limits.time,
        };
        let handler = move || {
            ComponentHandler::new(version.clone(), &plan).map_err(|error| Broken::Fatal(error.to_string()))
        };
        threads.spawn(subscriber.thread(), move |stop| subscriber.run(&handler, stop))?;
    }
    Ok(())
}

pub(super) fn run_sink(
    threads: &mut Threads,
    cluster: &Cluster,
    plan: &SinkPlan,
    status: &Status,
) -> miette::Result<()> {
    status.add_subscriber(SubscriberStatus {
        name: plan.name.to_string(),
        kind: SubscriberKind::Sink,
        group: plan.group.clone(),
        subscribe: plan.subscribe.iter().map(|topic| topic.to_string()).collect(),
        digest: mail::VERSION.into(),
        ..SubscriberStatus::default()
    });
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
            stuck_after: STUCK + 2 * plan.timeout,
        };
        let sink = move || MailSink::new(&plan).map_err(|error| Broken::Fatal(error.to_string()));
        threads.spawn(subscriber.thread(), move |stop| subscriber.run(&sink, stop))?;
    }
    Ok(())
}

/// One shard, and all that it takes to start it over.
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

impl Subscriber {
    fn thread(&self) -> String {
        format!("{}/{}", self.identity.name, self.number)
    }

    /// Runs the shard until `stop`, starting it over when it breaks.
    fn run<H: Handler>(&self, make_handler: &impl Fn() -> Result<H, Broken>, stop: &Stop) {
        let (handler, shard) = (&*self.identity.name, self.number);
        let mut wait = RESTART_MIN;
        let mut doubt: Option<String> = None;
        self.beat(ShardState::Starting);
        while !stop.stopped() {
            let started = Instant::now();
            let Err(broken) = self.run_once(make_handler, doubt.as_deref(), stop) else { break };
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
    }

    fn run_once<H: Handler>(
        &self,
        make_handler: &impl Fn() -> Result<H, Broken>,
        doubt: Option<&str>,
        stop: &Stop,
    ) -> Result<(), Broken> {
        let handler = make_handler()?;
        let name = &self.identity.name;
        // The producer first: it ends what its predecessor left open before anything is polled.
        let committer = self.cluster.committer(name, self.number)?;
        let source = self.cluster.source(&self.group, name, self.number, &self.topics)?;
        let identity = self.identity.clone();
        let mut shard = Shard::new(identity, self.max_events, source, committer, handler, random());
        let result = run(&mut shard, name, self.number, self.stuck_after, doubt, &self.status, stop);
        shard.close(CLOSE);
        result.map_err(|Fatal(reason)| Broken::Fatal(reason))
    }

    fn beat(&self, state: ShardState) {
        self.status.beat(&self.identity.name, self.number, state, self.stuck_after);
    }
}
