//! Which crate a component comes from, and which folders hold its sources.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use miette::{IntoDiagnostic, WrapErr};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::cli::cargo::{TARGET, cargo};
use crate::config::plan::Plan;
use crate::replace::replace;

/// The crate of a component, and how it is built.
#[derive(Debug)]
pub(super) struct Crate {
    /// Those that the component is the code of.
    pub(super) handlers: Vec<Arc<str>>,
    pub(super) package: String,
    pub(super) build: Build,
    /// Its own folder, and those of the crates that it depends on by path.
    pub(super) sources: BTreeSet<PathBuf>,
    /// Where cargo puts the component.
    built: PathBuf,
    /// Where the pipeline has it.
    component: PathBuf,
    /// Of the component that was last put there.
    digest: Option<String>,
}

/// What crates have in common that one cargo builds together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Build {
    pub(super) workspace: PathBuf,
    pub(super) target: PathBuf,
    pub(super) release: bool,
}

pub(super) struct Found {
    pub(super) crates: Vec<Crate>,
    /// Why not, one line for each component.
    pub(super) unwatched: Vec<String>,
}

pub(super) fn find(plan: &Plan) -> Found {
    let mut components: BTreeMap<&Path, Vec<Arc<str>>> = BTreeMap::new();
    for handler in &plan.handlers {
        components.entry(&handler.component).or_default().push(handler.name.clone());
    }
    let mut found = Found { crates: Vec::new(), unwatched: Vec::new() };
    for (component, handlers) in components {
        let names = handlers.join(", ");
        match Crate::of(component, handlers) {
            Ok(krate) => found.crates.push(krate),
            Err(reason) => found.unwatched.push(format!("{names}: not watched: {reason}")),
        }
    }
    found
}

impl Crate {
    fn of(component: &Path, handlers: Vec<Arc<str>>) -> Result<Self, String> {
        let (folder, of_target) = match in_target(component) {
            Some((folder, release)) => (folder.to_path_buf(), Some(release)),
            None => (component.with_extension(""), None),
        };
        let manifest = folder.join("Cargo.toml");
        let manifest = manifest.canonicalize().map_err(|_| {
            format!("{} has no crate that could be found: no {}", component.display(), manifest.display())
        })?;
        let metadata = Metadata::of(&manifest)?;
        let stem = component.file_stem().unwrap_or_default().to_string_lossy();
        // In a target folder the file's name is the crate's; beside a crate's folder it is that of the folder.
        let is_it = |package: &&Package| match of_target {
            Some(_) => package.component().as_deref() == Some(&*stem),
            None => package.manifest_path == manifest,
        };
        let package = metadata.packages.iter().find(is_it);
        let no_package = || format!("no crate in {} makes a component of that name", folder.display());
        let package = package.ok_or_else(no_package)?;
        let name = package.component().ok_or_else(no_package)?;
        let build = Build {
            workspace: metadata.workspace_root.clone(),
            // Where the pipeline looks, wherever else cargo is told to build.
            target: of_target.map_or(metadata.target_directory.clone(), |_| folder.join("target")),
            release: of_target.unwrap_or(true),
        };
        let profile = if build.release { "release" } else { "debug" };
        Ok(Self {
            handlers,
            package: package.name.clone(),
            built: build.target.join(TARGET).join(profile).join(format!("{name}.wasm")),
            build,
            sources: sources(package, &metadata),
            digest: digest(component).ok(),
            component: component.into(),
        })
    }

    /// Whether it is the same crate, found another time.
    pub(super) fn is(&self, other: &Self) -> bool {
        (&self.package, &self.build, &self.component) == (&other.package, &other.build, &other.component)
    }

    #[cfg(test)]
    pub(super) fn for_tests(package: &str, folder: &Path) -> Self {
        let build = Build { workspace: folder.into(), target: folder.join("target"), release: true };
        Self {
            handlers: vec![package.into()],
            package: package.into(),
            build,
            sources: [folder.to_path_buf()].into(),
            built: folder.join("built.wasm"),
            component: folder.with_extension("wasm"),
            digest: None,
        }
    }

    /// Puts what was built where the pipeline has it. Gives its digest if it is another one than before.
    pub(super) fn put_in_place(&mut self) -> miette::Result<Option<String>> {
        let digest = digest(&self.built)
            .into_diagnostic()
            .wrap_err_with(|| format!("can't read {}", self.built.display()))?;
        if self.digest.as_ref() == Some(&digest) {
            return Ok(None);
        }
        if self.built != self.component {
            fs::read(&self.built)
                .and_then(|component| replace(&self.component, &component))
                .into_diagnostic()
                .wrap_err_with(|| format!("can't write {}", self.component.display()))?;
        }
        self.digest = Some(digest.clone());
        Ok(Some(digest))
    }
}

/// The folder that holds the component's target folder, and whether it is of the release profile.
fn in_target(component: &Path) -> Option<(&Path, bool)> {
    let profile = component.parent()?;
    let release = match profile.file_name()?.to_str()? {
        "release" => true,
        "debug" => false,
        _ => return None,
    };
    let triple = profile.parent().filter(|folder| folder.ends_with(TARGET))?;
    let target = triple.parent().filter(|folder| folder.ends_with("target"))?;
    Some((target.parent()?, release))
}

fn digest(file: &Path) -> std::io::Result<String> {
    Ok(format!("{:x}", Sha256::digest(fs::read(file)?)))
}

/// The folders of the package and of all that it is built of by path.
fn sources(package: &Package, metadata: &Metadata) -> BTreeSet<PathBuf> {
    let mut sources = BTreeSet::new();
    let mut manifests = vec![package.manifest_path.clone()];
    while let Some(manifest) = manifests.pop() {
        let Some(folder) = manifest.parent().filter(|folder| folder.is_dir()) else { continue };
        if !sources.insert(folder.to_path_buf()) {
            continue;
        }
        let is_it = |package: &&Package| package.manifest_path == manifest;
        let elsewhere;
        let package = match metadata.packages.iter().find(is_it) {
            Some(package) => Some(package),
            None => {
                // If cargo can't read it, the build will say so.
                elsewhere = Metadata::of(&manifest).ok();
                elsewhere.as_ref().and_then(|metadata| metadata.packages.iter().find(is_it))
            }
        };
        let built_of = package.into_iter().flat_map(|package| &package.dependencies);
        let paths = built_of.filter(|dependency| dependency.kind.as_deref() != Some("dev"));
        manifests.extend(paths.filter_map(|dependency| Some(dependency.path.as_ref()?.join("Cargo.toml"))));
    }
    sources
}

/// What `cargo metadata` says, as far as it is of use here.
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    workspace_root: PathBuf,
    target_directory: PathBuf,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    manifest_path: PathBuf,
    dependencies: Vec<Dependency>,
    targets: Vec<Target>,
}

#[derive(Deserialize)]
struct Dependency {
    path: Option<PathBuf>,
    /// `dev`, `build`, or none for a usual one.
    kind: Option<String>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

impl Package {
    /// The name of the component's file, if the package makes one.
    fn component(&self) -> Option<String> {
        let cdylib = self.targets.iter().find(|target| target.kind.iter().any(|kind| kind == "cdylib"))?;
        Some(cdylib.name.replace('-', "_"))
    }
}

impl Metadata {
    fn of(manifest: &Path) -> Result<Self, String> {
        let mut metadata = cargo();
        metadata.args(["metadata", "--no-deps", "--offline", "--format-version", "1", "--manifest-path"]);
        // What cargo has to complain about goes to the terminal.
        let output = metadata.arg(manifest).stderr(Stdio::inherit()).output();
        let output = output.map_err(|error| format!("can't start cargo: {error}"))?;
        serde_json::from_slice(&output.stdout)
            .map_err(|_| format!("`cargo metadata` can't read {}", manifest.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_component_in_a_target_folder_tells_its_crate_and_profile() {
        let of = |path| in_target(Path::new(path));
        assert_eq!(of("/a/target/wasm32-wasip2/release/b.wasm"), Some((Path::new("/a"), true)));
        assert_eq!(of("/a/target/wasm32-wasip2/debug/b.wasm"), Some((Path::new("/a"), false)));
        for other in ["/components/b.wasm", "/a/target/release/b.wasm", "/a/wasm32-wasip2/release/b.wasm"] {
            assert_eq!(of(other), None, "{other}");
        }
    }
}
