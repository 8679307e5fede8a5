//! Wasmill runs sandboxed WebAssembly components as handlers of Kafka events.
//!
//! These modules depend on each other without cycles: the verbs of [`cli`] on the [`supervisor`], which puts the others
//! together, and all of them, in the end, on the plain data of [`event`]. ARCHITECTURE.md is the map.

pub mod cli;
pub mod config;
pub mod dead_letters;
pub mod event;
mod file;
pub mod guest;
pub mod histogram;
pub mod http;
pub mod log;
pub mod mail;
pub mod process;
mod reading;
mod replace;
pub mod schema;
pub mod shard;
pub mod status;
mod stops;
pub mod supervisor;
pub mod telemetry;
mod text;
