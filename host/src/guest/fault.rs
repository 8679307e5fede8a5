//! What a failed call is called: wasmtime's error, told as one of the host's failures.

use bytesize::ByteSize;
use wasmtime::component::ResourceTableError;
use wasmtime::{PoolConcurrencyLimitError, Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;

use super::limits::{RESOURCES, Refused};
use super::linker::WaitedTooLong;
use super::store::State;
use crate::config::plan::LimitsPlan;
use crate::event::{FAILURE_TEXT, Failure, FailureKind};
use crate::text::cut;

/// The failure that ended a call, with what the guest said about it on stderr.
pub(super) fn failure(error: &wasmtime::Error, state: &State, limits: &LimitsPlan) -> Failure {
    let (kind, reason) = classify(error, state, limits);
    let stderr = state.console.stderr_tail();
    let message = told_by(&stderr, reason);
    let backtrace = error.downcast_ref::<WasmBacktrace>().map(frames);
    Failure { kind, message: cut(&message, FAILURE_TEXT), backtrace }
}

/// The reason and what the guest said, with what says most in the first line: where a Rust panic came from and why, rather
/// than that it ended in a trap.
fn told_by(stderr: &str, reason: String) -> String {
    let mut lines: Vec<&str> =
        stderr.lines().filter(|line| !line.starts_with("note: run with `RUST_BACKTRACE=1`")).collect();
    let panic = lines.iter().rposition(|line| line.starts_with("thread ") && line.contains(" panicked at "));
    let headline = panic.map(|at| {
        let said: Vec<&str> = lines.drain(at..(at + 2).min(lines.len())).collect();
        let place = said[0].split_once(" panicked at ").map_or(said[0], |(_, place)| place);
        format!("panicked at {place} {}", said.get(1).unwrap_or(&"")).trim_end().to_string()
    });
    let said = lines.into_iter().map(str::to_string).filter(|line| !line.is_empty());
    headline.into_iter().chain([reason]).chain(said).collect::<Vec<_>>().join("\n")
}

/// A failure whose text comes from the guest, which may be as long as its memory.
pub(super) fn told(kind: FailureKind, message: String) -> Failure {
    Failure::new(kind, cut(&message, FAILURE_TEXT))
}

fn classify(error: &wasmtime::Error, state: &State, limits: &LimitsPlan) -> (FailureKind, String) {
    let cause = error.root_cause();
    let trap = error.downcast_ref::<Trap>().copied();
    if trap == Some(Trap::Interrupt) || error.is::<WaitedTooLong>() {
        let deadline = humantime::format_duration(limits.time);
        (FailureKind::Timeout, format!("ran past its deadline of {deadline}"))
    } else if let Some(refused) = state.memory.refused() {
        // An allocator that gets no memory aborts, so the trap itself doesn't tell.
        let bound = match refused {
            Refused::Cap => format!("its memory cap of {}", ByteSize::b(limits.memory as u64)),
            Refused::Memory(most) => format!("the maximum of its own memory, {}", ByteSize::b(most as u64)),
            Refused::Table(most) => format!("the most elements of a table, {most}"),
        };
        (FailureKind::Memory, format!("ran into {bound}: {cause}"))
    } else if let Some(exit) = error.downcast_ref::<I32Exit>() {
        (FailureKind::Trap, format!("the component ended itself with exit code {}", exit.0))
    } else if trap.is_some() {
        (FailureKind::Trap, cause.to_string())
    } else if error.is::<PoolConcurrencyLimitError>() {
        // The host's fault, and passing.
        (FailureKind::Retry, format!("no instance is free: {cause}"))
    } else if let Some(ResourceTableError::Full) = error.downcast_ref() {
        let most = RESOURCES;
        (
            FailureKind::Contract,
            format!("held more than {most} streams, pollables and other resources at a time"),
        )
    } else {
        // What is left are host calls and answers that exceed a limit or are malformed.
        (FailureKind::Contract, format!("the component broke the contract: {cause}"))
    }
}

/// The frames alone, innermost first: wasmtime's own text starts with a headline.
fn frames(backtrace: &WasmBacktrace) -> String {
    let text = backtrace.to_string();
    text.lines().skip(1).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::told_by;

    #[test]
    fn a_panic_is_told_first_by_its_place_and_its_words() {
        let stderr = "before\n\nthread '<unnamed>' (1) panicked at src/lib.rs:34:50:\ncalled `Option::unwrap()` on a `None` \
                      value\nnote: run with `RUST_BACKTRACE=1` environment variable to display a backtrace";
        assert_eq!(
            told_by(stderr, "wasm trap".into()),
            "panicked at src/lib.rs:34:50: called `Option::unwrap()` on a `None` value\nwasm trap\nbefore"
        );
        assert_eq!(told_by("", "wasm trap".into()), "wasm trap");
        assert_eq!(told_by("a word", "wasm trap".into()), "wasm trap\na word");
        assert_eq!(
            told_by("thread 'x' panicked at src/lib.rs:1:1:", "t".into()),
            "panicked at src/lib.rs:1:1:\nt"
        );
    }
}
