//! Where a host keeps what outlives it: compiled code, and the versions to roll back to.
//!
//! Never in the pipeline's folder: that may come from elsewhere, and compiled code is trusted. Without a folder the
//! host runs all the same: it compiles at each start, and forgets its versions at its end.

use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use tracing::warn;

use super::history::History;
use crate::config::plan::Plan;
use crate::guest::CodeCache;

#[derive(Clone, Debug)]
pub struct StateFolder(Option<PathBuf>);

impl StateFolder {
    /// The folder that was chosen, or the user's own: `$XDG_STATE_HOME/wasmill`, or `~/.local/state/wasmill`. One that
    /// can't be written to is told and done without.
    pub fn open(chosen: Option<&Path>) -> Self {
        let variable =
            |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let users_own = || {
            let home = variable("HOME").map(|home| home.join(".local/state"));
            variable("XDG_STATE_HOME").filter(|folder| folder.is_absolute()).or(home)
        };
        let folder =
            chosen.map(Path::to_path_buf).or_else(|| users_own().map(|folder| folder.join("wasmill")));
        let Some(folder) = folder else {
            warn!(
                "no folder for the host's state (no HOME): versions are kept in memory only; --state names one"
            );
            return Self(None);
        };
        // Absolute, as the host may be started anywhere.
        let folder = std::path::absolute(&folder).unwrap_or(folder);
        if let Err(error) = fs::create_dir_all(&folder) {
            warn!(
                "{} can't hold the host's state ({error}): versions are kept in memory only; --state names another folder",
                folder.display()
            );
            return Self(None);
        }
        Self(Some(folder))
    }

    /// A version of a handler that this process of the pipeline has kept; an error says why it can't be had.
    pub fn component(&self, plan: &Plan, handler: &str, digest: &str) -> Result<Vec<u8>, String> {
        // It may come from a record's header, and names a file.
        if digest.len() != 64 || !digest.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err("that is no digest".into());
        }
        let folder = self.versions(plan).ok_or("there is no state folder")?;
        History::open(Some(folder.join(handler))).component(digest).map(|bytes| bytes.to_vec())
    }

    /// Compiled code, shared by all pipelines of the user.
    pub(super) fn code(&self) -> CodeCache {
        let Some(folder) = &self.0 else { return CodeCache::none() };
        CodeCache::open(&folder.join("code")).unwrap_or_else(|error| {
            warn!("components are compiled at each start: {}", crate::text::chain(&error));
            CodeCache::none()
        })
    }

    /// The versions of this process of the pipeline.
    pub(super) fn versions(&self, plan: &Plan) -> Option<PathBuf> {
        let folder = self.0.as_ref()?;
        // Pipelines of one name in several places are several.
        let place = format!("{:x}", Sha256::digest(plan.root.as_os_str().as_encoded_bytes()));
        let pipeline = format!("{}-{}", plan.name, &place[..12]);
        // An instance's name is anything; a folder's isn't.
        let instance = format!("{:x}", Sha256::digest(plan.kafka.instance.as_bytes()));
        Some(folder.join("versions").join(pipeline).join(&instance[..12]))
    }
}
