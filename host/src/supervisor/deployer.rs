//! Makes what runs be what pipeline.toml and the components' files say, from the start of the host to its end.
//!
//! One thread, on which everything slow happens: it hears that files have changed, that a reload or a rollback is asked
//! for; it reads, compiles, links and checks; and only what has passed is put to work. A handler's shards take a new
//! version up between two batches, from its [`Slot`]. What can't be used changes nothing and is told, by the log and by
//! `/status`, until it is mended.

mod candidate;
mod commands;
mod reload;
mod swap;

use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use tracing::info;

use super::history::History;
use super::jobs;
use super::pipeline_file::PipelineFile;
use super::signal::Signal;
use super::slot::{Deployed, Slot};
use super::subscriber::{Grounds, Shards, handler_status, sink_status};
use super::watch::Watch;
use super::web::Web;
use crate::config::plan::{HandlerPlan, Plan, SinkPlan};
use crate::config::{Loaded, joins_anew};
use crate::guest::Version;
use crate::http::Asked;
pub(super) use candidate::{Candidates, Workshop};

/// What the deployer hears.
pub(super) enum Event {
    /// Something happened in the folder of a watched file.
    Files(notify::Event),
    /// SIGHUP: read everything anew, changed or not.
    Reload,
    /// By the admin API.
    Asked(Asked),
}

/// How late a stop is noticed.
const GLANCE: Duration = Duration::from_millis(200);

pub(super) struct Deployer {
    grounds: Grounds,
    file: PipelineFile,
    workshop: Workshop,
    /// What runs.
    loaded: Loaded,
    handlers: BTreeMap<Arc<str>, Handler>,
    sinks: BTreeMap<Arc<str>, SinkPlan>,
    /// By the names of their handlers and sinks, those included that are leaving.
    shards: BTreeMap<Arc<str>, Shards>,
    web: Web,
    topics: Topics,
    watch: Watch,
    /// What a pipeline.toml that was refused refers to: perhaps it gets there.
    awaited: BTreeSet<PathBuf>,
    events: Receiver<Event>,
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
    /// From the next batch on, of every shard.
    fn deploy(&self) {
        let Self { plan, version, topics, slot, .. } = self;
        let (plan, version, topics) = (plan.clone(), version.clone(), topics.clone());
        slot.put(Deployed { plan, version, topics });
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
    stop: Signal,
    there: Signal,
}

impl Deployer {
    /// Puts a first plan to work.
    pub(super) fn start(
        grounds: Grounds,
        file: PipelineFile,
        workshop: Workshop,
        loaded: Loaded,
        candidates: Candidates,
        (web, listener): (Web, Option<TcpListener>),
        (watch, events): (Watch, Receiver<Event>),
    ) -> miette::Result<Self> {
        let mut deployer = Self {
            grounds,
            file,
            workshop,
            loaded,
            handlers: BTreeMap::new(),
            sinks: BTreeMap::new(),
            shards: BTreeMap::new(),
            web,
            topics: Topics::default(),
            watch,
            awaited: BTreeSet::new(),
            events,
        };
        deployer.put_to_work(candidates, listener)?;
        deployer.grounds.status.config_loaded();
        if !deployer.file.is_still(&deployer.loaded) {
            // It was changed while the components were compiled; what is wrong with it is told.
            let _ = deployer.reload();
        }
        Ok(deployer)
    }

    /// Hears and acts until `stop`.
    pub(super) fn run(&mut self, stop: &Signal) {
        while !stop.given() {
            match self.events.recv_timeout(self.watch.due().min(GLANCE)) {
                Ok(Event::Files(event)) => self.watch.hear(&event),
                Ok(Event::Reload) => {
                    info!("SIGHUP: reading {} and the components anew", self.file.path().display());
                    if self.reload().is_ok() {
                        self.look_at_all();
                    }
                }
                Ok(Event::Asked(asked)) => self.answer(asked),
                Err(_nothing) => {}
            }
            if self.watch.due().is_zero() {
                let changed = self.watch.look();
                self.act_on(&changed);
            }
        }
    }

    fn act_on(&mut self, changed: &[PathBuf]) {
        if changed.is_empty() {
            return;
        }
        let is_config = |path: &PathBuf| *path == *self.file.path() || self.loaded.files.contains(path);
        if changed.iter().any(|path| is_config(path) || self.awaited.contains(path)) {
            // What was wrong is told by then.
            let _ = self.reload();
        }
        for path in changed {
            self.look_at(path);
        }
    }

    /// Makes what runs be `self.loaded.plan`; `candidates` are the handlers whose versions are new. Nothing here waits.
    fn put_to_work(
        &mut self,
        mut candidates: Candidates,
        listener: Option<TcpListener>,
    ) -> miette::Result<()> {
        let plan = self.loaded.plan.clone();
        let topics = self.ensure(&plan)?;
        self.let_go(&plan);
        for handler in &plan.handlers {
            self.put_handler(handler, candidates.remove(&handler.name), &topics)?;
        }
        for sink in &plan.sinks {
            let shards = self.shards.entry(sink.name.clone()).or_default();
            match self.sinks.insert(sink.name.clone(), sink.clone()) {
                // Only threads are added or taken away.
                Some(before) if SinkPlan { shards: sink.shards, ..before.clone() } == *sink => {}
                Some(_) | None => {
                    shards.stop();
                    self.grounds.status.add_subscriber(sink_status(sink));
                }
            }
            shards.run_sink(&self.grounds, sink, &topics)?;
        }
        self.web.change(&self.grounds, plan.http.as_ref(), listener, &topics)?;
        self.watch_files();
        Ok(())
    }

    fn put_handler(
        &mut self,
        plan: &HandlerPlan,
        candidate: Option<candidate::Candidate>,
        topics: &Signal,
    ) -> miette::Result<()> {
        let name = &plan.name;
        let shards = self.shards.entry(name.clone()).or_default();
        match self.handlers.get_mut(name) {
            Some(handler) => {
                if joins_anew(&handler.plan, plan) {
                    shards.stop();
                }
                let before = std::mem::replace(&mut handler.plan, plan.clone());
                handler.topics = topics.clone();
                self.grounds.status.add_subscriber(handler_status(plan, handler.version.digest()));
                if let Some(candidate) = candidate {
                    self.put_version(name, candidate);
                } else if before != *plan {
                    handler.deploy();
                }
            }
            None => {
                let Some(candidate) = candidate else { unreachable!("a new handler has a version") };
                let version = candidate.version.clone();
                self.grounds.status.add_subscriber(handler_status(plan, version.digest()));
                self.grounds.status.update(name, |s| {
                    s.version.compile_ms = Some(candidate.compiled.took.as_secs_f64() * 1000.0);
                });
                let (plan, topics) = (plan.clone(), topics.clone());
                let slot = Slot::new(Deployed {
                    plan: plan.clone(),
                    version: version.clone(),
                    topics: topics.clone(),
                });
                let handler = Handler {
                    plan: plan.clone(),
                    version,
                    slot,
                    topics,
                    file: candidate.file.clone(),
                    refused: false,
                };
                self.handlers.insert(name.clone(), handler);
                self.workshop.remember(&plan, &candidate);
            }
        }
        if let (Some(handler), Some(shards)) = (self.handlers.get(name), self.shards.get_mut(name)) {
            shards.run_handler(&self.grounds, plan, &handler.slot, topics)?;
        }
        Ok(())
    }

    /// Handlers and sinks that are not in the plan any more drain and leave.
    fn let_go(&mut self, plan: &Plan) {
        let handlers = plan.handlers.iter().map(|handler| &handler.name);
        let names: BTreeSet<&Arc<str>> = handlers.chain(plan.sinks.iter().map(|sink| &sink.name)).collect();
        self.handlers.retain(|name, _| plan.handlers.iter().any(|handler| handler.name == *name));
        self.workshop.forget_others(&plan.handlers);
        self.sinks.retain(|name, _| plan.sinks.iter().any(|sink| sink.name == *name));
        for (name, shards) in &self.shards {
            if !names.contains(name) {
                shards.stop();
                self.grounds.status.retire(name);
            }
        }
        self.shards.retain(|name, shards| names.contains(name) || !shards.are_gone());
    }

    /// What comes back is given when all topics of the plan are there.
    fn ensure(&mut self, plan: &Plan) -> miette::Result<Signal> {
        if self.topics.coming.as_ref().is_some_and(|coming| coming.there.given())
            && let Some(Coming { names, .. }) = self.topics.coming.take()
        {
            self.topics.there = names;
        }
        let names: BTreeSet<Arc<str>> = plan.topics.iter().map(|topic| topic.name.clone()).collect();
        if names.is_subset(&self.topics.there) {
            let there = Signal::default();
            there.give();
            return Ok(there);
        }
        // Those who wait already wait for these then.
        let there = match self.topics.coming.take() {
            Some(coming) => {
                coming.stop.give();
                coming.there
            }
            None => Signal::default(),
        };
        let stop = self.grounds.stop.child();
        jobs::create_topics(&self.grounds, &plan.topics, &stop, &there)?;
        self.topics.coming = Some(Coming { names, stop, there: there.clone() });
        Ok(there)
    }

    fn watch_files(&mut self) {
        let files = files(&self.file, &self.loaded).chain(self.awaited.iter().cloned());
        self.watch.follow(&files.collect());
    }

    fn history(&mut self, handler: &HandlerPlan) -> &mut History {
        self.workshop.history(handler)
    }
}

/// All that a plan was read from, and its components.
pub(super) fn files<'a>(file: &PipelineFile, loaded: &'a Loaded) -> impl Iterator<Item = PathBuf> + use<'a> {
    let components = loaded.plan.handlers.iter().map(|handler| &handler.component);
    components.chain(loaded.files.iter()).cloned().chain([file.path().to_path_buf()])
}
