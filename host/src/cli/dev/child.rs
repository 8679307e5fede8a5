//! Processes of their own: the host, which is reached by what reaches this one, and whose end is this one's; and a cargo
//! that builds, which ends with whoever waits for it.

use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitCode, ExitStatus};

use miette::{IntoDiagnostic, WrapErr};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::signal::unix::{self, SignalKind};
use tokio::task::{JoinHandle, spawn_blocking};

pub(super) struct Child {
    pid: Option<Pid>,
    /// Waits for the process on a thread of the runtime, which joins it.
    waiting: JoinHandle<std::io::Result<std::process::ExitStatus>>,
}

impl Child {
    pub(super) fn start(mut command: Command) -> miette::Result<Self> {
        let mut child = command
            .spawn()
            .into_diagnostic()
            .wrap_err_with(|| format!("can't start {}", command.get_program().display()))?;
        let pid = Pid::from_raw(child.id().cast_signed());
        Ok(Self { pid, waiting: spawn_blocking(move || child.wait()) })
    }

    /// A host that has ended meanwhile needs none.
    pub(super) fn signal(&self, signal: Signal) {
        if let Some(pid) = self.running() {
            let _gone = kill_process(pid, signal);
        }
    }

    fn running(&self) -> Option<Pid> {
        self.pid.filter(|_| !self.waiting.is_finished())
    }

    /// Its exit code, or, as shells have it, 128 and the signal that ended it.
    pub(super) async fn ended(&mut self) -> miette::Result<ExitCode> {
        let status = self.status().await?;
        let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
        Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)))
    }

    async fn status(&mut self) -> miette::Result<ExitStatus> {
        (&mut self.waiting).await.into_diagnostic()?.into_diagnostic()
    }
}

/// A cargo at work. Dropped, it is ended, with the compilers that it has started.
pub(super) struct Cargo(Child);

impl Cargo {
    pub(super) fn start(mut command: Command) -> miette::Result<Self> {
        // A group of its own: so a signal reaches the compilers as well, and nobody else.
        command.process_group(0);
        Child::start(command).map(Self)
    }

    /// Whether it did what it was to do.
    pub(super) async fn succeeds(&mut self) -> miette::Result<bool> {
        Ok(self.0.status().await?.success())
    }
}

impl Drop for Cargo {
    fn drop(&mut self) {
        if let Some(group) = self.0.running() {
            let _gone = kill_process_group(group, Signal::TERM);
        }
    }
}

/// Those that a host acts on. On a terminal Ctrl-C reaches the host as well; it takes the two for one.
pub(super) struct Signals {
    interrupt: unix::Signal,
    terminate: unix::Signal,
    hang_up: unix::Signal,
}

impl Signals {
    pub(super) fn listen() -> miette::Result<Self> {
        Ok(Self {
            interrupt: unix::signal(SignalKind::interrupt()).into_diagnostic().wrap_err("SIGINT")?,
            terminate: unix::signal(SignalKind::terminate()).into_diagnostic().wrap_err("SIGTERM")?,
            hang_up: unix::signal(SignalKind::hangup()).into_diagnostic().wrap_err("SIGHUP")?,
        })
    }

    pub(super) async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.interrupt.recv() => Signal::INT,
            _ = self.terminate.recv() => Signal::TERM,
            _ = self.hang_up.recv() => Signal::HUP,
        }
    }
}
