//! The cargo that builds components.

use std::env;
use std::process::Command;

/// What a component is built for.
pub(super) const TARGET: &str = "wasm32-wasip2";

/// The user's cargo; one that itself runs under a cargo takes that one's.
pub(super) fn cargo() -> Command {
    Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}
