//! The lines of pipeline.toml that make a component a handler, and the one place of the file where they go.
//!
//! The file is a person's: everything else in it stays, byte by byte, or nothing is written.

use std::fmt;
use std::fs;
use std::path::Path;

use miette::{IntoDiagnostic, WrapErr, miette};
use toml_edit::{Array, DocumentMut, Item, Table, Value};

use crate::replace::replace;

/// A handler's table; `Display` writes it as the pipeline that ships does.
#[derive(Debug)]
pub(super) struct Wiring<'a> {
    pub(super) name: &'a str,
    pub(super) component: String,
    pub(super) subscribe: &'a [String],
    pub(super) publish: &'a [String],
}

impl fmt::Display for Wiring<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |topics: &[String]| topics.iter().collect::<Array>();
        writeln!(f, "[handlers.{}]", self.name)?;
        writeln!(f, "component = {}", Value::from(&self.component))?;
        writeln!(f, "subscribe = {}", list(self.subscribe))?;
        writeln!(f, "publish   = {}", list(self.publish))
    }
}

pub(super) struct PipelineFile<'a> {
    path: &'a Path,
    text: String,
    document: DocumentMut,
}

impl<'a> PipelineFile<'a> {
    pub(super) fn read(path: &'a Path) -> miette::Result<Self> {
        let text = fs::read_to_string(path).map_err(|error| {
            miette!(
                help = "run from the pipeline's folder, or name the file with --config",
                "can't read {}: {error}",
                path.display()
            )
        })?;
        let document = text.parse().map_err(|error: toml_edit::TomlError| {
            // Not its excerpt: a secret may stand there.
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            miette!(
                help = "mend it first; `wasmill check` shows the place",
                "{}:{}: not TOML: {}",
                path.display(),
                before.matches('\n').count() + 1,
                error.message()
            )
        })?;
        Ok(Self { path, text, document })
    }

    /// An error when a handler or a sink has the name.
    pub(super) fn has_room_for(&self, name: &str) -> miette::Result<()> {
        for (kind, what) in [("handlers", "handler"), ("sinks", "sink")] {
            let taken = self.document.get(kind).and_then(Item::as_table_like);
            if taken.is_some_and(|taken| taken.contains_key(name)) {
                let path = self.path.display();
                return Err(miette!(help = "take another name", "{path} has a {what} `{name}` already"));
            }
        }
        Ok(())
    }

    /// The text with the handler after the last one.
    pub(super) fn with(&self, wiring: &Wiring) -> miette::Result<String> {
        self.inserted(wiring).ok_or_else(|| {
            miette!(
                help =
                    format!("without --apply the crate is made all the same; then add by hand:\n\n{wiring}"),
                "{} is written in a way that lines can't be added to and all else stay as it is",
                self.path.display()
            )
        })
    }

    fn inserted(&self, wiring: &Wiring) -> Option<String> {
        // toml_edit writes line breaks of its own kind.
        let crlf = self.text.contains("\r\n");
        let mut document: DocumentMut =
            if crlf { self.text.replace("\r\n", "\n").parse().ok()? } else { self.document.clone() };
        let mut lines: DocumentMut = wiring.to_string().parse().ok()?;
        let mut table = lines.get_mut("handlers")?.get_mut(wiring.name)?.as_table()?.clone();
        // Comes after the table that it is inserted after, and leaves a line free.
        table.set_position(None);
        table.decor_mut().set_prefix("\n");
        let mut none = Table::new();
        none.set_implicit(true);
        let handlers = document.entry("handlers").or_insert(Item::Table(none)).as_table_mut()?;
        handlers.insert(wiring.name, Item::Table(table));

        let text = document.to_string();
        let text = if crlf { text.replace('\n', "\r\n") } else { text };
        let read: DocumentMut = text.parse().ok()?;
        let added = read.get("handlers")?.get(wiring.name)?.get("component")?.as_str()?;
        (added == wiring.component && only_adds(&self.text, &text)).then_some(text)
    }

    /// Writes the text to where the file is, even behind a link.
    pub(super) fn replace(&self, text: &str) -> miette::Result<()> {
        let file = self.path.canonicalize();
        file.and_then(|file| replace(&file, text.as_bytes()))
            .into_diagnostic()
            .wrap_err_with(|| format!("can't write {}", self.path.display()))
    }
}

/// Whether `new` is `old` with something in between.
fn only_adds(old: &str, new: &str) -> bool {
    let same = old.bytes().zip(new.bytes()).take_while(|(old, new)| old == new).count();
    let rest = &old.as_bytes()[same..];
    new.len() >= old.len() && new.as_bytes()[same..].ends_with(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inserted(text: &str) -> Option<String> {
        let (subscribe, publish) = (["readings".to_string()], ["alarms".to_string()]);
        let wiring =
            Wiring { name: "alarm", component: "a.wasm".into(), subscribe: &subscribe, publish: &publish };
        let document = text.parse().unwrap();
        PipelineFile { path: Path::new("pipeline.toml"), text: text.into(), document }.inserted(&wiring)
    }

    const LINES: &str =
        "[handlers.alarm]\ncomponent = \"a.wasm\"\nsubscribe = [\"readings\"]\npublish   = [\"alarms\"]\n";

    #[test]
    fn the_lines_come_after_the_last_handler_and_all_else_stays() {
        let handler =
            "name = 'x'  # spaced  oddly\n[handlers.b]\ncomponent='b'\n[handlers.b.env]\nA = '1' # one\n";
        let rest = "\n# What is mailed.\n[sinks.mail]\nsmtp = 'file:a'\n# The end.\n";
        let text = inserted(&format!("{handler}{rest}")).unwrap();
        assert_eq!(text, format!("{handler}\n{LINES}{rest}"));
        let crlf = |text: &str| text.replace('\n', "\r\n");
        assert_eq!(inserted(&crlf(&format!("{handler}{rest}"))), Some(crlf(&text)));
    }

    #[test]
    fn a_file_without_handlers_or_without_an_end_of_line_takes_them_too() {
        assert_eq!(inserted("name = 'x'"), Some(format!("name = 'x'\n\n{LINES}")));
        let dotted = "handlers.b = { component = 'b' }\nkafka.brokers = 'embedded'\n";
        assert_eq!(inserted(dotted), Some(format!("{dotted}\n{LINES}")));
    }

    #[test]
    fn a_file_that_lines_can_t_be_added_to_is_left_to_its_owner() {
        assert_eq!(inserted("handlers = { b = { component = 'b' } }\n"), None);
        assert_eq!(inserted("a = 1\nb = 2\r\nc = 3\n"), None);
    }
}
