//! Statements of MQTT 5, each shown on a running server; one module per packet or chapter.
//!
//! A test quotes the statements it shows in its doc comment; `cargo xtask conformance` collects them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod alias;
mod connack;
mod connect;
mod data;
mod ending;
mod flow;
mod packet_size;
mod ping;
mod publish;
mod qos;
mod restart;
mod retained;
mod session;
mod shared;
mod subscribe;
mod websocket;
mod will;
mod wire;
