//! A `wasmill run` process over a copy of the pipeline that ships, as a user would start it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::http;
use super::kafka::free_port;

/// A folder with pipeline.toml, the schemas and freshly built components.
pub(crate) struct Pipeline {
    folder: tempfile::TempDir,
}

impl Pipeline {
    /// The pipeline that ships; `edit` may change its text.
    pub(crate) fn shipped(edit: impl FnOnce(String) -> String) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let text = fs::read_to_string(root.join("pipeline.toml")).unwrap();
        fs::write(folder.path().join("pipeline.toml"), edit(text)).unwrap();
        for subfolder in ["schemas", "components"] {
            fs::create_dir(folder.path().join(subfolder)).unwrap();
        }
        fs::copy(root.join("schemas/order.json"), folder.path().join("schemas/order.json")).unwrap();
        for name in super::COMPONENTS {
            let component = folder.path().join(format!("components/{name}.wasm"));
            fs::copy(super::built_component(name), component).unwrap();
        }
        Self { folder }
    }

    /// A pipeline.toml with this text, and nothing else.
    pub(crate) fn written(text: &str) -> Self {
        let pipeline = Self { folder: tempfile::tempdir().unwrap() };
        pipeline.put("pipeline.toml", text.as_bytes());
        pipeline
    }

    /// Puts a file in the place of what is there, in one step.
    pub(crate) fn put(&self, name: &str, content: &[u8]) {
        super::rename_over(&self.path().join(name), content);
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn eml_files(&self) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(self.path().join("outbox")) else { return Vec::new() };
        let paths = entries.map(|entry| entry.unwrap().path());
        paths.filter(|path| path.extension().is_some_and(|e| e == "eml")).collect()
    }
}

pub(crate) struct Host {
    child: Child,
    pub(crate) address: String,
    log: PathBuf,
}

impl Host {
    /// Starts `wasmill run` in the pipeline's folder, listening on a free port unless `env` says where.
    pub(crate) fn start(pipeline: &Pipeline, brokers: &str, instance: &str, env: &[(&str, &str)]) -> Self {
        let log = pipeline.path().join(format!("{instance}.log"));
        let file = fs::OpenOptions::new().create(true).append(true).open(log).unwrap();
        Self::start_logging_to(pipeline, brokers, instance, env, file)
    }

    pub(crate) fn start_logging_to(
        pipeline: &Pipeline,
        brokers: &str,
        instance: &str,
        env: &[(&str, &str)],
        file: fs::File,
    ) -> Self {
        let listen = env.iter().find(|(name, _)| *name == "WASMILL_LISTEN");
        let address =
            listen.map_or_else(|| format!("127.0.0.1:{}", free_port()), |(_, to)| (*to).to_string());
        let log = pipeline.path().join(format!("{instance}.log"));
        let child = wasmill()
            .args(["run", "--brokers", brokers, "--instance", instance])
            .current_dir(pipeline.path())
            .env("WASMILL_LISTEN", &address)
            .env("WASMILL_STATE", pipeline.path().join("state"))
            .env("WASMILL_LOG_FORMAT", "text")
            .envs(env.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file)
            .spawn()
            .unwrap();
        Self { child, address, log }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// It outlives the host, as long as the pipeline's folder.
    pub(crate) fn path_of_log(&self) -> PathBuf {
        self.log.clone()
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// None when it doesn't answer.
    pub(crate) fn status(&self) -> Option<Value> {
        http::get(&self.url("/status")).map(|answer| answer.json())
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn ready(&mut self) {
        until(Duration::from_secs(60), || match self.child.try_wait().unwrap() {
            Some(status) => panic!("the host ended: {status}\n{}", self.log()),
            None => http::get(&self.url("/readyz")).is_some_and(|answer| answer.status == 200),
        })
        .unwrap_or_else(|()| panic!("not ready:\n{}", self.log()));
    }

    /// A signal to it, which ends it or not.
    pub(crate) fn signal(&self, name: &str) {
        signal(self.pid(), name);
    }

    pub(crate) fn sigkill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM or SIGINT; gives how it ended and how long it took.
    pub(crate) fn stop(mut self, signal_name: &str) -> (ExitStatus, Duration) {
        let started = Instant::now();
        signal(self.pid(), signal_name);
        let mut status = None;
        until(Duration::from_secs(20), || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        })
        .unwrap_or_else(|()| panic!("still there after 20 s:\n{}", self.log()));
        (status.unwrap(), started.elapsed())
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What /status says of a handler or a sink; null where there is none.
pub(crate) fn subscriber(status: &Value, name: &str) -> Value {
    let subscribers = status["subscribers"].as_array().unwrap();
    subscribers.iter().find(|subscriber| subscriber["name"] == name).cloned().unwrap_or_default()
}

/// How a verb ended, and what it said.
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {}\n{}", self.stdout, self.stderr))
    }
}

impl From<Output> for Ended {
    fn from(Output { status, stdout, stderr }: Output) -> Self {
        let [stdout, stderr] = [stdout, stderr].map(|text| String::from_utf8(text).unwrap());
        Self { code: status.code(), stdout, stderr }
    }
}

/// The program, in an environment that says nothing of its own about pipelines, mail servers, brokers or
/// collectors.
pub(crate) fn wasmill() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wasmill"));
    let ours =
        |name: &str| ["WASMILL_", "SMTP_", "MAIL_", "OTEL_"].iter().any(|prefix| name.starts_with(prefix));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(ours)) {
        command.env_remove(name);
    }
    command
}

pub(crate) fn signal(pid: u32, name: &str) {
    assert!(Command::new("kill").args(["-s", name, &pid.to_string()]).status().unwrap().success());
}

/// Asks every 20 ms until the condition holds; an error when it does not within `limit`.
pub(crate) fn until(limit: Duration, mut condition: impl FnMut() -> bool) -> Result<(), ()> {
    let deadline = Instant::now() + limit;
    while Instant::now() < deadline {
        if condition() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Err(())
}
