//! `wasmill versions`: which versions of a handler the running host has at hand.

use std::fmt;
use std::process::ExitCode;

use comfy_table::Table;
use comfy_table::presets::NOTHING;
use hyper::Method;
use miette::{IntoDiagnostic, WrapErr};
use serde::Deserialize;
use serde_json::Value;

use super::host;
use super::pipeline::Pipeline;
use crate::event::moment;
use crate::text::{count, one_line, short};

/// Lists the versions of a handler that the running host has at hand, newest first.
///
/// Shows which one runs, when each came and from where, and which one `wasmill rollback` would go back to. A
/// version that is held stays until the component's file changes.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  wasmill versions format
  wasmill versions format --json | jq -r '.versions[] | select(.running).digest'
  WASMILL_ADMIN_TOKEN=… wasmill versions format --url http://10.0.0.7:8080

A host on another machine answers only with its token: WASMILL_ADMIN_TOKEN, as it was started with.")]
pub(super) struct Args {
    /// The handler, as pipeline.toml names it.
    handler: String,

    /// The address of the running host; by default the one in pipeline.toml.
    #[arg(long, value_parser = host::url)]
    url: Option<String>,

    /// Prints the host's answer, one JSON object, on stdout.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(pipeline: &Pipeline, args: &Args) -> miette::Result<ExitCode> {
    let path = host::of_handler(&args.handler, "versions");
    let answer = host::command(args.url.as_deref(), pipeline, Method::GET, &path, &Value::Null)?;
    if args.json {
        answer!("{}", serde_json::to_string_pretty(&answer).into_diagnostic()?);
    } else {
        let versions: Versions = serde_json::from_value(answer).into_diagnostic().wrap_err(
            "the host answered in a form that this wasmill doesn't know: are they of one version?",
        )?;
        answer!("{versions}");
    }
    Ok(ExitCode::SUCCESS)
}

#[derive(Deserialize)]
struct Versions {
    handler: String,
    /// Newest first.
    versions: Vec<Version>,
    /// How many the host keeps.
    keep: u64,
}

#[derive(Deserialize)]
struct Version {
    digest: String,
    running: bool,
    loaded_at_ms: i64,
    source: Source,
    held: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Source {
    File,
    Rollback,
}

impl Versions {
    /// Where a rollback without a digest goes: to the one before the one that runs.
    fn before(&self) -> Option<&Version> {
        self.versions.iter().skip_while(|version| !version.running).nth(1)
    }
}

impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new();
        table.load_preset(NOTHING).set_header(["version", "", "since", "from"]);
        for Version { digest, running, loaded_at_ms, source, held } in &self.versions {
            let state = match (running, held) {
                (true, true) => "running, held",
                (true, false) => "running",
                (false, true) => "held",
                (false, false) => "",
            };
            let since = moment(*loaded_at_ms).map(|time| humantime::format_rfc3339_seconds(time).to_string());
            let source = match source {
                Source::File => "its file",
                Source::Rollback => "a rollback",
            };
            table.add_row([short(&one_line(digest)), state, &since.unwrap_or_default(), source]);
        }
        let handler = one_line(&self.handler);
        writeln!(f, "{}\n", table.trim_fmt())?;
        match self.before() {
            Some(version) => {
                write!(f, "`wasmill rollback {handler}` goes back to {}", short(&one_line(&version.digest)))
            }
            None => write!(
                f,
                "there is no version before the running one to go back to; the host keeps {}",
                count(self.keep, "version")
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shown(running: usize) -> Vec<String> {
        let version = |n: usize| {
            let digest = format!("{n}{}", "a".repeat(63));
            let source = if n == 1 { "rollback" } else { "file" };
            json!({ "digest": digest, "running": n == running, "loaded_at_ms": 1_790_000_000_000_i64,
                    "source": source, "held": n == 1 })
        };
        let answer =
            json!({ "handler": "sen\nder", "versions": [version(0), version(1), version(2)], "keep": 5 });
        let versions: Versions = serde_json::from_value(answer).unwrap();
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        versions.to_string().lines().map(words).collect()
    }

    #[test]
    fn the_table_says_what_runs_and_where_a_rollback_goes() {
        assert_eq!(
            shown(1),
            [
                "version since from",
                "0aaaaaaaaaaa 2026-09-21T14:13:20Z its file",
                "1aaaaaaaaaaa running, held 2026-09-21T14:13:20Z a rollback",
                "2aaaaaaaaaaa 2026-09-21T14:13:20Z its file",
                "",
                "`wasmill rollback sen⏎der` goes back to 2aaaaaaaaaaa",
            ]
        );
    }

    #[test]
    fn where_nothing_is_before_the_running_one_it_says_so() {
        let nothing = "there is no version before the running one to go back to; the host keeps 5 versions";
        assert_eq!(shown(2).last().unwrap(), nothing);
    }
}
