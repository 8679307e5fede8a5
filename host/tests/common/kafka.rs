//! A real Apache Kafka for tests: the one that $WASMILL_TEST_BROKERS names, or one that this process starts.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

/// The bootstrap address of the broker that the tests of this process share. The first call starts it, which
/// takes some seconds. A broker that can't be had fails the test.
pub(crate) fn broker() -> &'static str {
    static SHARED: OnceLock<(String, Option<Broker>)> = OnceLock::new();
    let (address, _) = SHARED.get_or_init(|| match std::env::var("WASMILL_TEST_BROKERS") {
        Ok(address) if !address.is_empty() => (address, None),
        Ok(_) | Err(_) => {
            let broker = Broker::start(free_port(), &["--temporary".as_ref()]);
            (broker.address.clone(), Some(broker))
        }
    });
    address
}

/// A broker of a test's own. It dies with the test process, which holds its standard input.
pub(crate) struct Broker {
    pub(crate) address: String,
    script: Child,
}

impl Broker {
    /// Empty at first.
    pub(crate) fn start_empty() -> Self {
        Self::start(free_port(), &["--temporary".as_ref()])
    }

    /// Keeps its records in `data`, for the next start at the same port.
    pub(crate) fn start_with(data: &Path, port: u16) -> Self {
        Self::start(port, &["--with-stdin".as_ref(), "--data".as_ref(), data])
    }

    /// The same, and with these lines in its configuration.
    pub(crate) fn start_with_properties(data: &Path, port: u16, properties: &Path) -> Self {
        let options = ["--with-stdin".as_ref(), "--data".as_ref(), data, "--properties".as_ref(), properties];
        Self::start(port, &options)
    }

    /// With these lines in its configuration, and this SCRAM user (`NAME:PASSWORD`).
    pub(crate) fn start_secured(port: u16, properties: &Path, user: &str) -> Self {
        let options = ["--temporary", "--user", user, "--properties"].map(Path::new);
        Self::start(port, &[&options[..], &[properties]].concat())
    }

    fn start(port: u16, arguments: &[&Path]) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../kafka/start");
        let mut child = Command::new(&script)
            .args(["--port", &port.to_string()])
            .args(arguments)
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

    /// A signal to the broker's process: `STOP` turns it into a black hole, `CONT` back.
    pub(crate) fn signal(&self, name: &str) {
        assert!(self.signalled(name), "the broker's process is gone");
    }

    fn signalled(&self, name: &str) -> bool {
        let script = self.script.id().to_string();
        let sent = Command::new("pkill").args([&format!("-{name}"), "-P", &script, "java"]).status();
        sent.expect("pkill (procps) is there").success()
    }

    /// As SIGTERM does: in good order. Returns when it is gone.
    pub(crate) fn stop(self) {
        self.signal("TERM");
        while self.signalled("0") {
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// As SIGKILL does; returns when it is gone.
    pub(crate) fn kill(self) {
        drop(self);
    }
}

/// Lines for the configuration of a broker that is open at `port`, and at `sasl` for `ada` by SASL PLAIN with this password.
pub(crate) fn with_login(port: u16, sasl: u16, password: &str) -> String {
    let controller = controller_port(port);
    format!(
        "listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller},SASL://127.0.0.1:{sasl}\n\
         advertised.listeners=PLAINTEXT://127.0.0.1:{port},SASL://127.0.0.1:{sasl}\n\
         listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL:SASL_PLAINTEXT\n\
         sasl.enabled.mechanisms=PLAIN\n\
         listener.name.sasl.plain.sasl.jaas.config=\
         org.apache.kafka.common.security.plain.PlainLoginModule required user_ada=\"{password}\";\n"
    )
}

/// Free a moment ago, and so was the controller's that a broker at this port takes.
pub(crate) fn free_port() -> u16 {
    let is_free = |port| TcpListener::bind(("127.0.0.1", port)).is_ok();
    loop {
        let probe = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = probe.local_addr().expect("an address").port();
        if is_free(controller_port(port)) {
            return port;
        }
    }
}

/// Where kafka/start puts the controller of a broker at `port`.
pub(crate) fn controller_port(port: u16) -> u16 {
    if port < 55536 { port + 10000 } else { port - 10000 }
}

impl Drop for Broker {
    fn drop(&mut self) {
        drop(self.script.stdin.take());
        // The script kills the broker, and ends, when its standard input does.
        let _ = self.script.wait();
    }
}
