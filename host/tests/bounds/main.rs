//! What guests can cost the host at most: time past a deadline, memory while they run, memory once they are gone. A
//! process of its own, and one test at a time in it, because it looks at its own size and at the clock.
//!
//! `cargo test --release --test bounds -- --nocapture` shows the figures.
#![cfg(target_os = "linux")]

#[path = "../common/mod.rs"]
mod common;

mod deadlines;
mod memory;
mod swaps;

use std::fs;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use wasmill::config::plan::HandlerPlan;
use wasmill::config::{self, Overrides};
use wasmill::event::{Event, Position};
use wasmill::guest::{CodeCache, ComponentFile, ComponentHandler, Engine, Version};
use wasmill::process::Process;

const MIB: usize = 1024 * 1024;

/// Held by each test, so that none sees what another does.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A handler with these limits, as pipeline.toml has them.
fn plan(limits: &str) -> HandlerPlan {
    let text = format!(
        "kafka.brokers = 'embedded'
        handlers.h = {{ component = 'unused', subscribe = ['in'], publish = ['out'], limits = {{ {limits} }} }}"
    );
    let loaded = config::parse(text, Path::new("pipeline.toml"), &|_| None, &Overrides::default());
    loaded.unwrap().plan.handlers.remove(0)
}

fn handler(engine: &Engine, guest: &str, plan: &HandlerPlan) -> ComponentHandler {
    let file = ComponentFile::read(common::built_guest(guest)).unwrap();
    let (version, _) = Version::compile(engine, &file, plan, &CodeCache::none()).unwrap();
    ComponentHandler::new(version, plan).unwrap()
}

fn event(payload: &str) -> Event {
    Event {
        position: Position { topic: "in".into(), partition: 0, offset: 0 },
        timestamp_ms: None,
        key: None,
        payload: Some(payload.to_string().into()),
        headers: Vec::new(),
    }
}

fn this_process() -> Process {
    Process::new(std::process::id())
}

/// What of this process is in memory, in bytes.
fn resident() -> usize {
    this_process().resident_bytes().unwrap() as usize
}

/// What `run` adds to this process at its largest, in bytes.
fn growth(run: impl FnOnce()) -> usize {
    let before = resident();
    // Makes the peak start anew: proc_pid_clear_refs(5).
    fs::write("/proc/self/clear_refs", "5").unwrap();
    run();
    (this_process().peak_bytes().unwrap() as usize).saturating_sub(before)
}
