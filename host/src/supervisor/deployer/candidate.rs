//! From a component's file to a version that could be put to work.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use tracing::warn;

use super::super::back_seat;
use super::super::history::History;
use super::super::state_folder::StateFolder;
use super::super::versions::{VersionErrors, engine_for, of_each, shards};
use crate::config::Loaded;
use crate::config::plan::{HandlerPlan, Plan};
use crate::guest::{CodeCache, Compiled, ComponentFile, Engine, LoadError, Version};
use crate::text::short;

/// Compiles, and knows the versions that were.
pub(in super::super) struct Workshop {
    engine: Engine,
    code: CodeCache,
    /// Where the versions are kept, a folder for each handler.
    versions: Option<PathBuf>,
    histories: BTreeMap<Arc<str>, History>,
    /// A first plan was compiled: shards run from now on.
    beside_shards: bool,
}

/// Not yet at work.
pub(in super::super) struct Candidate {
    pub(super) version: Version,
    pub(super) compiled: Compiled,
    /// The digest of its handler's file.
    pub(super) file: Arc<str>,
    /// The component, if that is the file itself, and not what runs instead of it.
    pub(super) loaded: Option<ComponentFile>,
}

/// By handler.
pub(in super::super) type Candidates = BTreeMap<Arc<str>, Candidate>;

impl Workshop {
    pub(in super::super) fn new(plan: &Plan, state: &StateFolder) -> Result<Self, VersionErrors> {
        let (engine, code, versions) = (engine_for(&plan.handlers)?, state.code(), state.versions(plan));
        Ok(Self { engine, code, versions, histories: BTreeMap::new(), beside_shards: false })
    }

    /// A candidate for each handler of a first plan, or everything that is wrong.
    pub(in super::super) fn candidates(&mut self, loaded: &Loaded) -> Result<Candidates, VersionErrors> {
        let found = of_each(&loaded.plan.handlers, &loaded.places, |handler| self.candidate(handler));
        self.beside_shards = true;
        found
    }

    /// What the handler's file holds, or what a rollback has put in its place.
    pub(super) fn candidate(&mut self, plan: &HandlerPlan) -> Result<Candidate, LoadError> {
        let file = ComponentFile::read(&plan.component)?;
        if let Some(held) = self.history(plan).held().filter(|held| held.instead_of == file.digest).cloned() {
            match self.kept(plan, &held.digest) {
                Ok((version, compiled)) => {
                    return Ok(Candidate { version, compiled, file: file.digest, loaded: None });
                }
                Err(error) => warn!(
                    handler = &*plan.name,
                    "the version that it was rolled back to can't run, so its file is to: {error}"
                ),
            }
        }
        let (version, compiled) = self.compile(&file, plan)?;
        Ok(Candidate { version, compiled, file: file.digest.clone(), loaded: Some(file) })
    }

    /// A version that was kept.
    pub(super) fn kept(
        &mut self,
        plan: &HandlerPlan,
        digest: &Arc<str>,
    ) -> Result<(Version, Compiled), String> {
        let bytes = self.history(plan).component(digest)?.to_vec();
        // Not the handler's file: that holds something else.
        let file = ComponentFile {
            path: format!("the kept version {}", short(digest)).into(),
            bytes,
            digest: digest.clone(),
        };
        self.compile(&file, plan).map_err(|error| error.to_string())
    }

    pub(super) fn compile(
        &self,
        file: &ComponentFile,
        plan: &HandlerPlan,
    ) -> Result<(Version, Compiled), LoadError> {
        let compile = || Version::compile(&self.engine, file, plan, &self.code);
        if self.beside_shards { back_seat::run(compile) } else { compile() }
    }

    /// Makes room for the shards of a plan. Versions that run go on with the engine that they have.
    pub(super) fn make_room(&mut self, plan: &Plan) -> Result<(), VersionErrors> {
        if shards(&plan.handlers) > self.engine.instances() {
            self.engine = engine_for(&plan.handlers)?;
        }
        Ok(())
    }

    /// A candidate was put to work.
    pub(super) fn remember(&mut self, plan: &HandlerPlan, candidate: &Candidate) {
        if let Some(file) = &candidate.loaded {
            self.history(plan).loaded(&file.digest, &file.bytes, plan.keep);
        }
    }

    /// Of handlers that are gone nothing stays in memory.
    pub(super) fn forget_others(&mut self, handlers: &[HandlerPlan]) {
        self.histories.retain(|name, _| handlers.iter().any(|handler| handler.name == *name));
    }

    pub(super) fn history(&mut self, plan: &HandlerPlan) -> &mut History {
        let folder = || self.versions.as_ref().map(|folder| folder.join(&*plan.name));
        self.histories.entry(plan.name.clone()).or_insert_with(|| History::open(folder()))
    }
}
