//! pipeline.toml: raw → plan.
//!
//! In steps, each on the whole file and each reporting everything it finds: parse (`document`), replace
//! `${…}` (`interpolate`), check the structure against the schema of the raw types (`structure`),
//! then compile the plan (`compile`). A later step sees what the earlier ones found sound (`prune`), so that
//! all is told at once; a plan comes out only when there were no errors at all.

mod allow;
mod changes;
mod compile;
mod conceal;
mod document;
mod interpolate;
pub mod plan;
mod problem;
#[cfg(test)]
mod properties;
mod prune;
mod raw;
mod schema;
mod smtp;
mod structure;
#[cfg(test)]
mod tests;
mod topology;
mod units;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use miette::Severity;

pub use changes::{Change, Effect, Kind, changes, joins_anew, judges_anew, runs_anew, starts_anew};
pub use problem::{ConfigErrors, Places, Problem, Sound};
pub use schema::schema;
pub(crate) use units::{Fault, name as check_name, topic as check_topic};

use crate::file;
use document::{Document, MOST_BYTES, Surroundings};
use plan::Plan;
use problem::Text;

/// What the command line says over the file.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// `--brokers`, or $WASMILL_KAFKA_BROKERS.
    pub brokers: Option<String>,
    /// `--instance`, or $WASMILL_INSTANCE.
    pub instance: Option<String>,
}

#[derive(Debug)]
pub struct Loaded {
    pub plan: Plan,
    /// What is legal and yet looks like a mistake.
    pub warnings: Vec<Problem>,
    pub places: Places,
    /// The other files that the plan was made from: schemas, certificates, secrets. Not the components.
    pub files: Arc<BTreeSet<PathBuf>>,
}

impl Loaded {
    /// For who knows better than this room: the plan can't be run, for these reasons.
    pub fn refused(self, problems: Vec<Problem>) -> ConfigErrors {
        let Self { plan: Plan { handlers, kafka, .. }, warnings, places, files } = self;
        let sound = Sound { handlers, kafka_properties: kafka.properties };
        let mut errors = ConfigErrors { errors: Vec::new(), warnings, sound, places, files };
        errors.add(problems);
        errors
    }
}

/// Reads pipeline.toml, the files it refers to and the process's environment.
pub fn load(path: &Path, overrides: &Overrides) -> Result<Loaded, ConfigErrors> {
    let text = |text| Arc::new(Text::new(path.display().to_string(), text));
    let fault = match file::read(path, MOST_BYTES).map(String::from_utf8) {
        Ok(Ok(text)) => return parse(text, path, &|name| std::env::var(name).ok(), overrides),
        Ok(Err(error)) => {
            let valid = error.utf8_error().valid_up_to();
            Problem {
                message: "the file is not UTF-8 from here on".into(),
                help: Some("save it as UTF-8".into()),
                severity: Severity::Error,
                // Of the character that stands in for what can't be read.
                span: Some(valid..valid + char::REPLACEMENT_CHARACTER.len_utf8()),
                text: text(String::from_utf8_lossy(error.as_bytes()).into_owned()),
            }
        }
        Err(error) => Problem {
            message: format!("can't read {}: {error}", path.display()),
            help: Some("run from the pipeline's folder, or name the file with --config".into()),
            severity: Severity::Error,
            span: None,
            text: text(String::new()),
        },
    };
    let places = Places { text: fault.text.clone() };
    let (errors, files) = (vec![fault], Arc::default());
    Err(ConfigErrors { errors, warnings: Vec::new(), sound: Sound::default(), places, files })
}

/// The text of pipeline.toml.
pub(crate) fn read(path: &Path) -> std::io::Result<String> {
    file::read_text(path, MOST_BYTES)
}

/// [`load`] with the text and the environment given; other files are read from the folder of `path`.
pub fn parse(
    text: String,
    path: &Path,
    env: &dyn Fn(&str) -> Option<String>,
    overrides: &Overrides,
) -> Result<Loaded, ConfigErrors> {
    let source = Arc::new(Text::new(path.display().to_string(), text));
    let mut document = Document::parse(&source);
    let plan = (!document.has_errors()).then(|| build(&mut document, path, env, overrides)).flatten();
    let places = Places { text: source.clone() };
    let files = Arc::new(std::mem::take(&mut document.files));
    match plan {
        Some(plan) if !document.has_errors() => {
            let (_none, warnings) = sorted(document.problems);
            Ok(Loaded { plan, warnings, places, files })
        }
        plan => {
            let sound = plan.map(|plan| prune::sound(&document, plan)).unwrap_or_default();
            let (errors, warnings) = sorted(document.problems);
            Err(ConfigErrors { errors, warnings, sound, places, files })
        }
    }
}

/// The plan, as far as it goes: when there are errors, of what has none.
fn build(
    document: &mut Document,
    path: &Path,
    env: &dyn Fn(&str) -> Option<String>,
    overrides: &Overrides,
) -> Option<Plan> {
    let absolute = match std::path::absolute(path) {
        Ok(absolute) => absolute,
        Err(error) => {
            let help = "name the file by its whole path with --config".to_string();
            document.error_elsewhere(format!("can't tell where {} is: {error}", path.display()), Some(help));
            return None;
        }
    };
    let root = absolute.parent().unwrap_or(&absolute);
    let mut values = document.values(&Surroundings { env, root });
    structure::check(document, &values, &schema());
    let pruned = document.has_errors();
    if pruned {
        prune::prune(document, &mut values);
    }
    match serde_json::from_value(values) {
        Ok(pipeline) => {
            let plan = compile::compile(document, pipeline, root, overrides);
            if pruned {
                // Who writes and reads what can't be told from a part.
                document.problems.retain(|problem| problem.severity == Severity::Error);
            }
            Some(plan)
        }
        Err(_) if pruned => None,
        // serde's own words might quote a secret.
        Err(_) => {
            document.error_elsewhere(
                "the file satisfies the schema of pipeline.toml and yet can't be read".into(),
                Some("this is a bug of Wasmill: the schema and the types differ".into()),
            );
            None
        }
    }
}

/// The errors and the warnings, in the file's order.
fn sorted(mut problems: Vec<Problem>) -> (Vec<Problem>, Vec<Problem>) {
    problems.sort_by_key(|problem| problem.span.as_ref().map(|span| span.start));
    problems.into_iter().partition(|problem| problem.severity == Severity::Error)
}
