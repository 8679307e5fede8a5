//! The hosts, the component's file that both of them watch, and what they say about it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::common::host::{Host, Pipeline, subscriber, until};
use crate::common::{built_component, built_guest, digest, version};
use crate::installs::{How, touch};

/// For anything that a host is to do.
const SOON: Duration = Duration::from_secs(30);

/// Every commit and every swap in a line of its own, with its microsecond.
const LOG: (&str, &str) =
    ("WASMILL_LOG", "info,wasmill::supervisor::run=trace,wasmill::supervisor::deployer=debug");

pub(crate) struct Mill {
    pipeline: Pipeline,
    component: PathBuf,
    brokers: String,
    state: TempDir,
    /// By instance.
    hosts: BTreeMap<&'static str, Host>,
    /// The digests of all files that were to run, in order.
    swapped: Vec<String>,
}

const ONE: &str = "one";
const TWO: &str = "two";

impl Mill {
    pub(crate) fn start(brokers: &str) -> Self {
        let pipeline = Pipeline::shipped(order_formatter_alone);
        let component = pipeline.path().join("components/order-formatter.wasm");
        let swapped = vec![digest(&fs::read(&component).unwrap())];
        let (state, hosts) = (tempfile::tempdir().unwrap(), BTreeMap::new());
        let mut mill = Self { pipeline, component, brokers: brokers.into(), state, hosts, swapped };
        mill.start_host(ONE).ready();
        mill
    }

    /// Every host runs this version after one swap, and something has run by it.
    pub(crate) fn swaps(&mut self, version: &[u8], how: How) {
        let before: Vec<_> =
            self.hosts.values().map(|host| of_handler(host)["version"]["swaps"].clone()).collect();
        self.install(version, how);
        for (host, before) in self.hosts.values().zip(before) {
            let after = self.wait(host, &format!("swap, {how:?}"), |handler| self.is_newest(handler));
            assert_eq!(
                after["version"]["swaps"].as_u64(),
                before.as_u64().map(|before| before + 1),
                "{after:#}"
            );
        }
    }

    /// Every host says why it doesn't run this, and goes on with what it ran.
    pub(crate) fn refuses(&self, bad: &BadFile, how: How) {
        let before: Vec<_> = self.hosts.values().map(of_handler).collect();
        how.install(&self.component, &bad.bytes);
        for (host, before) in self.hosts.values().zip(before) {
            let after = self.wait(host, bad.fault, |handler| {
                handler["version"]["refused"].as_str().is_some_and(|refused| refused.contains(bad.fault))
            });
            let stays = |handler: &Value| (handler["digest"].clone(), handler["version"]["swaps"].clone());
            assert_eq!(stays(&after), stays(&before));
            let handled = after["events"].as_u64();
            self.wait(host, "event after a bad file", |handler| handler["events"].as_u64() > handled);
        }
    }

    /// The first host has seen that only the time changed. Had it swapped, the next swap would count for two.
    pub(crate) fn ignores_a_touch(&self) {
        let path = self.pipeline.path().join("one.log");
        let before = fs::metadata(&path).unwrap().len();
        touch(&self.component);
        until(SOON, || {
            let (mut since, mut log) = (String::new(), File::open(&path).unwrap());
            log.seek(SeekFrom::Start(before)).unwrap();
            log.read_to_string(&mut since).unwrap();
            since.contains("was touched and is what it was")
        })
        .unwrap_or_else(|()| panic!("the touch is not heard of\n{}", end_of_log(&self.hosts[ONE])));
    }

    /// In the middle of its work.
    pub(crate) fn is_killed(&mut self) {
        self.hosts.remove(ONE).unwrap().sigkill();
        self.start_host(ONE);
        for host in self.hosts.values() {
            self.wait(host, "work after a kill", |handler| self.is_newest(handler));
        }
    }

    /// Its file is another one already, which it may have noticed or not.
    pub(crate) fn is_killed_in_a_swap(&mut self, version: &[u8]) {
        self.install(version, How::RenamedOver);
        self.is_killed();
    }

    pub(crate) fn second_joins(&mut self) {
        self.start_host(TWO);
        self.wait(&self.hosts[TWO], "share for the second host", |handler| self.is_newest(handler));
    }

    pub(crate) fn second_leaves(&mut self) {
        let (status, _) = self.hosts.remove(TWO).unwrap().stop("TERM");
        assert!(status.success(), "{status}");
    }

    pub(crate) fn stop(mut self) {
        let (status, _) = self.hosts.remove(ONE).unwrap().stop("TERM");
        assert!(status.success(), "{status}");
    }

    pub(crate) fn swapped(&self) -> &[String] {
        &self.swapped
    }

    /// The first host's.
    pub(crate) fn pid(&self) -> u32 {
        self.hosts[ONE].pid()
    }

    /// The first host's, over all its lives.
    pub(crate) fn log(&self) -> String {
        self.hosts[ONE].log()
    }

    fn start_host(&mut self, instance: &'static str) -> &mut Host {
        let state = self.state.path().to_str().unwrap();
        let env = [LOG, ("WASMILL_LOG_FORMAT", "json"), ("WASMILL_STATE", state)];
        let host = Host::start(&self.pipeline, &self.brokers, instance, &env);
        self.hosts.entry(instance).insert_entry(host).into_mut()
    }

    fn install(&mut self, version: &[u8], how: How) {
        self.swapped.push(digest(version));
        how.install(&self.component, version);
    }

    /// Whether the newest version runs, and has run something.
    fn is_newest(&self, handler: &Value) -> bool {
        let version = &handler["version"];
        handler["digest"].as_str() == self.swapped.last().map(String::as_str)
            && version["refused"].is_null()
            && version["first_offsets"].as_object().is_some_and(|offsets| !offsets.is_empty())
    }

    fn wait(&self, host: &Host, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        let mut handler = Value::Null;
        until(SOON, || {
            handler = of_handler(host);
            is(&handler)
        })
        .unwrap_or_else(|()| panic!("no {what}: {handler:#}\n{}", end_of_log(host)));
        handler
    }
}

/// What `/status` says of the handler.
fn of_handler(host: &Host) -> Value {
    host.status().map_or(Value::Null, |status| subscriber(&status, "order-formatter"))
}

fn end_of_log(host: &Host) -> String {
    let log = host.log();
    let lines: Vec<_> = log.lines().filter(|line| !line.contains("TRACE")).collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}

/// The handlers behind it would share the machine with what is measured; the resource's view would, too.
fn order_formatter_alone(text: String) -> String {
    let (resources, handlers) =
        (text.find("[http.resources.orders]"), text.find("[handlers.order-formatter]"));
    let (resources, handlers) = (resources.unwrap(), handlers.unwrap());
    let others = text.find("[handlers.transaction-processor]").unwrap();
    [&text[..resources], &text[handlers..others]].concat()
}

/// The component with a number in a section that nobody reads: other bytes, the same behaviour. Each is new up to
/// `toggle_from`; from there on two take turns.
pub(crate) fn versions(toggle_from: usize) -> impl Iterator<Item = Vec<u8>> {
    let component = fs::read(built_component("order-formatter")).unwrap();
    (0..).map(move |count: usize| {
        let number = if count < toggle_from { count } else { toggle_from + count % 2 };
        version(&component, number)
    })
}

pub(crate) struct BadFile {
    bytes: Vec<u8>,
    /// What the host says of it.
    fault: &'static str,
}

pub(crate) fn bad_files() -> [BadFile; 5] {
    let guest = |name| fs::read(built_guest(name)).unwrap();
    let mut truncated = fs::read(built_component("order-formatter")).unwrap();
    truncated.truncate(truncated.len() / 2);
    let bad = |bytes, fault| BadFile { bytes, fault };
    [
        bad(truncated, "can't be compiled"),
        bad(b"a page that says 404".to_vec(), "is not WebAssembly"),
        bad(b"\0asm\x01\0\0\0".to_vec(), "core WebAssembly module"),
        bad(guest("other-world"), "component of another world"),
        bad(guest("sockets"), "component of another world"),
    ]
}
