//! Statements of MQTT 3.1.1, each shown on a running server; one module per packet or chapter.
//!
//! A test quotes the statements it shows in its doc comment; `cargo xtask conformance` collects them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod connack;
mod connect;
mod data;
mod ending;
mod level_3;
mod ping;
mod publish;
mod qos;
mod redelivery;
mod restart;
mod retained;
mod session;
mod subscribe;
mod topics;
mod unsubscribe;
mod websocket;
mod will;
mod wire;
