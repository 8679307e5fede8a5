//! A version of a handler: one .wasm file, known by its sha-256, compiled, linked and checked.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytesize::ByteSize;
use miette::Diagnostic;
use sha2::{Digest, Sha256};
use thiserror::Error;
use wasmtime::component::Component;

use super::bindings::HandlerPre;
use super::engine::Engine;
use super::inspect::{self, Mismatch};
use super::store::State;

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
    #[diagnostic(help("this user must be allowed to read the file"))]
    Unreadable { path: PathBuf, source: io::Error },

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
    #[diagnostic(help(
        "the file is damaged, needs WebAssembly features that Wasmill doesn't offer, or starts with more \
         memory than the biggest `limits.memory` in pipeline.toml"
    ))]
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

impl Version {
    /// Reads, compiles, links and checks a component. Compiling takes a few 100 ms for a big one: not for
    /// a shard's thread.
    pub fn load(engine: &Engine, path: &Path) -> Result<Self, LoadError> {
        let bytes = fs::read(path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => LoadError::Missing { path: path.into() },
            io::ErrorKind::IsADirectory => LoadError::Folder { path: path.into() },
            _ => LoadError::Unreadable { path: path.into(), source },
        })?;
        Self::from_bytes(engine, path, &bytes)
    }

    fn from_bytes(engine: &Engine, path: &Path, bytes: &[u8]) -> Result<Self, LoadError> {
        match Encoding::of(bytes) {
            Encoding::Component => {}
            Encoding::CoreModule => return Err(LoadError::CoreModule { path: path.into() }),
            Encoding::Other => return Err(LoadError::NotWasm { path: path.into() }),
        }
        let component = Component::from_binary(&engine.wasmtime, bytes)
            .map_err(|error| LoadError::Invalid { path: path.into(), reason: format!("{error:#}") })?;
        let linked = inspect::link(engine, &component)
            .map_err(|mismatches| LoadError::OtherWorld { path: path.into(), mismatches })?;
        let initial_memory = component
            .resources_required()
            .and_then(|required| required.max_initial_memory_size)
            .and_then(|pages| usize::try_from(pages).ok())
            .map_or(0, |pages| pages.saturating_mul(PAGE));
        let digest = format!("{:x}", Sha256::digest(bytes)).into();
        let inner = Inner { engine: engine.clone(), linked, path: path.into(), digest, initial_memory };
        Ok(Self { inner: Arc::new(inner) })
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

    pub(super) fn engine(&self) -> &Engine {
        &self.inner.engine
    }

    pub(super) fn linked(&self) -> &HandlerPre<State> {
        &self.inner.linked
    }
}

/// What a file's first eight bytes say it is: magic, version and layer of the binary format.
enum Encoding {
    Component,
    CoreModule,
    Other,
}

impl Encoding {
    fn of(bytes: &[u8]) -> Self {
        match bytes {
            [0, b'a', b's', b'm', _, _, 1, 0, ..] => Self::Component,
            [0, b'a', b's', b'm', _, _, 0, 0, ..] => Self::CoreModule,
            _ => Self::Other,
        }
    }
}

fn list(mismatches: &[Mismatch]) -> String {
    mismatches.iter().map(Mismatch::to_string).collect::<Vec<_>>().join("; ")
}

fn remedies(mismatches: &[Mismatch]) -> String {
    mismatches.iter().map(Mismatch::remedy).collect::<Vec<_>>().join("\n")
}
