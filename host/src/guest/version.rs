//! A version of a handler: one .wasm file, known by its sha-256, compiled, linked and checked.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytesize::ByteSize;
use miette::Diagnostic;
use thiserror::Error;
use wasmtime::component::Component;

use super::bindings::HandlerPre;
use super::code::CodeCache;
use super::engine::Engine;
use super::file::{self, ComponentFile, Encoding};
use super::inspect::{self, Mismatch};
use super::store::State;
use crate::config::plan::HandlerPlan;

/// Bytes of a WebAssembly page.
const PAGE: usize = 64 * 1024;

/// Ready to be instantiated; cheap to clone: the shards of a handler share it.
#[derive(Clone)]
pub struct Version {
    inner: Arc<Inner>,
}

struct Inner {
    engine: Engine,
    linked: HandlerPre<State>,
    path: PathBuf,
    digest: Arc<str>,
    initial_memory: usize,
}

/// Why a file can't be a handler.
#[derive(Debug, Error, Diagnostic)]
pub enum LoadError {
    #[error("there is no component at {}", .path.display())]
    #[diagnostic(help(
        "build it (`cargo build --release --target wasm32-wasip2` in its crate; `just components` for those \
         of Wasmill's own example), or correct `component` in pipeline.toml"
    ))]
    Missing { path: PathBuf },

    #[error("{} is a folder, not a component", .path.display())]
    #[diagnostic(help(
        "`component` in pipeline.toml must name the .wasm file itself, which cargo puts into \
         target/wasm32-wasip2/release/"
    ))]
    Folder { path: PathBuf },

    #[error("can't read {}: {source}", .path.display())]
    #[diagnostic(help("it must be a regular file that this user may read"))]
    Unreadable { path: PathBuf, source: io::Error },

    #[error("{} is larger than {}", .path.display(), ByteSize::b(file::MOST_BYTES))]
    #[diagnostic(help(
        "Wasmill takes no larger components: build it in release mode and without debug information \
         (`wasm-tools strip`)"
    ))]
    TooLarge { path: PathBuf },

    #[error("{} is not the file that `sha256` in pipeline.toml names: its own is {found}", .path.display())]
    #[diagnostic(help(
        "put the file back whose sha-256 is {expected}; or, if this one is meant to run, set `sha256` to its own"
    ))]
    Pinned { path: PathBuf, found: Arc<str>, expected: Arc<str> },

    #[error("{} is not WebAssembly", .path.display())]
    #[diagnostic(help(
        "`component` in pipeline.toml must name a WebAssembly component, built for wasm32-wasip2"
    ))]
    NotWasm { path: PathBuf },

    #[error("{} is a core WebAssembly module, not a component", .path.display())]
    #[diagnostic(help(
        "build it with `cargo build --target wasm32-wasip2`, which makes components; for other languages, \
         `wasm-tools component new` wraps a module that was built against wit/handler.wit"
    ))]
    CoreModule { path: PathBuf },

    #[error("{} can't be compiled: {reason}", .path.display())]
    #[diagnostic(help("the file is damaged, or needs WebAssembly features that Wasmill doesn't offer"))]
    Invalid { path: PathBuf, reason: String },

    #[error("{} is a component of another world: {}", .path.display(), list(.mismatches))]
    #[diagnostic(help("{}", remedies(.mismatches)))]
    OtherWorld { path: PathBuf, mismatches: Vec<Mismatch> },

    #[error(
        "{} starts with {} of memory, and its cap is {}",
        .path.display(), ByteSize::b(*.needed as u64), ByteSize::b(*.cap as u64)
    )]
    #[diagnostic(help("raise `limits.memory` of the handler in pipeline.toml"))]
    MemoryCap { path: PathBuf, needed: usize, cap: usize },
}

/// How a version came to its code.
#[derive(Clone, Copy, Debug)]
pub struct Compiled {
    pub took: Duration,
    pub from_cache: bool,
}

impl Compiled {
    /// For people and metrics: milliseconds, with their fractions.
    pub fn ms(&self) -> f64 {
        self.took.as_secs_f64() * 1000.0
    }
}

impl Version {
    /// Checks, compiles and links a component for a handler. Compiling takes a few 100 ms for a big one: not for
    /// a shard's thread.
    pub fn compile(
        engine: &Engine,
        file: &ComponentFile,
        plan: &HandlerPlan,
        code: &CodeCache,
    ) -> Result<(Self, Compiled), LoadError> {
        let started = Instant::now();
        let path = || file.path.clone();
        if let Some(expected) = plan.sha256.as_ref().filter(|expected| **expected != file.digest) {
            return Err(LoadError::Pinned {
                path: path(),
                found: file.digest.clone(),
                expected: expected.clone(),
            });
        }
        match file.encoding() {
            Encoding::Component => {}
            Encoding::CoreModule => return Err(LoadError::CoreModule { path: path() }),
            Encoding::Other => return Err(LoadError::NotWasm { path: path() }),
        }
        let kept = code.load(engine, &file.digest);
        let from_cache = kept.is_some();
        let component = match kept {
            Some(component) => component,
            None => Component::from_binary(&engine.wasmtime, &file.bytes)
                .map_err(|error| LoadError::Invalid { path: path(), reason: format!("{error:#}") })?,
        };
        let linked = inspect::link(engine, &component, plan)
            .map_err(|mismatches| LoadError::OtherWorld { path: path(), mismatches })?;
        let initial_memory = component
            .resources_required()
            .and_then(|required| required.max_initial_memory_size)
            .and_then(|pages| usize::try_from(pages).ok())
            .map_or(0, |pages| pages.saturating_mul(PAGE));
        let (engine_of_it, digest) = (engine.clone(), file.digest.clone());
        let inner = Inner { engine: engine_of_it, linked, path: path(), digest, initial_memory };
        let version = Self { inner: Arc::new(inner) };
        version.fits(plan.limits.memory)?;
        if !from_cache {
            code.store(engine, &file.digest, &component);
        }
        Ok((version, Compiled { took: started.elapsed(), from_cache }))
    }

    /// The sha-256 of the file, in hex.
    pub fn digest(&self) -> &Arc<str> {
        &self.inner.digest
    }

    /// Whether an instance can start at all under this memory cap, in bytes.
    pub fn fits(&self, cap: usize) -> Result<(), LoadError> {
        let needed = self.inner.initial_memory;
        if needed <= cap {
            Ok(())
        } else {
            Err(LoadError::MemoryCap { path: self.inner.path.clone(), needed, cap })
        }
    }

    /// Whether somebody else has it, too.
    pub fn is_shared(&self) -> bool {
        Arc::strong_count(&self.inner) > 1
    }

    pub(super) fn engine(&self) -> &Engine {
        &self.inner.engine
    }

    pub(super) fn linked(&self) -> &HandlerPre<State> {
        &self.inner.linked
    }
}

fn list(mismatches: &[Mismatch]) -> String {
    mismatches.iter().map(Mismatch::to_string).collect::<Vec<_>>().join("; ")
}

fn remedies(mismatches: &[Mismatch]) -> String {
    mismatches.iter().map(Mismatch::remedy).collect::<Vec<_>>().join("\n")
}
