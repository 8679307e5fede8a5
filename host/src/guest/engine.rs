//! The engine: compiler settings, the pool of instances and the clock of deadlines, one for the process.
//!
//! Everything that a guest could use without bound is bounded here or in [`super::limits`]. Deadlines are
//! epochs: compiled code compares a counter at each loop and call, and a thread of the engine counts it up.
//! That is cheaper than fuel, and a guest can't avoid it.

use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use miette::Diagnostic;
use thiserror::Error;
use wasmtime::component::Linker;
use wasmtime::{Config, Enabled, InstanceAllocationStrategy, PoolingAllocationConfig, WasmBacktraceDetails};

use super::linker;
use super::store::State;

/// How precise deadlines are: a call is stopped at most two ticks after its deadline. Shorter ticks would be
/// felt as CPU time of an idle process.
const TICK: Duration = Duration::from_millis(8);

/// The core parts of one component: its own modules and the adapters between them. Components made from
/// Rust, Go, JavaScript or Python have 2 to 6 modules with one memory; composed ones have more.
const MODULES_PER_COMPONENT: u32 = 32;
const MEMORIES_PER_COMPONENT: u32 = 4;
const TABLES_PER_COMPONENT: u32 = 16;

/// Bytes of an instance's memory that are reset in place before the next use instead of being handed back to
/// the kernel, whose page faults cost more. Held for each pooled memory in use. With `PAGEMAP_SCAN` (Linux 6.7)
/// only touched pages are reset. Measured for a lone event: 6 us with it, 24 us without, 20 us with nothing kept.
const KEEP_RESIDENT: usize = 512 * 1024;

/// What a 32-bit memory can address. A bigger cap is no mistake, only more than a component can use.
const ADDRESSABLE: usize = 1 << 32;

/// What the pool must have room for.
#[derive(Clone, Copy, Debug)]
pub struct EngineLimits {
    /// Calls at one time: the sum of all handlers' shards.
    pub instances: u32,
    /// The biggest memory cap of any handler, in bytes.
    pub memory: usize,
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
    pub(super) linker: Arc<Linker<State>>,
    _clock: Arc<Clock>,
}

impl Engine {
    pub fn new(limits: EngineLimits) -> Result<Self, EngineError> {
        let engine =
            wasmtime::Engine::new(&config(limits)).map_err(|error| EngineError(format!("{error:#}")))?;
        let linker = linker::grants(&engine).map_err(|error| EngineError(format!("{error:#}")))?;
        let clock = Clock::start(engine.clone()).map_err(|error| EngineError(error.to_string()))?;
        Ok(Self { wasmtime: engine, linker: Arc::new(linker), _clock: Arc::new(clock) })
    }
}

/// `time` in ticks, rounded up; one more because the current tick may be about to end.
pub(super) fn ticks(time: Duration) -> u64 {
    let ticks = time.as_nanos().div_ceil(TICK.as_nanos());
    // Not u64::MAX: wasmtime adds this to the current epoch.
    u64::try_from(ticks).unwrap_or(u64::MAX).min(u64::MAX / 2) + 1
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
        .max_memory_size(limits.memory.min(ADDRESSABLE))
        .linear_memory_keep_resident(KEEP_RESIDENT)
        .table_keep_resident(KEEP_RESIDENT)
        .pagemap_scan(Enabled::Auto);
    pool
}

/// The thread that counts epochs.
struct Clock {
    /// Dropping it is the sign to end.
    stop: Option<mpsc::SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Clock {
    fn start(engine: wasmtime::Engine) -> std::io::Result<Self> {
        let (stop, stopped) = mpsc::sync_channel(0);
        let thread = thread::Builder::new().name("guest-clock".into()).spawn(move || {
            let mut next = Instant::now() + TICK;
            // A late tick is made up for by shorter waits, so that deadlines don't stretch on a busy machine.
            while let Err(RecvTimeoutError::Timeout) =
                stopped.recv_timeout(next.saturating_duration_since(Instant::now()))
            {
                engine.increment_epoch();
                next += TICK;
            }
        })?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It has no way to panic, and a panic here would hide the one that unwinds.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_starts_with_no_handlers_and_with_boundless_ones() {
        for memory in [0, 1, usize::MAX] {
            assert!(Engine::new(EngineLimits { instances: 0, memory }).is_ok(), "{memory}");
        }
    }

    #[test]
    fn a_deadline_is_never_shorter_than_asked_for() {
        assert_eq!(ticks(Duration::ZERO), 1);
        assert_eq!(ticks(TICK), 2);
        assert_eq!(ticks(TICK + Duration::from_micros(1)), 3);
        assert_eq!(ticks(Duration::MAX), u64::MAX / 2 + 1);
    }
}
