//! Replacing a file that others read, perhaps at this moment.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::process;

/// Puts `content` in the file's place, under the file's permissions, if there is one. Who reads it meanwhile, or after
/// a power failure, gets the old content or the new one, never a part.
pub(crate) fn replace(file: &Path, content: &[u8]) -> io::Result<()> {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let fresh = file.with_file_name(format!(".{name}.{}.new", process::id()));
    let replaced = write(&fresh, content, file).and_then(|()| fs::rename(&fresh, file));
    // The new name lasts from here on; a file system that can't tell has what it has.
    if let (Ok(()), Some(folder)) = (&replaced, file.parent()) {
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        let _ = File::open(folder).and_then(|folder| folder.sync_all());
    }
    if replaced.is_err() {
        // It may not even have been made.
        let _ = fs::remove_file(&fresh);
    }
    replaced
}

fn write(fresh: &Path, content: &[u8], like: &Path) -> io::Result<()> {
    fs::write(fresh, content)?;
    match fs::metadata(like) {
        Ok(metadata) => fs::set_permissions(fresh, metadata.permissions())?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    File::open(fresh)?.sync_all()
}
