//! pipeline.toml: raw → plan.
//!
//! In steps, each on the whole file and each reporting everything it finds: parse (`document`), replace
//! `${…}` (`interpolate`), check the structure against the schema of the raw types (`structure`),
//! then compile the plan (`compile`). A later step runs only on what an earlier one found sound.

mod compile;
mod document;
mod interpolate;
pub mod plan;
mod problem;
#[cfg(test)]
mod properties;
mod raw;
mod schema;
mod smtp;
mod structure;
#[cfg(test)]
mod tests;
mod topology;
mod units;

use std::path::Path;
use std::sync::Arc;

use miette::Severity;

pub use problem::{ConfigErrors, Places, Problem};
pub use schema::schema;

use document::{Document, Surroundings};
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
}

/// Reads pipeline.toml, the files it refers to and the process's environment.
pub fn load(path: &Path, overrides: &Overrides) -> Result<Loaded, ConfigErrors> {
    match std::fs::read_to_string(path) {
        Ok(text) => parse(text, path, &|name| std::env::var(name).ok(), overrides),
        Err(error) => {
            let source = Arc::new(Text::new(path.display().to_string(), String::new()));
            let mut document = Document::parse(&source);
            let help = "run from the pipeline's folder, or name the file with --config".to_string();
            document.error_elsewhere(format!("can't read {}: {error}", path.display()), Some(help));
            Err(errors(&source, document.problems))
        }
    }
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
    let places = Places { text: source.clone(), components: document.components() };
    let ConfigErrors { name, errors, warnings } = errors(&source, document.problems);
    match plan {
        Some(plan) if errors.is_empty() => Ok(Loaded { plan, warnings, places }),
        Some(_) | None => Err(ConfigErrors { name, errors, warnings }),
    }
}

fn build(
    document: &mut Document,
    path: &Path,
    env: &dyn Fn(&str) -> Option<String>,
    overrides: &Overrides,
) -> Option<Plan> {
    let absolute = match std::path::absolute(path) {
        Ok(absolute) => absolute,
        Err(error) => {
            document.error_elsewhere(format!("can't tell where {} is: {error}", path.display()), None);
            return None;
        }
    };
    let root = absolute.parent().unwrap_or(&absolute);
    let values = document.values(&Surroundings { env, root });
    structure::check(document, &values, &schema());
    if document.has_errors() {
        return None;
    }
    match serde_json::from_value(values) {
        Ok(pipeline) => Some(compile::compile(document, pipeline, root, overrides)),
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

fn errors(source: &Text, mut problems: Vec<Problem>) -> ConfigErrors {
    problems.sort_by_key(|problem| problem.span.as_ref().map(|span| span.start));
    let (errors, warnings) = problems.into_iter().partition(|problem| problem.severity == Severity::Error);
    ConfigErrors { name: source.name.clone(), errors, warnings }
}
