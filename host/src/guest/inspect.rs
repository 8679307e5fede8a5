//! Compares a component with the world of wit/handler.wit and names every difference, with a remedy each.

use thiserror::Error;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, InstancePre};

use super::bindings::HandlerPre;
use super::engine::Engine;
use super::linker;
use super::store::State;
use crate::text::chain;

/// One way in which a component doesn't fit the world.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Mismatch {
    #[error("it imports `{}`, which handlers don't get", .imports.join("`, `"))]
    SurplusImports { imports: Vec<String> },

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
                "handlers have no network: publish an event and let a sink or another service act on it"
                    .into()
            }
            Self::SurplusImports { .. } => {
                format!("handlers get these alone, of WASI 0.2: {}", linker::granted_names())
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

/// The component, linked; or everything that stands in the way.
pub(super) fn link(engine: &Engine, component: &Component) -> Result<HandlerPre<State>, Vec<Mismatch>> {
    let imports = surplus_imports(engine, component);
    if !imports.is_empty() {
        let surplus = Mismatch::SurplusImports { imports };
        return Err([surplus].into_iter().chain(exports_despite_imports(engine, component)).collect());
    }
    let linked = engine.linker.instantiate_pre(component).map_err(|error| {
        let import = Mismatch::ImportType { reason: chain(&*error) };
        [import].into_iter().chain(exports_despite_imports(engine, component)).collect::<Vec<_>>()
    })?;
    exports(engine, linked).map_err(|mismatch| vec![mismatch])
}

fn surplus_imports(engine: &Engine, component: &Component) -> Vec<String> {
    component
        .component_type()
        .imports(&engine.wasmtime)
        .filter(|(name, import)| !linker::granted(name) && !types_alone(engine, &import.ty))
        .map(|(name, _)| name.into())
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
            Mismatch::ExportType { reason: chain(&*error) }
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

fn what_else(exports: &[String]) -> String {
    if exports.is_empty() { String::new() } else { format!(", but `{}`", exports.join("`, `")) }
}
