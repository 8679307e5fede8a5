//! Guests: wasmtime behind a narrow wrapper. The only room that names it.
//!
//! An [`Engine`] compiles and pools, a [`Version`] is one compiled and linked component, and a
//! [`ComponentHandler`] runs batches through a version: each in a fresh instance, under a deadline and
//! a memory cap, with no files, no network and no environment but its own.

mod clock;
mod code;
mod component;
mod console;
mod engine;
mod fault;
mod file;
mod inspect;
mod limits;
mod linker;
mod store;
mod version;
mod waste;

pub use code::{CacheError, CodeCache};
pub use component::{ComponentHandler, Usage};
pub use engine::{Engine, EngineError, EngineLimits};
pub use file::ComponentFile;
pub use inspect::Mismatch;
pub use version::{Compiled, LoadError, Version};

/// The host's side of wit/handler.wit. Events are lowered from borrowed data: their bytes are copied once,
/// into the guest's memory.
mod bindings {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "handler",
        ownership: Borrowing { duplicate_if_necessary: true },
    });
}

use bindings::wasmill::handler::types as wit;
