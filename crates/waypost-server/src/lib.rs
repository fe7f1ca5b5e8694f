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
#[cfg(test)]
mod docs;
