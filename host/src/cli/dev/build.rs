//! Building crates: one cargo for all that it can build together, and its words as they are.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use super::child::Cargo;
use super::crates::Crate;
use crate::cli::cargo::{TARGET, cargo};

/// The changed crates, by who is built together.
pub(super) fn groups(crates: &[Crate], changed: &BTreeSet<usize>) -> Vec<Vec<usize>> {
    let mut groups: BTreeMap<_, Vec<usize>> = BTreeMap::new();
    for index in changed {
        groups.entry(&crates[*index].build).or_default().push(*index);
    }
    groups.into_values().collect()
}

/// Before the host starts: it is to run what the sources say, and cargo to have at hand what the next build of a
/// small change starts from.
pub(super) async fn build_first(crates: &mut [Crate], changed: &BTreeSet<usize>) {
    for group in groups(crates, changed) {
        if !build(crates, &group).await {
            let names: Vec<_> = group.iter().map(|index| &*crates[*index].package).collect();
            tell!("{}: not built; if there is a component from before, it runs", names.join(", "));
            continue;
        }
        for index in group {
            if let Err(error) = crates[index].put_in_place() {
                tell!("{}: {error:?}", crates[index].package);
            }
        }
    }
}

/// Whether it could be built; if not, cargo has said why. Who doesn't wait for the end ends it.
pub(super) async fn build(crates: &[Crate], group: &[usize]) -> bool {
    let built = match Cargo::start(command(crates, group)) {
        Ok(mut cargo) => cargo.succeeds().await,
        Err(error) => Err(error),
    };
    built.unwrap_or_else(|error| {
        tell!("{error:?}");
        false
    })
}

fn command(crates: &[Crate], group: &[usize]) -> Command {
    let mut command = cargo();
    command.args(["build", "--target", TARGET]);
    // Not incremental, though that saves half a second: from the same sources come the same bytes as from a plain cargo
    // build, so that what is pinned or held by its digest stays so.
    for krate in group.iter().map(|index| &crates[*index]) {
        command.args(["--package", &krate.package]);
    }
    if let Some(build) = group.first().map(|index| &crates[*index].build) {
        command.current_dir(&build.workspace).arg("--target-dir").arg(&build.target);
        if build.release {
            command.arg("--release");
        }
    }
    command
}
