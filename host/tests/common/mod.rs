//! What test suites share: components, built once for each test process; a host, a broker, a mail server.
#![allow(dead_code)] // each suite is a crate of its own and uses what it needs

pub(crate) mod clone;
pub(crate) mod copies;
pub(crate) mod host;
pub(crate) mod http;
pub(crate) mod kafka;
pub(crate) mod orders;
pub(crate) mod seeds;
pub(crate) mod smtp;
mod wat;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use sha2::{Digest, Sha256};

/// Far more than anything here takes, for machines that are busy with other tests.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// The workspace's folder.
pub(crate) fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// One of the faulty components in tests/guests, made from Rust or from text.
pub(crate) fn built_guest(name: &str) -> PathBuf {
    if let Some(written) = wat::written_guest(name) {
        return written;
    }
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let built = BUILT.get_or_init(|| build(&["guests"], &["--examples"]));
    existing(built.join("examples").join(format!("{}.wasm", name.replace('-', "_"))))
}

/// Puts a file in the place of another in one step, as careful deployments do it.
pub(crate) fn rename_over(path: &Path, content: &[u8]) {
    let new = path.with_extension("new");
    fs::write(&new, content).unwrap();
    fs::rename(new, path).unwrap();
}

/// The same component in another file: with a number in a custom section, which nobody reads.
pub(crate) fn version(component: &[u8], number: usize) -> Vec<u8> {
    let name = format!("version {number}");
    // Its id, its size, the length of its name, its name.
    let length = u8::try_from(name.len()).unwrap();
    [component, &[0, length + 1, length], name.as_bytes()].concat()
}

/// The sha-256 in hex, by which a version is known.
pub(crate) fn digest(component: &[u8]) -> String {
    format!("{:x}", Sha256::digest(component))
}

/// The handlers of the pipeline that ships.
pub(crate) const COMPONENTS: [&str; 3] = ["order-formatter", "transaction-processor", "email-composer"];

/// One of these handlers, as a component.
pub(crate) fn built_component(name: &str) -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let built = BUILT.get_or_init(|| build(&COMPONENTS, &["--lib"]));
    existing(built.join(format!("{}.wasm", name.replace('-', "_"))))
}

/// Asks until the condition holds; panics when it does not in time.
pub(crate) fn wait_for(what: &str, condition: impl FnMut() -> bool) {
    host::until(DEADLINE, condition).unwrap_or_else(|()| panic!("no {what} within {DEADLINE:?}"));
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
