//! The engine: compiler settings, the pool of instances and the clock of deadlines, one for the process.
//!
//! Everything that a guest could use without bound is bounded here or in [`super::limits`].

use std::sync::Arc;

use miette::Diagnostic;
use thiserror::Error;
use wasmtime::{Config, Enabled, InstanceAllocationStrategy, PoolingAllocationConfig, WasmBacktraceDetails};

use super::clock::{Clock, Timed};

/// The core parts of one component: its own modules and the adapters between them. Components made from
/// Rust, Go, JavaScript or Python have 2 to 6 modules with one memory; composed ones have more.
const MODULES_PER_COMPONENT: u32 = 32;
const MEMORIES_PER_COMPONENT: u32 = 4;
const TABLES_PER_COMPONENT: u32 = 16;

/// Bytes of an instance's memory that are reset in place before the next use instead of being handed back to
/// the kernel, whose page faults cost more. Held for each pooled memory in use. With `PAGEMAP_SCAN` (Linux 6.7)
/// only touched pages are reset. Measured for a lone event: 6 us with it, 24 us without, 20 us with nothing kept.
const KEEP_RESIDENT: usize = 512 * 1024;

/// What a 32-bit memory can address. The pool allows it to each memory, whatever the handlers' caps are: it reserves
/// the address space anyway, and so a cap can change while the engine runs.
const ADDRESSABLE: usize = 1 << 32;

/// What the pool must have room for.
#[derive(Clone, Copy, Debug)]
pub struct EngineLimits {
    /// Calls at one time: the sum of all handlers' shards.
    pub instances: u32,
}

#[derive(Debug, Error, Diagnostic)]
#[error("can't set up the WebAssembly engine: {0}")]
#[diagnostic(help(
    "the engine reserves (but does not use) 4 GiB of address space for each memory of its pool: look at \
     `ulimit -v` and at the number of shards"
))]
pub struct EngineError(String);

/// Shared by the whole process; cheap to clone. Its clock ends with the last clone.
#[derive(Clone)]
pub struct Engine {
    pub(super) wasmtime: wasmtime::Engine,
    instances: u32,
    clock: Arc<Clock>,
}

impl Engine {
    pub fn new(limits: EngineLimits) -> Result<Self, EngineError> {
        let engine =
            wasmtime::Engine::new(&config(limits)).map_err(|error| EngineError(format!("{error:#}")))?;
        let epochs = engine.clone();
        let clock =
            Clock::start(move || epochs.increment_epoch()).map_err(|error| EngineError(error.to_string()))?;
        Ok(Self { wasmtime: engine, instances: limits.instances, clock: Arc::new(clock) })
    }

    /// Deadlines pass while this is held.
    pub(super) fn time_a_call(&self) -> Timed<'_> {
        self.clock.time_a_call()
    }

    /// The calls at one time that it was made for. More need an engine of their own.
    pub fn instances(&self) -> u32 {
        self.instances
    }
}

fn config(limits: EngineLimits) -> Config {
    let mut config = Config::new();
    config.concurrency_support(false);
    config.epoch_interruption(true);
    // Function names come with every component; files and lines would need its debug information.
    config.wasm_backtrace_details(WasmBacktraceDetails::Disable);
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(limits)));
    config
}

fn pool(limits: EngineLimits) -> PoolingAllocationConfig {
    // One for each shard, and as many again while a batch's store is dropped and the next one made.
    let instances = limits.instances.max(1).saturating_mul(2);
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances)
        .max_core_instances_per_component(MODULES_PER_COMPONENT)
        .total_core_instances(instances.saturating_mul(MODULES_PER_COMPONENT))
        .max_memories_per_component(MEMORIES_PER_COMPONENT)
        .total_memories(instances.saturating_mul(MEMORIES_PER_COMPONENT))
        .max_tables_per_component(TABLES_PER_COMPONENT)
        .max_tables_per_module(TABLES_PER_COMPONENT)
        .total_tables(instances.saturating_mul(TABLES_PER_COMPONENT))
        .max_memory_size(ADDRESSABLE)
        .linear_memory_keep_resident(KEEP_RESIDENT)
        .table_keep_resident(KEEP_RESIDENT)
        // A version that is replaced leaves its memories to later ones, which take over so many before they take
        // fresh ones: enough for two versions of each handler side by side. wasmtime's 100 would keep 100 times
        // `KEEP_RESIDENT` of what swapped-out versions touched.
        .max_unused_warm_slots(instances)
        .pagemap_scan(Enabled::Auto);
    pool
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_starts_with_no_handlers() {
        assert!(Engine::new(EngineLimits { instances: 0 }).is_ok());
    }
}
