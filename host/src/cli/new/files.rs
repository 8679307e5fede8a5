//! The files of a new crate, and folders that are made whole or not at all.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process;

use crate::cli::cargo::TARGET;

/// Names end with .txt where cargo and others would take a template for what it makes.
const TEMPLATES: [(&str, &str); 6] = [
    (".gitignore", include_str!("templates/gitignore.txt")),
    ("Cargo.toml", include_str!("templates/Cargo.toml.txt")),
    ("src/lib.rs", include_str!("templates/lib.rs.txt")),
    ("golden/cool.json", include_str!("templates/golden/cool.json")),
    ("golden/hot.json", include_str!("templates/golden/hot.json")),
    ("golden/impossible.json", include_str!("templates/golden/impossible.json")),
];

/// Names of handlers that can't be those of a crate: Rust's keywords, its own crates, and what every new crate
/// depends on.
#[rustfmt::skip]
pub(super) const NO_CRATE: [&str; 58] = [
    "abstract", "alloc", "as", "async", "await", "become", "box", "break", "const", "continue", "core", "crate", "do",
    "dyn", "else", "enum", "extern", "false", "final", "fn", "for", "gen", "if", "impl", "in", "let", "loop", "macro",
    "match", "mod", "move", "mut", "override", "priv", "proc-macro", "pub", "ref", "return", "self", "serde", "static",
    "std", "struct", "super", "test", "trait", "true", "try", "type", "typeof", "unsafe", "unsized", "use", "virtual",
    "wasmill-sdk", "where", "while", "yield",
];

/// `flow` says from which topics to which; `sdk` is the way from the crate's folder to the SDK's.
pub(super) fn of_crate(name: &str, flow: &str, sdk: &str) -> Vec<(&'static str, String)> {
    let sdk = toml_edit::Value::from(sdk).to_string();
    let filled =
        |text: &str| text.replace("{{name}}", name).replace("{{flow}}", flow).replace("{{sdk}}", &sdk);
    TEMPLATES.map(|(path, text)| (path, filled(text))).into()
}

pub(super) fn names() -> Vec<&'static str> {
    TEMPLATES.map(|(path, _)| path).into()
}

/// Where cargo puts the component, from the crate's folder.
pub(super) fn built(name: &str) -> PathBuf {
    format!("target/{TARGET}/release/{}.wasm", name.replace('-', "_")).into()
}

/// Makes the folder with these files. It may exist if it is empty; the folders around it are made as well.
pub(super) fn make(folder: &Path, files: &[(&str, String)]) -> io::Result<()> {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let fresh = folder.with_file_name(format!(".{name}.{}.new", process::id()));
    let made = write(&fresh, files).and_then(|()| fs::rename(&fresh, folder));
    if made.is_err() {
        // It may not even have been begun.
        let _ = fs::remove_dir_all(&fresh);
    }
    made
}

fn write(folder: &Path, files: &[(&str, String)]) -> io::Result<()> {
    for (path, text) in files {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().unwrap_or(folder))?;
        fs::write(path, text)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_template_stays_open() {
        for (path, text) in of_crate("alarm", "a → b", "../\"sdk\"") {
            assert!(!text.contains("{{"), "{path}: {text}");
        }
    }

    #[test]
    fn a_folder_that_can_t_be_made_leaves_nothing_behind() {
        let around = tempfile::tempdir().unwrap();
        let taken = around.path().join("taken");
        make(&taken, &[("a", "1".into())]).unwrap();
        make(&taken, &[("a", "2".into())]).unwrap_err();
        assert_eq!(fs::read_to_string(taken.join("a")).unwrap(), "1");
        assert_eq!(fs::read_dir(around.path()).unwrap().count(), 1);
    }
}
