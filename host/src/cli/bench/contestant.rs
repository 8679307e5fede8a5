//! Who is measured: a process, or several of the host, and what the system says of them.

use std::fmt;
use std::fs::{self, File};
use std::io;
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
/// In the contestant's folder.
const PIPELINE: &str = "pipeline.toml";

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

    /// All, another one first in each round.
    pub(super) fn in_turn(round: u32) -> [Self; 3] {
        let mut all = Self::ALL;
        all.rotate_left(round as usize % 3);
        all
    }

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
    processes: Vec<Child>,
    folder: PathBuf,
}

impl Contestant {
    /// Warmed up: it has joined its group, and has done [`Ground::warm_up`] events.
    pub(super) fn start(ground: &Ground, kind: Kind, task: &Task) -> miette::Result<Self> {
        let folder = std::env::temp_dir().join(&task.input);
        fs::create_dir_all(&folder).into_diagnostic()?;
        fs::write(folder.join(PIPELINE), pipeline(ground, task)).into_diagnostic()?;
        let mut contestant = Self { processes: Vec::new(), folder };
        let count = match kind {
            Kind::Native(_) => 1,
            Kind::Host => ground.processes,
        };
        for number in 0..count {
            let process = contestant.process(kind, task, number)?;
            contestant.processes.push(process);
        }
        load(task, 0..ground.warm_up(), ground.bytes)?;
        contestant.until_quiet(ground, task, ground.warm_up())?;
        Ok(contestant)
    }

    fn process(&self, kind: Kind, task: &Task, number: u32) -> miette::Result<Child> {
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
                command.arg("run").arg("--config").arg(self.folder.join(PIPELINE));
                command.args(["--brokers", &task.brokers, "--instance", &format!("bench-{number}")]);
                command.env("WASMILL_STATE", self.folder.join(format!("state-{number}")));
            }
        }
        // What the caller's environment says of hosts is not meant for this one.
        for variable in ["WASMILL_LOG", "WASMILL_ADMIN_TOKEN", "WASMILL_INSTANCE"] {
            command.env_remove(variable);
        }
        let log =
            File::options().create(true).append(true).open(self.folder.join("log")).into_diagnostic()?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        command.spawn().into_diagnostic().wrap_err("can't start another process of this program")
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
            let mut ended = false;
            for process in &mut self.processes {
                ended |= process.try_wait().into_diagnostic()?.is_some();
            }
            if ended || started.elapsed() > PATIENCE {
                let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
                return Err(miette!(help = log, "{} has not done its {events} events", task.name));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What the system says of its processes, together.
    pub(super) fn sum(&self, of: impl Fn(&Process) -> io::Result<f64>) -> miette::Result<f64> {
        self.processes
            .iter()
            .map(|process| of(&Process::new(process.id())))
            .sum::<io::Result<f64>>()
            .into_diagnostic()
    }
}

impl Drop for Contestant {
    fn drop(&mut self) {
        // It may have ended by itself; its folder is temporary anyway.
        for process in &mut self.processes {
            let _ = process.kill();
            let _ = process.wait();
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn pipeline(ground: &Ground, task: &Task) -> String {
    let name = task.input.trim_end_matches("-in");
    let (input, output) = (&task.input, &task.output);
    let (component, batch, partitions) = (ground.component.display(), ground.batch, ground.partitions);
    let shards = partitions.div_ceil(ground.processes);
    format!(
        "name = \"{name}\"\n\
         kafka = {{ brokers = \"embedded\", partitions = {partitions} }}\n\
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
fn ends(ground: &Ground, offsets: &mut Offsets, topic: &str) -> miette::Result<u64> {
    let topic: [Arc<str>; 1] = [topic.into()];
    let extents = offsets.extents(&topic).map_err(|error| broker::refused(&ground.cluster, error))?;
    Ok(extents.values().map(|extent| u64::try_from(extent.end).unwrap_or_default()).sum())
}
