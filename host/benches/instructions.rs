//! How many instructions the steps on the way of an event take, by valgrind's callgrind, compared with those that the last
//! change noted in `instructions.json`: `just perf-check`. They are the same on any x86-64 machine, however busy: valgrind
//! shows the same processor to all of them.
//!
//! Each is counted in two runs, one with twice the work: what both share, the start and the compiling, falls out.

mod work;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use wasmill::guest::CodeCache;
use work::{Guest, Turns};

/// More than this much above what was noted fails.
const MOST: f64 = 1.05;

/// Names, how many units of work the shorter run has, and what a unit is.
const WORK: [(&str, u64, &str); 6] = [
    ("guest call of 1000 events", 2000, "event"),
    ("guest call of 100 events", 2000, "event"),
    ("guest call of 1 event", 100, "event"),
    ("the same natively", 2000, "event"),
    ("turn of a shard", 4000, "event"),
    ("offsets beyond", 200, "reading"),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if let [name, units, code] = arguments.as_slice() {
        let code = CodeCache::open(Path::new(code)).expect("a folder for compiled code");
        run(name, units.parse().expect("a number"), &code);
        return ExitCode::SUCCESS;
    }
    // The processor that valgrind shows is another one, so the code that runs there is compiled there: once.
    let code = tempfile::tempdir().expect("a temporary folder");
    collected(WORK[0].0, 0, code.path());
    let noted_in = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/instructions.json");
    let noted: BTreeMap<String, u64> = std::fs::read(&noted_in)
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .unwrap_or_default();
    let now: BTreeMap<String, u64> = WORK
        .iter()
        .map(|(name, units, _)| {
            let more = collected(name, 2 * units, code.path()) - collected(name, *units, code.path());
            ((*name).to_string(), more / units)
        })
        .collect();
    let mut worse = false;
    for (name, _, unit) in WORK {
        let count = now[name];
        let before = noted.get(name).copied();
        let change = before
            .map_or("new".into(), |before| format!("{:+.1} %", (count as f64 / before as f64 - 1.0) * 100.0));
        let is_worse = before.is_none_or(|before| count as f64 > before as f64 * MOST);
        worse |= is_worse;
        println!(
            "{name:28} {count:>9} instructions a {unit:8} {change}{}",
            if is_worse { "  TOO MANY" } else { "" }
        );
    }
    if std::env::var_os("WASMILL_UPDATE").is_some() {
        let json = serde_json::to_string_pretty(&now).expect("JSON");
        std::fs::write(&noted_in, json + "\n").expect("instructions.json is written");
        println!("noted in {}", noted_in.display());
        return ExitCode::SUCCESS;
    }
    if worse {
        println!(
            "more than 5 % above what is noted: make it cheaper, or note why and WASMILL_UPDATE=1 just perf-check"
        );
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn run(name: &str, units: u64, code: &CodeCache) {
    let component: PathBuf =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(wasmill_anchors::COMPONENT);
    let guest = |events: u64| {
        let mut guest = Guest::new(&component, code);
        (0..units / events).for_each(|_| drop(guest.call(events as usize)));
    };
    match name {
        "guest call of 1000 events" => guest(1000),
        "guest call of 100 events" => guest(100),
        "guest call of 1 event" => guest(1),
        "the same natively" => {
            let orders = work::orders(1000);
            (0..units / 1000).for_each(|_| work::natively(&orders));
        }
        "turn of a shard" => {
            let mut turns = Turns::new(1000);
            (0..units / 1000).for_each(|_| turns.take());
        }
        "offsets beyond" => {
            let noted = work::noted();
            (0..units).for_each(|_| drop(std::hint::black_box(work::offsets(&noted))));
        }
        other => panic!("no work is called {other}"),
    }
}

/// By this program once more, under valgrind.
fn collected(name: &str, units: u64, code: &Path) -> u64 {
    let program = std::env::current_exe().expect("this program");
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .args([name, &units.to_string()])
        .arg(code)
        .output()
        .expect("valgrind runs (Debian: apt install valgrind)");
    let said = String::from_utf8_lossy(&output.stderr);
    let count = said.lines().find_map(|line| line.split_once("Collected :")?.1.trim().parse().ok());
    count.unwrap_or_else(|| panic!("{name}: {said}"))
}
