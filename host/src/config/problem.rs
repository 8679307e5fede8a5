//! What is wrong, or doubtful, in pipeline.toml: said all at once, each with its place and a remedy.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use miette::{Diagnostic, LabeledSpan, NamedSource, Severity, SourceCode};
use thiserror::Error;

use super::conceal::conceal;
use super::document::{Document, Steps};
use super::plan::{HandlerPlan, Secret};

/// One thing to mend. Its texts never hold a value that came from the environment or a file, nor a secret that
/// stands in the file: excerpts have the placeholder of the one, and the other blanked.
#[derive(Clone, Debug, Error)]
#[error("{message}")]
pub struct Problem {
    pub message: String,
    pub help: Option<String>,
    pub severity: Severity,
    /// Bytes of pipeline.toml; `None` for what has no place there.
    pub span: Option<Range<usize>>,
    pub(super) text: Arc<Text>,
}

/// pipeline.toml as written, under the name that the user gave.
pub(super) struct Text {
    pub(super) name: String,
    written: String,
    /// What excerpts are taken from.
    concealed: NamedSource<String>,
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.concealed.fmt(f)
    }
}

impl Text {
    pub(super) fn new(name: String, written: String) -> Self {
        let concealed = NamedSource::new(&name, conceal(&written)).with_language("TOML");
        Self { name, written, concealed }
    }

    pub(super) fn as_str(&self) -> &str {
        &self.written
    }
}

impl Problem {
    /// For a line of a log: `pipeline.toml:12:3: what is wrong (what to do)`.
    pub fn line(&self) -> String {
        let place =
            self.line_and_column().map(|(line, column)| format!("{line}:{column}:")).unwrap_or_default();
        let help =
            self.help.as_ref().map(|help| format!(" ({})", help.replace('\n', " "))).unwrap_or_default();
        format!("{}:{place} {}{help}", self.file(), self.message)
    }

    pub fn file(&self) -> &str {
        &self.text.name
    }

    /// Line and column of the first character, counted from 1.
    pub fn line_and_column(&self) -> Option<(usize, usize)> {
        let before = self.text.as_str().get(..self.span.as_ref()?.start)?;
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Some((before.matches('\n').count() + 1, before[line_start..].chars().count() + 1))
    }
}

impl Diagnostic for Problem {
    fn severity(&self) -> Option<Severity> {
        Some(self.severity)
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.span.is_some().then_some(&self.text.concealed as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let span = self.span.clone()?;
        Some(Box::new(std::iter::once(LabeledSpan::new_with_span(None, span))))
    }
}

/// pipeline.toml, for faults that show only to those who know more than it: a linker, a client library.
#[derive(Clone, Debug)]
pub struct Places {
    pub(super) text: Arc<Text>,
}

impl Places {
    /// Whether this is pipeline.toml's text.
    pub fn are_of(&self, text: &str) -> bool {
        self.text.as_str() == text
    }

    /// The fault as a problem of the handler's `component`, with the help of everything related to it. What came
    /// from the environment or a file shows as it is written.
    pub fn component(&self, handler: &HandlerPlan, fault: &dyn Diagnostic) -> Problem {
        let name = &*handler.name;
        let related = fault.related().into_iter().flatten();
        let helps: Vec<String> = std::iter::once(fault)
            .chain(related)
            .filter_map(|f| f.help())
            .map(|help| help.to_string())
            .collect();
        let document = Document::parse(&self.text);
        let as_written = |mut text: String| {
            let component = Some(handler.component.display().to_string());
            for (key, value) in
                [("component", component), ("sha256", handler.sha256.as_deref().map(Into::into))]
            {
                let written = document.string(&["handlers", name, key]).filter(|text| text.contains("${"));
                if let (Some(written), Some(value)) = (written, value) {
                    text = text.replace(&value, written);
                }
            }
            text
        };
        let help = (!helps.is_empty()).then(|| as_written(helps.join("\n")));
        let message = format!("`{name}`: {}", as_written(fault.to_string()));
        self.problem(&["handlers", name, "component"], message, help)
    }

    /// A problem of one of `kafka.properties`, or of one that is missing there.
    pub fn kafka_property(&self, name: &str, message: String, help: String) -> Problem {
        self.problem(&["kafka", "properties", name], message, Some(help))
    }

    /// What is at fault in `subject`, written as `table.NAME`.
    pub fn subject(&self, subject: &str, message: String, help: String) -> Problem {
        self.problem(&subject.split('.').collect::<Vec<_>>(), message, Some(help))
    }

    fn problem(&self, path: Steps, message: String, help: Option<String>) -> Problem {
        let span = Document::parse(&self.text).place(path);
        Problem { message, help, severity: Severity::Error, span, text: self.text.clone() }
    }
}

/// What has no error in a file that has some: others may look for more, so that all is told at once. Nothing of
/// it is ever run.
#[derive(Debug, Default)]
pub struct Sound {
    pub handlers: Vec<HandlerPlan>,
    pub kafka_properties: BTreeMap<String, Secret>,
}

/// Every error of a pipeline.toml, in the order of the file.
#[derive(Debug, Error)]
#[error("{} has {}", places.text.name, count(errors.len()))]
pub struct ConfigErrors {
    pub errors: Vec<Problem>,
    /// What else is doubtful, as far as the errors let one see.
    pub warnings: Vec<Problem>,
    pub sound: Sound,
    pub places: Places,
    /// As of a [`Loaded`](super::Loaded).
    pub files: Arc<BTreeSet<PathBuf>>,
}

impl ConfigErrors {
    /// Adds what others found, unless its place is known to be at fault.
    pub fn add(&mut self, problems: Vec<Problem>) {
        for problem in problems {
            let known = self.errors.iter().any(|error| match (&error.span, &problem.span) {
                (Some(error), Some(span)) => span.start <= error.start && error.end <= span.end,
                (Some(_) | None, _) => false,
            });
            if !known {
                self.errors.push(problem);
            }
        }
        self.errors.sort_by_key(|error| error.span.as_ref().map(|span| span.start));
    }
}

impl Diagnostic for ConfigErrors {
    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn Diagnostic> + 'a>> {
        Some(Box::new(self.errors.iter().map(|error| error as &dyn Diagnostic)))
    }
}

fn count(errors: usize) -> String {
    if errors == 1 { "an error".into() } else { format!("{errors} errors") }
}
