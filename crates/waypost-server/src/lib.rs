//! Shards, transports, configuration, metrics: the part of Waypost that touches the world.
#![forbid(unsafe_code)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing
    )
)]

pub mod config;
pub mod control;
pub mod metrics;

/// The version, as clients and metrics see it.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

#[cfg(test)]
mod docs;
