//! What ARCHITECTURE.md says always holds, as far as a look at the sources can tell.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Words of the shipped pipeline's domain. "order" alone is everybody's: offsets have one too.
const DOMAIN: [&str; 10] =
    ["orders", "pizza", "payment", "payments", "customer", "customers", "cart", "food", "restaurant", "dish"];

#[test]
fn the_host_names_no_domain_word() {
    let named =
        found(|word| DOMAIN.contains(&word) || word.starts_with("order_") || word.starts_with("order-"));
    assert!(named.is_empty(), "{}", named.join("\n"));
}

#[test]
fn only_the_guest_room_names_wasmtime_only_the_kafka_adapter_rdkafka_and_only_telemetry_opentelemetry() {
    let named = |library: &str, room: &str| {
        let mut named = found(|word| word.starts_with(library));
        named.retain(|place| !place.starts_with(room) && !is_comment(place));
        named
    };
    let rooms = [("wasmtime", "guest/"), ("rdkafka", "log/kafka/"), ("opentelemetry", "telemetry/")];
    let named: Vec<_> = rooms.iter().flat_map(|(library, room)| named(library, room)).collect();
    assert!(named.is_empty(), "{}", named.join("\n"));
}

#[test]
fn the_shard_decides_without_a_clock_threads_files_or_the_network() {
    let mut written = lines(|line| {
        words(line).any(|word| ["Instant", "SystemTime", "thread", "fs", "net", "tokio"].contains(&word))
    });
    written.retain(|place| place.starts_with("shard/") && !is_comment(place));
    assert!(written.is_empty(), "{}", written.join("\n"));
}

#[test]
fn no_channel_is_unbounded() {
    let mut written = lines(|line| {
        line.contains("unbounded")
            // std's; tokio's takes a capacity.
            || line.contains("mpsc::channel()")
            || line.contains("mpsc::channel::<")
            || (line.contains("std::sync::mpsc") && words(line).any(|word| ["channel", "Sender"].contains(&word)))
    });
    written.retain(|place| !is_comment(place));
    assert!(written.is_empty(), "{}", written.join("\n"));
}

#[test]
fn modules_depend_on_each_other_without_cycles() {
    let module = |place: &str| {
        let end = place.find(|c| "/.".contains(c)).expect("a file");
        place[..end].to_string()
    };
    // Modules of tests look wherever they want.
    let mut uses: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for place in lines(|line| line.starts_with("use crate::")) {
        let (file, line) = place.split_once(": ").expect("a line");
        if !file.contains("tests") {
            let used = words(line).nth(3).expect("a module").to_string();
            uses.entry(module(file)).or_default().insert(used);
        }
    }
    assert!(uses.len() > 8, "{uses:?}");
    for (module, direct) in &uses {
        let mut reached: Vec<_> = direct.iter().filter(|used| *used != module).collect();
        let mut seen = BTreeSet::new();
        while let Some(used) = reached.pop() {
            assert_ne!(used, module, "{module} uses, in the end, itself: {uses:#?}");
            if seen.insert(used) {
                reached.extend(uses.get(used).into_iter().flatten().filter(|next| *next != used));
            }
        }
    }
}

#[test]
fn every_guest_fixture_is_named_by_a_test() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let mut files = Vec::new();
    sources(&tests, &mut files);
    files_of(&tests.join("guests/wat"), "wat", &mut files);
    let (fixtures, tests): (Vec<_>, Vec<_>) =
        files.into_iter().partition(|file| file.starts_with(tests.join("guests")));
    let tests: String = tests.iter().map(|file| text(file)).collect();
    let fixtures: Vec<_> = fixtures
        .iter()
        .filter(|file| {
            file.parent().is_some_and(|folder| folder.ends_with("examples") || folder.ends_with("wat"))
        })
        .map(|file| file.file_stem().expect("a name").to_string_lossy())
        .collect();
    assert!(fixtures.len() > 20, "only {fixtures:?}");
    let forgotten: Vec<_> =
        fixtures.iter().filter(|fixture| !tests.contains(&format!("\"{fixture}\""))).collect();
    assert!(forgotten.is_empty(), "no test names {forgotten:?}");
}

/// `file:line: text` of every line under src with such a word, in lower case.
fn found(such: impl Fn(&str) -> bool) -> Vec<String> {
    lines(|line| words(&line.to_lowercase()).any(&such))
}

/// `file:line: text` of every such line under src.
fn lines(such: impl Fn(&str) -> bool) -> Vec<String> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    assert!(files.len() > 50, "only {} files in {}", files.len(), src.display());
    let mut found = Vec::new();
    for file in files {
        for (line, number) in text(&file).lines().zip(1..) {
            if such(line) {
                let file = file.strip_prefix(&src).expect("it is below").display();
                found.push(format!("{file}:{number}: {}", line.trim()));
            }
        }
    }
    found
}

fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !(c.is_alphanumeric() || "_-".contains(c)))
}

fn text(file: &Path) -> String {
    fs::read_to_string(file).expect("a readable source")
}

fn is_comment(place: &str) -> bool {
    place.split(": ").nth(1).is_some_and(|text| text.starts_with("//"))
}

fn sources(folder: &Path, files: &mut Vec<PathBuf>) {
    files_of(folder, "rs", files);
}

fn files_of(folder: &Path, kind: &str, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a readable folder") {
        let path = entry.expect("a readable folder").path();
        if path.is_dir() {
            files_of(&path, kind, files);
        } else if path.extension().is_some_and(|extension| extension == kind) {
            files.push(path);
        }
    }
}
