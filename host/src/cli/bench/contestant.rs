//! Who is measured: a process, and what the system says of it.

use std::fmt;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use miette::{IntoDiagnostic, WrapErr, miette};
use wasmill_anchors::{Task, fill};

use super::Ground;
use crate::cli::broker;
use crate::log::kafka::{End, Offsets};
use crate::process::Process;

/// No commit for so long, and all is done.
const QUIET: Duration = Duration::from_millis(400);
const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Native(Native),
    Host,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(super) enum Native {
    Plain,
    Overlapped,
}

impl Kind {
    pub(super) const ALL: [Self; 3] =
        [Self::Native(Native::Plain), Self::Native(Native::Overlapped), Self::Host];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Native(Native::Plain) => "plain",
            Self::Native(Native::Overlapped) => "overlapped",
            Self::Host => "host",
        }
    }

    /// The consumer group of who is named so.
    pub(super) fn group(self, name: &str) -> String {
        match self {
            Self::Native(_) => name.into(),
            Self::Host => format!("wasmill.{name}.bench"),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Killed when it is dropped.
pub(super) struct Contestant {
    child: Child,
    folder: PathBuf,
}

impl Contestant {
    /// Warmed up: it has joined its group, and has done [`Ground::warm_up`] events.
    pub(super) fn start(ground: &Ground, kind: Kind, task: &Task) -> miette::Result<Self> {
        let folder = std::env::temp_dir().join(&task.input);
        fs::create_dir_all(&folder).into_diagnostic()?;
        let program = std::env::current_exe().into_diagnostic()?;
        let mut command = Command::new(program);
        match kind {
            Kind::Native(native) => {
                let Some(which) = native.to_possible_value() else { unreachable!("none is hidden") };
                let batch = task.batch.to_string();
                command.args(["anchor", which.get_name(), &task.name, &task.input, &task.output, &batch]);
                command.args(["--brokers", &task.brokers]);
            }
            Kind::Host => {
                let config = folder.join("pipeline.toml");
                fs::write(&config, pipeline(ground, task)).into_diagnostic()?;
                command.arg("run").arg("--config").arg(&config).args(["--brokers", &task.brokers]);
                command.args(["--instance", "bench"]).env("WASMILL_STATE", folder.join("state"));
            }
        }
        let log = File::create(folder.join("log")).into_diagnostic()?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child =
            command.spawn().into_diagnostic().wrap_err("can't start another process of this program")?;
        let mut contestant = Self { child, folder };
        load(task, 0..ground.warm_up(), ground.bytes)?;
        contestant.until_quiet(ground, task, ground.warm_up())?;
        Ok(contestant)
    }

    /// Waits until so many are done in all, and nothing is committed any more.
    pub(super) fn until_quiet(&mut self, ground: &Ground, task: &Task, events: u64) -> miette::Result<()> {
        let mut offsets = offsets(ground)?;
        let (mut end, mut since) = (0, Instant::now());
        let started = Instant::now();
        loop {
            let now = ends(ground, &mut offsets, &task.output)?;
            if now != end {
                (end, since) = (now, Instant::now());
            } else if end >= events && since.elapsed() > QUIET {
                return Ok(());
            }
            let ended = self.child.try_wait().into_diagnostic()?;
            if ended.is_some() || started.elapsed() > PATIENCE {
                let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
                return Err(miette!(help = log, "{} has not done its {events} events", task.name));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Of the operating system.
    pub(super) fn process(&self) -> Process {
        Process::new(self.child.id())
    }
}

impl Drop for Contestant {
    fn drop(&mut self) {
        // It may have ended by itself; its folder is temporary anyway.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn pipeline(ground: &Ground, task: &Task) -> String {
    let name = task.input.trim_end_matches("-in");
    let (input, output) = (&task.input, &task.output);
    let (component, batch, shards) = (ground.component.display(), ground.batch, ground.partitions);
    format!(
        "name = \"{name}\"\n\
         kafka = {{ brokers = \"embedded\", partitions = {shards} }}\n\
         http = {{ listen = \"127.0.0.1:0\" }}\n\
         [handlers.bench]\n\
         component = \"{component}\"\n\
         subscribe = [\"{input}\"]\n\
         publish = [\"{output}\"]\n\
         shards = {shards}\n\
         limits = {{ batch = {batch} }}\n"
    )
}

/// Publishes these, visible at once.
pub(super) fn load(task: &Task, numbers: std::ops::Range<u64>, bytes: usize) -> miette::Result<()> {
    fill(&task.brokers, &task.input, numbers, bytes).into_diagnostic().wrap_err("can't publish the events")
}

pub(super) fn offsets(ground: &Ground) -> miette::Result<Offsets> {
    ground.cluster.offsets(End::Committed).map_err(|error| broker::refused(&ground.cluster, error))
}

/// Of all partitions of the topic together: records, and the markers of transactions.
pub(super) fn ends(ground: &Ground, offsets: &mut Offsets, topic: &str) -> miette::Result<u64> {
    let topic: [Arc<str>; 1] = [topic.into()];
    let extents = offsets.extents(&topic).map_err(|error| broker::refused(&ground.cluster, error))?;
    Ok(extents.values().map(|extent| u64::try_from(extent.end).unwrap_or_default()).sum())
}
