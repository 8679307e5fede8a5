//! `wasmill parked`: which keys wait for the next try of an event.

use std::fmt;
use std::process::ExitCode;
use std::time::Duration;

use comfy_table::Table;
use comfy_table::presets::NOTHING;
use hyper::Method;
use miette::{IntoDiagnostic, WrapErr, miette};
use serde::Deserialize;
use serde_json::{Value, json};

use super::host;
use super::pipeline::Pipeline;
use crate::event::now_ms;
use crate::text::{count, cut, one_line};

/// Lists the keys that wait in the running host because an event of theirs is to be tried again.
///
/// The later events of such a key wait behind it; those of all other keys go on. Shows how long ago the event failed
/// for the first time, which try is next and when, and how many wait.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  wasmill parked
  wasmill parked mail --json | jq -r '.parked[].keys[].event'

A host on another machine answers only with its token: WASMILL_ADMIN_TOKEN, as it was started with.")]
pub(super) struct Args {
    /// A handler or a sink, as pipeline.toml names it; by default all of them.
    subscriber: Option<String>,

    /// The address of the running host; by default the one in pipeline.toml.
    #[arg(long, value_parser = host::url)]
    url: Option<String>,

    /// Prints the host's answer, one JSON object, on stdout.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(pipeline: &Pipeline, args: &Args) -> miette::Result<ExitCode> {
    let answer = host::command(args.url.as_deref(), pipeline, Method::GET, "admin/parked", &Value::Null)?;
    let Parked { mut parked } = serde_json::from_value(answer)
        .into_diagnostic()
        .wrap_err("the host answered in a form that this wasmill doesn't know: are they of one version?")?;
    if let Some(wanted) = &args.subscriber {
        let known: Vec<String> = parked.iter().map(|of| one_line(&of.subscriber)).collect();
        parked.retain(|of| of.subscriber == *wanted);
        if parked.is_empty() {
            let help = format!("these do: {}", known.join(", "));
            return Err(miette!(help = help, "no handler or sink `{}` runs there", one_line(wanted)));
        }
    }
    if args.json {
        answer!("{}", serde_json::to_string_pretty(&json!({ "parked": parked })).into_diagnostic()?);
    } else {
        answer!("{}", Shown { parked, now_ms: now_ms() });
    }
    Ok(ExitCode::SUCCESS)
}

/// Bytes of a key in the table.
const KEY: usize = 40;

#[derive(Deserialize)]
struct Parked {
    parked: Vec<Of>,
}

#[derive(Deserialize, serde::Serialize)]
struct Of {
    subscriber: String,
    count: u64,
    keys: Vec<Key>,
    full_partitions: Vec<String>,
}

#[derive(Deserialize, serde::Serialize)]
struct Key {
    key: Option<String>,
    event: String,
    attempt: u32,
    first_failed_ms: i64,
    next_try_ms: i64,
    behind: u64,
}

struct Shown {
    parked: Vec<Of>,
    now_ms: i64,
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: u64 = self.parked.iter().map(|of| of.count).sum();
        if keys == 0 {
            return write!(f, "no key waits");
        }
        let mut table = Table::new();
        table.load_preset(NOTHING).set_header([
            "",
            "key",
            "event",
            "failing for",
            "next try",
            "in",
            "behind",
        ]);
        for of in &self.parked {
            for Key { key, event, attempt, first_failed_ms, next_try_ms, behind } in &of.keys {
                table.add_row([
                    one_line(&of.subscriber),
                    key.as_deref().map_or_else(|| "-".into(), |key| cut(&one_line(key), KEY)),
                    one_line(event),
                    seconds(self.now_ms - first_failed_ms),
                    format!("no. {attempt}"),
                    seconds(next_try_ms - self.now_ms),
                    behind.to_string(),
                ]);
            }
        }
        write!(f, "{}", table.trim_fmt())?;
        let shown = self.parked.iter().map(|of| of.keys.len() as u64).sum();
        if keys > shown {
            write!(f, "\n\n{} wait; these are the first of each shard", count(keys, "key"))?;
        }
        for of in self.parked.iter().filter(|of| !of.full_partitions.is_empty()) {
            let partitions: Vec<String> = of.full_partitions.iter().map(|text| one_line(text)).collect();
            write!(
                f,
                "\n\n{}: too many events wait, so nothing new is read of {}",
                one_line(&of.subscriber),
                partitions.join(", ")
            )?;
        }
        Ok(())
    }
}

/// Whole ones, from now on.
fn seconds(ms: i64) -> String {
    let whole = Duration::from_secs(u64::try_from(ms).unwrap_or_default() / 1000);
    humantime::format_duration(whole).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_says_what_waits_for_how_long_and_what_stands_still() {
        let answer = json!([
            { "subscriber": "mail", "count": 2, "full_partitions": ["emails/0"], "keys": [
                { "key": "o-\u{1b}1", "event": "emails/0/7", "attempt": 3, "first_failed_ms": 1_000, "next_try_ms": 95_000,
                  "behind": 4 } ] },
            { "subscriber": "format", "count": 0, "full_partitions": [], "keys": [] },
        ]);
        let shown = Shown { parked: serde_json::from_value(answer).unwrap(), now_ms: 91_000 };
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(
            shown.to_string().lines().map(words).collect::<Vec<_>>(),
            [
                "key event failing for next try in behind",
                "mail o-\u{fffd}1 emails/0/7 1m 30s no. 3 4s 4",
                "",
                "2 keys wait; these are the first of each shard",
                "",
                "mail: too many events wait, so nothing new is read of emails/0",
            ]
        );
        assert_eq!(Shown { parked: Vec::new(), now_ms: 0 }.to_string(), "no key waits");
    }
}
