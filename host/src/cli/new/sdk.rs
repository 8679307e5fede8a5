//! The SDK that a new crate is built with. It is on no registry, so this program carries its sources.

use std::path::PathBuf;

/// How the SDK of Wasmill's own workspace names the contract, and how one that stands alone does.
const WIT: [&str; 2] = ["path: \"../../wit\"", "path: \"wit\""];

const SOURCES: [(&str, &str); 8] = [
    ("src/env.rs", include_str!("../../../../components/sdk/src/env.rs")),
    ("src/event.rs", include_str!("../../../../components/sdk/src/event.rs")),
    ("src/failure.rs", include_str!("../../../../components/sdk/src/failure.rs")),
    ("src/lib.rs", include_str!("../../../../components/sdk/src/lib.rs")),
    ("src/memory.rs", include_str!("../../../../components/sdk/src/memory.rs")),
    ("src/output.rs", include_str!("../../../../components/sdk/src/output.rs")),
    ("src/testing.rs", include_str!("../../../../components/sdk/src/testing.rs")),
    ("src/testing/golden.rs", include_str!("../../../../components/sdk/src/testing/golden.rs")),
];

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Sdk {
    There(PathBuf),
    ToMake(PathBuf),
}

/// The SDK as a package that needs no workspace around it.
pub(super) fn files() -> Vec<(&'static str, String)> {
    let mut files: Vec<_> =
        SOURCES.iter().map(|(path, text)| (*path, text.replace(WIT[0], WIT[1]))).collect();
    files.push(("wit/handler.wit", include_str!("../../../../wit/handler.wit").into()));
    files.push((".gitignore", include_str!("templates/gitignore.txt").into()));
    files.push(("Cargo.toml", manifest()));
    files
}

/// What the workspace says for all its packages, said for this one; its dependencies as they are.
fn manifest() -> String {
    const HEAD: &str = "[features]";
    let inherited = include_str!("../../../../components/sdk/Cargo.toml");
    let dependencies = inherited.split_once(HEAD).map_or("", |(_, dependencies)| dependencies);
    include_str!("templates/sdk.toml.txt")
        .replace("{{version}}", env!("CARGO_PKG_VERSION"))
        .replace("{{rust-version}}", env!("CARGO_PKG_RUST_VERSION"))
        .replace("{{dependencies}}", &format!("{HEAD}{dependencies}"))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    #[test]
    fn the_program_carries_every_source_of_the_sdk() {
        let sdk = Path::new(env!("CARGO_MANIFEST_DIR")).join("../components/sdk");
        let mut there = Vec::new();
        let mut folders = vec![sdk.join("src")];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    there.push(path.strip_prefix(&sdk).unwrap().display().to_string());
                }
            }
        }
        there.sort();
        assert_eq!(SOURCES.map(|(path, _)| path).to_vec(), there);
    }

    #[test]
    fn the_sdk_stands_alone() {
        let files = files();
        let text = |name: &str| &files.iter().find(|(path, _)| *path == name).unwrap().1;
        assert!(text("src/lib.rs").contains(WIT[1]));
        let manifest = text("Cargo.toml");
        assert!(manifest.contains("wit-bindgen = ") && manifest.contains("thiserror = "), "{manifest}");
        assert!(!manifest.contains("{{") && !manifest.contains("workspace = true"), "{manifest}");
    }
}
