//! Wasmill runs sandboxed WebAssembly components as handlers of Kafka events.
//!
//! Data flows down this list and dependencies point one way; ARCHITECTURE.md says why.

pub mod cli;
pub mod config;
pub mod event;
pub mod guest;
pub mod http;
pub mod log;
pub mod mail;
pub mod schema;
pub mod shard;
pub mod status;
pub mod supervisor;
pub mod telemetry;
mod text;
