//! What is saved: sources of crates, and pipeline.toml.
//!
//! The watcher's thread only notes what changed and when first; however much it is, it never waits for a build.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use miette::{IntoDiagnostic, WrapErr};
use notify::event::{AccessKind, AccessMode, ModifyKind};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;
use tokio::time::timeout;

use super::crates::Crate;

/// An editor's save is several events, and formatters save once more.
const SETTLED: Duration = Duration::from_millis(50);

pub(super) struct Changes {
    noted: Arc<Noted>,
    /// Ends its thread when it is dropped.
    _watcher: RecommendedWatcher,
}

#[derive(Debug)]
pub(super) struct Changed {
    /// When the first of them came.
    pub(super) saved: Instant,
    /// By their places in the list that is watched.
    pub(super) crates: BTreeSet<usize>,
    pub(super) pipeline: bool,
}

struct Noted {
    changed: Mutex<Option<Changed>>,
    news: Notify,
    /// Whose change it is that something below a folder changes.
    sources: Vec<BTreeSet<PathBuf>>,
    pipeline: PathBuf,
}

impl Changes {
    pub(super) fn watch(pipeline: &Path, crates: &[Crate]) -> miette::Result<Self> {
        let pipeline = std::path::absolute(pipeline).into_diagnostic()?;
        let folder = pipeline.parent().unwrap_or(&pipeline).to_path_buf();
        let sources: Vec<_> = crates.iter().map(|krate| krate.sources.clone()).collect();
        let noted = Arc::new(Noted {
            changed: Mutex::new(None),
            news: Notify::new(),
            sources: sources.clone(),
            pipeline,
        });
        let notes = noted.clone();
        let mut watcher = notify::recommended_watcher(move |event| notes.note(event)).into_diagnostic()?;
        let mut watch = |folder: &Path, mode| {
            let watched = watcher.watch(folder, mode).into_diagnostic();
            watched.wrap_err_with(|| format!("can't watch {}", folder.display()))
        };
        // The folder, not the file: editors put a new file in its place.
        watch(&folder, RecursiveMode::NonRecursive)?;
        for folder in sources.iter().flatten().collect::<BTreeSet<_>>() {
            watch(folder, RecursiveMode::NonRecursive)?;
            for entry in fs::read_dir(folder).into_diagnostic()? {
                let path = entry.into_diagnostic()?.path();
                if path.is_dir() && is_source(folder, &path) {
                    watch(&path, RecursiveMode::Recursive)?;
                }
            }
        }
        Ok(Self { noted, _watcher: watcher })
    }

    /// Waits until something has changed, and nothing has for a moment.
    pub(super) async fn settled(&mut self) -> Changed {
        loop {
            self.any().await;
            while timeout(SETTLED, self.noted.news.notified()).await.is_ok() {}
            if let Some(changed) = self.noted.lock().take() {
                return changed;
            }
        }
    }

    /// Waits until something has changed, and takes no notice of it.
    pub(super) async fn any(&self) {
        while self.noted.lock().is_none() {
            self.noted.news.notified().await;
        }
    }
}

impl Noted {
    fn note(&self, event: notify::Result<notify::Event>) {
        let (crates, pipeline) = match event {
            // Events were lost.
            Ok(event) if event.need_rescan() => ((0..self.sources.len()).collect(), true),
            Ok(event) if is_save(event.kind) => self.concerned(&event.paths),
            Ok(_) => return,
            Err(error) => {
                tracing::warn!("some saves may go unnoticed: {error}");
                return;
            }
        };
        if crates.is_empty() && !pipeline {
            return;
        }
        let mut changed = self.lock();
        let noted = changed.get_or_insert_with(|| Changed {
            saved: Instant::now(),
            crates: BTreeSet::new(),
            pipeline: false,
        });
        noted.crates.extend(crates);
        noted.pipeline |= pipeline;
        drop(changed);
        self.news.notify_one();
    }

    fn concerned(&self, paths: &[PathBuf]) -> (BTreeSet<usize>, bool) {
        let is_of = |folders: &BTreeSet<PathBuf>| {
            folders.iter().any(|folder| paths.iter().any(|path| is_source(folder, path)))
        };
        let crates = (0..).zip(&self.sources).filter(|(_, folders)| is_of(folders)).map(|(index, _)| index);
        (crates.collect(), paths.contains(&self.pipeline))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Changed>> {
        // Nothing panics while it holds the lock.
        self.changed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_save(kind: EventKind) -> bool {
    match kind {
        EventKind::Create(_) | EventKind::Remove(_) | EventKind::Any => true,
        EventKind::Modify(ModifyKind::Metadata(_)) => false,
        EventKind::Modify(_) | EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Access(_) | EventKind::Other => false,
    }
}

/// Whether the path is in the crate's folder, and neither what cargo makes there nor hidden, as editors' own files
/// and those of version control are.
fn is_source(folder: &Path, path: &Path) -> bool {
    let Ok(within) = path.strip_prefix(folder) else { return false };
    let made = within.starts_with("target") || within == Path::new("Cargo.lock");
    let ours =
        |name: &OsStr| !name.to_string_lossy().starts_with('.') && !name.to_string_lossy().ends_with('~');
    !made && within.iter().all(ours)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cargo_and_editors_make_is_no_source() {
        let is = |path: &str| is_source(Path::new("/alarm"), Path::new(path));
        assert!(is("/alarm/src/lib.rs") && is("/alarm/Cargo.toml") && is("/alarm/src/target/x.rs"));
        for other in
            ["/alarm/target/x", "/alarm/Cargo.lock", "/alarm/src/.lib.rs.swp", "/alarm/src/lib.rs~", "/b/x"]
        {
            assert!(!is(other), "{other}");
        }
    }
}
