//! Client programs and libraries that nobody here wrote, unmodified, against a running server.
//!
//! The scenarios of Python and Node are the scripts in `tests/clients`; here each is started
//! once per version over plain TCP, and once per door ([`doors`]).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod browser;
mod doors;
mod mosquitto;
mod mosquitto_doors;
mod node;
mod openssl;
mod own;
mod paho;
mod rumqttc;
