//! The components of a plan, compiled and linked, or every reason why not.

use std::collections::BTreeMap;
use std::sync::Arc;

use miette::{Diagnostic, IntoDiagnostic};
use thiserror::Error;

use crate::config::plan::Plan;
use crate::guest::{Engine, EngineLimits, LoadError, Version};

/// One version for each handler of the plan.
pub struct Loaded(BTreeMap<Arc<str>, Version>);

impl Loaded {
    /// # Panics
    /// If the handler is not one of the plan that was loaded.
    pub fn get(&self, handler: &str) -> &Version {
        &self.0[handler]
    }
}

/// Components that can't be run, all of them.
#[derive(Debug, Error, Diagnostic)]
#[error("{} of the components can't be run", .0.len())]
pub struct LoadErrors(#[related] pub Vec<HandlerLoadError>);

#[derive(Debug, Error, Diagnostic)]
#[error("handler `{handler}`")]
pub struct HandlerLoadError {
    pub handler: Arc<str>,
    #[source]
    #[diagnostic_source]
    pub error: LoadError,
}

/// Compiles and links every component of the plan, on an engine with room for all its shards.
pub fn load_versions(plan: &Plan) -> miette::Result<Loaded> {
    let shards: u32 = plan.handlers.iter().map(|handler| handler.shards).sum();
    let memory = plan.handlers.iter().map(|handler| handler.limits.memory).max().unwrap_or(0);
    let engine = Engine::new(EngineLimits { instances: shards, memory }).into_diagnostic()?;
    let mut loaded = BTreeMap::new();
    let mut errors = Vec::new();
    for handler in &plan.handlers {
        match Version::load(&engine, &handler.component) {
            Ok(version) => {
                loaded.insert(handler.name.clone(), version);
            }
            Err(error) => errors.push(HandlerLoadError { handler: handler.name.clone(), error }),
        }
    }
    if errors.is_empty() { Ok(Loaded(loaded)) } else { Err(LoadErrors(errors).into()) }
}
