//! The guest's allocator. A handler's instance lives for one batch and has one thread, so what counts is how fast small
//! blocks come and go.

use talc::wasm::{WasmDynamicTalc, new_wasm_dynamic_allocator};

#[global_allocator]
static ALLOCATOR: WasmDynamicTalc = new_wasm_dynamic_allocator();
