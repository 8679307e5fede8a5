//! docs/reference is what the program says of itself: the help of its verbs, and the schema of pipeline.toml.

use std::fs;

use serde_json::Value;

use crate::common::host::wasmill;
use crate::common::root;

const MADE: &str = "<!-- Made by host/tests/docs/reference.rs: WASMILL_UPDATE=1 cargo test --release -p wasmill --test docs reference -->";
const WIDTH: usize = 120;
const OF_ALL: &str = "Options of every verb:";

pub(crate) struct Help {
    /// The verb, and its own one; nothing for the program itself.
    pub(crate) command: Vec<String>,
    pub(crate) text: String,
}

#[test]
fn the_reference_of_the_commands_is_their_help() {
    let mut page = format!(
        "# The commands\n\n{MADE}\n\nWhat `wasmill --help` says, and `wasmill VERB --help` of each verb. Exit codes are \
         0, 1 (it didn't work) and 2\n(it wasn't understood); `dev` that a signal ends before the pipeline runs has 128 \
         and the signal's number. What was asked for goes\nto standard output, all else to standard error.\n"
    );
    for Help { command, text } in helps() {
        let name = ["wasmill".to_string()].into_iter().chain(command.clone()).collect::<Vec<_>>().join(" ");
        let text = wrapped(&if command.is_empty() { text } else { own(&text) });
        let level = "#".repeat(command.len().clamp(1, 2) + 1);
        page += &format!("\n{level} {name}\n\n```text\n{}\n```\n", text.trim_end());
    }
    unchanged("cli.md", &page);
}

#[test]
fn the_reference_of_pipeline_toml_is_its_schema() {
    let schema = wasmill::config::schema();
    let mut page = format!("# pipeline.toml\n\n{MADE}\n\n{}\n", words(&schema["description"]));
    page += "\nEditors complete and check it by [its schema](../../schemas/pipeline.schema.json); \
             `wasmill check` finds what is wrong.\n";
    table(&mut page, "", &schema);
    unchanged("config.md", &page);
}

/// Of every verb that is shown, the program itself first.
pub(crate) fn helps() -> Vec<Help> {
    let mut helps = Vec::new();
    let mut todo = vec![Vec::new()];
    while let Some(command) = todo.pop() {
        let shown = wasmill().args(&command).arg("--help").output().expect("the program");
        let text = String::from_utf8(shown.stdout).expect("text");
        let (_, after) = text.split_once("\nCommands:\n").unwrap_or_default();
        let listed = after.lines().take_while(|line| !line.is_empty());
        let verbs = listed.filter_map(|line| line.split_whitespace().next()).filter(|verb| *verb != "help");
        let below: Vec<Vec<String>> =
            verbs.map(|verb| command.iter().cloned().chain([verb.to_string()]).collect()).collect();
        todo.extend(below.into_iter().rev());
        let lines: Vec<_> = text.lines().map(str::trim_end).collect();
        helps.push(Help { command, text: lines.join("\n") });
    }
    assert!(helps.len() > 15, "only {} verbs", helps.len());
    helps
}

/// Without the options that every verb has.
fn own(help: &str) -> String {
    let (before, rest) = help.split_once(&format!("\n{OF_ALL}\n")).expect("the options of every verb");
    let of_all = rest.lines().take_while(|line| line.is_empty() || line.starts_with(' ')).count();
    let after: Vec<_> = rest.lines().skip(of_all).collect();
    format!("{}\n\n{}", before.trim_end(), after.join("\n"))
}

/// To the width of a page; terminals wrap by themselves.
fn wrapped(help: &str) -> String {
    let line = |line: &str| {
        let indent = &line[..line.len() - line.trim_start().len()];
        textwrap::fill(line, textwrap::Options::new(WIDTH).subsequent_indent(indent))
    };
    help.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// A table of TOML: its keys, then the tables in it.
fn table(page: &mut String, name: &str, schema: &Value) {
    let empty = serde_json::Map::new();
    let keys = schema["properties"].as_object().unwrap_or(&empty);
    let required: Vec<_> = schema["required"].as_array().into_iter().flatten().collect();
    let (tables, values): (Vec<_>, Vec<_>) = keys.iter().partition(|(_, key)| inner(key).is_some());
    if !values.is_empty() {
        *page += "\n| key | type | default | |\n|---|---|---|---|\n";
    }
    for (key, schema) in values {
        let default = match &schema["default"] {
            Value::Null if required.iter().any(|name| *name == key) => "required".into(),
            Value::Null => String::new(),
            default => format!("`{default}`"),
        };
        *page += &format!("| `{key}` | {} | {default} | {} |\n", kind(schema), words(&schema["description"]));
    }
    for (key, schema) in tables {
        let (by_name, inner) = inner(schema).expect("a table");
        let dot = if name.is_empty() { "" } else { "." };
        let name = format!("{name}{dot}{key}{}", if by_name { ".NAME" } else { "" });
        let level = "#".repeat(1 + name.split('.').filter(|part| *part != "NAME").count());
        *page += &format!("\n{level} [{name}]\n\n{}\n", words(&schema["description"]));
        if by_name {
            *page += &format!("\n{}\n", words(&inner["description"]));
        }
        table(page, &name, inner);
    }
}

/// The schema of a table with keys of its own; and whether there are many of them, by name.
fn inner(schema: &Value) -> Option<(bool, &Value)> {
    let of_many = &schema["additionalProperties"];
    [(false, schema), (true, of_many)].into_iter().find(|(_, schema)| schema["properties"].is_object())
}

fn kind(schema: &Value) -> String {
    if let Some(kinds) = schema["anyOf"].as_array() {
        return kinds.iter().map(kind).collect::<Vec<_>>().join(" or ");
    }
    if let Some(words) = schema["enum"].as_array() {
        return words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(" or ");
    }
    match schema["type"].as_str().expect("a type") {
        "string" => "text".into(),
        "integer" => "whole number".into(),
        "boolean" => "`true` or `false`".into(),
        "array" => format!("list of {}", kind(&schema["items"])),
        "object" => format!("table of {}", kind(&schema["additionalProperties"])),
        other => panic!("no word for {other}"),
    }
}

/// In one line of a table.
fn words(description: &Value) -> String {
    let text = description.as_str().unwrap_or_default().replace('\n', " ");
    text.replace('|', "\\|").replace('<', "&lt;")
}

fn unchanged(name: &str, made: &str) {
    let file = root().join("docs/reference").join(name);
    if std::env::var_os("WASMILL_UPDATE").is_some() {
        assert!(std::env::var_os("CI").is_none(), "WASMILL_UPDATE in CI: nothing would be compared");
        fs::write(&file, made).unwrap();
    }
    let there = fs::read_to_string(&file).unwrap_or_default();
    assert!(
        there == made,
        "make {name} anew: WASMILL_UPDATE=1 cargo test --release -p wasmill --test docs reference"
    );
}
