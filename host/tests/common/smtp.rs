//! A real SMTP server for tests: smtp_sink.py, in a Python environment made once under target/.
//!
//! Needs python3 (with venv) and, the first time, PyPI. Never skipped silently: without them a test fails
//! and says so.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// The versions that the tests were written against.
const PACKAGES: [&str; 2] = ["aiosmtpd==1.4.6", "trustme==1.2.1"];

pub(crate) struct SmtpServer {
    pub(crate) port: u16,
    process: Child,
    /// The server ends when this closes: with this value, or with the test process, however it dies.
    stdin: Option<ChildStdin>,
    lines: BufReader<ChildStdout>,
    certificates: TempDir,
    /// How many connections the lines read so far told of.
    pub(crate) connections: u64,
}

impl SmtpServer {
    pub(crate) fn start(options: &[&str]) -> Self {
        let certificates = tempfile::tempdir().expect("a temporary folder");
        let mut process = Command::new(python())
            // Deprecations between the packages are not the reader's concern.
            .args(["-W", "ignore"])
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/smtp_sink.py"))
            .arg("--certificates")
            .arg(certificates.path())
            .args(options)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("smtp_sink.py starts");
        let stdin = process.stdin.take();
        let lines = BufReader::new(process.stdout.take().expect("stdout is piped"));
        let mut server = Self { port: 0, process, stdin, lines, certificates, connections: 0 };
        let port = server.line()["listening"].as_u64().expect("the first line tells the port");
        server.port = port.try_into().expect("a port");
        server
    }

    /// The CA that signed the server's certificate, which is for localhost.
    pub(crate) fn ca_file(&self) -> PathBuf {
        self.certificates.path().join("ca.pem")
    }

    /// The next mail that the server accepted. Waits for it: the server tells before it answers the client.
    pub(crate) fn mail(&mut self) -> Value {
        loop {
            let mut line = self.line();
            if line["mail"].is_object() {
                return line["mail"].take();
            }
        }
    }

    /// Ends the server and gives all mails that nobody asked for.
    pub(crate) fn stop(mut self) -> Vec<Value> {
        self.stdin = None;
        let mut mails = Vec::new();
        let mut line = String::new();
        while self.lines.read_line(&mut line).expect("the server's output is readable") > 0 {
            let mut parsed: Value = serde_json::from_str(&line).expect("the server prints JSON lines");
            self.connections += u64::from(parsed["connected"].is_number());
            mails.extend(parsed.get_mut("mail").map(Value::take));
            line.clear();
        }
        mails
    }

    fn line(&mut self) -> Value {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("the server's output is readable");
        assert!(!line.is_empty(), "smtp_sink.py ended; its stderr above says why");
        let line: Value = serde_json::from_str(&line).expect("the server prints JSON lines");
        self.connections += u64::from(line["connected"].is_number());
        line
    }
}

impl Drop for SmtpServer {
    fn drop(&mut self) {
        self.stdin = None;
        let _ended_already = self.process.kill();
        let _reaped = self.process.wait();
    }
}

/// The environment's interpreter. Test processes that run at the same time take turns in making it.
fn python() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("smtp-sink");
    let python = folder.join("bin/python3");
    let made = folder.join("made-of");
    fs::create_dir_all(&folder).expect("target/ can be written");
    let turn = File::create(folder.join("lock")).expect("target/ can be written");
    turn.lock().expect("the lock can be had");
    if fs::read_to_string(&made).is_ok_and(|packages| packages == PACKAGES.join(" ")) {
        return python;
    }
    run(Command::new("python3").args(["-m", "venv"]).arg(&folder));
    run(Command::new(&python)
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
        .args(PACKAGES));
    fs::write(made, PACKAGES.join(" ")).expect("target/ can be written");
    python
}

fn run(command: &mut Command) {
    let status = command.status().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(status.success(), "{command:?} failed: {status}");
}
