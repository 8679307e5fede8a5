//! What ARCHITECTURE.md says always holds, as far as a look at the sources can tell.

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
fn only_the_guest_room_names_wasmtime_and_only_the_kafka_adapter_names_rdkafka() {
    let named = |library: &str, room: &str| {
        let mut named = found(|word| word.starts_with(library));
        named.retain(|place| !place.starts_with(room) && !is_comment(place));
        named
    };
    let (wasmtime, rdkafka) = (named("wasmtime", "guest/"), named("rdkafka", "log/kafka/"));
    assert!(wasmtime.is_empty() && rdkafka.is_empty(), "{}\n{}", wasmtime.join("\n"), rdkafka.join("\n"));
}

/// `file:line: text` of every line under src with such a word, in lower case.
fn found(such: impl Fn(&str) -> bool) -> Vec<String> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    assert!(files.len() > 50, "only {} files in {}", files.len(), src.display());
    let mut found = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).expect("a readable source");
        for (line, number) in text.lines().zip(1..) {
            let lower = line.to_lowercase();
            if lower.split(|c: char| !(c.is_alphanumeric() || "_-".contains(c))).any(&such) {
                let file = file.strip_prefix(&src).expect("it is below").display();
                found.push(format!("{file}:{number}: {}", line.trim()));
            }
        }
    }
    found
}

fn is_comment(place: &str) -> bool {
    place.split(": ").nth(1).is_some_and(|text| text.starts_with("//"))
}

fn sources(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a readable folder") {
        let path = entry.expect("a readable folder").path();
        if path.is_dir() {
            sources(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}
