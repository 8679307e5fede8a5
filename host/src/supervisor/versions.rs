//! The components of a plan, compiled and linked, or every reason why not.

use std::collections::BTreeMap;
use std::sync::Arc;

use miette::Diagnostic;
use thiserror::Error;

use crate::config::plan::HandlerPlan;
use crate::config::{Loaded, Places, Problem};
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
    load_components(&loaded.plan.handlers, &loaded.places)
}

/// [`load_versions`] of some handlers.
pub fn load_components(handlers: &[HandlerPlan], places: &Places) -> Result<Versions, VersionErrors> {
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
            Err(error) => problems.push(places.component(&handler.name, &error)),
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
        let Err(VersionErrors::Components(problems)) = load_versions(&loaded) else {
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
