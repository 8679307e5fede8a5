//! The event of a dead letter, run again as it failed.

use std::process::ExitCode;

use miette::miette;

use super::{Args, handle, report};
use crate::cli::broker;
use crate::cli::component::{find, instead};
use crate::config::Loaded;
use crate::config::plan::{HandlerPlan, Plan};
use crate::dead_letters::letter::{self, Failed};
use crate::event::Position;
use crate::guest::{ComponentFile, LoadError};
use crate::shard::original;
use crate::supervisor::StateFolder;
use crate::text::{one_line, short};

pub(super) fn run(loaded: &Loaded, position: &Position, args: &Args) -> miette::Result<ExitCode> {
    let plan = &loaded.plan;
    let cluster = broker::connect(args.url.as_deref(), plan)?;
    let letter = letter::at(&cluster, position)?;
    let failed = Failed::of(&letter);
    let Some((event, name)) = original(&letter).zip(args.handler.clone().or(failed.handler.clone())) else {
        return Err(miette!(
            help = "`wasmill dlq ls` tells where dead letters stand",
            "the record at {position} is no dead letter"
        ));
    };
    if plan.sinks.iter().any(|sink| *sink.name == *name) {
        return Err(miette!(
            help = "`wasmill dlq show` shows it, and `wasmill dlq redrive` has the sink try again",
            "`{}` is a sink: only handlers can be run here",
            one_line(&name)
        ));
    }
    let handler = find(plan, &one_line(&name))?;
    // Another handler than the letter's has no such version.
    let digest = failed.digest.as_deref().filter(|_| failed.handler.as_deref() == Some(&*handler.name));
    let mut handler = handler.clone();
    let (component, places) = match &args.component {
        None => (component(plan, &handler, digest, args), Some(&loaded.places)),
        Some(file) => (instead(&mut handler, file), None),
    };
    if let Ok(component) = &component {
        tell!("runs {}, {}", component.path.display(), short(&component.digest));
    }
    let attempts = [failed.attempts.unwrap_or(1)];
    let events = [event];
    let (outcomes, usage) = handle(&handler, component, places, &events, &attempts, 1)?;
    tell!("it failed by: {}: {}", one_line(failed.cause()), one_line(&failed.message.unwrap_or_default()));
    report(&handler, &events, &outcomes, usage, args.json)
}

/// The version that failed, wherever it is; or else the handler's file.
fn component(
    plan: &Plan,
    handler: &HandlerPlan,
    failed: Option<&str>,
    args: &Args,
) -> Result<ComponentFile, LoadError> {
    let file = ComponentFile::read(&handler.component);
    let Some(digest) = failed.filter(|digest| !file.as_ref().is_ok_and(|file| *file.digest == **digest))
    else {
        return file;
    };
    match StateFolder::open(args.state.as_deref()).component(plan, &handler.name, digest) {
        Ok(bytes) => {
            let path = format!("the kept version {}", short(digest)).into();
            Ok(ComponentFile { path, bytes, digest: digest.into() })
        }
        Err(reason) => {
            tell!(
                "the version that failed, {}, is not at hand ({reason}; --state names the host's folder): the handler's \
                 file runs instead",
                short(&one_line(digest))
            );
            file
        }
    }
}
