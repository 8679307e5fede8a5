//! pipeline.toml: raw → plan.
pub mod plan;
