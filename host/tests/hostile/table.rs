//! What there is of guests, and what becomes of the events that they get.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use Fate::{DeadLetter, Served};
use wasmill::event::FailureKind::{self, Contract, Memory, Reject, Timeout, Trap};

pub(crate) enum Fate {
    /// Of this kind, for a reason with these words.
    DeadLetter(FailureKind, &'static str),
    /// Publishes an output with these words.
    Served(&'static str),
}

/// Guest, payload, how many such events, and what becomes of each.
pub(crate) const GUESTS: [(&str, &str, usize, Fate); 40] = [
    ("endless", "", 3, DeadLetter(Timeout, "deadline of 500ms")),
    ("start-loop", "", 1, DeadLetter(Timeout, "deadline of 500ms")),
    ("sleep", "", 1, DeadLetter(Timeout, "deadline of 500ms")),
    ("block-copy", "1", 1, DeadLetter(Timeout, "deadline of 500ms")),
    ("block-copy", "22", 1, DeadLetter(Timeout, "deadline of 500ms")),
    ("greedy", "endless random bytes", 1, DeadLetter(Timeout, "deadline of 500ms")),
    ("greedy", "endless time", 1, DeadLetter(Timeout, "deadline of 500ms")),
    ("greedy", "endless polls", 1, DeadLetter(Timeout, "deadline of 500ms")),
    ("greedy", "endless lines", 2, DeadLetter(Timeout, "deadline of 500ms")),
    ("greedy", "endless output", 1, DeadLetter(Timeout, "deadline of 500ms")),
    ("greedy", "endless input", 1, DeadLetter(Timeout, "deadline of 500ms")),
    ("greedy", "endless files", 1, DeadLetter(Timeout, "deadline of 500ms")),
    ("greedy", "handles", 2, DeadLetter(Contract, "held more than 256 streams")),
    ("greedy", "random bytes", 2, DeadLetter(Contract, "exceeds limit 65536")),
    ("memory-bomb", "bomb", 3, DeadLetter(Memory, "memory cap of 16.0 MiB")),
    ("memory-bomb", "frugal", 3, Served("lives with less")),
    ("table-bomb", "bomb", 3, DeadLetter(Memory, "the most elements of a table, 20000")),
    ("stack-overflow", "", 3, DeadLetter(Trap, "call stack exhausted")),
    ("huge", "record", 2, DeadLetter(Contract, "too large")),
    ("huge", "reject", 2, DeadLetter(Reject, "xxx…")),
    ("overlap", "", 2, DeadLetter(Contract, "fuel")),
    ("billions", "1", 2, DeadLetter(Contract, "out of bounds")),
    ("billions", "22", 2, DeadLetter(Contract, "out of bounds")),
    ("billions", "333", 2, DeadLetter(Contract, "out of bounds")),
    ("billions", "4444", 2, DeadLetter(Contract, "out of bounds")),
    ("flood", "100001", 2, DeadLetter(Contract, "100001 outputs of one event; the most is 100000")),
    ("flood", "10000000", 2, DeadLetter(Memory, "memory cap of 16.0 MiB")),
    ("chatty", "flood", 20, Served("flood")),
    ("chatty", "long line", 2, Served("long line")),
    ("chatty", "panic", 3, DeadLetter(Trap, "after printing")),
    ("third-time", "fine", 7, Served("fine")),
    ("fate", "panic", 200, DeadLetter(Trap, "this payload is poison")),
    ("fate", "exit", 3, DeadLetter(Trap, "exit code")),
    ("fate", "out of bounds", 3, DeadLetter(Trap, "out of bounds")),
    ("fate", "loop", 1, DeadLetter(Timeout, "deadline of 500ms")),
    ("wrong-count", "forget", 3, DeadLetter(Contract, "0 results for 1 events")),
    ("wrong-count", "twice", 3, DeadLetter(Contract, "2 results for 1 events")),
    ("topic-bytes", "bytes", 3, DeadLetter(Contract, "utf-8")),
    ("topic", "secrets", 3, DeadLetter(Contract, "secrets")),
    ("env", "", 1, Served("read false")),
];

/// What is never taken for a handler, and what /status says about it.
pub(crate) const REFUSED: [(&str, &str); 2] = [("sockets", "wasi:sockets"), ("other-world", "another world")];

/// They do nothing that a handler may not.
pub(crate) const HARMLESS: [&str; 4] = ["echo", "flaky", "remember", "revised"];

#[test]
fn no_guest_is_forgotten() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guests");
    let files = ["examples", "wat"].map(|kind| fs::read_dir(folder.join(kind)).unwrap());
    let name = |file: PathBuf| file.file_stem().unwrap().to_string_lossy().into_owned();
    let there: BTreeSet<String> =
        files.into_iter().flatten().map(|entry| name(entry.unwrap().path())).collect();
    let hostile = GUESTS.iter().map(|(guest, ..)| *guest);
    let known = hostile.chain(REFUSED.map(|(guest, _)| guest)).chain(HARMLESS);
    assert_eq!(there, known.map(String::from).collect());
}
