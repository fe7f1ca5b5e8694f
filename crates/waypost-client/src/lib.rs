//! Waypost's Rust SDK: MQTT 5 and 3.1.1 over every door a server has.
//!
//! Deliberately not here: anything a server does, and the command line (`waypost`).

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

pub mod door;
pub mod keys;
pub mod protocol;
