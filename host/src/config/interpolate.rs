//! `${NAME}`, `${NAME:-default}` and `${file:PATH}` in a string; `$${` is a literal `${`.
//!
//! Only values are interpolated, after parsing: what a variable holds can't become TOML.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::PathBuf;

use super::document::{MOST_BYTES, Surroundings};
use crate::file;

pub(super) struct Fault {
    /// As written, to find its place.
    pub(super) placeholder: String,
    pub(super) message: String,
    pub(super) help: String,
}

/// The string with its placeholders replaced; borrowed if it has none. A faulty one is replaced by
/// nothing, so that the rest can still be looked at. The files that it names are added to `files`.
pub(super) fn interpolate<'a>(
    string: &'a str,
    around: &Surroundings,
    files: &mut BTreeSet<PathBuf>,
) -> (Cow<'a, str>, Vec<Fault>) {
    let mut faults = Vec::new();
    if !string.contains("${") {
        return (Cow::Borrowed(string), faults);
    }
    let mut out = String::new();
    let mut rest = string;
    while let Some(at) = rest.find("${") {
        if rest[..at].ends_with('$') {
            out.push_str(&rest[..at - 1]);
            out.push_str("${");
            rest = &rest[at + 2..];
            continue;
        }
        out.push_str(&rest[..at]);
        let Some(end) = rest[at..].find('}').map(|end| at + end) else {
            faults.push(Fault {
                placeholder: rest[at..].into(),
                message: "a `${` without its `}`".into(),
                help: "write `$${` for a literal `${`".into(),
            });
            return (Cow::Owned(out), faults);
        };
        match resolve(&rest[at + 2..end], around, files) {
            Ok(value) => out.push_str(&value),
            Err((message, help)) => {
                faults.push(Fault { placeholder: rest[at..=end].into(), message, help });
            }
        }
        rest = &rest[end + 1..];
    }
    out.push_str(rest);
    (Cow::Owned(out), faults)
}

fn resolve(
    placeholder: &str,
    around: &Surroundings,
    files: &mut BTreeSet<PathBuf>,
) -> Result<String, (String, String)> {
    if let Some(path) = placeholder.strip_prefix("file:") {
        let whole = around.root.join(path);
        files.insert(whole.clone());
        return match file::read_text(&whole, MOST_BYTES) {
            // Files of secrets end with a newline that is not part of the secret.
            Ok(content) => Ok(content.trim_end_matches(['\r', '\n']).into()),
            Err(error) => Err((
                format!("can't read the file `{path}`: {error}"),
                "paths start from the folder of pipeline.toml".into(),
            )),
        };
    }
    let (name, default) = match placeholder.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (placeholder, None),
    };
    if !is_variable_name(name) {
        return Err((
            format!("`{name}` is not the name of an environment variable"),
            "write ${NAME}, ${NAME:-default} or ${file:PATH}; `$${` is a literal `${`".into(),
        ));
    }
    // As in a shell, `:-` also stands in for an empty value.
    match ((around.env)(name), default) {
        (Some(value), None) => Ok(value),
        (Some(value), Some(_)) if !value.is_empty() => Ok(value),
        (_, Some(default)) => Ok(default.into()),
        (None, None) => Err((
            format!("the environment variable {name} is not set"),
            format!("set it, or give a default: ${{{name}:-…}}"),
        )),
    }
}

fn is_variable_name(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty()
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}
