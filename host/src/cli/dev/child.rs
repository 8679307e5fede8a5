//! The host as a process of its own: what reaches this process reaches it, and its end is this one's.

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitCode};

use miette::{IntoDiagnostic, WrapErr};
use rustix::process::{Pid, Signal, kill_process};
use tokio::signal::unix::{self, SignalKind};
use tokio::task::{JoinHandle, spawn_blocking};

pub(super) struct Child {
    pid: Option<Pid>,
    /// Waits for the process on a thread of the runtime, which joins it.
    waiting: JoinHandle<std::io::Result<std::process::ExitStatus>>,
}

impl Child {
    pub(super) fn start(mut command: Command) -> miette::Result<Self> {
        let mut child = command.spawn().into_diagnostic().wrap_err("can't start the host")?;
        let pid = Pid::from_raw(child.id().cast_signed());
        Ok(Self { pid, waiting: spawn_blocking(move || child.wait()) })
    }

    /// A host that has ended meanwhile needs none.
    pub(super) fn signal(&self, signal: Signal) {
        if let Some(pid) = self.pid.filter(|_| !self.waiting.is_finished()) {
            let _gone = kill_process(pid, signal);
        }
    }

    /// Its exit code, or, as shells have it, 128 and the signal that ended it.
    pub(super) async fn ended(&mut self) -> miette::Result<ExitCode> {
        let status = (&mut self.waiting).await.into_diagnostic()?.into_diagnostic()?;
        let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
        Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)))
    }
}

/// Those that end a host. On a terminal Ctrl-C reaches the host as well; it takes the two for one.
pub(super) struct Signals {
    interrupt: unix::Signal,
    terminate: unix::Signal,
}

impl Signals {
    pub(super) fn listen() -> miette::Result<Self> {
        Ok(Self {
            interrupt: unix::signal(SignalKind::interrupt()).into_diagnostic().wrap_err("SIGINT")?,
            terminate: unix::signal(SignalKind::terminate()).into_diagnostic().wrap_err("SIGTERM")?,
        })
    }

    pub(super) async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.interrupt.recv() => Signal::INT,
            _ = self.terminate.recv() => Signal::TERM,
        }
    }
}
