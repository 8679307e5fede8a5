//! `wasmill check`: everything that is wrong with a pipeline, without running it or reaching a broker.

use std::process::ExitCode;

use comfy_table::Table;
use comfy_table::presets::NOTHING;
use miette::{IntoDiagnostic, Report, Severity};
use serde::Serialize;

use crate::config::Problem;
use crate::config::plan::{Brokers, MailPlan, Plan};
use crate::supervisor::{VersionErrors, load_versions};

use super::pipeline::{Pipeline, with_components};

/// Checks pipeline.toml and everything that it refers to, components included.
///
/// Prints every error with its file, line and column, and what to do about it; exits with 1 if there are
/// any. Warnings, such as topics that nobody publishes or reads, change nothing.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  wasmill check
  wasmill check --config shop/pipeline.toml --json")]
pub(super) struct Args {
    /// Prints one JSON object, on stdout.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(pipeline: &Pipeline, args: &Args) -> miette::Result<ExitCode> {
    let (plan, errors, warnings) = match pipeline.judge() {
        Ok(loaded) => {
            let errors = match load_versions(&loaded) {
                Ok(_) => Vec::new(),
                Err(VersionErrors::Components(errors)) => errors,
                Err(VersionErrors::Engine(error)) => return Err(error.into()),
            };
            (Some(loaded.plan), errors, loaded.warnings)
        }
        Err(errors) => {
            let found = with_components(errors);
            (None, found.errors, found.warnings)
        }
    };
    let ok = errors.is_empty();
    if args.json {
        let verdict = Verdict {
            ok,
            errors: errors.iter().map(Finding::from).collect(),
            warnings: warnings.iter().map(Finding::from).collect(),
        };
        answer!("{}", serde_json::to_string_pretty(&verdict).into_diagnostic()?);
    } else {
        if let Some(plan) = plan.filter(|_| ok) {
            answer!("{}", summary(&plan));
        }
        for problem in errors.into_iter().chain(warnings) {
            tell!("{:?}", Report::new(problem));
        }
    }
    Ok(if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What `--json` prints.
#[derive(Serialize)]
struct Verdict {
    ok: bool,
    errors: Vec<Finding>,
    warnings: Vec<Finding>,
}

#[derive(Serialize)]
struct Finding {
    message: String,
    help: Option<String>,
    severity: &'static str,
    file: String,
    /// From 1; null for what has no place in the file.
    line: Option<usize>,
    column: Option<usize>,
}

impl From<&Problem> for Finding {
    fn from(problem: &Problem) -> Self {
        let place = problem.line_and_column();
        Self {
            message: problem.message.clone(),
            help: problem.help.clone(),
            severity: match problem.severity {
                Severity::Error => "error",
                Severity::Warning => "warning",
                Severity::Advice => "advice",
            },
            file: problem.file().into(),
            line: place.map(|(line, _)| line),
            column: place.map(|(_, column)| column),
        }
    }
}

/// Who reads what and writes where.
fn summary(plan: &Plan) -> String {
    let mut table = Table::new();
    table.load_preset(NOTHING);
    for resource in plan.http.iter().flat_map(|http| &http.resources) {
        table.add_row([format!("/{}", resource.name), "HTTP".into(), format!("→ {}", resource.topic)]);
    }
    for handler in &plan.handlers {
        let publish = format!("→ {}", list(&handler.publish));
        table.add_row([&*handler.name, &list(&handler.subscribe), &publish, &handler.group]);
    }
    for sink in &plan.sinks {
        let to = match &sink.mail {
            MailPlan::Folder(folder) => format!("→ {}", folder.display()),
            MailPlan::Smtp(smtp) => format!("→ {}:{}", smtp.host, smtp.port),
        };
        table.add_row([&*sink.name, &list(&sink.subscribe), &to, &sink.group]);
    }
    let brokers = match &plan.kafka.brokers {
        Brokers::Embedded => "the embedded broker",
        Brokers::Addresses(addresses) => addresses,
    };
    format!("{} can run: {} topics on {brokers}\n{}", plan.name, plan.topics.len(), table.trim_fmt())
}

fn list(topics: &[std::sync::Arc<str>]) -> String {
    if topics.is_empty() { "nothing".into() } else { topics.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Overrides};

    #[test]
    fn the_summary_says_who_reads_what_and_writes_where() {
        let toml = "name = 'shop'
            kafka.brokers = 'kafka:9092'
            http.resources.readings = { topic = 'readings', key = 'id' }
            handlers.format = { component = 'f', subscribe = ['readings'], publish = ['mails', 'b'] }
            handlers.end = { component = 'e', subscribe = ['b'] }
            sinks.mail = { subscribe = ['mails'], smtp = 'smtps://mail' }";
        let overrides = Overrides::default();
        let loaded =
            config::parse(toml.into(), "/shop/pipeline.toml".as_ref(), &|_| None, &overrides).unwrap();
        let lines: Vec<String> = summary(&loaded.plan)
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        assert_eq!(
            lines,
            [
                "shop can run: 6 topics on kafka:9092",
                "/readings HTTP → readings",
                "end b → nothing wasmill.shop.end",
                "format readings → mails, b wasmill.shop.format",
                "mail mails → mail:465 wasmill.shop.mail",
            ]
        );
    }
}
