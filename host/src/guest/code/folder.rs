//! A folder that only this user can write to, and files in it that only this user wrote.
//!
//! The folder is held open and all goes through that handle, so that nobody swaps it by its name. Whatever is about
//! to be trusted is checked on its own open handle, after opening it, for the same reason.

use std::fs::{DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use miette::Diagnostic;
use rustix::fs::{self, AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::process::geteuid;
use thiserror::Error;
use uuid::Uuid;

/// Why compiled code can't be kept there.
#[derive(Debug, Error, Diagnostic)]
pub enum CacheError {
    #[error("can't keep compiled code in {}: {source}", .path.display())]
    #[diagnostic(help("this user must be able to make the folder and to write to it; or name another one"))]
    Unusable { path: PathBuf, source: io::Error },

    #[error("compiled code in {} can't be trusted: {reason}", .path.display())]
    #[diagnostic(help(
        "code from there would run without a sandbox: remove it, and the host makes a folder that only its user can \
         write to; or name another one"
    ))]
    Untrusted { path: PathBuf, reason: String },
}

/// What others than the owner must not be able to do: to write what becomes code, to read the key as well.
pub(super) const OTHERS_WRITE: Mode = Mode::from_raw_mode(0o022);
pub(super) const OTHERS_ANYTHING: Mode = Mode::from_raw_mode(0o077);

/// Nobody else needs to read it either: one of the files is a key.
const OWN_FOLDER: u32 = 0o700;
const OWN_FILE: Mode = Mode::from_raw_mode(0o600);

pub(super) struct PrivateFolder {
    path: PathBuf,
    handle: OwnedFd,
}

/// A file to be weighed against the others.
struct Entry {
    name: String,
    bytes: u64,
    /// Seconds and nanoseconds since 1970.
    used: (i64, u64),
}

impl PrivateFolder {
    pub(super) fn open(path: &Path) -> Result<Self, CacheError> {
        // Without the slash at its end, which would follow a symbolic link.
        let path: PathBuf = path.components().collect();
        let unusable = |source| CacheError::Unusable { path: path.clone(), source };
        DirBuilder::new().recursive(true).mode(OWN_FOLDER).create(&path).map_err(unusable)?;
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let handle = match fs::open(&path, flags, Mode::empty()) {
            Ok(handle) => handle,
            Err(rustix::io::Errno::LOOP | rustix::io::Errno::NOTDIR) => {
                return Err(CacheError::Untrusted { path, reason: "it is a symbolic link".into() });
            }
            Err(error) => return Err(unusable(error.into())),
        };
        let folder = Self { path, handle };
        match folder.check() {
            Ok(()) => Ok(folder),
            Err(error) => Err(CacheError::Untrusted { reason: error.to_string(), path: folder.path }),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The content of a file that this user alone can have written, of at most so many bytes. Reading is using.
    pub(super) fn read(&self, name: &str, most: u64, forbidden: Mode) -> io::Result<Vec<u8>> {
        self.check()?;
        // Opening a named pipe must not wait for its writer.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let mut file = File::from(fs::openat(&self.handle, name, flags, Mode::empty())?);
        let stat = fs::fstat(&file)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(io::Error::other("it is not a regular file"));
        }
        only_ours(&stat, forbidden)?;
        let mut bytes = Vec::new();
        (&mut file).take(most + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > most {
            return Err(io::Error::other("it is too large"));
        }
        file.set_modified(SystemTime::now())?;
        Ok(bytes)
    }

    /// Replaces the file, whole or not at all.
    pub(super) fn write(&self, name: &str, parts: &[&[u8]]) -> io::Result<()> {
        let new = self.write_aside(parts)?;
        fs::renameat(&self.handle, &new, &self.handle, name).map_err(|error| {
            self.remove(&new);
            error.into()
        })
    }

    /// Makes the file unless there is one.
    pub(super) fn write_new(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let new = self.write_aside(&[bytes])?;
        let linked = fs::linkat(&self.handle, &new, &self.handle, name, AtFlags::empty());
        self.remove(&new);
        match linked {
            Ok(()) | Err(rustix::io::Errno::EXIST) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes the least recently used files until these bounds hold. What a crash left half-written counts as well.
    pub(super) fn shrink(&self, most_files: usize, most_bytes: u64, spared: &str) -> io::Result<()> {
        let mut entries = self.entries()?;
        entries.retain(|entry| entry.name != spared);
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.used));
        let mut bytes = 0_u64;
        for (files, entry) in (1..).zip(&entries) {
            bytes = bytes.saturating_add(entry.bytes);
            if files > most_files || bytes > most_bytes {
                self.remove(&entry.name);
            }
        }
        Ok(())
    }

    fn check(&self) -> io::Result<()> {
        only_ours(&fs::fstat(&self.handle)?, OTHERS_WRITE)
    }

    fn write_aside(&self, parts: &[&[u8]]) -> io::Result<String> {
        let name = format!(".{}", Uuid::now_v7().simple());
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = File::from(fs::openat(&self.handle, &name, flags, OWN_FILE)?);
        // Not flushed to the disk: what a crash spoils is no longer authentic.
        let written = parts.iter().try_for_each(|part| file.write_all(part));
        written.inspect_err(|_| self.remove(&name))?;
        Ok(name)
    }

    fn entries(&self) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in Dir::read_from(self.handle.as_fd())? {
            let entry = entry?;
            let Ok(name) = entry.file_name().to_str() else { continue };
            let Ok(stat) = fs::statat(&self.handle, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
            if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
                let bytes = u64::try_from(stat.st_size).unwrap_or(0);
                entries.push(Entry { name: name.into(), bytes, used: (stat.st_mtime, stat.st_mtime_nsec) });
            }
        }
        Ok(entries)
    }

    /// What is gone already is as good.
    fn remove(&self, name: &str) {
        if let Err(error) = fs::unlinkat(&self.handle, name, AtFlags::empty()) {
            tracing::debug!("can't remove {}: {error}", self.path.join(name).display());
        }
    }
}

fn only_ours(stat: &Stat, forbidden: Mode) -> io::Result<()> {
    if stat.st_uid != geteuid().as_raw() {
        Err(io::Error::other("another user owns it"))
    } else if Mode::from_raw_mode(stat.st_mode).intersects(forbidden) {
        Err(io::Error::other("others than its owner can get at it (look at its mode)"))
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &PrivateFolder) -> Vec<String> {
        let mut names: Vec<_> = folder.entries().unwrap().into_iter().map(|entry| entry.name).collect();
        names.sort();
        names
    }

    #[test]
    fn the_least_recently_used_files_go_first_and_the_spared_one_never() {
        let outside = tempfile::tempdir().unwrap();
        let folder = PrivateFolder::open(&outside.path().join("made/anew")).unwrap();
        let names_by_age = ["spared", "a", "b", "c", "d"];
        for (name, seconds) in names_by_age.iter().zip(1..) {
            folder.write(name, &[&[0; 10]]).unwrap();
            let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
            File::open(folder.path().join(name)).unwrap().set_modified(time).unwrap();
        }
        folder.read("a", 10, OTHERS_WRITE).unwrap();
        folder.shrink(3, 1000, "spared").unwrap();
        assert_eq!(names(&folder), ["a", "c", "d", "spared"]);
        folder.shrink(3, 20, "spared").unwrap();
        assert_eq!(names(&folder), ["a", "d", "spared"]);
    }

    #[test]
    fn a_file_is_written_whole_and_made_once() {
        let outside = tempfile::tempdir().unwrap();
        let folder = PrivateFolder::open(outside.path()).unwrap();
        folder.write_new("key", b"first").unwrap();
        folder.write_new("key", b"second").unwrap();
        folder.write("code", &[b"old"]).unwrap();
        folder.write("code", &[b"ne", b"w"]).unwrap();
        assert_eq!(folder.read("key", 100, OTHERS_ANYTHING).unwrap(), b"first");
        assert_eq!(folder.read("code", 3, OTHERS_ANYTHING).unwrap(), b"new");
        assert!(folder.read("code", 2, OTHERS_ANYTHING).is_err());
        assert_eq!(names(&folder), ["code", "key"]);
    }
}
