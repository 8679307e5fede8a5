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
    watcher: RecommendedWatcher,
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
    notes: Mutex<Notes>,
    news: Notify,
    pipeline: PathBuf,
}

#[derive(Default)]
struct Notes {
    changed: Option<Changed>,
    /// Whose change it is that something below a folder changes.
    sources: Vec<BTreeSet<PathBuf>>,
}

impl Changes {
    /// Of pipeline.toml, and of no crate yet.
    pub(super) fn watch(pipeline: &Path) -> miette::Result<Self> {
        let pipeline = std::path::absolute(pipeline).into_diagnostic()?;
        let folder = pipeline.parent().unwrap_or(&pipeline).to_path_buf();
        let noted = Arc::new(Noted { notes: Mutex::default(), news: Notify::new(), pipeline });
        let notes = noted.clone();
        let watcher = notify::recommended_watcher(move |event| notes.note(event)).into_diagnostic()?;
        let mut changes = Self { noted, watcher };
        // The folder, not the file: editors put a new file in its place.
        changes.watch_folder(&folder, RecursiveMode::NonRecursive)?;
        Ok(changes)
    }

    /// Goes on with `crates` instead of those `before`. One that wasn't among them is as good as saved; and what was
    /// saved of the others, and not taken yet, stays noted.
    pub(super) fn follow(&mut self, crates: &[Crate], before: &[Crate]) -> miette::Result<()> {
        let sources: Vec<_> = crates.iter().map(|krate| krate.sources.clone()).collect();
        for folder in sources.iter().flatten().collect::<BTreeSet<_>>() {
            self.watch_folder(folder, RecursiveMode::NonRecursive)?;
            for entry in fs::read_dir(folder).into_diagnostic()? {
                let path = entry.into_diagnostic()?.path();
                if path.is_dir() && is_source(folder, &path) {
                    self.watch_folder(&path, RecursiveMode::Recursive)?;
                }
            }
        }
        let mut notes = self.noted.lock();
        notes.sources = sources;
        let noted = notes.changed.take();
        let is_due = |krate: &Crate| match before.iter().position(|known| known.is(krate)) {
            Some(index) => noted.as_ref().is_some_and(|noted| noted.crates.contains(&index)),
            None => true,
        };
        let due = (0..).zip(crates).filter(|(_, krate)| is_due(krate)).map(|(index, _)| index).collect();
        notes.add(due, noted.as_ref().is_some_and(|noted| noted.pipeline));
        if let (Some(changed), Some(noted)) = (&mut notes.changed, noted) {
            changed.saved = noted.saved;
        }
        drop(notes);
        self.noted.news.notify_one();
        Ok(())
    }

    fn watch_folder(&mut self, folder: &Path, mode: RecursiveMode) -> miette::Result<()> {
        let watched = self.watcher.watch(folder, mode).into_diagnostic();
        watched.wrap_err_with(|| format!("can't watch {}", folder.display()))
    }

    /// Waits until something has changed, and nothing has for a moment.
    pub(super) async fn settled(&self) -> Changed {
        loop {
            self.any().await;
            while timeout(SETTLED, self.noted.news.notified()).await.is_ok() {}
            if let Some(changed) = self.noted.lock().changed.take() {
                return changed;
            }
        }
    }

    /// Waits until something has changed, and takes no notice of it.
    pub(super) async fn any(&self) {
        while self.noted.lock().changed.is_none() {
            self.noted.news.notified().await;
        }
    }

    /// The crates that have changed up to now; of pipeline.toml it takes no notice.
    pub(super) fn take_crates(&self) -> BTreeSet<usize> {
        let mut notes = self.noted.lock();
        let crates = notes.changed.as_mut().map(|changed| std::mem::take(&mut changed.crates));
        notes.changed.take_if(|changed| !changed.pipeline);
        crates.unwrap_or_default()
    }
}

impl Noted {
    fn note(&self, event: notify::Result<notify::Event>) {
        let mut notes = self.lock();
        match event {
            // Events were lost.
            Ok(event) if event.need_rescan() => {
                let all = (0..notes.sources.len()).collect();
                notes.add(all, true);
            }
            Ok(event) if is_save(event.kind) => {
                let concerned = notes.concerned(&event.paths);
                notes.add(concerned, event.paths.contains(&self.pipeline));
            }
            Ok(_) => return,
            Err(error) => {
                tracing::warn!("some saves may go unnoticed: {error}");
                return;
            }
        }
        let news = notes.changed.is_some();
        drop(notes);
        if news {
            self.news.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Notes> {
        // Nothing panics while it holds the lock.
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Notes {
    fn add(&mut self, crates: BTreeSet<usize>, pipeline: bool) {
        if crates.is_empty() && !pipeline {
            return;
        }
        let changed = self.changed.get_or_insert_with(|| Changed {
            saved: Instant::now(),
            crates: BTreeSet::new(),
            pipeline: false,
        });
        changed.crates.extend(crates);
        changed.pipeline |= pipeline;
    }

    fn concerned(&self, paths: &[PathBuf]) -> BTreeSet<usize> {
        let is_of = |folders: &BTreeSet<PathBuf>| {
            folders.iter().any(|folder| paths.iter().any(|path| is_source(folder, path)))
        };
        let crates = (0..).zip(&self.sources).filter(|(_, folders)| is_of(folders));
        crates.map(|(index, _)| index).collect()
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

    #[tokio::test]
    async fn what_is_saved_before_another_list_is_followed_is_not_lost_and_new_crates_are_due() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        for name in ["a", "b", "c"] {
            fs::create_dir_all(root.join(name).join("src")).unwrap();
        }
        let krate = |name: &str| Crate::for_tests(name, &root.join(name));
        let mut changes = Changes::watch(&root.join("pipeline.toml")).unwrap();
        let before = [krate("a"), krate("b")];
        changes.follow(&before, &[]).unwrap();
        assert_eq!(changes.take_crates(), [0, 1].into());

        let within = Duration::from_secs(20);
        fs::write(root.join("b/src/lib.rs"), "saved").unwrap();
        timeout(within, changes.any()).await.unwrap();
        let after = [krate("b"), krate("c"), krate("a")];
        changes.follow(&after, &before).unwrap();
        let settled = timeout(within, changes.settled()).await.unwrap();
        assert_eq!((settled.crates, settled.pipeline), ([0, 1].into(), false));

        fs::write(root.join("a/src/lib.rs"), "saved").unwrap();
        let settled = timeout(within, changes.settled()).await.unwrap();
        assert_eq!((settled.crates, settled.pipeline), ([2].into(), false));
        fs::write(root.join("pipeline.toml"), "").unwrap();
        assert!(timeout(within, changes.settled()).await.unwrap().pipeline);
    }
}
