//! A small MQTT client for the program's own commands: 3.1.1 and 5, QoS 0, 1 and 2 both ways,
//! keep alive, bounded queues; one or some thousand connections on one thread.
//!
//! [`session`] is the protocol of one connection without I/O, [`swarm`] the sockets and the loop,
//! [`endpoint`] where to connect, [`door`] how, [`wire`] the TLS ([`tls`]) and WebSocket
//! ([`websocket`]) between the two. A session goes on over a new connection with what the lost one
//! left ([`remains`]). Not here: when to connect again (a command decides that).

pub mod door;
pub mod endpoint;
pub mod event;
pub mod options;
pub mod remains;
pub mod session;
pub mod socket;
pub mod swarm;
pub mod tls;
pub mod websocket;
pub mod wire;
