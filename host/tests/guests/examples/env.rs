//! Tells what it can see of the world: its environment, arguments, stdin, files and clocks.

use std::io::Read;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use guests::{Answer, Event, text};

fn look_around(_: Event) -> Answer {
    let mut env: Vec<_> = std::env::vars().map(|(name, value)| format!("{name}={value}")).collect();
    env.sort();
    let mut stdin = Vec::new();
    let read = std::io::stdin().read_to_end(&mut stdin);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map(|since| since.as_secs());
    let started = Instant::now();
    std::thread::sleep(std::time::Duration::from_millis(2));

    Ok(vec![
        text(format!("env {}", env.join(" "))),
        text(format!("args {}", std::env::args().count())),
        text(format!("stdin {} {}", read.is_ok(), stdin.len())),
        text(format!("read {}", std::fs::read("/etc/hostname").is_ok())),
        text(format!("list {}", std::fs::read_dir("/").is_ok() || std::fs::read_dir(".").is_ok())),
        text(format!("write {}", std::fs::write("/tmp/guest-was-here", "x").is_ok())),
        text(format!("clock {}", now.is_ok_and(|seconds| seconds > 1_700_000_000))),
        text(format!("slept {}", started.elapsed().as_millis() >= 2)),
    ])
}

guests::event_handler!(look_around);
