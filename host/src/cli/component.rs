//! A handler and its component, as a verb runs them by itself: without shards, as the host would.

use std::path::Path;

use miette::{Report, miette};

use crate::config::Places;
use crate::config::plan::{HandlerPlan, Plan};
use crate::guest::{CodeCache, ComponentFile, ComponentHandler, Engine, EngineLimits, LoadError, Version};

/// The handler of this name.
pub(super) fn find<'a>(plan: &'a Plan, name: &str) -> miette::Result<&'a HandlerPlan> {
    plan.handlers.iter().find(|handler| *handler.name == *name).ok_or_else(|| {
        let names: Vec<_> = plan.handlers.iter().map(|handler| &*handler.name).collect();
        miette!(
            help = format!("its handlers are: {}", names.join(", ")),
            "pipeline.toml has no handler `{name}`"
        )
    })
}

/// The file, to run as the handler in the place of its component.
pub(super) fn instead(plan: &mut HandlerPlan, file: &Path) -> Result<ComponentFile, LoadError> {
    plan.component = file.into();
    // It is meant for the one in use.
    plan.sha256 = None;
    ComponentFile::read(file)
}

/// Under the handler's limits and grants, in its environment. What is wrong with the component is told at its place in
/// pipeline.toml; without `places` it came from elsewhere.
pub(super) fn ready(
    plan: &HandlerPlan,
    component: Result<ComponentFile, LoadError>,
    places: Option<&Places>,
) -> miette::Result<ComponentHandler> {
    let engine = Engine::new(EngineLimits { instances: 1 })?;
    let handler = component
        .and_then(|file| Version::compile(&engine, &file, plan, &CodeCache::none()))
        .and_then(|(version, _compiled)| ComponentHandler::new(version, plan));
    handler.map_err(|error| match places {
        Some(places) => places.component(plan, &error).into(),
        None => Report::new(error),
    })
}
