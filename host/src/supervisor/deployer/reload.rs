//! pipeline.toml has changed: all of it is put to work, or nothing.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::path::PathBuf;

use tracing::{debug, error, info, warn};

use super::candidate::{Candidate, Candidates};
use super::{Deployer, files};
use crate::config::plan::HandlerPlan;
use crate::config::{Change, ConfigErrors, Effect, Loaded, Problem, changes, judges_anew};
use crate::guest::LoadError;

/// What a reload would do.
pub(super) struct Reload {
    pub(super) loaded: Loaded,
    pub(super) changes: Vec<Change>,
    pub(super) candidates: Candidates,
    bound: Option<TcpListener>,
}

/// Why it can't be done, and which files may mend that.
pub(super) struct Refusal {
    problems: Vec<Problem>,
    files: BTreeSet<PathBuf>,
}

impl Refusal {
    pub(super) fn lines(&self) -> Vec<String> {
        self.problems.iter().map(Problem::line).collect()
    }
}

impl Deployer {
    /// Reads pipeline.toml and puts it to work; an error was told already.
    pub(super) fn reload(&mut self) -> Result<Vec<Change>, Vec<String>> {
        match self.parts.file.load().map_err(Into::into).and_then(|loaded| self.judge(loaded)) {
            Ok(Reload { loaded, changes, candidates, bound }) => {
                for warning in &loaded.warnings {
                    warn!("{}", warning.line());
                }
                for change in &changes {
                    info!("pipeline.toml: {change}");
                }
                if changes.is_empty() {
                    info!("pipeline.toml: nothing has changed");
                }
                self.loaded = loaded;
                self.awaited.clear();
                if let Err(failed) = self.put_to_work(candidates, bound) {
                    // Threads, mostly, of which the system has no more.
                    let line = format!("pipeline.toml is only partly at work: {failed}; SIGHUP tries again");
                    error!("{line}");
                    self.parts.grounds.status.config_refused(&line);
                    return Err(vec![line]);
                }
                self.parts.grounds.status.config_loaded();
                // What was refused may pass under the new plan.
                self.look_at_those(|handler| handler.refused);
                Ok(changes)
            }
            Err(refusal) => {
                let lines = refusal.lines();
                for line in &lines {
                    error!("{line}");
                }
                error!(
                    "pipeline.toml is refused: everything goes on as it was, until that is mended (SIGHUP tries again)"
                );
                self.parts.grounds.status.config_refused(&lines.join("\n"));
                self.awaited = refusal.files;
                self.watch_files();
                Err(lines)
            }
        }
    }

    /// Everything that can be wrong with a plan for this host is found here. Puts nothing to work.
    pub(super) fn judge(&mut self, loaded: Loaded) -> Result<Reload, Refusal> {
        // Before anything is read: what changes from here on is seen.
        let watched = files(&self.parts.file, &self.loaded)
            .chain(files(&self.parts.file, &loaded))
            .chain(self.awaited.clone());
        self.parts.watch.follow(&watched.collect());
        let changes = changes(&self.loaded.plan, &loaded.plan);
        let mut problems: Vec<Problem> = changes
            .iter()
            .filter(|change| change.effect == Effect::NeedsRestart)
            .map(|change| {
                let message = format!("`{}` can't change while the host runs", change.subject);
                loaded.places.subject(
                    &change.subject,
                    message,
                    "undo this change, or restart the host".into(),
                )
            })
            .collect();
        if let Err(error) = self.parts.workshop.make_room(&loaded.plan) {
            problems.push(loaded.places.subject("handlers", error.to_string(), "take fewer shards".into()));
        }
        let mut candidates = Candidates::new();
        for handler in &loaded.plan.handlers {
            match self.candidate(handler) {
                Ok(None) => {}
                Ok(Some(candidate)) => drop(candidates.insert(handler.name.clone(), candidate)),
                Err(error) => problems.push(loaded.places.component(handler, &error)),
            }
        }
        let bound = self.parts.web.bind(loaded.plan.http.as_ref()).unwrap_or_else(|error| {
            problems.push(loaded.places.subject("http.listen", error.to_string(), error.remedy().into()));
            None
        });
        if problems.is_empty() {
            return Ok(Reload { loaded, changes, candidates, bound });
        }
        problems.sort_by_key(|problem| problem.span.as_ref().map(|span| span.start));
        let components = loaded.plan.handlers.iter().map(|handler| handler.component.clone());
        let files = loaded.files.iter().cloned().chain(components).collect();
        Err(Refusal { problems, files })
    }

    /// A version for a handler that has none yet, or that the one which runs doesn't fit any more; what runs may go on
    /// where the file is no better.
    fn candidate(&mut self, plan: &HandlerPlan) -> Result<Option<Candidate>, LoadError> {
        let Some(handler) = self.handlers.get(&plan.name) else {
            return self.parts.workshop.candidate(plan).map(Some);
        };
        if !judges_anew(&handler.plan, plan) {
            return Ok(None);
        }
        let same_file = handler.plan.component == plan.component;
        let (digest, file) = (handler.version.digest().clone(), handler.file.clone());
        let error = match self.parts.workshop.candidate(plan) {
            Ok(candidate) => return Ok(Some(candidate)),
            Err(error) => error,
        };
        match self.parts.workshop.kept(plan, &digest) {
            Ok((version, compiled)) if same_file => {
                // As it stands in /status already, or will when it is looked at again.
                debug!(handler = &*plan.name, "its file is not what runs: {error}");
                Ok(Some(Candidate { version, compiled, file, loaded: None }))
            }
            Ok(_) | Err(_) => Err(error),
        }
    }
}

impl From<ConfigErrors> for Refusal {
    fn from(errors: ConfigErrors) -> Self {
        Self { problems: errors.errors, files: errors.files.iter().cloned().collect() }
    }
}
