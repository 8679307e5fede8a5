//! A component's file as it was read once: what is checked, compiled and named by its digest are the same bytes.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::version::LoadError;

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
        let unreadable = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => LoadError::Missing { path: path.clone() },
            _ => LoadError::Unreadable { path: path.clone(), source },
        };
        // Before it is opened: opening a named pipe waits for its writer.
        let metadata = fs::metadata(&path).map_err(unreadable)?;
        if metadata.is_dir() {
            return Err(LoadError::Folder { path });
        }
        if !metadata.is_file() {
            return Err(unreadable(io::Error::other("it is not a regular file")));
        }
        let mut bytes = Vec::new();
        let file = File::open(&path).map_err(unreadable)?;
        file.take(MOST_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
        if bytes.len() as u64 > MOST_BYTES {
            return Err(LoadError::TooLarge { path });
        }
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
