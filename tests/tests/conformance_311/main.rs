//! Statements of MQTT 3.1.1, each shown on a running server; one module per packet or chapter.
//!
//! A test quotes the statements it shows in its doc comment; `cargo xtask conformance` collects them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod ping;
