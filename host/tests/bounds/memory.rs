//! What the host holds, at most, for a guest that asks for all of it.

use wasmill::event::{FailureKind, Handler};
use wasmill::guest::{Engine, EngineLimits};

use crate::{MIB, alone, event, growth, handler, plan};

const CAP: usize = 64 * MIB;

/// The instance itself, and what the host makes of its answer, which `limits.rs` bounds.
const MOST: usize = CAP + 64 * MIB;

const GUESTS: [(&str, &str, Option<FailureKind>); 16] = [
    ("memory-bomb", "bomb", Some(FailureKind::Memory)),
    ("table-bomb", "bomb", Some(FailureKind::Memory)),
    ("stack-overflow", "", Some(FailureKind::Trap)),
    ("fate", "panic", Some(FailureKind::Trap)),
    ("huge", "record", None),
    ("huge", "reject", Some(FailureKind::Reject)),
    ("overlap", "", Some(FailureKind::Contract)),
    ("billions", "1", Some(FailureKind::Contract)),
    ("billions", "22", Some(FailureKind::Contract)),
    ("billions", "333", Some(FailureKind::Contract)),
    ("topic-bytes", "bytes", Some(FailureKind::Contract)),
    ("flood", "100001", Some(FailureKind::Contract)),
    ("chatty", "flood", None),
    ("chatty", "long line", None),
    ("greedy", "handles", Some(FailureKind::Contract)),
    ("greedy", "random bytes", Some(FailureKind::Contract)),
];

#[test]
fn whatever_a_guest_does_the_host_holds_its_memory_cap_and_64_mib() {
    let _alone = alone();
    let engine = Engine::new(EngineLimits { instances: 1 }).unwrap();
    let plan = plan("memory = '64 MiB', time = '20 s'");
    for (guest, payload, kind) in GUESTS {
        let mut handler = handler(&engine, guest, &plan);
        let event = event(payload);
        let mut outcome = Ok(Vec::new());
        let grown = growth(|| outcome = handler.handle(&[&event], &[1]).remove(0));
        let told = outcome.as_ref().err().map(|failure| failure.message.lines().next().unwrap_or_default());
        let told: String = told.unwrap_or("-").chars().take(100).collect();
        let failed = outcome.as_ref().err().map(|failure| failure.kind);
        println!("{guest:14} {payload:12} {:10} {:>6} KiB  {told}", format!("{failed:?}"), grown / 1024);
        assert_eq!(failed, kind, "{guest} {payload}");
        assert!(grown < MOST, "{guest} {payload}: {} KiB", grown / 1024);
    }
}
