//! What test suites share: components, built once for each test process.
#![allow(dead_code)] // each suite is a crate of its own and uses what it needs

pub(crate) mod host;
pub(crate) mod http;
pub(crate) mod kafka;
pub(crate) mod smtp;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The workspace's folder.
pub(crate) fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// One of the faulty components in tests/guests.
pub(crate) fn built_guest(name: &str) -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let built = BUILT.get_or_init(|| build(&["guests"], &["--examples"]));
    existing(built.join("examples").join(format!("{}.wasm", name.replace('-', "_"))))
}

/// Builds packages of the workspace as components; their files, in the same order.
pub(crate) fn build_components(packages: &[&str]) -> Vec<PathBuf> {
    let built = build(packages, &["--lib"]);
    packages
        .iter()
        .map(|package| existing(built.join(format!("{}.wasm", package.replace('-', "_")))))
        .collect()
}

fn build(packages: &[&str], targets: &[&str]) -> PathBuf {
    // A target folder of its own: the cargo that runs the tests may hold the lock of the usual one.
    let target = root().join("target/guests");
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .current_dir(root())
        .args(["build", "--quiet", "--release", "--locked", "--target", "wasm32-wasip2", "--target-dir"])
        .arg(&target)
        .args(targets);
    for package in packages {
        cargo.args(["--package", package]);
    }
    let status = cargo.status().expect("cargo starts");
    assert!(
        status.success(),
        "building {packages:?} failed; is the target there? `rustup target add wasm32-wasip2`"
    );
    target.join("wasm32-wasip2/release")
}

fn existing(file: PathBuf) -> PathBuf {
    assert!(file.exists(), "no component was built at {}", file.display());
    file
}
