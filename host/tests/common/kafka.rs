//! A real Apache Kafka for tests: the one that $WASMILL_TEST_BROKERS names, or one that this process starts.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

/// The bootstrap address. The first call of the process starts the broker, which takes some seconds; it
/// dies with the process, because the process holds the other end of its standard input. A broker that
/// can't be had fails the test.
pub(crate) fn broker() -> &'static str {
    static SHARED: OnceLock<String> = OnceLock::new();
    static STARTED: OnceLock<Kafka> = OnceLock::new();
    SHARED.get_or_init(|| match std::env::var("WASMILL_TEST_BROKERS") {
        Ok(address) if !address.is_empty() => address,
        Ok(_) | Err(_) => STARTED.get_or_init(Kafka::start).address.clone(),
    })
}

/// A broker of one's own, empty at first; ends when it is dropped.
pub(crate) struct Kafka {
    pub(crate) address: String,
    /// The script, which holds the pipe; the broker is its child.
    script: Child,
}

impl Kafka {
    pub(crate) fn start() -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../kafka/start");
        let port = free_port();
        let mut child = Command::new(&script)
            .args(["--temporary", "--port", &port.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("{}: {e}", script.display()));
        let stdout = child.stdout.take().expect("a pipe");
        let ready = BufReader::new(stdout)
            .lines()
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix("ready: ").map(str::to_string));
        let address = ready.expect("kafka/start ends without being ready; its standard error says why");
        Self { address, script: child }
    }

    #[allow(dead_code)] // not every suite sends signals
    /// A signal to the broker's process: `STOP` turns it into a black hole, `CONT` back.
    pub(crate) fn signal(&self, name: &str) {
        let script = self.script.id().to_string();
        let sent = Command::new("pkill").args([&format!("-{name}"), "-P", &script]).status();
        assert!(sent.expect("pkill (procps) is there").success(), "the broker's process is gone");
    }
}

/// Free a moment ago, with the controller's (10,000 from it) as well.
fn free_port() -> u16 {
    loop {
        let probe = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = probe.local_addr().expect("an address").port();
        let controller = if port < 55536 { port + 10000 } else { port - 10000 };
        if TcpListener::bind(("127.0.0.1", controller)).is_ok() {
            return port;
        }
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        drop(self.script.stdin.take());
        // The script ends when its standard input does.
        let _ = self.script.wait();
    }
}
