//! How long the steps on the way of an event take, without a broker: `cargo bench -p wasmill` after `just components`.

mod work;

use std::path::Path;

use divan::Bencher;
use divan::counter::ItemsCount;
use wasmill::guest::CodeCache;
use work::{Guest, Turns};

fn main() {
    divan::main();
}

#[divan::bench(args = [1, 10, 100, 1000])]
fn guest_call(bencher: Bencher<'_, '_>, events: usize) {
    let component = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(wasmill_anchors::COMPONENT);
    let mut guest = Guest::new(&component, &CodeCache::none());
    bencher.counter(ItemsCount::new(events)).bench_local(|| guest.call(events));
}

#[divan::bench(args = [1, 10, 100, 1000])]
fn turn(bencher: Bencher<'_, '_>, events: u64) {
    let turns = || Turns::new(events);
    bencher.counter(ItemsCount::new(events)).with_inputs(turns).bench_local_values(|mut turns| {
        turns.take();
        turns
    });
}

/// The same work as the guest's.
#[divan::bench]
fn natively(bencher: Bencher<'_, '_>) {
    let orders = work::orders(1000);
    bencher.counter(ItemsCount::new(orders.len())).bench_local(|| work::natively(&orders));
}

#[divan::bench]
fn offsets_beyond(bencher: Bencher<'_, '_>) {
    let noted = work::noted();
    bencher.bench_local(|| work::offsets(&noted));
}
