//! Shards, transports, configuration, metrics: the part of Waypost that touches the world.
//!
//! [`start`] binds the doors and gives each shard its thread; [`config`] is what the operator
//! decides; [`control`] is the HTTP side, on a runtime of its own; [`metrics`] is what can be
//! watched.
//!
//! Deliberately not here: what MQTT means (waypost-core) and how it is encoded (waypost-mqtt).

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

pub mod auth;
mod client_report;
pub mod config;
pub mod control;
pub mod dictionaries;
#[cfg(test)]
mod docs;
mod door;
pub mod history;
mod listener;
mod mailbox;
pub mod metrics;
mod server;
mod shard;
mod socket;
mod store;
pub mod stream;
mod threads;
mod transcode;

pub use client_report::ClientReport;
pub use door::{
    Bound, CertificateError, Found, PROXY_FIXED_BYTES, PROXY_HEADER_BYTES_MAX, ProxyError,
    ProxySource, decode_proxy_header, decode_proxy_length,
};
pub use server::{DoorAddress, Handle, Server, StartError, start};
pub use store::{ClockTrust, NoKey, OpenError, STORE_DIRECTORY, store_options};

/// The version, as clients and metrics see it.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
