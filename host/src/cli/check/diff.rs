//! `wasmill check --diff`: what the running host would do about a pipeline.toml.
//!
//! The host is asked, since it knows what runs, which components it has, and its own environment.

use std::process::ExitCode;

use hyper::Method;
use miette::{IntoDiagnostic, Report, WrapErr};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Finding;
use crate::cli::host;
use crate::cli::pipeline::Pipeline;
use crate::config::{self, Change, ConfigErrors, Problem};
use crate::text::one_line;

#[derive(Deserialize)]
struct Answer {
    changes: Vec<Change>,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Verdict {
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    changes: Option<Vec<Change>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<Finding>,
}

pub(super) fn run(pipeline: &Pipeline, url: Option<&str>, as_json: bool) -> miette::Result<ExitCode> {
    let told = ask(pipeline, url);
    if as_json {
        let verdict = match told {
            Ok(changes) => Verdict { ok: true, changes: Some(changes), errors: Vec::new() },
            Err(report) => Verdict { ok: false, changes: None, errors: findings(pipeline, &report) },
        };
        answer!("{}", serde_json::to_string_pretty(&verdict).into_diagnostic()?);
        return Ok(if verdict.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    let changes = told?;
    if changes.is_empty() {
        answer!("nothing would change");
    }
    for change in changes {
        answer!("{}", one_line(&change.to_string()));
    }
    Ok(ExitCode::SUCCESS)
}

fn ask(pipeline: &Pipeline, url: Option<&str>) -> miette::Result<Vec<Change>> {
    let file = pipeline.file();
    let toml =
        config::read(file).into_diagnostic().wrap_err_with(|| format!("can't read {}", file.display()))?;
    let answer = host::command(url, pipeline, Method::POST, "admin/diff", &json!({ "toml": toml }))?;
    let Answer { changes } = serde_json::from_value(answer)
        .into_diagnostic()
        .wrap_err("the host answered in a form that this wasmill doesn't know")?;
    Ok(changes)
}

/// Of this side those of the file, each at its place; of the host its lines, which say theirs.
fn findings(pipeline: &Pipeline, report: &Report) -> Vec<Finding> {
    if let Some(errors) = report.downcast_ref::<ConfigErrors>() {
        return errors.errors.iter().map(Finding::from).collect();
    }
    if let Some(problem) = report.downcast_ref::<Problem>() {
        return vec![Finding::from(problem)];
    }
    let message = report.chain().map(ToString::to_string).collect::<Vec<_>>().join(": ");
    let help = report.help().map(|help| help.to_string());
    let finding = |message: &str| Finding {
        message: message.into(),
        help: help.clone(),
        severity: "error",
        file: pipeline.file().display().to_string(),
        line: None,
        column: None,
    };
    message.lines().map(finding).collect()
}
