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
    let said = stderr
        .lines()
        .filter(|line| !line.starts_with("note: run with `RUST_BACKTRACE=1`"))
        .collect::<Vec<_>>()
        .join("\n");
    let message = if said.is_empty() { reason } else { format!("{reason}\n{said}") };
    let backtrace = error.downcast_ref::<WasmBacktrace>().map(frames);
    Failure { kind, message: cut(&message, FAILURE_TEXT), backtrace }
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
