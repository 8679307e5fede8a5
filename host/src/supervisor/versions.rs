//! The components of a plan, compiled and linked, or every reason why not.

use std::collections::BTreeMap;
use std::sync::Arc;

use miette::Diagnostic;
use thiserror::Error;

use crate::config::plan::HandlerPlan;
use crate::config::{Loaded, Problem};
use crate::guest::{Engine, EngineError, EngineLimits, LoadError, Version};

/// One version for each handler of the plan.
pub struct Versions(BTreeMap<Arc<str>, Version>);

impl Versions {
    /// # Panics
    /// If the handler is not one of the plan that was loaded.
    pub(super) fn get(&self, handler: &str) -> &Version {
        &self.0[handler]
    }
}

#[derive(Debug, Error, Diagnostic)]
pub enum VersionErrors {
    #[error(transparent)]
    #[diagnostic(transparent)]
    Engine(#[from] EngineError),
    /// Each at the line that names the component, in the file's order.
    #[error("{} can't be run", if .0.len() == 1 { "a component".into() } else { format!("{} components", .0.len()) })]
    Components(#[related] Vec<Problem>),
}

/// Compiles and links every component of the plan, on an engine with room for all its shards.
pub fn load_versions(loaded: &Loaded) -> Result<Versions, VersionErrors> {
    let handlers = &loaded.plan.handlers;
    let shards: u32 = handlers.iter().map(|handler| handler.shards).sum();
    let memory = handlers.iter().map(|handler| handler.limits.memory).max().unwrap_or(0);
    let engine = Engine::new(EngineLimits { instances: shards.max(1), memory })?;
    let mut versions = BTreeMap::new();
    let mut problems = Vec::new();
    for handler in handlers {
        match load(&engine, handler) {
            Ok(version) => {
                versions.insert(handler.name.clone(), version);
            }
            Err(error) => problems.push(loaded.places.component(&handler.name, &error)),
        }
    }
    problems.sort_by_key(|problem| problem.span.as_ref().map(|span| span.start));
    if problems.is_empty() { Ok(Versions(versions)) } else { Err(VersionErrors::Components(problems)) }
}

fn load(engine: &Engine, handler: &HandlerPlan) -> Result<Version, LoadError> {
    let version = Version::load(engine, &handler.component)?;
    version.fits(handler.limits.memory)?;
    Ok(version)
}
