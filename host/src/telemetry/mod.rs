//! Logs: lines for people on a terminal, JSON for programs; on standard error, so that output stays output.

use std::io::IsTerminal;

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

/// Starts logging for the whole process; call it once. Logs `level` and up; `WASMILL_LOG` chooses otherwise, in the syntax of
/// `tracing_subscriber::EnvFilter` (`debug`, `wasmill::log=debug,info`).
pub fn init(format: LogFormat, level: &str) {
    let filter = EnvFilter::try_from_env("WASMILL_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => {
            let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            logs.with_target(false).with_ansi(colour).init();
        }
        LogFormat::Json => logs.json().flatten_event(true).init(),
    }
}
