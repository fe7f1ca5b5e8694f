//! What may lie between a socket and MQTT: TLS, and WebSocket inside it or alone.
//!
//! Both are sans-I/O: bytes in, bytes out. Deliberately not here: sockets, when to read and write
//! (`shard`), whom to let in (`door`).

mod outgoing;
#[cfg(test)]
pub(crate) mod peer;
pub(crate) mod tls;

pub(crate) use outgoing::Outgoing;
