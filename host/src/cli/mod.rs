//! cli

pub mod invoke;
