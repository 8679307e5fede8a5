//! Swaps under load: a whole host on Apache Kafka, whose component is replaced again and again while orders come in,
//! with bad files, kills and a second host in between.
//!
//! The short form is for every day; `WASMILL_SWAPS=1000 cargo test --release --test swaps -- --nocapture` is the long
//! one. Both print what the swaps cost: a busy machine must not fail a test by its clock, so no time is judged here.
//!
//! The digests of a partition's outputs must follow the order of the swaps, through kills too: a killed host leaves
//! nothing uncommitted behind that counts, and starts with the file that stands there, which is good and the newest.
//! One thing could break the order: a partition that moves to a host that hasn't taken a version up yet. So while the
//! second host joins, nothing is swapped.
#![cfg(target_os = "linux")]

#[path = "../common/mod.rs"]
mod common;

mod digests;
mod installs;
mod mill;
mod pauses;
mod resources;

use std::collections::BTreeMap;
use std::time::Instant;

use common::kafka::Broker;
use common::orders::{
    Customers, every_order_is_there_once_and_in_order, note_number, read, read_each, wait_for_all,
};
use digests::Digests;
use installs::How;
use mill::{Mill, bad_files, versions};
use resources::Resources;

/// Events a second.
const LOAD: u64 = 2_500;

/// When what happens, in swaps.
struct Course {
    swaps: usize,
    /// The host is killed before every so many-th swap, or in it, in the first half of the run: then it is left alone
    /// for what it takes of memory, threads and files to show.
    kill_every: usize,
    second_joins: usize,
    second_leaves: usize,
    /// From then on two versions take turns, so that their code comes from the cache.
    toggle_from: usize,
    /// A kill is behind by then, and the caches are full.
    warm: usize,
}

impl Course {
    fn of(swaps: usize) -> Self {
        Self {
            swaps,
            kill_every: (swaps / 40).max(8),
            second_joins: swaps / 5,
            second_leaves: swaps * 2 / 5,
            toggle_from: swaps * 3 / 5,
            warm: swaps * 11 / 20,
        }
    }

    fn kills(&self, swap: usize) -> bool {
        swap > 0 && swap < self.swaps / 2 && swap.is_multiple_of(self.kill_every)
    }
}

#[test]
fn swaps_under_load_lose_nothing_double_nothing_and_each_partition_sees_the_versions_in_order() {
    let swaps = std::env::var("WASMILL_SWAPS").map_or(40, |n| n.parse().expect("WASMILL_SWAPS is a number"));
    let course = Course::of(swaps);
    let kafka = Broker::start_empty();
    let mut mill = Mill::start(&kafka.address);
    let started = Instant::now();
    let customers = Customers::start(&kafka.address, LOAD);
    let (bad, mut kills) = (bad_files(), 0);
    let mut warm = None;
    for (swap, version) in versions(course.toggle_from).take(course.swaps).enumerate() {
        if swap == course.second_joins {
            mill.second_joins();
        }
        if swap == course.second_leaves {
            mill.second_leaves();
        }
        if swap % 7 == 3 {
            mill.ignores_a_touch();
        }
        let kill = course.kills(swap);
        kills += usize::from(kill);
        if kill && kills % 2 == 1 {
            mill.is_killed();
        }
        if swap % 4 == 1 {
            mill.refuses(&bad[swap / 4 % bad.len()], How::in_turn(swap));
        }
        if kill && kills % 2 == 0 {
            mill.is_killed_in_a_swap(&version);
        } else {
            mill.swaps(&version, How::in_turn(swap));
        }
        if swap == course.warm {
            warm = Some(Resources::of(mill.pid()));
        }
    }
    let placed = customers.stop();
    let (total, took) = (placed.values().sum::<u64>(), started.elapsed().as_secs_f64());
    wait_for_all(&kafka.address, "order_details", &placed)
        .unwrap_or_else(|late| panic!("{late}\n{}", mill.log()));
    let cool = Resources::of(mill.pid());

    let (mut numbers, mut digests) = (BTreeMap::new(), Digests::default());
    read_each(&kafka.address, "order_details", |event| {
        note_number(&mut numbers, &event);
        digests.note(&event);
    });
    every_order_is_there_once_and_in_order("order_details", &numbers, &placed);
    assert!(read(&kafka.address, "order-formatter.dlq").is_empty(), "there are dead letters");
    let ran = digests.follow(mill.swapped());

    println!("{total} orders in {took:.0} s, {:.0} a second; order-formatter alone", total as f64 / took);
    println!("{} swaps, {kills} kills; {ran} versions have outputs", course.swaps);
    print!("{}", pauses::Pauses::of(&mill.log()));
    if let Some(warm) = warm {
        println!("after {} swaps: {warm}\nafter {} swaps: {cool}", course.warm + 1, course.swaps);
    }
    mill.stop();
}
