//! A folder that gets one .eml file for each mail: for trying things out, and for tests.
//!
//! A file appears whole or not at all, and the same event writes the same file again, so a mail that is
//! sent twice is there once.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::message::Mail;
use super::{MailError, Undelivered};

pub(super) struct Folder {
    path: PathBuf,
}

impl Folder {
    pub(super) fn new(path: &Path) -> Result<Self, MailError> {
        fs::create_dir_all(path).map_err(|source| MailError::Folder { path: path.into(), source })?;
        Ok(Self { path: path.into() })
    }

    /// The answer is the file's name. Every fault of a file system (full, read-only, gone) may pass, and
    /// none is the mail's: they all block.
    pub(super) fn send(&self, mail: &Mail) -> Result<String, Undelivered> {
        let name = format!("{}.eml", mail.id);
        self.write(&name, &mail.message.formatted()).map_err(|error| {
            Undelivered::Blocked(format!("{} can't be written: {error}", self.path.join(&name).display()))
        })?;
        Ok(format!("written to {name}"))
    }

    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        // Someone may have cleared the folder away since the start.
        fs::create_dir_all(&self.path)?;
        let unfinished = self.path.join(format!(".{name}.unfinished"));
        let written = File::create(&unfinished).and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&unfinished, self.path.join(name))
        });
        if let Err(error) = written {
            // Of a full disk; it may be gone with the folder.
            let _ = fs::remove_file(&unfinished);
            return Err(error);
        }
        // The rename itself is durable only when the folder is.
        File::open(&self.path)?.sync_all()
    }
}
