//! What a guest may import: WASI 0.2 without files, sockets and HTTP.
//!
//! Each handler is linked against what its `allow` names of it. Two entries need a word: `filesystem` is here because the standard libraries of Rust, Go and C import it whether or not
//! they use it, and no folder is ever opened for a guest; `io/poll` is our own because wasmtime-wasi's
//! would let a guest sleep through its deadline.

use std::future::Future;

use thiserror::Error;
use wasmtime::component::{HasData, Linker, Resource, ResourceTable};
use wasmtime_wasi::cli::{WasiCli, WasiCliView};
use wasmtime_wasi::clocks::{WasiClocks, WasiClocksView};
use wasmtime_wasi::filesystem::{WasiFilesystem, WasiFilesystemView};
use wasmtime_wasi::p2::DynPollable;
use wasmtime_wasi::p2::bindings::io::poll as waiting;
use wasmtime_wasi::p2::bindings::sync::{filesystem::types, io::poll, io::streams};
use wasmtime_wasi::p2::bindings::{cli, clocks, filesystem::preopens, io::error, random};
use wasmtime_wasi::random::{WasiRandom, WasiRandomView};
use wasmtime_wasi::runtime::in_tokio;

use super::store::State;
use crate::config::plan::Allow;

type Grant = (&'static str, fn(&mut Linker<State>) -> wasmtime::Result<()>);

#[rustfmt::skip] // one line a grant
const GRANTS: &[Grant] = &[
    ("wasi:cli/environment",        |l| cli::environment::add_to_linker::<_, WasiCli>(l, State::cli)),
    ("wasi:cli/exit",               |l| cli::exit::add_to_linker::<_, WasiCli>(l, State::cli)),
    ("wasi:cli/stdin",              |l| cli::stdin::add_to_linker::<_, WasiCli>(l, State::cli)),
    ("wasi:cli/stdout",             |l| cli::stdout::add_to_linker::<_, WasiCli>(l, State::cli)),
    ("wasi:cli/stderr",             |l| cli::stderr::add_to_linker::<_, WasiCli>(l, State::cli)),
    ("wasi:cli/terminal-input",     |l| cli::terminal_input::add_to_linker::<_, WasiCli>(l, State::cli)),
    ("wasi:cli/terminal-output",    |l| cli::terminal_output::add_to_linker::<_, WasiCli>(l, State::cli)),
    ("wasi:cli/terminal-stdin",     |l| cli::terminal_stdin::add_to_linker::<_, WasiCli>(l, State::cli)),
    ("wasi:cli/terminal-stdout",    |l| cli::terminal_stdout::add_to_linker::<_, WasiCli>(l, State::cli)),
    ("wasi:cli/terminal-stderr",    |l| cli::terminal_stderr::add_to_linker::<_, WasiCli>(l, State::cli)),
    ("wasi:clocks/monotonic-clock", |l| clocks::monotonic_clock::add_to_linker::<_, WasiClocks>(l, State::clocks)),
    ("wasi:clocks/wall-clock",      |l| clocks::wall_clock::add_to_linker::<_, WasiClocks>(l, State::clocks)),
    ("wasi:filesystem/preopens",    |l| preopens::add_to_linker::<_, WasiFilesystem>(l, State::filesystem)),
    ("wasi:filesystem/types",       |l| types::add_to_linker::<_, WasiFilesystem>(l, State::filesystem)),
    ("wasi:io/error",               |l| error::add_to_linker::<_, Resources>(l, |state| &mut state.resources)),
    ("wasi:io/poll",                |l| poll::add_to_linker::<_, Waits>(l, |state| Wait(state))),
    ("wasi:io/streams",             |l| streams::add_to_linker::<_, Resources>(l, |state| &mut state.resources)),
    ("wasi:random/insecure",        |l| random::insecure::add_to_linker::<_, WasiRandom>(l, State::random)),
    ("wasi:random/insecure-seed",   |l| random::insecure_seed::add_to_linker::<_, WasiRandom>(l, State::random)),
    ("wasi:random/random",          |l| random::random::add_to_linker::<_, WasiRandom>(l, State::random)),
];

/// What a handler with this `allow` gets.
pub(super) fn grants(engine: &wasmtime::Engine, allow: &Allow) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    for (_, grant) in GRANTS.iter().filter(|(interface, _)| allow.contains(interface)) {
        grant(&mut linker)?;
    }
    Ok(linker)
}

/// The interface that an import such as `wasi:cli/stdout@0.2.3` is of, if there is one to grant.
pub(super) fn interface(import: &str) -> Option<&'static str> {
    let (interface, version) = import.split_once('@')?;
    let (name, _) = GRANTS.iter().find(|(name, _)| *name == interface)?;
    version.starts_with("0.2.").then_some(name)
}

/// A guest waited for something past its call's deadline.
#[derive(Debug, Error)]
#[error("waited past the deadline")]
pub(super) struct WaitedTooLong;

struct Resources;

impl HasData for Resources {
    type Data<'a> = &'a mut ResourceTable;
}

/// `wasi:io/poll` that ends with the call's deadline. Epochs interrupt running guests, not waiting hosts.
struct Wait<'a>(&'a mut State);

struct Waits;

impl HasData for Waits {
    type Data<'a> = Wait<'a>;
}

impl Wait<'_> {
    fn until_deadline<T>(
        deadline: std::time::Instant,
        wait: impl Future<Output = wasmtime::Result<T>>,
    ) -> wasmtime::Result<T> {
        in_tokio(async {
            match tokio::time::timeout_at(deadline.into(), wait).await {
                Ok(answer) => answer,
                Err(_elapsed) => Err(WaitedTooLong.into()),
            }
        })
    }
}

impl poll::Host for Wait<'_> {
    fn poll(&mut self, pollables: Vec<Resource<DynPollable>>) -> wasmtime::Result<Vec<u32>> {
        Self::until_deadline(self.0.deadline, waiting::Host::poll(&mut self.0.resources, pollables))
    }
}

impl poll::HostPollable for Wait<'_> {
    fn block(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        Self::until_deadline(self.0.deadline, waiting::HostPollable::block(&mut self.0.resources, pollable))
    }

    fn ready(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<bool> {
        poll::HostPollable::ready(&mut self.0.resources, pollable)
    }

    fn drop(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        poll::HostPollable::drop(&mut self.0.resources, pollable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::plan::INTERFACES;

    #[test]
    fn any_patch_release_of_an_interface_is_there_and_nothing_else() {
        assert_eq!(interface("wasi:cli/stdout@0.2.0"), Some("wasi:cli/stdout"));
        assert_eq!(interface("wasi:cli/stdout@0.2.9"), Some("wasi:cli/stdout"));
        for import in [
            "wasi:cli/stdout@0.3.0",
            "wasi:cli/stdout",
            "wasi:sockets/tcp@0.2.0",
            "wasi:http/outgoing-handler@0.2.0",
        ] {
            assert_eq!(interface(import), None);
        }
    }

    #[test]
    fn what_pipeline_toml_may_allow_is_what_there_is_to_grant() {
        let mut grants: Vec<_> = GRANTS.iter().map(|(interface, _)| *interface).collect();
        grants.sort();
        assert_eq!(grants, INTERFACES);
    }
}
