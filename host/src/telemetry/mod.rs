//! Logs: lines for people on a terminal, JSON for programs; on standard error, so that output stays output. And
//! [`traces`], for those who collect them.

pub(crate) mod trace_context;
pub mod traces;

mod handlers;
mod layers;

use std::io::IsTerminal;

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::fmt;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

pub use handlers::{HandlerLogs, Line};

use layers::{Kept, Shown};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}

impl LogFormat {
    /// As the command line has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}

/// Starts logging for the whole process; call it once. Logs `level` and up; `WASMILL_LOG` chooses otherwise,
/// in the syntax of `tracing_subscriber::EnvFilter` (`debug`, `wasmill::log=debug,info`). What is returned chooses for
/// single handlers.
pub fn init(format: LogFormat, level: &str) -> HandlerLogs {
    let chosen = std::env::var_os("WASMILL_LOG").unwrap_or_default();
    let (by_default, fault) = filter(&chosen.to_string_lossy(), level);
    // A line that can't be written (a full disk) is dropped. Telling so would print to the same place and panic.
    let lines = fmt::layer().with_writer(std::io::stderr).log_internal_errors(false);
    let lines = match format {
        LogFormat::Text => {
            let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            lines.with_target(false).with_ansi(colour).boxed()
        }
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    let handlers = HandlerLogs::default();
    let kept = Kept(handlers.clone());
    let shown = Shown { by_default, handlers: handlers.clone() };
    tracing_subscriber::registry().with(lines).with(kept).with(shown).init();
    if let Some(fault) = fault {
        tracing::warn!(%fault, "WASMILL_LOG is ignored: write it like `debug` or `wasmill::log=debug,info`");
    }
    handlers
}

/// A filter that can't be read must not keep the host from starting: the default one stands in, and the
/// fault is told through it.
fn filter(chosen: &str, level: &str) -> (EnvFilter, Option<ParseError>) {
    if chosen.trim().is_empty() {
        return (EnvFilter::new(level), None);
    }
    match EnvFilter::try_new(chosen) {
        Ok(filter) => (filter, None),
        Err(fault) => (EnvFilter::new(level), Some(fault)),
    }
}

#[cfg(test)]
mod tests {
    use super::filter;

    #[test]
    fn a_filter_that_can_not_be_read_is_told_and_the_default_stands_in() {
        let (stands_in, fault) = filter("wasmill=loud", "info");
        assert_eq!((stands_in.to_string().as_str(), fault.is_some()), ("info", true));
        for (chosen, used) in
            [("", "warn"), (" ", "warn"), ("debug", "debug"), ("wasmill=trace", "wasmill=trace")]
        {
            let (filter, fault) = filter(chosen, "warn");
            assert_eq!((filter.to_string().as_str(), fault.is_none()), (used, true));
        }
    }
}
