//! A component's file as it was read once: what is checked, compiled and named by its digest are the same bytes.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::version::LoadError;
use crate::file;

/// Bytes of a component, at most. A bound on what one file can make the host hold and compile; those with a whole
/// Python in them have 40 MiB.
pub(super) const MOST_BYTES: u64 = 64 * 1024 * 1024;

#[derive(Clone)]
pub struct ComponentFile {
    pub path: PathBuf,
    pub bytes: Vec<u8>,
    /// The sha-256 of the bytes, in lower-case hex.
    pub digest: Arc<str>,
}

impl ComponentFile {
    pub fn read(path: impl Into<PathBuf>) -> Result<Self, LoadError> {
        let path = path.into();
        let bytes = match file::read(&path, MOST_BYTES) {
            Ok(bytes) => bytes,
            Err(source) => {
                return Err(match source.kind() {
                    io::ErrorKind::NotFound => LoadError::Missing { path },
                    io::ErrorKind::IsADirectory => LoadError::Folder { path },
                    io::ErrorKind::FileTooLarge => LoadError::TooLarge { path },
                    _ => LoadError::Unreadable { path, source },
                });
            }
        };
        let digest = format!("{:x}", Sha256::digest(&bytes)).into();
        Ok(Self { path, bytes, digest })
    }

    pub(super) fn encoding(&self) -> Encoding {
        match self.bytes.as_slice() {
            [0, b'a', b's', b'm', _, _, 1, 0, ..] => Encoding::Component,
            [0, b'a', b's', b'm', _, _, 0, 0, ..] => Encoding::CoreModule,
            _ => Encoding::Other,
        }
    }
}

/// What a file's first eight bytes say it is: magic, version and layer of the binary format.
pub(super) enum Encoding {
    Component,
    CoreModule,
    Other,
}
