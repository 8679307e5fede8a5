//! What stays in the host's memory of the versions that it ran.

use std::time::Instant;

use wasmill::event::Handler;
use wasmill::guest::{CodeCache, ComponentFile, ComponentHandler, Engine, EngineLimits, Version};

use crate::common::built_guest;
use crate::{MIB, alone, event, plan, resident};

const INSTANCES: u32 = 4;

/// Swaps until the process has what it keeps: two slots for each instance, the allocator's arenas.
const WARM: usize = 10;
/// How many more there are, and what they may add: far less than their code, or a slot for each.
const SWAPS: usize = 990;
const MOST_GROWTH: usize = 4 * MIB;

#[test]
fn versions_that_were_swapped_out_leave_nothing_behind() {
    let _alone = alone();
    let before = resident();
    let started = Instant::now();
    let engine = Engine::new(EngineLimits { instances: INSTANCES }).unwrap();
    println!("an engine: {:?}, {} KiB", started.elapsed(), resident().saturating_sub(before) / 1024);

    let folder = tempfile::tempdir().unwrap();
    let cache = CodeCache::open(folder.path()).unwrap();
    let files = ["echo", "fate"].map(|guest| ComponentFile::read(built_guest(guest)).unwrap());
    let plan = plan("time = '20 s'");
    let event = event(&"x".repeat(10_000));
    let batch = vec![&event; 100];
    let mut old = None;
    let mut swap = |count: usize| {
        let (version, compiled) = Version::compile(&engine, &files[count % 2], &plan, &cache).unwrap();
        if [0, 2].contains(&count) {
            let from = if compiled.from_cache { "from the cache" } else { "compiled" };
            println!("a version {from}: {:?}", compiled.took);
        }
        let mut handler = ComponentHandler::new(version, &plan).unwrap();
        assert_eq!(handler.handle(&batch, &[1; 100]).len(), 100);
        // The old one lives until the new one has run, as in a host that swaps live.
        old.replace(handler);
    };
    (0..WARM).for_each(&mut swap);
    let warm = resident();
    println!("after {WARM} swaps: {} KiB", warm / 1024);
    for count in WARM..WARM + SWAPS {
        swap(count);
        if (count + 1) % 50 == 0 {
            println!(
                "after {} swaps: {:+} KiB",
                count + 1,
                resident().cast_signed() / 1024 - warm.cast_signed() / 1024
            );
        }
    }
    let growth = resident().saturating_sub(warm);
    assert!(growth < MOST_GROWTH, "grew by {} KiB in {SWAPS} swaps", growth / 1024);
}
