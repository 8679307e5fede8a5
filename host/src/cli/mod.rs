//! The command line: one file a verb.

mod host;
pub mod simulate;
pub mod trace;
