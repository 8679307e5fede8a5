//! Which of some files have changed, and are whole again.
//!
//! The folders are watched, not the files: editors and deployments put new files in the place of old ones. What is
//! heard says only when to look. Looking is a stat(2) of each file, through all symbolic links (a Kubernetes ConfigMap
//! is a chain of them), and once in a while it is done unasked, for file systems that tell nothing and for events
//! that were lost.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use notify::event::{AccessKind, AccessMode, ModifyKind};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tracing::{debug, warn};

use super::inbox::Inbox;

/// A file is taken for whole when it has stayed as it is for this long.
const SETTLED: Duration = Duration::from_millis(40);
/// One that is being written: unless its writer closes it before. A stalled copy is waited for that long.
const UNCLOSED: Duration = Duration::from_secs(10);
/// One that is missing: most of them are being replaced.
const MISSING: Duration = Duration::from_secs(1);
/// From something heard to the look: much is heard at once, and a folder may be a busy one.
const COALESCED: Duration = Duration::from_millis(10);
/// Between two looks that nobody asked for.
const ROUND: Duration = Duration::from_secs(2);

pub(super) struct Watch {
    /// `None` where the system has no more watches to give: then the rounds have to do.
    watcher: Option<RecommendedWatcher>,
    folders: BTreeSet<PathBuf>,
    files: BTreeMap<PathBuf, File>,
    /// Files that were written to and not closed, as events name them.
    open: HashMap<PathBuf, Instant>,
    round: Instant,
    /// Something was heard since the last look.
    heard: Option<Instant>,
    /// That a folder can't be watched is told once.
    told: bool,
}

struct File {
    /// As it was when its owner last heard of it.
    known: State,
    /// As it is since when, if that is another state.
    changed: Option<(State, Instant)>,
}

/// What tells one content of a path from another without reading it; `None` when there is nothing.
type State = Option<Stat>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Watch {
    /// What the watcher hears goes to the inbox, to be given back to [`hear`](Self::hear).
    pub(super) fn new(inbox: Inbox) -> Self {
        let handler = move |event: notify::Result<notify::Event>| match event {
            Ok(event) => inbox.file(event),
            Err(error) => debug!("the file watcher: {error}"),
        };
        let watcher = notify::recommended_watcher(handler)
            .inspect_err(|error| {
                warn!("files can't be watched ({error}): looking every {} s instead", ROUND.as_secs())
            })
            .ok();
        let (folders, files, open) = (BTreeSet::new(), BTreeMap::new(), HashMap::new());
        Self { watcher, folders, files, open, round: Instant::now(), heard: None, told: false }
    }

    /// Watches these files and no others. One that is new here counts as known as it is now.
    pub(super) fn follow(&mut self, files: &BTreeSet<PathBuf>) {
        self.files.retain(|path, _| files.contains(path));
        for path in files {
            self.files.entry(path.clone()).or_insert_with(|| File { known: state(path), changed: None });
        }
        self.watch_folders();
    }

    /// There is something to look at, whatever it is.
    pub(super) fn wake(&mut self) {
        self.heard.get_or_insert_with(Instant::now);
    }

    /// What the watcher heard.
    pub(super) fn hear(&mut self, event: &notify::Event) {
        let worth_a_look = match event.kind {
            EventKind::Access(AccessKind::Close(AccessMode::Write)) | EventKind::Remove(_) => {
                self.open.retain(|path, _| !event.paths.contains(path));
                if let EventKind::Remove(_) = event.kind {
                    self.folders.retain(|folder| !event.paths.contains(folder));
                }
                true
            }
            EventKind::Modify(ModifyKind::Data(_)) => {
                let now = Instant::now();
                self.open.extend(event.paths.iter().map(|path| (path.clone(), now)));
                true
            }
            EventKind::Modify(ModifyKind::Name(_)) => {
                self.open.retain(|path, _| !event.paths.contains(path));
                // Another folder may stand in its place.
                self.folders.retain(|folder| !event.paths.contains(folder));
                true
            }
            EventKind::Create(_) | EventKind::Modify(_) | EventKind::Any | EventKind::Other => true,
            // Whoever reads a file opens it: so do we.
            EventKind::Access(_) => false,
        };
        if worth_a_look {
            self.wake();
        }
    }

    /// How long until a look is due.
    pub(super) fn due(&self) -> Duration {
        let whole = |(path, file): (&PathBuf, &File)| {
            file.changed.map(|(state, since)| since + self.quiet(path, state))
        };
        let heard = self.heard.map(|heard| heard + COALESCED);
        let next = self.files.iter().filter_map(whole).chain(heard).chain([self.round + ROUND]).min();
        next.map_or(ROUND, |next| next.saturating_duration_since(Instant::now()))
    }

    /// Looks at all files; gives those that have another content, perhaps, and are whole.
    pub(super) fn look(&mut self) -> Vec<PathBuf> {
        let now = Instant::now();
        self.heard = None;
        if now.duration_since(self.round) >= ROUND {
            self.round = now;
            self.open.retain(|_, since| now.duration_since(*since) < UNCLOSED);
            self.watch_folders();
        }
        let (mut settled, mut moved) = (Vec::new(), false);
        let mut files = std::mem::take(&mut self.files);
        for (path, file) in &mut files {
            let is = state(path);
            if is == file.known {
                file.changed = None;
                continue;
            }
            match file.changed {
                Some((was, since)) if was == is => {
                    if now.duration_since(since) >= self.quiet(path, is) {
                        file.known = is;
                        file.changed = None;
                        settled.push(path.clone());
                    }
                }
                Some(_) | None => {
                    moved |=
                        is.map(|is| (is.device, is.inode)) != file.known.map(|was| (was.device, was.inode));
                    file.changed = Some((is, now));
                }
            }
        }
        self.files = files;
        if moved {
            // A link may lead to another folder now, where somebody may write on: that must be heard from here on.
            self.watch_folders();
        }
        settled
    }

    /// How long a file must stay as it is.
    fn quiet(&self, path: &Path, state: State) -> Duration {
        let target = path.canonicalize().unwrap_or_else(|_| path.into());
        match state {
            None => MISSING,
            Some(_) if self.open.contains_key(path) || self.open.contains_key(&target) => UNCLOSED,
            // Made, and not written yet.
            Some(stat) if stat.bytes == 0 => MISSING,
            // Nobody would tell that it is still being written.
            Some(_) if target.parent().is_none_or(|folder| !self.folders.contains(folder)) => ROUND,
            Some(_) => SETTLED,
        }
    }

    /// The folders of the files, and of what they link to.
    fn watch_folders(&mut self) {
        let Some(watcher) = &mut self.watcher else { return };
        let of = |path: &Path| path.parent().map(Path::to_path_buf);
        let paths = self.files.keys();
        let wanted: BTreeSet<PathBuf> = paths
            .flat_map(|path| [of(path), path.canonicalize().ok().and_then(|path| of(&path))])
            .flatten()
            .collect();
        for folder in self.folders.difference(&wanted) {
            // It may be gone.
            let _ = watcher.unwatch(folder);
        }
        let mut watched: BTreeSet<PathBuf> = self.folders.intersection(&wanted).cloned().collect();
        for folder in wanted.difference(&self.folders) {
            match watcher.watch(folder, RecursiveMode::NonRecursive) {
                Ok(()) => drop(watched.insert(folder.clone())),
                // The rounds look there, and try this again.
                Err(error) if folder.exists() && !std::mem::replace(&mut self.told, true) => warn!(
                    "{} can't be watched ({error}): looking there every {} s instead",
                    folder.display(),
                    ROUND.as_secs()
                ),
                Err(error) => debug!("{} is not watched: {error}", folder.display()),
            }
        }
        self.folders = watched;
    }
}

fn state(path: &Path) -> State {
    let metadata = fs::metadata(path).ok()?;
    Some(Stat {
        device: metadata.dev(),
        inode: metadata.ino(),
        bytes: metadata.len(),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
        changed: (metadata.ctime(), metadata.ctime_nsec()),
    })
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;
    use std::os::unix::fs::symlink;

    use super::*;

    /// Far more than anything here takes.
    const DEADLINE: Duration = Duration::from_secs(10);

    /// Hears and looks until the file has settled; gives how long that took.
    fn settles(watch: &mut Watch, inbox: &Inbox, path: &Path) -> Duration {
        let started = Instant::now();
        loop {
            assert!(started.elapsed() < DEADLINE, "{} never settles", path.display());
            inbox.take(watch.due()).files.iter().for_each(|event| watch.hear(event));
            if watch.due().is_zero() && watch.look().iter().any(|settled| settled == path) {
                return started.elapsed();
            }
        }
    }

    #[test]
    fn a_file_behind_a_link_that_has_just_moved_is_not_taken_while_it_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for version in ["one", "two"] {
            fs::create_dir(at(version)).unwrap();
            fs::write(at(version).join("file"), version).unwrap();
        }
        symlink("one", at("data")).unwrap();
        symlink("data/file", at("file")).unwrap();
        let inbox = Inbox::default();
        let mut watch = Watch::new(inbox.clone());
        let file = at("file");
        watch.follow(&BTreeSet::from([file.clone()]));

        symlink("two", at("new")).unwrap();
        fs::rename(at("new"), at("data")).unwrap();
        settles(&mut watch, &inbox, &file);

        let mut open = File::options().append(true).open(&file).unwrap();
        open.write_all(b", and on").unwrap();
        let written = Instant::now();
        // As long as a file that nobody has open is waited for, many times over.
        while written.elapsed() < 5 * SETTLED {
            inbox.take(SETTLED / 4).files.iter().for_each(|event| watch.hear(event));
            assert!(watch.look().is_empty(), "it was taken for whole while it was written");
        }
        drop(open);
        assert!(settles(&mut watch, &inbox, &file) < UNCLOSED / 2);
    }
}
