//! Ordeals that come from a seed.

use std::ops::Range;
use std::thread;

/// Puts each seed through the ordeal, or the one that `WASMILL_SEED` names. One that fails says how to see it again.
pub(crate) fn each(seeds: Range<u64>, test: &'static str, ordeal: impl Fn(u64)) {
    let one = std::env::var("WASMILL_SEED").ok().map(|seed| seed.parse().expect("WASMILL_SEED is a number"));
    let seeds = one.map_or(seeds, |one: u64| one..one + 1);
    for seed in seeds {
        let _replay = Replay { seed, test };
        ordeal(seed);
    }
}

struct Replay {
    seed: u64,
    test: &'static str,
}

impl Drop for Replay {
    fn drop(&mut self) {
        if thread::panicking() {
            let Self { seed, test } = self;
            eprintln!("to see it again: WASMILL_SEED={seed} cargo test --release -p wasmill --test {test}");
        }
    }
}
