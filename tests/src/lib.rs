//! What the end-to-end tests share: a server of their own, raw MQTT connections, real client programs.
//!
//! [`Server::start`] spawns the built `waypost` on free ports with a data directory of its own.
//!
//! Deliberately not here: a comfortable client. What a user's client does is tested with the users'
//! clients (`tests/clients.rs`), and what one state machine does is tested beside that machine.

#![forbid(unsafe_code)]
// Everything here runs inside tests, where a failed expectation is a failed test.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::missing_panics_doc
)]

mod programs;
mod server;
mod wait;

pub use programs::{Program, Run, Running, required_program};
pub use server::{Server, ServerOptions};
pub use wait::{LIMIT, wait_for};
