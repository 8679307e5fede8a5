//! Compares a component with the world of wit/handler.wit and the handler's `allow`, and names every difference, with a remedy each.

use std::sync::Arc;

use thiserror::Error;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, InstancePre, Linker};

use super::bindings::HandlerPre;
use super::engine::Engine;
use super::linker;
use super::store::State;
use crate::config::plan::{HandlerPlan, INTERFACES, NO_NETWORK};
use crate::text::chain;

/// One way in which a component doesn't fit the world.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Mismatch {
    #[error("it imports `{}`, which handlers don't get", .imports.join("`, `"))]
    SurplusImports { imports: Vec<String> },

    #[error("it imports `{}`, which `allow` of `{handler}` leaves out", .imports.join("`, `"))]
    NotAllowed {
        imports: Vec<String>,
        handler: Arc<str>,
        /// `allow = […]` that would do.
        line: String,
    },

    #[error("it imports something that this version of Wasmill lacks: {reason}")]
    ImportType { reason: String },

    #[error("it exports no function `handle`{}", what_else(.exports))]
    MissingExport { exports: Vec<String> },

    #[error("its export `handle` has another type: {reason}")]
    ExportType { reason: String },
}

impl Mismatch {
    /// What to do about it.
    pub fn remedy(&self) -> String {
        match self {
            Self::SurplusImports { imports } if imports.iter().any(|import| network(import)) => {
                NO_NETWORK.into()
            }
            Self::SurplusImports { .. } => {
                format!("handlers get these alone, of WASI 0.2: {}", INTERFACES.join(", "))
            }
            Self::NotAllowed { handler, line, .. } => {
                format!("if it may have them, write in pipeline.toml under [handlers.{handler}]: {line}")
            }
            Self::ImportType { .. } => "build it with an older toolchain or WASI 0.2 adapter".into(),
            Self::MissingExport { .. } => {
                "export the world `wasmill:handler/handler` of wit/handler.wit".into()
            }
            Self::ExportType { .. } => {
                "build it against the wit/handler.wit of this version of Wasmill".into()
            }
        }
    }
}

fn network(import: &str) -> bool {
    import.starts_with("wasi:sockets/") || import.starts_with("wasi:http/")
}

/// The component, linked against what its handler allows; or everything that stands in the way.
pub(super) fn link(
    engine: &Engine,
    component: &Component,
    plan: &HandlerPlan,
) -> Result<HandlerPre<State>, Vec<Mismatch>> {
    let import_type = |error: wasmtime::Error| Mismatch::ImportType { reason: chain(&*error) };
    let linker = linker::grants(&engine.wasmtime, &plan.allow).map_err(|error| vec![import_type(error)])?;
    let despite = |mut mismatches: Vec<_>| {
        mismatches.extend(exports_despite_imports(engine, &linker, component));
        mismatches
    };
    let refused = refused_imports(engine, component, plan);
    if !refused.is_empty() {
        return Err(despite(refused));
    }
    let linked = linker.instantiate_pre(component).map_err(|error| despite(vec![import_type(error)]))?;
    exports(engine, linked).map_err(|mismatch| vec![mismatch])
}

/// Those that no handler gets, and those that this one doesn't.
fn refused_imports(engine: &Engine, component: &Component, plan: &HandlerPlan) -> Vec<Mismatch> {
    let (mut surplus, mut not_allowed, mut missing) = (Vec::new(), Vec::new(), Vec::new());
    for (name, import) in component.component_type().imports(&engine.wasmtime) {
        match linker::interface(name) {
            Some(interface) if plan.allow.contains(interface) => {}
            Some(_) | None if types_alone(engine, &import.ty) => {}
            Some(interface) => {
                not_allowed.push(name.to_string());
                missing.push(interface);
            }
            None => surplus.push(name.to_string()),
        }
    }
    let mut refused = Vec::new();
    if !surplus.is_empty() {
        refused.push(Mismatch::SurplusImports { imports: surplus });
    }
    if !not_allowed.is_empty() {
        let (handler, line) = (plan.name.clone(), plan.allow.line_with(missing));
        refused.push(Mismatch::NotAllowed { imports: not_allowed, handler, line });
    }
    refused
}

/// An interface without functions and resources asks the host for nothing: `wasmill:handler/types` is one.
fn types_alone(engine: &Engine, import: &ComponentItem) -> bool {
    match import {
        ComponentItem::ComponentInstance(interface) => {
            interface.exports(&engine.wasmtime).all(|(_, item)| matches!(item.ty, ComponentItem::Type(_)))
        }
        ComponentItem::Type(_) => true,
        ComponentItem::ComponentFunc(_)
        | ComponentItem::CoreFunc(_)
        | ComponentItem::Module(_)
        | ComponentItem::Component(_)
        | ComponentItem::Resource(_) => false,
    }
}

fn exports(engine: &Engine, linked: InstancePre<State>) -> Result<HandlerPre<State>, Mismatch> {
    let component = linked.component().clone();
    HandlerPre::new(linked).map_err(|error| {
        let world = component.component_type();
        if world.get_export(&engine.wasmtime, "handle").is_some() {
            Mismatch::ExportType { reason: chain(&*error) }
        } else {
            let exports = world.exports(&engine.wasmtime).map(|(name, _)| name.into()).collect();
            Mismatch::MissingExport { exports }
        }
    })
}

/// Refused imports must not hide what is wrong with the exports: traps stand in for them.
fn exports_despite_imports(
    engine: &Engine,
    linker: &Linker<State>,
    component: &Component,
) -> Option<Mismatch> {
    let mut linker = linker.clone();
    linker.define_unknown_imports_as_traps(component).ok()?;
    exports(engine, linker.instantiate_pre(component).ok()?).err()
}

fn what_else(exports: &[String]) -> String {
    if exports.is_empty() { String::new() } else { format!(", but `{}`", exports.join("`, `")) }
}
