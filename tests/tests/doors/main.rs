//! Every way in, and what comes before MQTT: TLS, WebSocket, PROXY, Unix sockets, right and wrong, with the built program.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod bounds;
mod certificates;
mod peer;
mod proxy;
mod tls;
mod unix;
mod websocket;
