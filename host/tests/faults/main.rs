//! The fault matrix: everything that can fail around two or three hosts fails, one after another, on a real Apache
//! Kafka, while orders come in. Nothing may be lost, doubled or out of its key's order, the pipeline flows again soon,
//! and a host that is told to stop while something fails leaves within its time.
//!
//! Each fault once, in CI; again and again for so many minutes with `just faults MINUTES`. Both print the table.
//! `WASMILL_FAULT=broker` takes those alone whose names have that in them.
//!
//! The hosts reach the broker by a proxy that can lose its answers (`proxy.rs`), and the system fails them by a library
//! that is loaded into them (`preload.c`). Who places orders and who reads the topics come by neither.
#![cfg(target_os = "linux")]

#[path = "../common/mod.rs"]
mod common;

mod coordinator;
mod faults;
mod ledger;
mod mill;
mod narrow;
mod nobody;
mod preload;
mod proxied;
mod proxy;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use faults::{Episode, FAULTS};
use ledger::Faults;
use mill::Mill;

/// Orders a second. What piles up during a fault is to be worked off soon after it, for the recovery is measured by it.
const LOAD: u64 = 20;
/// For the pipeline to flow again, and for a host to leave.
const MOST: Duration = Duration::from_secs(15);

/// A line of the table.
#[derive(Default)]
struct Line {
    rounds: u32,
    orders: u64,
    faults: Faults,
    recovery: Duration,
    shutdown: Option<Duration>,
}

#[test]
fn whatever_fails_nothing_is_lost_doubled_or_out_of_order_and_all_is_well_soon_after() {
    let minutes =
        std::env::var("WASMILL_FAULTS").map_or(0, |n| n.parse().expect("WASMILL_FAULTS is minutes"));
    let only = std::env::var("WASMILL_FAULT").unwrap_or_default();
    let long = Duration::from_secs(60 * minutes);
    let mut mill = Mill::start(LOAD);
    let mut lines: BTreeMap<&str, Line> = BTreeMap::new();
    let started = Instant::now();
    let (mut before, mut known) = (mill.settles(), Faults::default());
    loop {
        for (name, fault) in FAULTS.iter().filter(|(name, _)| name.contains(&only)) {
            println!("{:>6.0?} {name}", started.elapsed());
            let Episode { recovery, shutdown } = fault(&mut mill);
            let placed = mill.settles();
            println!("        recovered in {recovery:.1?}, a host left in {shutdown:.1?}");
            let faults = mill.ledger.faults(&placed);
            if faults.since(&known) != Faults::default() {
                println!("        {:?}: {}", faults.since(&known), mill.ledger.first_lost(&placed));
                mill.tell_logs();
            }
            let line = lines.entry(name).or_default();
            line.rounds += 1;
            line.orders += total(&placed) - total(&before);
            line.faults.add(&faults.since(&known));
            line.recovery = line.recovery.max(recovery);
            line.shutdown = line.shutdown.max(shutdown);
            (before, known) = (placed, faults);
        }
        if started.elapsed() >= long {
            break;
        }
    }
    let (placed, whole, mails) = mill.ends();
    let all = Line {
        rounds: lines.values().map(|line| line.rounds).sum(),
        orders: total(&placed),
        faults: whole.faults(&placed),
        recovery: lines.values().map(|line| line.recovery).max().unwrap(),
        shutdown: lines.values().filter_map(|line| line.shutdown).max(),
    };
    print(&lines, &all);

    for (name, line) in lines.iter().map(|(name, line)| (*name, line)).chain([("all", &all)]) {
        assert_eq!(line.faults, Faults::default(), "{name}");
        assert!(line.recovery < MOST, "{name}: flows again after {:?}", line.recovery);
        assert!(line.shutdown.is_none_or(|took| took < MOST), "{name}: leaves after {:?}", line.shutdown);
    }
    assert_eq!(mails, whole.emails(), "e-mails in the folder");
}

fn total(placed: &BTreeMap<String, u64>) -> u64 {
    placed.values().sum()
}

fn print(lines: &BTreeMap<&str, Line>, all: &Line) {
    println!(
        "{:45} {:>6} {:>7} {:>5} {:>10} {:>12} {:>10} {:>10}",
        "fault", "rounds", "orders", "lost", "duplicated", "out of order", "recovery s", "shutdown s"
    );
    let named = FAULTS.iter().filter_map(|(name, _)| Some((*name, lines.get(name)?)));
    for (name, line) in named.chain([("all, read again from the beginning", all)]) {
        let Line { rounds, orders, faults, recovery, shutdown } = line;
        println!(
            "{name:45} {rounds:>6} {orders:>7} {:>5} {:>10} {:>12} {:>10.1} {:>10}",
            faults.lost,
            faults.duplicated,
            faults.out_of_order,
            recovery.as_secs_f64(),
            shutdown.map_or("".into(), |took| format!("{:.1}", took.as_secs_f64())),
        );
    }
}
