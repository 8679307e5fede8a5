//! `wasmill bench` as a user runs it, in small, on Apache Kafka: it measures all three, and refuses to measure who does
//! other work.
#![cfg(target_os = "linux")]

mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use common::host::{signal, until, wasmill};
use common::kafka::Broker;
use common::{DEADLINE, built_component, built_guest};
use serde_json::Value;

#[test]
fn a_bench_measures_the_host_and_the_native_loops_and_nobody_who_does_other_work() {
    let kafka = Broker::start_empty();
    let folder = tempfile::tempdir().unwrap();
    let bench = |component: &str, more: &[&str]| {
        let mut command = wasmill();
        command.current_dir(folder.path()).args([
            "bench",
            "--brokers",
            &kafka.address,
            "--component",
            component,
        ]);
        command.args(["--rounds", "1", "--events", "3000", "--seconds", "2", "--json"]).args(more);
        command.output().unwrap()
    };
    let component = built_component("order-formatter");
    let component = component.to_str().unwrap();
    let output = bench(component, &["--partitions", "2", "--rates", "50"]);
    assert!(output.status.success(), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let written =
        || -> Value { serde_json::from_slice(&fs::read(folder.path().join("bench.json")).unwrap()).unwrap() };
    assert_eq!(report, written());
    let figures = [&report["throughput"], &report["latency"][0]["figures"]];
    let figures: Vec<&Value> = figures.iter().flat_map(|list| list.as_array().unwrap()).collect();
    assert_eq!(figures.len(), 4 + 3, "{report}");
    for figure in figures {
        for who in ["plain", "overlapped", "host"] {
            assert!(figure[who]["median"].as_f64().unwrap() > 0.0, "{who}: {figure}");
        }
        assert!(figure["host_to_plain"].as_f64().unwrap() > 0.0, "{figure}");
    }

    // Told to stop while a host is measured, it takes the host with it.
    let temporary = folder.path().join("tmp");
    fs::create_dir(&temporary).unwrap();
    let mut stopped = wasmill();
    stopped.current_dir(folder.path()).env("TMPDIR", &temporary).stderr(Stdio::piped());
    stopped.args(["bench", "--brokers", &kafka.address, "--component", component]);
    stopped.args(["--events", "3000"]);
    let stopped = stopped.spawn().unwrap();
    let mut host = None;
    until(DEADLINE, || {
        host = host_of(stopped.id());
        host.is_some()
    })
    .expect("a host that is measured");
    signal(stopped.id(), "TERM");
    let ended = stopped.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert!(said.contains("stopped; the rounds that were complete are in bench.json"), "{said}");
    assert_eq!(written()["throughput"][0]["host"]["median"], Value::Null, "of the run before");
    assert!(!Path::new("/proc").join(host.unwrap()).exists(), "its host still runs");
    assert_eq!(fs::read_dir(&temporary).unwrap().count(), 0);

    let other_work = bench(built_guest("echo").to_str().unwrap(), &["--rates", "0"]);
    assert_eq!(other_work.status.code(), Some(1), "{other_work:?}");
    let said = String::from_utf8_lossy(&other_work.stderr);
    assert!(said.contains("made something else of an event"), "{said}");
}

/// The process of a host that this bench has started.
fn host_of(bench: u32) -> Option<String> {
    let children = Command::new("pgrep").args(["--parent", &bench.to_string(), "--full", " run "]).output();
    String::from_utf8(children.unwrap().stdout).unwrap().lines().next().map(Into::into)
}

#[test]
fn a_bench_says_what_it_lacks() {
    let said = |arguments: &[&str]| {
        let output = wasmill().arg("bench").args(arguments).output().unwrap();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{output:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    assert!(said(&["--brokers", "embedded"]).contains("name one with --brokers"));
    let brokers = ["--brokers", "127.0.0.1:1", "--component"];
    assert!(
        said(&[&brokers[..], &["nowhere.wasm"]].concat()).contains("there is no component at nowhere.wasm")
    );
    let component = built_component("order-formatter");
    assert!(said(&[&brokers[..], &[component.to_str().unwrap()]].concat()).contains("no broker answers"));
}
