//! Client programs and libraries that nobody here wrote, unmodified, against a running server.
//!
//! The scenarios of Python and Node are the scripts in `tests/clients`; here each is started once per version.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod mosquitto;
mod node;
mod paho;
mod rumqttc;
