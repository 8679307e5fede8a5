//! Ctrl-C, for a verb that stops between two steps and tells how far it came.

use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use miette::IntoDiagnostic;

use crate::stops::Stops;

/// The exit code after a second signal: a shell's for SIGINT.
const INTERRUPTED: i32 = 130;

#[derive(Clone)]
pub(super) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// From now on the first SIGINT or SIGTERM is noted, and the second one ends the process.
    pub(super) fn listen() -> miette::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().into_diagnostic()?;
        let entered = runtime.enter();
        let mut stops = Stops::listen()?;
        drop(entered);
        let given = Arc::new(AtomicBool::new(false));
        let noted = given.clone();
        let hears = move || {
            runtime.block_on(async {
                let name = stops.next().await;
                noted.store(true, Ordering::Relaxed);
                tell!("{name}: stopping (once more to leave at once)");
                stops.another().await;
                process::exit(INTERRUPTED);
            });
        };
        thread::Builder::new().name("interrupt".into()).spawn(hears).into_diagnostic()?;
        Ok(Self(given))
    }

    pub(super) fn given(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
