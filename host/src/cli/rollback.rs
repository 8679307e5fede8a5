//! `wasmill rollback`: has the running host go back to an earlier version of a handler.

use std::process::ExitCode;

use hyper::Method;
use miette::{IntoDiagnostic, WrapErr};
use serde::Deserialize;
use serde_json::json;

use super::host;
use super::pipeline::Pipeline;
use crate::text::{one_line, short};

/// Goes back to an earlier version of a handler, in the running host and without a pause.
///
/// What is under way ends with the version that runs now, and the next events go to the earlier one. That one holds
/// until the component's file changes. Exits with 1 when the host refuses, and says why.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  wasmill rollback format
  wasmill rollback format 3fa4c1
  WASMILL_ADMIN_TOKEN=… wasmill rollback format --url http://10.0.0.7:8080 --json

`wasmill versions` lists the digests. A host on another machine obeys only with its token: WASMILL_ADMIN_TOKEN, as it
was started with.")]
pub(super) struct Args {
    /// The handler, as pipeline.toml names it.
    handler: String,

    /// The version, by the first digits of its digest; by default the one before the one that runs.
    #[arg(value_parser = digest)]
    digest: Option<String>,

    /// The address of the running host; by default the one in pipeline.toml.
    #[arg(long, value_parser = host::url)]
    url: Option<String>,

    /// Prints the host's answer, one JSON object, on stdout.
    #[arg(long)]
    json: bool,
}

#[derive(Deserialize)]
struct RolledBack {
    handler: String,
    from: String,
    to: String,
    lasts: bool,
}

pub(super) fn run(pipeline: &Pipeline, args: &Args) -> miette::Result<ExitCode> {
    let body = args.digest.as_ref().map_or_else(|| json!({}), |digest| json!({ "to": digest }));
    let path = host::of_handler(&args.handler, "rollback");
    let answer = host::command(args.url.as_deref(), pipeline, Method::POST, &path, &body)?;
    if args.json {
        answer!("{}", serde_json::to_string_pretty(&answer).into_diagnostic()?);
    } else {
        let RolledBack { handler, from, to, lasts } = serde_json::from_value(answer)
            .into_diagnostic()
            .wrap_err("it went back, and said so in a form that this wasmill doesn't know")?;
        let [handler, from, to] = [handler, from, to].map(|text| one_line(&text));
        let until =
            if lasts { "" } else { " or the host restarts, whose state folder hasn't taken this version" };
        answer!("{handler}: {} → {}, holds until its file changes{until}", short(&from), short(&to));
    }
    Ok(ExitCode::SUCCESS)
}

fn digest(text: &str) -> Result<String, String> {
    let digest = text.to_ascii_lowercase();
    if (1..=64).contains(&digest.len()) && digest.bytes().all(|b| b.is_ascii_hexdigit()) {
        Ok(digest)
    } else {
        Err("give the first hex digits of a digest, as `wasmill versions` lists them".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_may_be_cut_short_and_nothing_else() {
        assert_eq!(digest("3FA4c1"), Ok("3fa4c1".into()));
        for wrong in ["", "latest", "3fa4c1…", &"a".repeat(65)] {
            assert!(digest(wrong).is_err(), "{wrong}");
        }
    }
}
