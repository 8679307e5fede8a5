//! The ways in which people put a component in the place of another.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, SystemTime};

use crate::common::rename_over;

#[derive(Clone, Copy, Debug)]
pub(crate) enum How {
    /// `mv new.wasm handler.wasm`, as careful build scripts do it.
    RenamedOver,
    /// `cp new.wasm handler.wasm`: the file is empty for a moment, then it grows.
    Copied,
    /// As a copy over a network does, which takes its time between two pieces.
    CopiedSlowly,
    /// As Kubernetes does with a ConfigMap: the file is a link into a folder that is a link itself, and that one is
    /// what changes.
    Linked,
}

/// Twice a link, so that the second time only its folder moves.
const TURNS: [How; 5] = [How::RenamedOver, How::Copied, How::Linked, How::Linked, How::CopiedSlowly];

/// Longer than a file must stay as it is to be taken for whole: only its being open tells that more is to come.
const BETWEEN_PIECES: Duration = Duration::from_millis(60);

impl How {
    pub(crate) fn in_turn(count: usize) -> Self {
        TURNS[count % TURNS.len()]
    }

    pub(crate) fn install(self, component: &Path, bytes: &[u8]) {
        match self {
            Self::RenamedOver => rename_over(component, bytes),
            Self::Copied => fs::write(component, bytes).unwrap(),
            Self::CopiedSlowly => {
                let mut file = File::create(component).unwrap();
                for piece in bytes.chunks(bytes.len().div_ceil(4)) {
                    file.write_all(piece).unwrap();
                    thread::sleep(BETWEEN_PIECES);
                }
            }
            Self::Linked => link(component, bytes),
        }
    }
}

pub(crate) fn touch(component: &Path) {
    File::options().append(true).open(component).unwrap().set_modified(SystemTime::now()).unwrap();
}

fn link(component: &Path, bytes: &[u8]) {
    let (folder, name) = (component.parent().unwrap(), component.file_name().unwrap());
    let data = folder.join("..data");
    let old = fs::read_link(&data).ok();
    let new = PathBuf::from(format!("..{}", SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos()));
    fs::create_dir(folder.join(&new)).unwrap();
    fs::write(folder.join(&new).join(name), bytes).unwrap();
    replace_link(&new, &data);
    let through = Path::new("..data").join(name);
    if fs::read_link(component).ok().as_ref() != Some(&through) {
        replace_link(&through, component);
    }
    if let Some(old) = old {
        fs::remove_dir_all(folder.join(old)).unwrap();
    }
}

fn replace_link(to: &Path, at: &Path) {
    let new = at.with_file_name("..new_link");
    symlink(to, &new).unwrap();
    fs::rename(new, at).unwrap();
}
