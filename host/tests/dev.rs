//! `wasmill dev` as a user runs it, on a copy of the sources: what is saved runs in the host a moment later, and what
//! doesn't compile changes nothing.

mod common;

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use common::clone::cloned;
use common::host::{Pipeline, signal, subscriber, until, wasmill};
use common::kafka::free_port;
use common::{http, root};

/// The first build compiles the SDK and all that it needs.
const BUILDS: Duration = Duration::from_secs(300);
const SWAPS: Duration = Duration::from_secs(60);

struct Dev {
    process: Child,
    pipeline: Pipeline,
    address: String,
    /// They share a target folder, where each puts its components.
    _turn: MutexGuard<'static, ()>,
}

impl Dev {
    /// Returns when the host is ready.
    fn start(edit: impl FnOnce(String) -> String) -> Self {
        let mut dev = Self::begin(edit, |_| {}, &[]);
        dev.ready();
        dev
    }

    fn begin(
        edit: impl FnOnce(String) -> String,
        before: impl FnOnce(&Pipeline),
        env: &[(&str, &str)],
    ) -> Self {
        static TURN: Mutex<()> = Mutex::new(());
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let pipeline = cloned(edit);
        before(&pipeline);
        let address = format!("127.0.0.1:{}", free_port());
        let log = File::create(pipeline.path().join("dev.log")).unwrap();
        let process = wasmill()
            .args(["dev", "--brokers", "embedded", "--instance", "dev"])
            .current_dir(pipeline.path())
            .env("WASMILL_LISTEN", &address)
            .env("CARGO_TARGET_DIR", root().canonicalize().unwrap().join("target/dev-tests"))
            .envs(env.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Self { process, pipeline, address, _turn: turn }
    }

    fn ready(&mut self) {
        let dev = self;
        until(BUILDS, || match dev.process.try_wait().unwrap() {
            Some(status) => panic!("it ended: {status}\n{}", dev.log()),
            None => http::get(&dev.url("/readyz")).is_some_and(|answer| answer.status == 200),
        })
        .unwrap_or_else(|()| panic!("not ready:\n{}", dev.log()));
    }

    /// With a cargo that notes each build, and goes on with it only when there is a file `go`.
    fn begin_with_a_cargo_that_waits() -> Self {
        const CARGO: &str = "#!/bin/sh\n\
            if [ \"$1\" = metadata ]; then exec cargo \"$@\"; fi\n\
            sleep 1000 & echo $! >> builds\n\
            until [ -e go ]; do sleep 0.1; done\n\
            kill $!\n";
        let script = |pipeline: &Pipeline| {
            let file = pipeline.path().join("cargo.sh");
            fs::write(&file, CARGO).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        };
        // Relative to where it builds: the workspace's folder.
        let dev = Self::begin(|text| text, script, &[("CARGO", "./cargo.sh")]);
        until(SWAPS, || dev.builds().len() == 1).unwrap_or_else(|()| panic!("no build:\n{}", dev.log()));
        dev
    }

    /// What runs in each, by its process id.
    fn builds(&self) -> Vec<String> {
        let builds = fs::read_to_string(self.pipeline.path().join("builds")).unwrap_or_default();
        builds.lines().map(String::from).collect()
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.pipeline.path().join("dev.log")).unwrap_or_default()
    }

    fn says(&self, limit: Duration, what: &str) {
        until(limit, || self.log().contains(what))
            .unwrap_or_else(|()| panic!("it doesn't say {what:?}:\n{}", self.log()));
    }

    fn digest(&self, handler: &str) -> String {
        let status = http::get(&self.url("/status")).expect("a host").json();
        subscriber(&status, handler)["digest"].as_str().unwrap().into()
    }

    fn formatter(&self) -> PathBuf {
        self.pipeline.path().join("components/order-formatter/src/lib.rs")
    }

    fn save(&self, old: &str, new: &str) {
        let text = fs::read_to_string(self.formatter()).unwrap();
        assert!(text.contains(old), "{old}");
        fs::write(self.formatter(), text.replace(old, new)).unwrap();
    }

    /// Ends it, and gives its exit code.
    fn stop(mut self) -> Option<i32> {
        signal(self.process.id(), "TERM");
        let mut ended = None;
        until(common::DEADLINE, || {
            ended = self.process.try_wait().unwrap();
            ended.is_some()
        })
        .unwrap_or_else(|()| panic!("it goes on:\n{}", self.log()));
        assert!(http::get(&self.url("/healthz")).is_none(), "the host outlived it");
        ended.unwrap().code()
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        // By a signal that reaches the host as well.
        if self.process.try_wait().unwrap().is_none() {
            signal(self.process.id(), "TERM");
            let _ = self.process.wait();
        }
    }
}

#[test]
fn a_source_that_is_saved_runs_in_the_host_and_the_time_is_told() {
    let dev = Dev::start(|text| text);
    let before = dev.digest("order-formatter");
    dev.save("must not be empty", "must not be left blank");
    dev.says(SWAPS, "order-formatter: swapped in ");
    let log = dev.log();
    let line = log.lines().find(|line| line.contains("swapped in")).unwrap();
    let words: Vec<_> = line.split(' ').collect();
    assert!(
        matches!(words[..], [_, "swapped", "in", _, "s", "after", "the", "save", "(build", _, "s)"]),
        "{line}"
    );
    assert_ne!(dev.digest("order-formatter"), before);
    signal(dev.process.id(), "HUP");
    dev.says(SWAPS, "SIGHUP: reading");
    assert_eq!(dev.stop(), Some(0));
}

#[test]
fn what_does_not_compile_changes_nothing_and_dev_ends_as_its_host_does() {
    let strange = common::built_component("email-composer");
    let lines = format!("\n[handlers.strange]\ncomponent = {strange:?}\nsubscribe = [\"emails\"]\n");
    let mail = "\n[sinks.mail]\n";
    let dev = Dev::start(|text| text.replace(mail, &format!("{lines}{mail}")));
    assert!(dev.log().contains("strange: not watched: "), "{}", dev.log());
    let before = dev.digest("order-formatter");
    let component = dev.pipeline.path().join("components/order-formatter.wasm");
    let file = fs::read(&component).unwrap();

    dev.save("fn check_texts(", "fn check_texts(nonsense");
    dev.says(SWAPS, "error: could not compile `order-formatter`");
    dev.says(SWAPS, "order-formatter: not built; the version that runs goes on");
    assert_eq!((dev.digest("order-formatter"), fs::read(&component).unwrap()), (before, file.clone()));

    dev.save("fn check_texts(nonsense", "fn check_texts(");
    dev.says(SWAPS, "order-formatter: the component is the same as before");

    dev.save("must not be empty", "must not be left blank");
    until(SWAPS, || fs::read(&component).unwrap() != file).expect("a new component in its place");
    assert_eq!(dev.stop(), Some(0));
}

#[test]
fn what_is_saved_during_the_first_build_is_built_after_it_and_so_is_a_handler_that_comes() {
    let mut dev = Dev::begin_with_a_cargo_that_waits();
    dev.save("must not be empty", "must not be left blank");
    fs::write(dev.pipeline.path().join("go"), "").unwrap();
    until(SWAPS, || dev.builds().len() == 2).unwrap_or_else(|()| panic!("no second build:\n{}", dev.log()));
    dev.ready();

    let alarm = dev.pipeline.path().join("components/alarm");
    fs::create_dir_all(alarm.join("src")).unwrap();
    let manifest =
        "[package]\nname = \"alarm\"\nedition = \"2024\"\n[lib]\ncrate-type = [\"cdylib\"]\n[workspace]\n";
    fs::write(alarm.join("Cargo.toml"), manifest).unwrap();
    fs::write(alarm.join("src/lib.rs"), "").unwrap();
    fs::copy(dev.pipeline.path().join("cargo.sh"), alarm.join("cargo.sh")).unwrap();
    fs::write(alarm.join("go"), "").unwrap();
    let lines = "[handlers.alarm]\ncomponent = \"components/alarm.wasm\"\nsubscribe = [\"emails\"]\n\n\
                 [handlers.nowhere]\ncomponent = \"nowhere.wasm\"\nsubscribe = [\"emails\"]\n\n";
    let file = dev.pipeline.path().join("pipeline.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("[sinks.mail]", &format!("{lines}[sinks.mail]"))).unwrap();
    dev.says(SWAPS, "nowhere: not watched: ");
    until(SWAPS, || alarm.join("builds").exists()).unwrap_or_else(|()| panic!("not built:\n{}", dev.log()));
    assert_eq!(dev.stop(), Some(0));
}

#[test]
fn a_signal_during_the_first_build_ends_it_and_all_that_it_has_started() {
    let dev = Dev::begin_with_a_cargo_that_waits();
    let build = PathBuf::from("/proc").join(&dev.builds()[0]);
    assert!(build.exists());
    assert_eq!(dev.stop(), Some(128 + 15));
    until(common::DEADLINE, || !build.exists()).expect("an end of the build");
}
