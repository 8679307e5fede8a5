//! Who is measured: a process, or several of the host, and what the system says of them.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use miette::{IntoDiagnostic, WrapErr, miette};
use wasmill_anchors::{Group, Task, fill};

use super::Ground;
use crate::cli::broker;
use crate::event::TopicPartition;
use crate::log::kafka::{End, Offsets};
use crate::process::Process;

/// Between two looks at how far it is.
const TICK: Duration = Duration::from_millis(20);
/// No output for so long: perhaps all is done.
const QUIET: Duration = Duration::from_millis(400);
/// Without any progress.
const PATIENCE: Duration = Duration::from_secs(120);
/// What the caller's environment says of hosts and of collectors is not meant for this one.
const NOT_MEANT: [&str; 2] = ["WASMILL_", "OTEL_"];
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
    /// Warmed up: all of it has joined its group, and it has done [`Ground::warm_up`] events.
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
        let members = match kind {
            Kind::Native(_) => 1,
            Kind::Host => ground.processes * ground.shards(),
        };
        contestant.until_joined(ground, task, members as usize)?;
        load(task, 0..ground.warm_up(), ground.bytes)?;
        contestant.until_done(ground, task)?;
        Ok(contestant)
    }

    fn process(&self, kind: Kind, task: &Task, number: u32) -> miette::Result<Child> {
        let program = std::env::current_exe().into_diagnostic()?;
        let mut command = Command::new(program);
        let not_meant = |name: &str| NOT_MEANT.iter().any(|prefix| name.starts_with(prefix));
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(not_meant)) {
            command.env_remove(name);
        }
        command.stdin(Stdio::null());
        match kind {
            Kind::Native(native) => {
                let Some(which) = native.to_possible_value() else { unreachable!("none is hidden") };
                let batch = task.batch.to_string();
                command.args(["anchor", which.get_name(), &task.name, &task.input, &task.output, &batch]);
                command.args(["--brokers", &task.brokers]);
                // Held open by this process, however it ends: the loop ends with it.
                command.stdin(Stdio::piped());
            }
            Kind::Host => {
                command.args(["run", "--log-format", "text", "--config"]).arg(self.folder.join(PIPELINE));
                command.args(["--brokers", &task.brokers, "--instance", &format!("bench-{number}")]);
                command.env("WASMILL_STATE", self.folder.join(format!("state-{number}")));
            }
        }
        let log =
            File::options().create(true).append(true).open(self.folder.join("log")).into_diagnostic()?;
        command.stdout(Stdio::null()).stderr(log);
        command.spawn().into_diagnostic().wrap_err("can't start another process of this program")
    }

    /// Waits until so many consumers, which are all of its, share the partitions: one that came later would take some from the
    /// others while they are measured, and not have warmed up.
    fn until_joined(&mut self, ground: &Ground, task: &Task, members: usize) -> miette::Result<()> {
        let group = Group::new(&task.brokers, &task.name).into_diagnostic()?;
        let since = Instant::now();
        // While the broker can't tell, it is not so.
        while !group.is_settled(members).unwrap_or(false) {
            self.check(
                ground,
                since,
                &format!("{} has not joined its group, as {members} in all", task.name),
            )?;
            thread::sleep(TICK);
        }
        Ok(())
    }

    /// Waits until all of its input is done. Gives what its processes had taken of the processor when the last output came,
    /// in seconds. That the end is noticed later costs nothing: the outputs bear the time that is measured.
    pub(super) fn until_done(&mut self, ground: &Ground, task: &Task) -> miette::Result<f64> {
        let mut offsets = offsets(ground)?;
        let (mut end, mut since, mut processor) = (None, Instant::now(), 0.0);
        let mut asked = since;
        loop {
            self.check(ground, since, &format!("{} has not done all of its events", task.name))?;
            let now = Some(end_of(ground, &mut offsets, &task.output)?);
            if now != end {
                (end, since, processor) = (now, Instant::now(), self.sum(Process::processor_seconds)?);
            } else if since.elapsed() > QUIET && asked.elapsed() > QUIET {
                // A contestant may pause for as long: it is its group that tells.
                if has_committed_all(ground, &mut offsets, task)? {
                    return Ok(processor);
                }
                asked = Instant::now();
            }
            thread::sleep(TICK);
        }
    }

    /// Fails when one of its processes has ended, or nothing has come of them for too long, or this one is told to stop.
    fn check(&mut self, ground: &Ground, since: Instant, complaint: &str) -> miette::Result<()> {
        ground.may_go_on()?;
        let mut ended = false;
        for process in &mut self.processes {
            ended |= process.try_wait().into_diagnostic()?.is_some();
        }
        if ended || since.elapsed() > PATIENCE {
            let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
            return Err(miette!(help = log, "{complaint}"));
        }
        Ok(())
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
    let shards = ground.shards();
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

/// Publishes these, visible at once: when, in microseconds since the epoch.
pub(super) fn load(task: &Task, numbers: Range<u64>, bytes: usize) -> miette::Result<u64> {
    fill(&task.brokers, &task.input, numbers, bytes).into_diagnostic().wrap_err("can't publish the events")
}

pub(super) fn offsets(ground: &Ground) -> miette::Result<Offsets> {
    ground.cluster.offsets(End::Committed).map_err(|error| broker::refused(&ground.cluster, error))
}

/// What is committed of each partition of the topic: records, and the markers of transactions.
pub(super) fn extents(
    ground: &Ground,
    offsets: &mut Offsets,
    topic: &str,
) -> miette::Result<BTreeMap<TopicPartition, Range<i64>>> {
    offsets.extents(&[topic.into()]).map_err(|error| broker::refused(&ground.cluster, error))
}

/// Of all partitions together. It grows with each commit.
fn end_of(ground: &Ground, offsets: &mut Offsets, topic: &str) -> miette::Result<i64> {
    Ok(extents(ground, offsets, topic)?.values().map(|extent| extent.end).sum())
}

/// Whether the contestant's group has committed its whole input.
fn has_committed_all(ground: &Ground, offsets: &mut Offsets, task: &Task) -> miette::Result<bool> {
    let input = extents(ground, offsets, &task.input)?;
    let committed = ground
        .cluster
        .progress(&task.name, input.keys().cloned())
        .map_err(|error| broker::refused(&ground.cluster, error))?;
    // The last offset of a partition is that of a marker, of the transaction by which it was filled.
    Ok(input.iter().all(|(partition, extent)| {
        extent.is_empty()
            || committed.get(partition).is_some_and(|progress| progress.offset + 1 >= extent.end)
    }))
}
