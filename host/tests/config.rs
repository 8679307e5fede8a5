//! What pipeline.toml's mistakes look like to the person who made them.
//!
//! Each `tests/config/NAME.toml` has its errors and warnings, as rendered, in `NAME.txt`. After a change
//! on purpose: `WASMILL_UPDATE=1 cargo test --release --test config`, and read the diff. The same goes for
//! schemas/pipeline.schema.json, which is generated from the types.

use std::path::{Path, PathBuf};

use miette::{GraphicalReportHandler, GraphicalTheme};
use wasmill::config::{self, Overrides};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config")
}

/// The environment of every case.
fn env(name: &str) -> Option<String> {
    match name {
        "SECRET" => Some("hunter2".into()),
        "EMPTY" => Some(String::new()),
        _ => None,
    }
}

fn render(toml: &str, path: &Path) -> String {
    let handler = GraphicalReportHandler::new_themed(GraphicalTheme::none()).with_width(100);
    let mut out = String::new();
    let warnings = match config::parse(toml.into(), path, &env, &Overrides::default()) {
        Ok(loaded) => loaded.warnings,
        Err(errors) => {
            for error in &errors.errors {
                assert!(error.help.is_some(), "{} has an error without a remedy: {error}", path.display());
            }
            handler.render_report(&mut out, &errors).expect("a String takes it all");
            errors.warnings
        }
    };
    for warning in &warnings {
        handler.render_report(&mut out, warning).expect("a String takes it all");
    }
    // The files live wherever the checkout does.
    out.replace(&format!("{}/", folder().display()), "")
        .lines()
        .map(|line| format!("{}\n", line.trim_end()))
        .collect()
}

fn unchanged(file: &Path, actual: &str) -> Result<(), String> {
    if std::env::var_os("WASMILL_UPDATE").is_some() {
        assert!(std::env::var_os("CI").is_none(), "WASMILL_UPDATE in CI: nothing would be compared");
        std::fs::write(file, actual).map_err(|error| error.to_string())?;
    }
    let expected = std::fs::read_to_string(file).unwrap_or_default();
    if expected == actual { Ok(()) } else { Err(format!("{} is now:\n{actual}", file.display())) }
}

#[test]
fn every_mistake_is_shown_with_its_place_and_a_remedy() {
    let mut changed = Vec::new();
    let mut cases: Vec<PathBuf> = std::fs::read_dir(folder())
        .expect("the cases are there")
        .map(|entry| entry.expect("a readable folder").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    cases.sort();
    assert!(cases.len() >= 10, "only {} cases in {}", cases.len(), folder().display());
    for case in cases {
        let toml = std::fs::read_to_string(&case).expect("a readable case");
        let shown = render(&toml, &case);
        assert!(!shown.contains("hunter2"), "a secret is shown:\n{shown}");
        changed.extend(unchanged(&case.with_extension("txt"), &shown).err());
    }
    assert!(changed.is_empty(), "{}", changed.join("\n"));
}

#[test]
fn a_file_of_another_encoding_is_shown_where_it_begins_to_be_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("pipeline.toml");
    std::fs::write(&path, b"[kafka]\n# caf\xe9\nbrokers = \"embedded\"\n").expect("a file");
    let errors = config::load(&path, &Overrides::default()).expect_err("no UTF-8").errors;
    assert_eq!(errors[0].line_and_column(), Some((2, 6)));
    assert_eq!(errors[0].help.as_deref(), Some("save it as UTF-8"));
    let mut shown = String::new();
    let handler = GraphicalReportHandler::new_themed(GraphicalTheme::none());
    handler.render_report(&mut shown, &errors[0]).expect("a String takes it all");
    assert!(shown.contains("pipeline.toml:2:6]"), "{shown}");
}

#[test]
fn the_committed_schema_is_the_one_of_the_types() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../schemas/pipeline.schema.json");
    unchanged(&file, &format!("{:#}\n", config::schema()))
        .expect("make it anew: WASMILL_UPDATE=1 cargo test --release -p wasmill --test config");
}
