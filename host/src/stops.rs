//! SIGINT and SIGTERM: the first one asks a process to stop, a second one ends it.

use std::time::{Duration, Instant};

use miette::{IntoDiagnostic, WrapErr};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Those this close together are one.
const ONE_SIGNAL: Duration = Duration::from_millis(500);

pub(crate) struct Stops {
    interrupt: Signal,
    terminate: Signal,
}

impl Stops {
    /// From now on they don't end this process. Within a runtime.
    pub(crate) fn listen() -> miette::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt()).into_diagnostic().wrap_err("SIGINT")?,
            terminate: signal(SignalKind::terminate()).into_diagnostic().wrap_err("SIGTERM")?,
        })
    }

    /// The name of the one that comes next.
    pub(crate) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }

    /// The name of one that is not the one before once more: who signals a process group may reach us twice, by our parent as
    /// well.
    pub(crate) async fn another(&mut self) -> &'static str {
        let before = Instant::now();
        loop {
            let name = self.next().await;
            if before.elapsed() > ONE_SIGNAL {
                return name;
            }
        }
    }
}
