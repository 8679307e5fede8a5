//! Where a page is tried: a copy of the repository as one has it after a clone, and terminals in it.
//!
//! What differs from a user's machine: the host is there without being built once more, and so is `just`: a cargo that
//! is asked for them says that it's done; ports are free ones in the place of those that the pages name; and what cargo compiles on
//! its way is shared by all pages, below target/docs.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use crate::common::host::until;
use crate::common::kafka::{controller_port, free_port};
use crate::common::{COMPONENTS, built_component, root};
use crate::shown::fits_in_order;

/// The ports that pages, pipeline.toml and `just kafka` name; beside these, the one of Kafka's controller.
const PORTS: [&str; 4] = ["8080", "8081", "9092", "9093"];
/// What a clone doesn't have.
const NOT_CLONED: [&str; 5] = [".git", ".kafka", "bench.json", "outbox", "target"];
/// The first build of a component compiles all that it needs, on a machine that may be busy.
const MOST: Duration = Duration::from_secs(400);

const CARGO: &str = r#"#!/bin/sh
case "$*" in
    "build --release --locked -p wasmill" | "install --locked just") ;;
    *) exec "$REAL_CARGO" "$@" ;;
esac
"#;

pub(crate) struct Desk {
    folder: PathBuf,
    ports: Vec<(&'static str, String)>,
    blocks: usize,
    shell: Child,
    /// The last one that was opened is the first to be closed.
    others: Vec<Terminal>,
}

/// One that something runs in until its standard input ends; so it does as well when this process dies.
struct Terminal {
    script: String,
    log: PathBuf,
    /// Bytes of it that the page has told of.
    told: usize,
    process: Child,
}

impl Desk {
    /// A fresh clone; with the components, if the page takes them for built.
    pub(crate) fn new(page: &str, built: bool) -> Self {
        let folder = root().canonicalize().unwrap().join("target/docs").join(page.replace('/', "-"));
        if folder.exists() {
            fs::remove_dir_all(&folder).unwrap();
        }
        let clone = folder.join("clone");
        copy(root(), &clone);
        let free = PORTS.map(|port| (port, free_port()));
        let controller = controller_port(free[2].1);
        let ports = [("19092", controller)]
            .into_iter()
            .chain(free)
            .map(|(port, free)| (port, free.to_string()))
            .collect();
        for file in ["pipeline.toml", "justfile", "kafka/start"] {
            let text = fs::read_to_string(clone.join(file)).unwrap();
            fs::write(clone.join(file), with_ports(&text, &ports)).unwrap();
        }
        for name in COMPONENTS.iter().filter(|_| built) {
            fs::copy(built_component(name), clone.join(format!("components/{name}.wasm"))).unwrap();
        }
        fs::create_dir_all(clone.join("target/release")).unwrap();
        symlink(env!("CARGO_BIN_EXE_wasmill"), clone.join("target/release/wasmill")).unwrap();
        // Fetched once for all tests.
        let fetched = root().canonicalize().unwrap().join(".kafka");
        if fetched.join("stamp").exists() {
            fs::create_dir(clone.join(".kafka")).unwrap();
            symlink(fetched.join("libs"), clone.join(".kafka/libs")).unwrap();
            fs::copy(fetched.join("stamp"), clone.join(".kafka/stamp")).unwrap();
        }
        let tools = folder.join("tools");
        fs::create_dir(&tools).unwrap();
        fs::write(tools.join("cargo"), CARGO).unwrap();
        fs::set_permissions(tools.join("cargo"), fs::Permissions::from_mode(0o755)).unwrap();
        let shell = bash(&folder).stdin(Stdio::piped()).spawn().unwrap();
        Self { folder, ports, blocks: 0, shell, others: Vec::new() }
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.join("clone").join(name)
    }

    pub(crate) fn with_ports(&self, text: &str) -> String {
        with_ports(text, &self.ports)
    }

    /// In the first terminal, which keeps its folder and its variables: what is shown, or what went wrong.
    pub(crate) fn run(&mut self, script: &str) -> Result<String, String> {
        let (file, out) = self.block(script);
        let done = out.with_extension("done");
        self.type_in(&format!(
            "set -eo pipefail; . {file:?} >{out:?} 2>&1 </dev/null; echo >{done:?}; set +eo pipefail"
        ));
        let mut ended = None;
        let in_time = until(MOST, || {
            ended = self.shell.try_wait().unwrap();
            ended.is_some() || done.exists()
        });
        let shown = fs::read_to_string(out).unwrap_or_default();
        match (in_time, ended) {
            (Ok(()), None) => Ok(shown),
            (Ok(()), Some(status)) => Err(format!("{status}:\n{shown}")),
            (Err(()), _) => Err(format!("not done within {MOST:?}:\n{shown}")),
        }
    }

    /// There as well, but whatever becomes of it: whether it worked, and what is shown.
    pub(crate) fn attempt(&mut self, script: &str) -> Result<(bool, String), String> {
        let (file, out) = self.block(script);
        let code = out.with_extension("code");
        self.run(&format!(
            "(set -eo pipefail; . {file:?}) >{out:?} 2>&1 && echo 0 >{code:?} || echo 1 >{code:?}"
        ))?;
        Ok((fs::read_to_string(code).unwrap() == "0\n", fs::read_to_string(out).unwrap()))
    }

    /// Again and again, until it works and shows what it should.
    pub(crate) fn eventually(
        &mut self,
        script: &str,
        shows: impl Fn(&str) -> Result<(), String>,
    ) -> Result<(), String> {
        let mut last = String::new();
        let result = until(MOST, || match self.attempt(script) {
            Ok((worked, shown)) => {
                let fits = shows(&shown);
                last = fits.as_ref().err().unwrap_or(&shown).clone();
                worked && fits.is_ok()
            }
            Err(problem) => {
                last = problem;
                false
            }
        });
        result.map_err(|()| format!("not within {MOST:?}; at last:\n{last}"))
    }

    /// In a terminal of its own. Returns when its log shows what it should and it goes on.
    pub(crate) fn begin(
        &mut self,
        script: &str,
        shows: impl Fn(&str) -> Result<(), String>,
    ) -> Result<(), String> {
        let (file, log) = self.block(script);
        // The variables of the first terminal are there too: a user has them in both, or needs none.
        let [variables, ended] = ["variables", "ended"].map(|name| log.with_extension(name));
        self.run(&format!("export -p >{variables:?}"))?;
        let process = bash(&self.folder)
            .arg("-c")
            .arg(format!(
                "set -m; {{ (. {variables:?}; set -eo pipefail; . {file:?}) >{log:?} 2>&1 </dev/null; echo >{ended:?}; }} & \
                 job=$!; \
                 read -r; kill -INT -- -$job; \
                 for i in {{1..250}}; do kill -0 -- -$job || exit 0; sleep 0.1; done; kill -KILL -- -$job"
            ))
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        self.others.push(Terminal { script: script.into(), log: log.clone(), told: 0, process });
        let mut fits = Ok(());
        let in_time = until(MOST, || {
            fits = shows(&fs::read_to_string(&log).unwrap_or_default());
            fits.is_ok() || ended.exists()
        });
        in_time.map_err(|()| format!("not within {MOST:?}")).and(fits)?;
        if ended.exists() { Err("it has ended, and should go on".into()) } else { Ok(()) }
    }

    /// What has come since the page last spoke of a log shows this, or soon will.
    pub(crate) fn log_shows(&mut self, expected: &str) -> Result<(), String> {
        let others = &mut self.others;
        let in_time = until(MOST, || {
            others.iter_mut().any(|terminal| {
                let log = fs::read_to_string(&terminal.log).unwrap_or_default();
                let shows = fits_in_order(log.get(terminal.told..).unwrap_or_default(), expected).is_ok();
                if shows {
                    terminal.told = log.len();
                }
                shows
            })
        });
        in_time.map_err(|()| format!("not within {MOST:?}"))
    }

    /// In the terminals that run such a command.
    pub(crate) fn ctrl_c(&mut self, command: &str) -> Result<(), String> {
        let (end, go_on): (Vec<_>, Vec<_>) =
            self.others.drain(..).partition(|terminal| terminal.script.contains(command));
        self.others = go_on;
        if end.is_empty() { Err(format!("nothing that has {command:?} in it runs")) } else { Ok(()) }
    }

    pub(crate) fn logs(&self) -> String {
        let log = |terminal: &Terminal| {
            let log = fs::read_to_string(&terminal.log).unwrap_or_default();
            format!("--- {}\n{log}", terminal.script.trim_end())
        };
        self.others.iter().map(log).collect()
    }

    /// Its script, and the file for what it shows.
    fn block(&mut self, script: &str) -> (PathBuf, PathBuf) {
        self.blocks += 1;
        let file = self.folder.join(format!("{}.sh", self.blocks));
        fs::write(&file, script).unwrap();
        let out = file.with_extension("out");
        (file, out)
    }

    fn type_in(&mut self, line: &str) {
        let stdin: &mut ChildStdin = self.shell.stdin.as_mut().unwrap();
        // One that has ended says so by itself.
        let _ = std::io::Write::write_all(stdin, format!("{line}\n").as_bytes());
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        while let Some(terminal) = self.others.pop() {
            drop(terminal);
        }
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        // It leaves within 25 s, whatever runs in it.
        let _ = self.process.wait();
    }
}

/// As a user's, in the clone.
fn bash(folder: &Path) -> Command {
    let mut bash = Command::new("bash");
    for (name, _) in std::env::vars_os() {
        let told = name.to_str().is_some_and(|name| {
            ["WASMILL_", "SMTP_", "MAIL_", "CARGO_"].iter().any(|prefix| name.starts_with(prefix))
        });
        if told && name != "CARGO_HOME" {
            bash.env_remove(name);
        }
    }
    let path = std::env::var("PATH").unwrap();
    bash.current_dir(folder.join("clone"))
        .env_remove("CARGO")
        .env("REAL_CARGO", env!("CARGO"))
        .env("PATH", format!("{}:{path}", folder.join("tools").display()))
        .env("CARGO_BUILD_BUILD_DIR", folder.with_file_name("build"))
        // As the workspace has them, so that new crates can share what was compiled for it.
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16")
        .env("CARGO_PROFILE_RELEASE_DEBUG", "false")
        .env("CARGO_PROFILE_RELEASE_LTO", "off")
        .env("WASMILL_STATE", folder.join("state"))
        // As on the terminal that a page speaks of.
        .env("WASMILL_LOG_FORMAT", "text")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0);
    bash
}

fn with_ports(text: &str, ports: &Vec<(&'static str, String)>) -> String {
    ports.iter().fold(text.to_string(), |text, (port, free)| text.replace(port, free))
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (name, path) = (entry.file_name(), entry.path());
        let is_component = path.extension().is_some_and(|extension| extension == "wasm");
        if is_component || NOT_CLONED.iter().any(|not| name == **not) {
            continue;
        }
        if path.is_dir() {
            copy(&path, &to.join(name));
        } else {
            fs::copy(&path, to.join(name)).unwrap();
        }
    }
}
