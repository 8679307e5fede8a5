//! Dead letters, the events that no handler could deal with: which there are, one of them whole, put back, let go. For
//! `wasmill dlq`, and for the admin API.

pub(crate) mod ask;
pub(crate) mod letter;
pub(crate) mod list;
pub(crate) mod marks;
pub(crate) mod settle;
mod settling;
pub(crate) mod whole;

use std::sync::Arc;

use miette::miette;

use crate::config::plan::Plan;
use crate::event::headers::HANDLER;
use crate::event::{Event, header};
pub use ask::Ask;
pub(crate) use settle::MAX_REDRIVES;
pub use settle::{Act, Wanted};

/// What [`Failed::cause`](letter::Failed::cause) can be.
pub(crate) const CAUSES: [&str; 7] =
    ["retry", "reject", "trap", "timeout", "memory", "contract", letter::UNKNOWN];

/// Whose dead letters.
#[derive(Clone, Copy)]
pub(crate) struct Subscriber<'a> {
    pub(crate) name: &'a str,
    pub(crate) subscribe: &'a [Arc<str>],
    pub(crate) dead_letter: &'a Arc<str>,
    /// Of its dead letters' topic.
    pub(crate) replication: i32,
}

impl Subscriber<'_> {
    /// Whether the letter is its own: others may share its topic. One that names nobody is whoever's reads the topic.
    pub(crate) fn has(&self, letter: &Event) -> bool {
        header(&letter.headers, HANDLER).is_none_or(|name| name == self.name.as_bytes())
    }
}

/// All handlers and sinks, or one of them.
pub(crate) fn subscribers<'a>(plan: &'a Plan, only: Option<&str>) -> miette::Result<Vec<Subscriber<'a>>> {
    let handlers = plan.handlers.iter().map(|handler| Subscriber {
        name: &handler.name,
        subscribe: &handler.subscribe,
        dead_letter: &handler.dead_letter,
        replication: replication(plan, &handler.dead_letter),
    });
    let sinks = plan.sinks.iter().map(|sink| Subscriber {
        name: &sink.name,
        subscribe: &sink.subscribe,
        dead_letter: &sink.dead_letter,
        replication: replication(plan, &sink.dead_letter),
    });
    let all: Vec<_> = handlers.chain(sinks).collect();
    let found: Vec<_> = all.iter().copied().filter(|of| only.is_none_or(|only| only == of.name)).collect();
    if let (true, Some(only)) = (found.is_empty(), only) {
        let names: Vec<&str> = all.iter().map(|of| of.name).collect();
        let help = format!("there are {}", names.join(", "));
        return Err(miette!(help = help, "pipeline.toml has no handler or sink `{only}`"));
    }
    Ok(found)
}

/// This one.
pub(crate) fn only<'a>(plan: &'a Plan, name: &str) -> miette::Result<Subscriber<'a>> {
    Ok(subscribers(plan, Some(name))?.remove(0))
}

fn replication(plan: &Plan, topic: &str) -> i32 {
    plan.topics.iter().find(|of| *of.name == *topic).map_or(-1, |of| of.replication)
}
