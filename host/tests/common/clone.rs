//! A copy of the repository as far as handlers need it: the pipeline, the contract, and the sources of the SDK and
//! the shipped handlers, in a workspace of their own.

use std::fs;
use std::path::Path;

use super::host::Pipeline;
use super::root;

/// With the built components.
pub(crate) fn cloned(edit: impl FnOnce(String) -> String) -> Pipeline {
    let pipeline = Pipeline::shipped(edit);
    for folder in ["components/sdk", "wit"]
        .into_iter()
        .map(String::from)
        .chain(super::COMPONENTS.map(|name| format!("components/{name}")))
    {
        copy(&root().join(&folder), &pipeline.path().join(&folder));
    }
    for file in ["Cargo.lock", ".gitignore", "schemas/order.json"] {
        fs::copy(root().join(file), pipeline.path().join(file)).unwrap();
    }
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    // Without the host, and the profile of its dependencies.
    let manifest = manifest.replace("    \"host\",\n    \"host/anchors\",\n    \"host/tests/guests\",\n", "");
    let (manifest, _) = manifest.split_once("# Compile components, once").unwrap();
    fs::write(pipeline.path().join("Cargo.toml"), manifest).unwrap();
    pipeline
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}
