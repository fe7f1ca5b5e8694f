//! MQTT as a client speaks it, without I/O: bytes in, events out, time passed in.
//!
//! [`session`] is one connection, [`publishing`] its way out, [`remains`] what it leaves for the
//! session's next one, [`options`] what is asked for, [`event`] what is told. [`Client`](crate::Client)
//! drives it with tokio; a program with an event loop of its own can do so itself. Not here:
//! sockets and what lies between them and MQTT ([`door`](crate::door)).

pub mod event;
pub mod options;
mod publishing;
pub mod remains;
pub mod session;
