//! Compares a component with the world of wit/handler.wit and names every difference, with a remedy each.

use miette::Diagnostic;
use thiserror::Error;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, InstancePre};

use super::bindings::HandlerPre;
use super::engine::Engine;
use super::linker;
use super::store::State;

/// One way in which a component doesn't fit the world.
#[derive(Debug, Error, Diagnostic, PartialEq, Eq)]
pub enum Mismatch {
    #[error("it exports no function `handle`{}", what_else(.exports))]
    #[diagnostic(help(
        "export the world `wasmill:handler/handler` of wit/handler.wit; `wasmill new` scaffolds a handler"
    ))]
    MissingExport { exports: Vec<String> },

    #[error("its export `handle` has another type: {reason}")]
    #[diagnostic(help("build it against the wit/handler.wit of this version of Wasmill"))]
    ExportType { reason: String },

    #[error("it imports `{import}`, which handlers don't get")]
    #[diagnostic(help("{}", remedy(.import)))]
    SurplusImport { import: String },

    #[error("it imports something that this version of Wasmill lacks: {reason}")]
    #[diagnostic(help("build it with an older toolchain or WASI 0.2 adapter"))]
    ImportType { reason: String },
}

/// The component, linked; or everything that stands in the way.
pub(super) fn link(engine: &Engine, component: &Component) -> Result<HandlerPre<State>, Vec<Mismatch>> {
    let mut mismatches = surplus_imports(engine, component);
    if mismatches.is_empty() {
        match engine.linker.instantiate_pre(component) {
            Ok(linked) => match exports(engine, linked) {
                Ok(handler) => return Ok(handler),
                Err(mismatch) => mismatches.push(mismatch),
            },
            Err(error) => mismatches.push(Mismatch::ImportType { reason: chain(&error) }),
        }
    } else if let Some(mismatch) = exports_despite_imports(engine, component) {
        mismatches.push(mismatch);
    }
    Err(mismatches)
}

fn surplus_imports(engine: &Engine, component: &Component) -> Vec<Mismatch> {
    component
        .component_type()
        .imports(&engine.wasmtime)
        .filter(|(name, import)| !linker::granted(name) && !types_alone(engine, &import.ty))
        .map(|(name, _)| Mismatch::SurplusImport { import: name.into() })
        .collect()
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
            Mismatch::ExportType { reason: chain(&error) }
        } else {
            let exports = world.exports(&engine.wasmtime).map(|(name, _)| name.into()).collect();
            Mismatch::MissingExport { exports }
        }
    })
}

/// Surplus imports must not hide what is wrong with the exports: traps stand in for them.
fn exports_despite_imports(engine: &Engine, component: &Component) -> Option<Mismatch> {
    let mut linker = (*engine.linker).clone();
    linker.define_unknown_imports_as_traps(component).ok()?;
    exports(engine, linker.instantiate_pre(component).ok()?).err()
}

fn chain(error: &wasmtime::Error) -> String {
    error.chain().map(|cause| cause.to_string()).collect::<Vec<_>>().join(": ")
}

fn what_else(exports: &[String]) -> String {
    if exports.is_empty() { String::new() } else { format!(", but `{}`", exports.join("`, `")) }
}

fn remedy(import: &str) -> String {
    if import.starts_with("wasi:sockets/") || import.starts_with("wasi:http/") {
        "handlers have no network: publish an event and let a sink or another service act on it".into()
    } else if import.starts_with("wasmill:handler/") {
        "build it against the wit/handler.wit of this version of Wasmill".into()
    } else {
        format!("handlers get these alone, of WASI 0.2: {}", linker::granted_names())
    }
}
