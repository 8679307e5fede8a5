//! `wasmill check --diff`: what the running host would do about a pipeline.toml.
//!
//! The host is asked, since it knows what runs, which components it has, and its own environment.

use std::process::ExitCode;

use hyper::Method;
use miette::{IntoDiagnostic, WrapErr};
use serde::Deserialize;
use serde_json::json;

use crate::cli::host::Host;
use crate::cli::pipeline::Pipeline;
use crate::config::Change;
use crate::text::one_line;

#[derive(Deserialize)]
struct Answer {
    changes: Vec<Change>,
}

pub(super) fn run(pipeline: &Pipeline, url: Option<&str>, as_json: bool) -> miette::Result<ExitCode> {
    let file = pipeline.file();
    let toml = std::fs::read_to_string(file)
        .into_diagnostic()
        .wrap_err_with(|| format!("can't read {}", file.display()))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().into_diagnostic()?;
    let answer = runtime.block_on(async {
        let host = Host::to_command(url, pipeline).await?;
        host.command(Method::POST, "admin/diff", &json!({ "toml": toml })).await
    })?;
    if as_json {
        answer!("{}", serde_json::to_string_pretty(&answer).into_diagnostic()?);
        return Ok(ExitCode::SUCCESS);
    }
    let Answer { changes } = serde_json::from_value(answer)
        .into_diagnostic()
        .wrap_err("the host answered in a form that this wasmill doesn't know")?;
    if changes.is_empty() {
        answer!("nothing would change");
    }
    for change in changes {
        answer!("{}", one_line(&change.to_string()));
    }
    Ok(ExitCode::SUCCESS)
}
