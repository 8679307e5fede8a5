//! A handler's file has changed: the next batch runs by it, or it is refused and says why.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tracing::{debug, info, warn};

use super::candidate::Candidate;
use super::{Deployer, Handler};
use crate::event::now_ms;
use crate::guest::{ComponentFile, LoadError};
use crate::text::short;

impl Deployer {
    /// Looks at what stands at `path` now, for every handler whose component that is.
    pub(super) fn look_at(&mut self, path: &Path) {
        let of_path = self.handlers.values().filter(|handler| handler.plan.component == path);
        let names: Vec<Arc<str>> = of_path.map(|handler| handler.plan.name.clone()).collect();
        for name in names {
            match ComponentFile::read(path) {
                Ok(file) => self.consider(&name, file),
                Err(error) => self.refuse(&name, None, &error),
            }
        }
    }

    /// Looks at the components of all such handlers.
    pub(super) fn look_at_those(&mut self, such: impl Fn(&Handler) -> bool) {
        let handlers = self.handlers.values().filter(|handler| such(handler));
        let components: BTreeSet<PathBuf> = handlers.map(|handler| handler.plan.component.clone()).collect();
        components.iter().for_each(|component| self.look_at(component));
    }

    /// The content decides: a file that was only touched, or renamed over by its equal, changes nothing.
    fn consider(&mut self, name: &Arc<str>, file: ComponentFile) {
        let Some(handler) = self.handlers.get(name) else { return };
        let (plan, runs) = (handler.plan.clone(), handler.version.digest().clone());
        if file.digest == handler.file && !handler.refused {
            debug!(handler = %name, "its file was touched and is what it was");
            return;
        }
        let held = self.history(&plan).held().is_some_and(|held| held.instead_of == file.digest);
        if held || file.digest == runs {
            if !held {
                self.history(&plan).loaded(&file.digest, &file.bytes, plan.keep);
            }
            info!(handler = %name, "its file is {} again", short(&file.digest));
            self.settled(name, &file.digest);
            return;
        }
        match self.parts.workshop.compile(&file, &plan) {
            Ok((version, compiled)) => {
                let digest = file.digest.clone();
                self.put_version(name, Candidate { version, compiled, file: digest, loaded: Some(file) });
            }
            Err(error) => self.refuse(name, Some(file.digest), &error),
        }
    }

    /// Puts a version into its handler's slot, for the next batch of each shard.
    pub(super) fn put_version(&mut self, name: &Arc<str>, candidate: Candidate) {
        let Some(handler) = self.handlers.get_mut(name) else { return };
        // It writes files: before the shards take the version up, not beside them; and before anyone is told of it.
        self.parts.workshop.remember(&handler.plan, &candidate);
        let before = std::mem::replace(&mut handler.version, candidate.version.clone());
        let (old, new) = (before.digest().clone(), candidate.version.digest().clone());
        let compile_ms = candidate.compiled.ms();
        // Linked anew it is what it was.
        if old != new {
            // Before its shards can report of it.
            self.parts.grounds.status.update(name, |s| {
                s.digest = new.to_string();
                s.version.previous = Some(old.to_string());
                s.version.swaps += 1;
                s.version.compile_ms = Some(compile_ms);
                s.version.swapped_at_ms = Some(now_ms());
                s.version.first_offsets.clear();
            });
            let how = if candidate.compiled.from_cache { "loaded from the cache" } else { "compiled" };
            info!(handler = %name, old = short(&old), new = short(&new), "swapped: {how} in {compile_ms:.1} ms");
        }
        handler.slot.put(handler.deployed());
        self.replaced.push(before);
        // What runs instead of the file says nothing of the file.
        if candidate.loaded.is_some() {
            self.settled(name, &candidate.file);
        }
    }

    fn settled(&mut self, name: &Arc<str>, file: &Arc<str>) {
        if let Some(handler) = self.handlers.get_mut(name) {
            handler.file = file.clone();
            handler.refused = false;
        }
        self.parts.grounds.status.update(name, |s| s.version.refused = None);
    }

    /// The version that runs goes on.
    fn refuse(&mut self, name: &Arc<str>, file: Option<Arc<str>>, error: &LoadError) {
        let which = file.as_deref().map(|file| format!("its file, {}: ", short(file))).unwrap_or_default();
        let Some(handler) = self.handlers.get_mut(name) else { return };
        if let Some(file) = file {
            handler.file = file;
        }
        handler.refused = true;
        let problem = format!("{which}{}", self.loaded.places.component(&handler.plan, error).line());
        let runs = short(handler.version.digest());
        let known = self.parts.grounds.status.refused(name).is_some_and(|told| told == problem);
        if !known {
            warn!(handler = %name, "refused: {problem}; {runs} goes on");
        }
        self.parts.grounds.status.update(name, |s| s.version.refused = Some(problem));
    }
}
