//! The versions of a handler that are kept, to roll back to.
//!
//! They are kept as the .wasm files that they were, by digest, in the host's state folder, so that a restart knows them
//! too; a host without such a folder keeps them in memory. A rollback holds as long as the handler's file stays what it
//! was then, over restarts as well: the next file that is dropped in counts again.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tracing::warn;

use crate::event::now_ms;
use crate::replace::replace;

/// Of one handler, in one process.
pub(super) struct History {
    /// Where it is kept; `None` keeps it in memory.
    folder: Option<PathBuf>,
    book: Book,
    /// The components themselves, by digest, where there is no folder.
    memory: VecDeque<(Arc<str>, Arc<[u8]>)>,
}

/// What is remembered over restarts.
#[derive(Default, Deserialize, Serialize)]
struct Book {
    /// The newest first.
    versions: VecDeque<Kept>,
    held: Option<Held>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Kept {
    pub(super) digest: Arc<str>,
    /// When its file was last loaded; milliseconds since the epoch.
    pub(super) loaded_at_ms: i64,
}

/// A rollback.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(super) struct Held {
    /// What runs.
    pub(super) digest: Arc<str>,
    /// The file that doesn't run for it.
    pub(super) instead_of: Arc<str>,
}

impl History {
    /// What `folder` knows. A folder that can't be read starts an empty history.
    pub(super) fn open(folder: Option<PathBuf>) -> Self {
        let book = folder.as_ref().and_then(|folder| match fs::read(folder.join(BOOK)) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .inspect_err(|error| warn!("{} is ignored: {error}", folder.join(BOOK).display()))
                .ok(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                warn!("{} is ignored: {error}", folder.join(BOOK).display());
                None
            }
        });
        let mut book: Book = book.unwrap_or_default();
        if let Some(folder) = &folder {
            // Those that were in memory alone, because the folder took no more, are gone.
            book.versions.retain(|kept| wasm(folder, &kept.digest).is_file());
        }
        Self { folder, book, memory: VecDeque::new() }
    }

    /// Whether a version that is kept will be there after a restart.
    pub(super) fn lasts(&self, digest: &str) -> bool {
        self.folder.as_ref().is_some_and(|folder| wasm(folder, digest).is_file())
    }

    /// The newest first.
    pub(super) fn versions(&self) -> impl Iterator<Item = &Kept> {
        self.book.versions.iter()
    }

    pub(super) fn held(&self) -> Option<&Held> {
        self.book.held.as_ref()
    }

    /// A file was loaded: it is the newest version now, and ends a rollback.
    pub(super) fn loaded(&mut self, digest: &Arc<str>, bytes: &[u8], keep: usize) {
        let released = self.book.held.take().is_some();
        let newest = self.book.versions.front().is_some_and(|newest| newest.digest == *digest);
        if !newest {
            self.book.versions.retain(|kept| kept.digest != *digest);
            self.book.versions.push_front(Kept { digest: digest.clone(), loaded_at_ms: now_ms() });
        }
        self.store(digest, bytes);
        // A start with the files of the last one has nothing to write down.
        if released || !newest || self.book.versions.len() > keep.max(1) {
            self.keep(keep);
        }
    }

    /// Another version runs instead of the file.
    pub(super) fn hold(&mut self, held: Held) {
        self.book.held = Some(held);
        self.write();
    }

    /// The file counts again.
    pub(super) fn release(&mut self) {
        if self.book.held.take().is_some() {
            self.write();
        }
    }

    /// So many versions are kept from now on: the oldest go, but never the one that runs instead of the file.
    pub(super) fn keep(&mut self, keep: usize) {
        let held = self.book.held.as_ref().map(|held| &held.digest);
        while self.book.versions.len() > keep.max(1) {
            let oldest = self.book.versions.iter().rposition(|kept| Some(&kept.digest) != held);
            let Some(oldest) = oldest else { break };
            self.book.versions.remove(oldest);
        }
        self.memory.retain(|(digest, _)| self.book.versions.iter().any(|kept| kept.digest == *digest));
        self.write();
    }

    /// The component of a version that is kept; an error says why it can't be had.
    pub(super) fn component(&self, digest: &str) -> Result<Arc<[u8]>, String> {
        if let Some((_, bytes)) = self.memory.iter().find(|(kept, _)| **kept == *digest) {
            return Ok(bytes.clone());
        }
        let Some(folder) = &self.folder else { return Err("it was not kept".into()) };
        let file = wasm(folder, digest);
        let bytes = fs::read(&file).map_err(|error| format!("can't read {}: {error}", file.display()))?;
        if format!("{:x}", Sha256::digest(&bytes)) != *digest {
            return Err(format!("{} is damaged: its digest is another one", file.display()));
        }
        Ok(bytes.into())
    }

    fn store(&mut self, digest: &Arc<str>, bytes: &[u8]) {
        let is_there = |file: &Path| {
            file.metadata().is_ok_and(|metadata| metadata.len() == bytes.len() as u64)
                && fs::read(file).is_ok_and(|stored| stored == bytes)
        };
        let stored = match &self.folder {
            Some(folder) if is_there(&wasm(folder, digest)) => Ok(()),
            Some(folder) => fs::create_dir_all(folder).and_then(|()| replace(&wasm(folder, digest), bytes)),
            None => Err(io::ErrorKind::NotFound.into()),
        };
        if let Err(error) = stored {
            if let Some(folder) = &self.folder {
                warn!("{} takes no versions ({error}): this one is kept in memory", folder.display());
            }
            if self.memory.iter().all(|(kept, _)| kept != digest) {
                self.memory.push_front((digest.clone(), bytes.into()));
            }
        }
    }

    fn write(&self) {
        let Some(folder) = &self.folder else { return };
        let written = serde_json::to_vec_pretty(&self.book)
            .map_err(io::Error::other)
            .and_then(|bytes| fs::create_dir_all(folder).and_then(|()| replace(&folder.join(BOOK), &bytes)));
        match written {
            Ok(()) => self.sweep(folder),
            Err(error) => {
                warn!(
                    "{}: {error}; after a restart the host won't know of this",
                    folder.join(BOOK).display()
                );
            }
        }
    }

    /// Removes the components that the book doesn't know: of versions that were let go, and of a book that couldn't be
    /// read; and what a host left behind that was ended while it wrote. What can't be removed is only a file too many.
    fn sweep(&self, folder: &Path) {
        let Ok(entries) = fs::read_dir(folder) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            let known = |digest: &str| self.book.versions.iter().any(|kept| *kept.digest == *digest);
            let unknown = name.strip_suffix(".wasm").is_some_and(|digest| !known(digest));
            if unknown || (name.starts_with('.') && name.ends_with(".new")) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

const BOOK: &str = "versions.json";

fn wasm(folder: &Path, digest: &str) -> PathBuf {
    folder.join(format!("{digest}.wasm"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(bytes: &[u8]) -> Arc<str> {
        format!("{:x}", Sha256::digest(bytes)).into()
    }

    fn digests(history: &History) -> Vec<Arc<str>> {
        history.versions().map(|kept| kept.digest.clone()).collect()
    }

    #[test]
    fn the_newest_versions_are_kept_over_a_restart_and_the_others_go() {
        let folder = tempfile::tempdir().unwrap();
        for home in [None, Some(folder.path().join("deeper/still"))] {
            let mut history = History::open(home.clone());
            for version in [b"a", b"b", b"a", b"c", b"d"] {
                history.loaded(&digest(version), version, 3);
            }
            let kept = [digest(b"d"), digest(b"c"), digest(b"a")];
            assert_eq!(digests(&history), kept);
            if home.is_some() {
                history = History::open(home.clone());
                assert_eq!(digests(&history), kept);
            }
            assert_eq!(&*history.component(&digest(b"a")).unwrap(), b"a");
            assert!(history.component(&digest(b"b")).is_err());
        }
    }

    #[test]
    fn a_rollback_is_remembered_until_a_file_is_loaded_and_its_version_never_goes() {
        let folder = tempfile::tempdir().unwrap();
        let open = || History::open(Some(folder.path().into()));
        let mut history = open();
        history.loaded(&digest(b"a"), b"a", 3);
        history.loaded(&digest(b"b"), b"b", 3);
        let held = Held { digest: digest(b"a"), instead_of: digest(b"b") };
        history.hold(held.clone());
        let mut history = open();
        assert_eq!(history.held(), Some(&held));
        history.keep(1);
        assert_eq!(digests(&history), [digest(b"a")]);
        history.loaded(&digest(b"c"), b"c", 1);
        assert_eq!(open().held(), None);
    }

    #[test]
    fn a_version_that_was_changed_on_the_disk_is_never_given_out() {
        let folder = tempfile::tempdir().unwrap();
        let mut history = History::open(Some(folder.path().into()));
        history.loaded(&digest(b"a"), b"a", 3);
        fs::write(wasm(folder.path(), &digest(b"a")), b"z").unwrap();
        assert!(history.component(&digest(b"a")).unwrap_err().contains("damaged"));
        fs::write(folder.path().join(BOOK), "{").unwrap();
        assert_eq!(digests(&History::open(Some(folder.path().into()))).len(), 0);
    }

    fn files(folder: &Path) -> Vec<String> {
        let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_version_in_memory_alone_is_not_listed_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let mut history = History::open(Some(folder.path().into()));
        history.loaded(&digest(b"a"), b"a", 3);
        // No file can take its place.
        fs::create_dir(wasm(folder.path(), &digest(b"b"))).unwrap();
        history.loaded(&digest(b"b"), b"b", 3);
        assert_eq!(&*history.component(&digest(b"b")).unwrap(), b"b");
        assert!(history.lasts(&digest(b"a")) && !history.lasts(&digest(b"b")));
        assert_eq!(digests(&history), [digest(b"b"), digest(b"a")]);
        assert_eq!(digests(&History::open(Some(folder.path().into()))), [digest(b"a")]);
    }

    #[test]
    fn a_version_that_is_not_stored_whole_is_stored_again() {
        let folder = tempfile::tempdir().unwrap();
        let mut history = History::open(Some(folder.path().into()));
        for damaged in ["", "z"] {
            history.loaded(&digest(b"a"), b"a", 3);
            fs::write(wasm(folder.path(), &digest(b"a")), damaged).unwrap();
            history.loaded(&digest(b"a"), b"a", 3);
            assert_eq!(&*history.component(&digest(b"a")).unwrap(), b"a");
        }
    }

    #[test]
    fn what_no_book_knows_is_swept_away_and_fewer_to_keep_holds_over_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let open = || History::open(Some(folder.path().into()));
        let mut history = open();
        history.loaded(&digest(b"a"), b"a", 3);
        history.loaded(&digest(b"b"), b"b", 3);
        fs::write(folder.path().join(BOOK), "{").unwrap();
        fs::write(folder.path().join(format!(".{BOOK}.1.new")), "{").unwrap();
        fs::write(folder.path().join("notes"), "").unwrap();
        let mut history = open();
        history.loaded(&digest(b"c"), b"c", 3);
        history.loaded(&digest(b"d"), b"d", 3);
        let wasm = |version: &[u8]| format!("{}.wasm", digest(version));
        let mut kept = vec![wasm(b"c"), wasm(b"d"), "notes".into(), BOOK.into()];
        kept.sort();
        assert_eq!(files(folder.path()), kept);
        open().keep(1);
        assert_eq!(digests(&open()), [digest(b"d")]);
        assert!(!files(folder.path()).contains(&wasm(b"c")));
    }
}
