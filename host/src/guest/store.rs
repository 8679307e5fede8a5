//! A guest's store: its whole world, made for a batch and dropped with it.

use std::time::Instant;

use wasmtime::Store;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use super::clock;
use super::console::{Console, Stream};
use super::limits::{self, MemoryCap};
use super::version::Version;
use crate::config::plan::HandlerPlan;

pub(super) struct State {
    wasi: WasiCtx,
    pub(super) resources: ResourceTable,
    pub(super) memory: MemoryCap,
    /// When host calls that wait give up; epochs end the rest.
    pub(super) deadline: Instant,
    pub(super) console: Console,
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.resources }
    }
}

pub(super) fn new(version: &Version, plan: &HandlerPlan) -> Store<State> {
    let console = Console::default();
    // Nothing is inherited: no arguments, an empty stdin, and only the environment of pipeline.toml.
    let mut wasi = WasiCtx::builder();
    wasi.stdout(console.stream(Stream::Stdout))
        .stderr(console.stream(Stream::Stderr))
        .max_random_size(limits::RANDOM_BYTES);
    for (name, value) in &plan.env {
        wasi.env(name, value.expose());
    }
    let mut resources = ResourceTable::new();
    resources.set_max_capacity(limits::RESOURCES);

    let state = State {
        wasi: wasi.build(),
        resources,
        memory: MemoryCap::new(plan.limits.memory),
        deadline: Instant::now(),
        console,
    };
    let mut store = Store::new(&version.engine().wasmtime, state);
    store.limiter(|state| &mut state.memory);
    store.set_max_component_handles(limits::HANDLES);
    store
}

/// What each call is granted anew; its deadline starts now.
pub(super) fn begin_call(store: &mut Store<State>, plan: &HandlerPlan) {
    store.data_mut().deadline = Instant::now() + plan.limits.time;
    store.data_mut().memory.forget_refusals();
    store.set_epoch_deadline(clock::ticks(plan.limits.time));
    store.set_hostcall_fuel(limits::copied_bytes(plan.limits.memory));
}
