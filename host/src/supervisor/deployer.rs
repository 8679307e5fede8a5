//! Makes what runs be what pipeline.toml and the components' files say, from the start of the host to its end.
//!
//! One thread, on which everything slow happens: it hears that files have changed, that a reload or a rollback is asked
//! for; it reads, compiles, links and checks; and only what has passed is put to work. A handler's shards take a new
//! version up between two batches, from its [`Slot`]. What can't be used changes nothing and is told, by the log and by
//! `/status`, until it is mended.

mod candidate;
mod commands;
mod reload;
mod settings;
mod swap;

use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tracing::{error, info, warn};

use super::history::History;
use super::inbox::Inbox;
use super::jobs;
use super::pipeline_file::PipelineFile;
use super::readers::Readers;
use super::signal::Signal;
use super::slot::{Deployed, Slot};
use super::subscriber::{Grounds, Shards, handler_status, sink_status};
use super::threads::Task;
use super::watch::Watch;
use super::web::Web;
use crate::config::plan::{HandlerPlan, Plan, SinkPlan};
use crate::config::{Loaded, joins_anew, runs_anew, starts_anew};
use crate::guest::Version;
use crate::http::Commands;
use crate::telemetry::HandlerLogs;
use crate::text::short;
use candidate::Candidate;
pub(super) use candidate::{Candidates, Workshop};

/// How late a stop or a command is noticed.
const GLANCE: Duration = Duration::from_millis(100);

/// What a deployer is made of.
pub(super) struct Parts {
    pub(super) grounds: Grounds,
    pub(super) file: PipelineFile,
    pub(super) workshop: Workshop,
    pub(super) web: Web,
    pub(super) watch: Watch,
    pub(super) inbox: Inbox,
    pub(super) commands: Commands,
    pub(super) logs: HandlerLogs,
}

pub(super) struct Deployer {
    parts: Parts,
    /// What runs.
    loaded: Loaded,
    handlers: BTreeMap<Arc<str>, Handler>,
    sinks: BTreeMap<Arc<str>, SinkPlan>,
    /// Versions that were replaced. They are kept until no shard runs them: to unmap their code takes longer than a
    /// batch does, and is not for a shard's thread.
    replaced: Vec<Version>,
    /// By the names of their handlers and sinks, those included that are leaving.
    shards: BTreeMap<Arc<str>, Shards>,
    topics: Topics,
    /// What a pipeline.toml that was refused refers to: perhaps it gets there.
    awaited: BTreeSet<PathBuf>,
    readers: Readers,
}

struct Handler {
    plan: HandlerPlan,
    version: Version,
    slot: Slot,
    /// Given when its topics are there.
    topics: Signal,
    /// The digest of its file as it was last looked at, whether that runs or not.
    file: Arc<str>,
    /// The file can't be used as it is.
    refused: bool,
}

impl Handler {
    fn new(deployed: Deployed, file: Arc<str>) -> Self {
        let Deployed { plan, version, topics } = deployed.clone();
        Self { plan, version, topics, slot: Slot::new(deployed), file, refused: false }
    }

    fn deployed(&self) -> Deployed {
        let Self { plan, version, topics, .. } = self;
        Deployed { plan: plan.clone(), version: version.clone(), topics: topics.clone() }
    }
}

/// Which topics are known to be there, and who waits for the others.
#[derive(Default)]
struct Topics {
    there: BTreeSet<Arc<str>>,
    coming: Option<Coming>,
}

/// Topics that are being created.
struct Coming {
    names: BTreeSet<Arc<str>>,
    task: Task,
    there: Signal,
    /// Given with it: those whom earlier plans have left waiting.
    earlier: Vec<Signal>,
}

impl Topics {
    /// What is given when these are there.
    fn of<'a>(&self, mut names: impl Iterator<Item = &'a Arc<str>>) -> Signal {
        match &self.coming {
            Some(coming) if names.any(|name| !self.there.contains(name)) => coming.there.clone(),
            Some(_) | None => Signal::already_given(),
        }
    }
}

impl Deployer {
    /// Puts a first plan to work.
    pub(super) fn start(
        parts: Parts,
        loaded: Loaded,
        candidates: Candidates,
        bound: Option<TcpListener>,
    ) -> miette::Result<Self> {
        let mut deployer = Self {
            parts,
            loaded,
            handlers: BTreeMap::new(),
            sinks: BTreeMap::new(),
            replaced: Vec::new(),
            shards: BTreeMap::new(),
            topics: Topics::default(),
            awaited: BTreeSet::new(),
            readers: Readers::default(),
        };
        deployer.put_to_work(candidates, bound)?;
        deployer.parts.grounds.status.config_loaded();
        if !deployer.parts.file.is_still(&deployer.loaded) {
            // It was changed while the components were compiled; what is wrong with it is told.
            let _ = deployer.reload();
        }
        Ok(deployer)
    }

    /// Hears and acts until `stop`.
    pub(super) fn run(&mut self, stop: &Signal) {
        while !stop.given() {
            let news = self.parts.inbox.take(self.parts.watch.due().min(GLANCE));
            news.files.iter().for_each(|event| self.parts.watch.hear(event));
            if news.more {
                self.parts.watch.wake();
            }
            if news.reload {
                info!("SIGHUP: reading {} and the components anew", self.parts.file.path().display());
                if self.reload().is_ok() {
                    self.look_at_those(|_all| true);
                }
            }
            self.replaced.retain(Version::is_shared);
            if self.parts.watch.due().is_zero() {
                let changed = self.parts.watch.look();
                self.act_on(&changed);
            }
            while let Some(asked) = self.parts.commands.next(Duration::ZERO) {
                self.answer(asked);
            }
            if let Err(error) = self.parts.web.turn(&self.parts.grounds) {
                error!("the HTTP side goes on as it was: {error}; SIGHUP tries again");
            }
        }
    }

    fn act_on(&mut self, changed: &[PathBuf]) {
        if changed.is_empty() {
            return;
        }
        let is_config = |path: &PathBuf| *path == *self.parts.file.path() || self.loaded.files.contains(path);
        if changed.iter().any(|path| is_config(path) || self.awaited.contains(path)) {
            // What was wrong is told by then.
            let _ = self.reload();
        }
        for path in changed {
            self.look_at(path);
        }
    }

    /// Makes what runs be `self.loaded.plan`; `candidates` are the handlers whose versions are new. Nothing here waits.
    fn put_to_work(&mut self, mut candidates: Candidates, bound: Option<TcpListener>) -> miette::Result<()> {
        let plan = self.loaded.plan.clone();
        let handlers = plan.handlers.iter().map(|handler| (&*handler.name, handler.log));
        self.parts.logs.follow(handlers.chain(plan.sinks.iter().map(|sink| (&*sink.name, None))));
        self.ensure(&plan)?;
        self.let_go(&plan);
        for handler in &plan.handlers {
            self.put_handler(handler, candidates.remove(&handler.name))?;
        }
        for sink in &plan.sinks {
            self.put_sink(sink)?;
        }
        let of_http = plan.http.iter().flat_map(|http| &http.resources);
        let of_http = of_http.flat_map(|resource| resource.shown().chain([&resource.topic]));
        // Without a resource there is no such topic, and nobody who waits for it.
        let claims = plan.http.iter().filter(|http| !http.resources.is_empty()).map(|http| &http.claims);
        let topics = self.topics.of(of_http.chain(claims));
        self.parts.web.change(&self.parts.grounds, plan.http.as_ref(), bound, &topics)?;
        self.watch_files();
        Ok(())
    }

    fn put_handler(&mut self, plan: &HandlerPlan, candidate: Option<Candidate>) -> miette::Result<()> {
        let (name, grounds) = (&plan.name, &self.parts.grounds);
        let topics = self.topics.of(plan.subscribe.iter().chain(&plan.publish).chain([&plan.dead_letter]));
        let shards = self.shards.entry(name.clone()).or_default();
        match self.handlers.get_mut(name) {
            Some(handler) => {
                let before = std::mem::replace(&mut handler.plan, plan.clone());
                handler.topics = topics.clone();
                if before.keep != plan.keep {
                    self.parts.workshop.history(plan).keep(plan.keep);
                }
                grounds.status.add_subscriber(handler_status(plan, handler.version.digest()));
                if joins_anew(&before, plan) {
                    shards.stop();
                    // Those who leave shall not take up what is meant for other topics.
                    handler.slot = Slot::new(handler.deployed());
                }
                if let Some(candidate) = candidate {
                    self.put_version(name, candidate);
                } else if runs_anew(&before, plan) {
                    handler.slot.put(handler.deployed());
                }
            }
            None => {
                let Some(candidate) = candidate else { unreachable!("a new handler has a version") };
                // A sink may have had the name.
                shards.stop();
                let Candidate { version, compiled, file, loaded } = &candidate;
                grounds.status.add_subscriber(handler_status(plan, version.digest()));
                grounds.status.update(name, |s| s.version.compile_ms = Some(compiled.ms()));
                self.parts.workshop.remember(plan, &candidate);
                if loaded.is_none() {
                    let (runs, instead) = (short(version.digest()), short(file));
                    warn!(handler = %name, "rolled back: {runs} runs instead of its file, {instead}, until that changes");
                }
                let deployed =
                    Deployed { plan: plan.clone(), version: version.clone(), topics: topics.clone() };
                self.handlers.insert(name.clone(), Handler::new(deployed, file.clone()));
            }
        }
        if let (Some(handler), Some(shards)) = (self.handlers.get(name), self.shards.get_mut(name)) {
            shards.run_handler(&self.parts.grounds, plan, &handler.slot, &topics)?;
        }
        Ok(())
    }

    fn put_sink(&mut self, plan: &SinkPlan) -> miette::Result<()> {
        let topics = plan.subscribe.iter().chain(&plan.receipts).chain([&plan.dead_letter]);
        let topics = self.topics.of(topics);
        let shards = self.shards.entry(plan.name.clone()).or_default();
        let before = self.sinks.insert(plan.name.clone(), plan.clone());
        if before.is_none_or(|before| starts_anew(&before, plan)) {
            shards.stop();
            self.parts.grounds.status.add_subscriber(sink_status(plan));
        }
        shards.run_sink(&self.parts.grounds, plan, &topics)
    }

    /// Handlers and sinks that are not in the plan any more drain and leave.
    fn let_go(&mut self, plan: &Plan) {
        let handlers = plan.handlers.iter().map(|handler| &handler.name);
        let names: BTreeSet<&Arc<str>> = handlers.chain(plan.sinks.iter().map(|sink| &sink.name)).collect();
        self.handlers.retain(|name, _| plan.handlers.iter().any(|handler| handler.name == *name));
        self.parts.workshop.forget_others(&plan.handlers);
        self.sinks.retain(|name, _| plan.sinks.iter().any(|sink| sink.name == *name));
        for (name, shards) in &self.shards {
            if !names.contains(name) {
                shards.stop();
                self.parts.grounds.status.retire(name);
            }
        }
        self.shards.retain(|name, shards| names.contains(name) || !shards.are_gone());
    }

    /// Has those topics created that are not known to be there.
    fn ensure(&mut self, plan: &Plan) -> miette::Result<()> {
        let names: BTreeSet<Arc<str>> = plan.topics.iter().map(|topic| topic.name.clone()).collect();
        // Whoever waits for what is being created already waits for the new ones then, or is told to go.
        let mut earlier = Vec::new();
        if let Some(coming) = self.topics.coming.take() {
            if coming.there.given() {
                self.topics.there.extend(coming.names);
            } else {
                coming.task.stop.give();
                earlier = coming.earlier;
                earlier.push(coming.there);
            }
        }
        if names.is_subset(&self.topics.there) {
            earlier.iter().for_each(Signal::give);
            self.parts.grounds.status.started();
            return Ok(());
        }
        let there = Signal::default();
        let all = earlier.iter().chain([&there]).cloned().collect();
        let task = jobs::create_topics(&self.parts.grounds, &plan.topics, all)?;
        self.topics.coming = Some(Coming { names, task, there, earlier });
        Ok(())
    }

    fn watch_files(&mut self) {
        let files = files(&self.parts.file, &self.loaded).chain(self.awaited.iter().cloned());
        self.parts.watch.follow(&files.collect());
    }

    fn history(&mut self, handler: &HandlerPlan) -> &mut History {
        self.parts.workshop.history(handler)
    }
}

/// All that a plan was read from, and its components.
pub(super) fn files<'a>(file: &PipelineFile, loaded: &'a Loaded) -> impl Iterator<Item = PathBuf> + use<'a> {
    let components = loaded.plan.handlers.iter().map(|handler| &handler.component);
    components.chain(loaded.files.iter()).cloned().chain([file.path().to_path_buf()])
}
