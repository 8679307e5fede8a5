//! Whether the components of a plan can be run, or every reason why not; and the engine that they run on.

use std::collections::BTreeMap;
use std::sync::Arc;

use miette::Diagnostic;
use thiserror::Error;

use crate::config::plan::HandlerPlan;
use crate::config::{Loaded, Places, Problem};
use crate::guest::{CodeCache, ComponentFile, Engine, EngineError, EngineLimits, LoadError, Version};

/// Handlers are added while the host runs.
const LEAST_INSTANCES: u32 = 16;

#[derive(Debug, Error, Diagnostic)]
pub enum VersionErrors {
    #[error(transparent)]
    #[diagnostic(transparent)]
    Engine(#[from] EngineError),
    /// Each at the line that names the component, in the file's order.
    #[error("{} can't be run", if .0.len() == 1 { "a component".into() } else { format!("{} components", .0.len()) })]
    Components(#[related] Vec<Problem>),
}

/// Whether every component of the plan can be run.
pub fn check_versions(loaded: &Loaded) -> Result<(), VersionErrors> {
    check_components(&loaded.plan.handlers, &loaded.places)
}

/// [`check_versions`] of some handlers.
pub fn check_components(handlers: &[HandlerPlan], places: &Places) -> Result<(), VersionErrors> {
    let engine = engine_for(handlers)?;
    of_each(handlers, places, |handler| {
        let file = ComponentFile::read(&handler.component)?;
        Version::compile(&engine, &file, handler, &CodeCache::none()).map(drop)
    })?;
    Ok(())
}

/// What `load` makes of each handler, by name; or all that it can't.
pub(super) fn of_each<T>(
    handlers: &[HandlerPlan],
    places: &Places,
    mut load: impl FnMut(&HandlerPlan) -> Result<T, LoadError>,
) -> Result<BTreeMap<Arc<str>, T>, VersionErrors> {
    let (mut loaded, mut problems) = (BTreeMap::new(), Vec::new());
    for handler in handlers {
        match load(handler) {
            Ok(one) => drop(loaded.insert(handler.name.clone(), one)),
            Err(error) => problems.push(places.component(handler, &error)),
        }
    }
    problems.sort_by_key(|problem: &Problem| problem.span.as_ref().map(|span| span.start));
    if problems.is_empty() { Ok(loaded) } else { Err(VersionErrors::Components(problems)) }
}

/// An engine with room for all shards of these handlers, and for some more.
pub(super) fn engine_for(handlers: &[HandlerPlan]) -> Result<Engine, EngineError> {
    Engine::new(EngineLimits { instances: shards(handlers).saturating_mul(2).max(LEAST_INSTANCES) })
}

/// Of all these handlers: so many calls at one time.
pub(super) fn shards(handlers: &[HandlerPlan]) -> u32 {
    handlers.iter().map(|handler| handler.shards).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Overrides};

    /// The preambles of an empty core module and of an empty component.
    const CORE: &[u8] = b"\0asm\x01\0\0\0";
    const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

    #[test]
    fn a_component_that_can_t_run_is_an_error_at_the_line_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in [("text", b"(module)" as &[u8]), ("core", CORE), ("empty", COMPONENT)] {
            std::fs::write(folder.path().join(name), bytes).unwrap();
        }
        let mut toml = String::from("kafka.brokers = 'embedded'\n");
        for name in ["core", "empty", "missing", "text"] {
            toml += &format!("[handlers.{name}]\ncomponent = '{name}'\nsubscribe = ['a']\n");
        }
        let file = folder.path().join("pipeline.toml");
        std::fs::write(&file, &toml).unwrap();

        let loaded = config::load(&file, &Overrides::default()).unwrap();
        let Err(VersionErrors::Components(problems)) = check_versions(&loaded) else {
            panic!("none of these can be run")
        };
        let told: Vec<(usize, &str)> = problems
            .iter()
            .map(|problem| (problem.line_and_column().unwrap().0, problem.message.as_str()))
            .collect();
        let expected = [
            (3, "`core`: ", "is a core WebAssembly module, not a component"),
            (6, "`empty`: ", "it exports no function `handle`"),
            (9, "`missing`: ", "there is no component at"),
            (12, "`text`: ", "is not WebAssembly"),
        ];
        assert_eq!(told.len(), expected.len(), "{told:#?}");
        for ((line, message), (at, handler, fault)) in told.iter().zip(expected) {
            assert!(
                *line == at && message.starts_with(handler) && message.contains(fault),
                "{line}: {message}"
            );
        }
        assert!(problems.iter().all(|problem| problem.help.is_some()), "{problems:#?}");
    }
}
