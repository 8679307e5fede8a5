//! `wasmill check`: everything that is wrong with a pipeline, without running it or reaching a broker.

mod diff;

use std::fmt;
use std::process::ExitCode;
use std::sync::Arc;

use comfy_table::Table;
use comfy_table::presets::NOTHING;
use miette::{IntoDiagnostic, Report, Severity};
use serde::Serialize;

use crate::config::Problem;
use crate::config::plan::{Brokers, MailPlan, Plan};
use crate::supervisor::{VersionErrors, check_versions};

use super::host;
use super::pipeline::{Pipeline, with_components};
use crate::text::count;

/// Checks pipeline.toml and everything that it refers to, components included.
///
/// Prints who reads what and writes where; or every error with its file, line and column, and what to do
/// about it, and exits with 1. Warnings, such as topics that nobody publishes or reads, change nothing.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  wasmill check
  wasmill check --config shop/pipeline.toml --json
  wasmill check --config new.toml --diff        what the running host would do about new.toml

--diff --json prints {\"ok\": true, \"changes\": […]}, or {\"ok\": false, \"errors\": […]} when the host would refuse
or can't be asked.")]
pub(super) struct Args {
    /// Prints instead what the running host would do if pipeline.toml became this file: it judges by its own
    /// environment and components. Exits with 1 when it would refuse.
    #[arg(long)]
    diff: bool,

    /// The address of the running host; by default the one in pipeline.toml.
    #[arg(long, value_parser = host::url, requires = "diff")]
    url: Option<String>,

    /// Prints one JSON object, on stdout.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(pipeline: &Pipeline, args: &Args) -> miette::Result<ExitCode> {
    if args.diff {
        return diff::run(pipeline, args.url.as_deref(), args.json);
    }
    let (plan, errors, warnings) = match pipeline.judge() {
        Ok(loaded) => {
            let errors = match check_versions(&loaded) {
                Ok(()) => Vec::new(),
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
    let summary = plan.as_ref().filter(|_| ok).map(Summary::new);
    if args.json {
        let verdict = Verdict {
            ok,
            errors: errors.iter().map(Finding::from).collect(),
            warnings: warnings.iter().map(Finding::from).collect(),
            plan: summary,
        };
        answer!("{}", serde_json::to_string_pretty(&verdict).into_diagnostic()?);
    } else {
        if let Some(summary) = summary {
            answer!("{summary}");
        }
        for problem in errors.into_iter().chain(warnings) {
            tell!("{:?}", Report::new(problem));
        }
    }
    Ok(if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What `--json` prints.
#[derive(Serialize)]
struct Verdict<'a> {
    ok: bool,
    errors: Vec<Finding>,
    warnings: Vec<Finding>,
    /// Null when there are errors.
    plan: Option<Summary<'a>>,
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
#[derive(Serialize)]
struct Summary<'a> {
    name: &'a str,
    /// A bootstrap list, or "embedded".
    brokers: &'a str,
    topics: Vec<&'a str>,
    resources: Vec<Resource<'a>>,
    handlers: Vec<Handler<'a>>,
    sinks: Vec<Sink<'a>>,
}

#[derive(Serialize)]
struct Resource<'a> {
    name: &'a str,
    topic: &'a str,
}

#[derive(Serialize)]
struct Handler<'a> {
    name: &'a str,
    subscribe: Vec<&'a str>,
    publish: Vec<&'a str>,
    group: &'a str,
}

#[derive(Serialize)]
struct Sink<'a> {
    name: &'a str,
    subscribe: Vec<&'a str>,
    /// A mail server's address, or a folder.
    to: String,
    group: &'a str,
}

const EMBEDDED: &str = "embedded";

impl<'a> Summary<'a> {
    fn new(plan: &'a Plan) -> Self {
        let resources = plan.http.iter().flat_map(|http| &http.resources);
        Self {
            name: &plan.name,
            brokers: match &plan.kafka.brokers {
                Brokers::Embedded => EMBEDDED,
                Brokers::Addresses(addresses) => addresses,
            },
            topics: plan.topics.iter().map(|topic| &*topic.name).collect(),
            resources: resources.map(|r| Resource { name: &r.name, topic: &r.topic }).collect(),
            handlers: plan
                .handlers
                .iter()
                .map(|h| Handler {
                    name: &h.name,
                    subscribe: names(&h.subscribe),
                    publish: names(&h.publish),
                    group: &h.group,
                })
                .collect(),
            sinks: plan
                .sinks
                .iter()
                .map(|s| Sink {
                    name: &s.name,
                    subscribe: names(&s.subscribe),
                    to: to(&s.mail),
                    group: &s.group,
                })
                .collect(),
        }
    }
}

fn to(mail: &MailPlan) -> String {
    match mail {
        MailPlan::Folder(folder) => folder.display().to_string(),
        MailPlan::Smtp(smtp) => format!("{}:{}", smtp.host, smtp.port),
    }
}

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new();
        table.load_preset(NOTHING);
        for Resource { name, topic } in &self.resources {
            table.add_row([format!("/{name}"), "HTTP".into(), format!("→ {topic}")]);
        }
        for Handler { name, subscribe, publish, group } in &self.handlers {
            table.add_row([*name, &list(subscribe), &format!("→ {}", list(publish)), *group]);
        }
        for Sink { name, subscribe, to, group } in &self.sinks {
            table.add_row([*name, &list(subscribe), &format!("→ {to}"), *group]);
        }
        let topics = count(self.topics.len() as u64, "topic");
        let brokers = if self.brokers == EMBEDDED { "the embedded broker" } else { self.brokers };
        write!(f, "{} can run: {topics} on {brokers}\n{}", self.name, table.trim_fmt())
    }
}

fn names(topics: &[Arc<str>]) -> Vec<&str> {
    topics.iter().map(|topic| &**topic).collect()
}

fn list(topics: &[&str]) -> String {
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
        let lines: Vec<String> = Summary::new(&loaded.plan)
            .to_string()
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        assert_eq!(
            lines,
            [
                "shop can run: 7 topics on kafka:9092",
                "/readings HTTP → readings",
                "end b → nothing wasmill.shop.end",
                "format readings → mails, b wasmill.shop.format",
                "mail mails → mail:465 wasmill.shop.mail",
            ]
        );
    }
}
