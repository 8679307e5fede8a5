//! axe-core, the rules by which most checks of accessibility go. Maven brings it, as it brings Apache Kafka: its authors
//! publish it there inside a package for Java.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use crate::browser::Browser;

const VERSION: &str = "4.11.0";

/// What is wrong with the page as it stands, by axe-core's rules, and where.
pub(crate) fn faults(browser: &Browser) -> Vec<String> {
    if browser.run("return typeof axe") == "undefined" {
        browser.run(&source());
    }
    let faults = browser.run(
        "return axe.run().then(({ violations }) => violations.flatMap(({ id, nodes }) =>
           nodes.map(({ target, failureSummary: why }) => `${id}: ${target}: ${why}`)))",
    );
    faults.as_array().expect("a list").iter().map(|fault| fault.as_str().expect("text").into()).collect()
}

fn source() -> String {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("axe");
    fs::create_dir_all(&folder).expect("target/ can be written");
    let file = folder.join(VERSION).join("axe.min.js");
    let turn = File::create(folder.join("lock")).expect("target/ can be written");
    turn.lock().expect("the lock can be had");
    if !file.exists() {
        let fetched = Command::new("mvn")
            .current_dir(&folder)
            .args(["-q", "-B", "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:unpack"])
            .arg(format!("-Dartifact=com.deque.html.axe-core:selenium:{VERSION}"))
            .arg(format!("-DoutputDirectory={VERSION}"))
            .arg("-Dmdep.unpack.includes=axe.min.js")
            .status();
        assert!(fetched.is_ok_and(|status| status.success()), "axe-core can't be fetched: is Maven there?");
    }
    fs::read_to_string(file).expect("axe-core in its package")
}
