//! The parsed file with its spans: where each value stands, what it is, and what is wrong with it.
//!
//! Every later step names a value by its path; this one knows the path's place in the text.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use miette::Severity;
use serde_json::Value;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::interpolate::interpolate;
use super::problem::{Problem, Text};
use crate::file;

/// Bytes of pipeline.toml, and of each schema, certificate or secret that it names, at most.
pub(super) const MOST_BYTES: u64 = 16 * 1024 * 1024;

/// The way to a value: keys and indices from the root.
pub(super) type Steps<'a> = &'a [&'a str];

pub(super) struct Document<'t> {
    text: &'t Arc<Text>,
    root: Spanned<DeTable<'t>>,
    pub(super) problems: Vec<Problem>,
    /// The other files that were read, or should have been.
    pub(super) files: BTreeSet<PathBuf>,
}

/// Where `${…}` gets its values from.
pub(super) struct Surroundings<'a> {
    pub(super) env: &'a dyn Fn(&str) -> Option<String>,
    /// The folder that relative paths start from.
    pub(super) root: &'a Path,
}

impl<'t> Document<'t> {
    /// Parses as much as can be parsed; syntax errors become problems.
    pub(super) fn parse(text: &'t Arc<Text>) -> Self {
        let (root, errors) = DeTable::parse_recoverable(text.as_str());
        let mut document = Self { text, root, problems: Vec::new(), files: BTreeSet::new() };
        // One: those that come after it mostly follow from it.
        if let Some(error) = errors.first() {
            let help = "text stands in quotes, a key is given once, and a [table] goes to the next one; \
                        toml.io has the rest";
            let message = format!("not TOML: {}", error.message());
            document.problem(error.span(), Severity::Error, message, Some(help.into()));
        }
        document
    }

    /// The file's content with every `${…}` replaced.
    pub(super) fn values(&mut self, surroundings: &Surroundings) -> Value {
        let root = std::mem::replace(&mut self.root, Spanned::new(0..0, DeTable::new()));
        let value = self.table(root.get_ref(), surroundings);
        self.root = root;
        value
    }

    fn table(&mut self, table: &DeTable<'_>, around: &Surroundings) -> Value {
        let mut values = serde_json::Map::new();
        for (key, value) in table {
            values.insert(key.get_ref().to_string(), self.value(value, around));
        }
        Value::Object(values)
    }

    fn value(&mut self, value: &Spanned<DeValue<'_>>, around: &Surroundings) -> Value {
        let span = value.span();
        match value.get_ref() {
            DeValue::Table(table) => self.table(table, around),
            DeValue::Array(items) => items.iter().map(|item| self.value(item, around)).collect(),
            DeValue::String(string) => {
                let (string, faults) = interpolate(string, around, &mut self.files);
                for fault in faults {
                    // The placeholder's own place, unless escapes hide it.
                    let written = &self.text.as_str()[span.clone()];
                    let place = match written.find(&fault.placeholder) {
                        Some(at) => span.start + at..span.start + at + fault.placeholder.len(),
                        None => span.clone(),
                    };
                    self.problem(Some(place), Severity::Error, fault.message, Some(fault.help));
                }
                Value::String(string.into_owned())
            }
            DeValue::Boolean(yes) => Value::Bool(*yes),
            DeValue::Integer(number) => {
                i64::from_str_radix(number.as_str(), number.radix()).map(Value::from).unwrap_or_else(|_| {
                    let help = format!("write one from {} to {}", i64::MIN, i64::MAX);
                    self.problem(Some(span), Severity::Error, "the number is too large".into(), Some(help));
                    Value::Null
                })
            }
            DeValue::Float(number) => {
                let finite = number.as_str().parse().ok().and_then(serde_json::Number::from_f64);
                finite.map(Value::Number).unwrap_or_else(|| {
                    let help = "write the number itself".to_string();
                    self.problem(Some(span), Severity::Error, "not a finite number".into(), Some(help));
                    Value::Null
                })
            }
            DeValue::Datetime(_) => {
                let help = "quote it if it is meant as text".to_string();
                self.problem(Some(span), Severity::Error, "nothing here is a date".into(), Some(help));
                Value::Null
            }
        }
    }

    /// A file that pipeline.toml refers to.
    pub(super) fn read(&mut self, path: PathBuf) -> std::io::Result<String> {
        let content = file::read_text(&path, MOST_BYTES);
        self.files.insert(path);
        content
    }

    pub(super) fn error_at_value(&mut self, path: Steps, message: String, help: Option<String>) {
        self.problem(self.place(path), Severity::Error, about(path, &message), help);
    }

    pub(super) fn error_at_key(&mut self, path: Steps, message: String, help: Option<String>) {
        self.problem(self.key(path), Severity::Error, message, help);
    }

    pub(super) fn warning_at_value(&mut self, path: Steps, message: String, help: Option<String>) {
        self.problem(self.place(path), Severity::Warning, about(path, &message), help);
    }

    pub(super) fn warning_at_key(&mut self, path: Steps, message: String, help: Option<String>) {
        self.problem(self.key(path), Severity::Warning, message, help);
    }

    /// A problem that has no place in the file: a missing file, a bad flag.
    pub(super) fn error_elsewhere(&mut self, message: String, help: Option<String>) {
        self.problem(None, Severity::Error, message, help);
    }

    pub(super) fn has_errors(&self) -> bool {
        self.problems.iter().any(|problem| problem.severity == Severity::Error)
    }

    /// Whether nothing is wrong with the value, its key and everything in it.
    pub(super) fn is_sound(&self, path: Steps) -> bool {
        let Some((key, value)) = self.find(path) else { return true };
        let mut spans: Vec<_> = key.into_iter().collect();
        collect_spans(value, &mut spans);
        let errors = self.problems.iter().filter(|problem| problem.severity == Severity::Error);
        !errors
            .filter_map(|error| error.span.as_ref())
            .any(|error| spans.iter().any(|span| span.start <= error.start && error.end <= span.end))
    }

    /// A string as the file has it, its `${…}` and all.
    pub(super) fn string(&self, path: Steps) -> Option<&str> {
        self.find(path).and_then(|(_, value)| value.get_ref().as_str())
    }

    /// The value itself, or its key where the value is a default or has no place of its own.
    pub(super) fn place(&self, path: Steps) -> Option<Range<usize>> {
        let value = self.find(path).map(|(_, value)| value.span()).filter(|span| !span.is_empty());
        value.or_else(|| self.key(path))
    }

    /// The key of the value, or of the nearest thing around it that has one.
    fn key(&self, path: Steps) -> Option<Range<usize>> {
        (1..=path.len()).rev().find_map(|length| self.find(&path[..length])?.0)
    }

    fn find(&self, path: Steps) -> Option<(Option<Range<usize>>, &Spanned<DeValue<'t>>)> {
        let (first, rest) = path.split_first()?;
        let (key, mut value) = self.root.get_ref().get_key_value(*first)?;
        let mut key = Some(key.span());
        for step in rest {
            (key, value) = match value.get_ref() {
                DeValue::Table(table) => {
                    let (key, value) = table.get_key_value(*step)?;
                    (Some(key.span()), value)
                }
                DeValue::Array(items) => (None, items.get(step.parse::<usize>().ok()?)?),
                DeValue::String(_)
                | DeValue::Integer(_)
                | DeValue::Float(_)
                | DeValue::Boolean(_)
                | DeValue::Datetime(_) => return None,
            };
        }
        Some((key, value))
    }

    /// One and the same fault may show on two ways; it is told once.
    fn problem(
        &mut self,
        span: Option<Range<usize>>,
        severity: Severity,
        message: String,
        help: Option<String>,
    ) {
        if !self.problems.iter().any(|told| told.span == span && told.message == message) {
            self.problems.push(Problem { message, help, severity, span, text: self.text.clone() });
        }
    }
}

/// Those of the value and of all keys and values in it. A table's own says little: it may stand in pieces, and
/// of `[a.b]` it is the header.
fn collect_spans(value: &Spanned<DeValue<'_>>, spans: &mut Vec<Range<usize>>) {
    match value.get_ref() {
        DeValue::Table(table) => {
            for (key, value) in table {
                spans.push(key.span());
                collect_spans(value, spans);
            }
        }
        DeValue::Array(items) => {
            spans.push(value.span());
            items.iter().for_each(|item| collect_spans(item, spans));
        }
        DeValue::String(_)
        | DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_) => spans.push(value.span()),
    }
}

/// The message, opened by the key that it is about.
fn about(path: Steps, message: &str) -> String {
    match path.iter().rev().find(|step| step.parse::<usize>().is_err()) {
        Some(key) => format!("`{key}`: {message}"),
        None => message.into(),
    }
}
