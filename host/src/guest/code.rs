//! Compiled code, kept on disk: a start, or a step back to an earlier version, need not compile again.
//!
//! What is loaded here runs as native code, outside of the sandbox, so only what the host itself wrote ever is. The
//! folder keeps others out ([`PrivateFolder`]), and each file opens with an HMAC-SHA256 over its name and its code,
//! by a key that only this user can read: a file from elsewhere, under another name or damaged is no code of ours,
//! and compiled anew. Whoever runs as this user is trusted, as they could replace the host too.

mod folder;

use std::hash::{Hash, Hasher};
use std::path::Path;
use std::sync::Arc;

use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use wasmtime::component::Component;

use super::engine::Engine;
pub use folder::CacheError;
use folder::{OTHERS_ANYTHING, OTHERS_WRITE, PrivateFolder};

/// Bounds of the folder; beyond them the least recently used files go.
const MOST_FILES: usize = 128;
const MOST_BYTES: u64 = 512 * 1024 * 1024;

/// The file of the key, and the bytes of one.
const KEY: &str = "key";
const KEY_BYTES: usize = 32;

/// Bytes of an HMAC-SHA256.
const TAG: usize = 32;

/// Where compiled code is kept, if anywhere. Cheap to clone; threads and processes may share a folder.
#[derive(Clone)]
pub struct CodeCache(Option<Arc<Shelf>>);

struct Shelf {
    folder: PrivateFolder,
    /// Padded with zeroes to a block of SHA-256, as HMAC does it (RFC 2104).
    key: [u8; 64],
}

impl CodeCache {
    /// Compiles always.
    pub fn none() -> Self {
        Self(None)
    }

    /// Keeps code in the folder, which is made when missing. One that others could write to is refused.
    pub fn open(folder: &Path) -> Result<Self, CacheError> {
        let folder = PrivateFolder::open(folder)?;
        let key = read_key(&folder)?;
        Ok(Self(Some(Arc::new(Shelf { folder, key }))))
    }

    /// The code of the component with this digest for this engine, if it is kept.
    pub(super) fn load(&self, engine: &Engine, digest: &str) -> Option<Component> {
        let shelf = self.0.as_ref()?;
        let name = name(&engine.wasmtime, digest);
        shelf
            .load(engine, &name)
            .inspect_err(|reason| tracing::debug!("no compiled code of {digest}: {reason}"))
            .ok()
    }

    /// Keeps the code. What can't be kept is compiled again the next time.
    pub(super) fn store(&self, engine: &Engine, digest: &str, component: &Component) {
        let Some(shelf) = &self.0 else { return };
        if let Err(reason) = shelf.store(&name(&engine.wasmtime, digest), component) {
            tracing::warn!("can't keep compiled code, so the next start compiles it again: {reason}");
        }
    }
}

impl Shelf {
    fn load(&self, engine: &Engine, name: &str) -> Result<Component, String> {
        let file = self.folder.read(name, MOST_BYTES, OTHERS_WRITE).map_err(|error| error.to_string())?;
        let (tag, code) = file.split_first_chunk::<TAG>().ok_or("the file is cut off")?;
        self.authentication(name, code)
            .verify_slice(tag)
            .map_err(|_| "the file is damaged, or another host's".to_string())?;
        // SAFETY: the tag proves that these are the bytes that `Component::serialize` gave a holder of the key, for
        // an engine of this fingerprint; and wasmtime compares version and settings once more.
        unsafe { Component::deserialize(&engine.wasmtime, code) }.map_err(|error| format!("{error:#}"))
    }

    fn store(&self, name: &str, component: &Component) -> Result<(), String> {
        let code = component.serialize().map_err(|error| format!("{error:#}"))?;
        let tag = self.authentication(name, &code).finalize().into_bytes();
        self.folder
            .write(name, &[tag.as_slice(), &code])
            .and_then(|()| self.folder.shrink(MOST_FILES, MOST_BYTES, KEY))
            .map_err(|error| error.to_string())
    }

    /// Names are of one length, so that no name and code pass for others.
    fn authentication(&self, name: &str, code: &[u8]) -> Hmac<Sha256> {
        Hmac::new(&self.key.into()).chain_update(name).chain_update(code)
    }
}

/// The component's digest, and what decides whether its code runs here: wasmtime's version, the engine's settings
/// and the processor's features.
fn name(engine: &wasmtime::Engine, digest: &str) -> String {
    let mut fingerprint = Fingerprint(Sha256::new());
    engine.precompile_compatibility_hash().hash(&mut fingerprint);
    format!("{digest}-{:x}", fingerprint.0.finalize())
}

/// Hashes are compared by later processes, maybe of another Rust: not by std's hasher, which may change.
struct Fingerprint(Sha256);

impl Hasher for Fingerprint {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..]: [u8; 32] = self.0.clone().finalize().into();
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }
}

/// The folder's key, made by whoever opens it first.
fn read_key(folder: &PrivateFolder) -> Result<[u8; 64], CacheError> {
    let unusable = |reason: String| CacheError::Untrusted { path: folder.path().into(), reason };
    folder
        .write_new(KEY, &rand::random::<[u8; KEY_BYTES]>())
        .map_err(|source| CacheError::Unusable { path: folder.path().into(), source })?;
    let key = folder
        .read(KEY, KEY_BYTES as u64, OTHERS_ANYTHING)
        .map_err(|error| unusable(format!("of its key: {error}")))?;
    let mut padded = [0; 64];
    match padded.first_chunk_mut::<KEY_BYTES>() {
        Some(chunk) if key.len() == KEY_BYTES => chunk.copy_from_slice(&key),
        Some(_) | None => return Err(unusable("its key is cut off".into())),
    }
    Ok(padded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_of_another_digest_or_for_another_engine_has_another_name() {
        let engine = |epochs| {
            let mut config = wasmtime::Config::new();
            config.epoch_interruption(epochs);
            wasmtime::Engine::new(&config).unwrap()
        };
        let named = name(&engine(true), "a");
        assert_eq!(named, name(&engine(true), "a"));
        assert_ne!(named, name(&engine(false), "a"));
        assert_ne!(named, name(&engine(true), "b"));
    }
}
