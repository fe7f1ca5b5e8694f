//! What the end-to-end tests share: a server of their own, raw MQTT connections, real client programs.
//!
//! [`Server::start`] spawns the built `waypost` on free ports with a data directory of its own.
//! [`RawClient`] speaks MQTT packet by packet, well-formed or not, and waits with deadlines; it never
//! sleeps, and says "nothing arrived" only after a PINGREQ/PINGRESP fence.
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

pub mod bench;
pub mod bytes;
mod certificates;
pub mod ledger;
pub mod past;
pub mod power_cut;
pub mod probe;
mod programs;
pub mod random;
mod raw_client;
mod server;
pub mod trace;
mod wait;
mod websocket;

pub use certificates::Certificates;
pub use programs::{Program, Run, Running, required_program};
pub use raw_client::{
    RawClient, Received, connect_packet, empty_publish, subscribe_bytes, unsubscribe_bytes,
    with_fixed_header,
};
pub use server::{Server, ServerOptions, waypost};
pub use wait::{LIMIT, wait_for};
pub use websocket::{FIN, WebSocket, WebSocketFrame, opcode};
