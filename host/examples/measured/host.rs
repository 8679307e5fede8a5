//! A host that is measured: `wasmill run` beside this program.
#![allow(dead_code)] // each example is a crate of its own and uses what it needs

use std::error::Error;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use wasmill::process::Process;

const PATIENCE: Duration = Duration::from_secs(300);
/// For an answer of the host.
const ANSWER: Duration = Duration::from_secs(5);
/// What the caller's environment says of hosts and of collectors is not meant for this one.
const NOT_MEANT: [&str; 2] = ["WASMILL_", "OTEL_"];

/// Removed when it is dropped.
pub(crate) struct Folder {
    directory: TempDir,
    /// That nobody else has.
    pub(crate) name: String,
}

impl Folder {
    pub(crate) fn new(purpose: &str) -> Result<Self, Box<dyn Error>> {
        let name = format!("wasmill-{purpose}-{}", uuid::Uuid::now_v7().simple());
        Ok(Self { directory: tempfile::tempdir()?, name })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The same code as `component`, as another version: with a number in a custom section, which nobody reads.
    pub(crate) fn put(&self, name: &str, component: &Path, number: u32) -> Result<(), Box<dyn Error>> {
        let mut code = fs::read(component)?;
        let number = format!("{number:08x}");
        // Its id, its size, the length of its name, its name.
        code.extend([0, number.len() as u8 + 1, number.len() as u8]);
        code.extend(number.into_bytes());
        let whole = self.path(&format!("{name}.new"));
        fs::write(&whole, code)?;
        Ok(fs::rename(whole, self.path(name))?)
    }
}

/// Killed when it is dropped.
pub(crate) struct Host {
    child: Child,
    port: u16,
}

impl Host {
    /// Of this pipeline, whose brokers are replaced by these, and which is to name no listener. Returns when it is ready.
    pub(crate) fn start(folder: &Folder, pipeline: &str, brokers: &str) -> Result<Self, Box<dyn Error>> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let config = folder.path("pipeline.toml");
        fs::write(&config, format!("http.listen = \"127.0.0.1:{port}\"\n{pipeline}"))?;
        let log = folder.path("log");
        let mut command = Command::new(std::env::current_exe()?.with_file_name("../wasmill"));
        let not_meant = |name: &str| NOT_MEANT.iter().any(|prefix| name.starts_with(prefix));
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(not_meant)) {
            command.env_remove(name);
        }
        let child = command
            .args(["run", "--log-format", "text", "--config"])
            .arg(config)
            .args(["--brokers", brokers, "--instance", "measured"])
            .env("WASMILL_STATE", folder.path("state"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log)?)
            .spawn()?;
        let mut host = Self { child, port };
        let started = Instant::now();
        while host.get("/readyz").is_err() {
            if started.elapsed() > PATIENCE || host.child.try_wait()?.is_some() {
                return Err(fs::read_to_string(log)?.into());
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(host)
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn process(&self) -> Process {
        Process::new(self.id())
    }

    /// Fails once it has ended.
    pub(crate) fn check(&mut self) -> Result<(), Box<dyn Error>> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => Err(format!("the host is gone: {status}").into()),
        }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// What it answers with 200.
    pub(crate) fn get(&self, path: &str) -> Result<String, Box<dyn Error>> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(ANSWER))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        if head.starts_with("HTTP/1.1 200") { Ok(body.into()) } else { Err(head.into()) }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
