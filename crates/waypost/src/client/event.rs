//! What a client is told about its connection, and why a connection ends.

use std::collections::HashSet;
use std::io;

use waypost_mqtt::{ConnAck, PacketId, Publish, ReasonCode, ReasonCodes};

/// What happened on a connection.
#[derive(Debug)]
pub enum Event<'a> {
    /// The server accepted the connection.
    Connected(ConnAck<'a>),
    /// A message arrived; of QoS 2 each once.
    Message(Publish<'a>),
    /// A published message is finished: written (QoS 0), or acknowledged with this reason.
    Done {
        /// What [`publish`](super::session::Session::publish) was told.
        tag: u64,
        /// 0x80 and above: the server refused it.
        reason: ReasonCode,
    },
    /// The connection ended before this message was finished.
    Lost {
        /// What [`publish`](super::session::Session::publish) was told.
        tag: u64,
    },
    /// The server answered SUBSCRIBE.
    Subscribed(ReasonCodes<'a>),
    /// The connection is gone; nothing follows.
    Closed {
        /// Why.
        why: &'a Closed,
        /// QoS 2 messages received and not released, for the session's next connection.
        received: &'a HashSet<PacketId>,
    },
}

/// Why a connection is gone.
#[derive(Debug, thiserror::Error)]
pub enum Closed {
    /// The client said DISCONNECT and the server closed.
    #[error("finished")]
    Finished,
    /// The server is not there.
    #[error("{0}")]
    Unreachable(io::Error),
    /// The server refused CONNECT.
    #[error("the server refused the connection: {}{}", reason.text(), because(text))]
    Refused {
        /// Why.
        reason: ReasonCode,
        /// The server's own words.
        text: Option<String>,
    },
    /// The server said DISCONNECT.
    #[error("the server disconnected the client: {}{}", reason.text(), because(text))]
    Disconnected {
        /// Why.
        reason: ReasonCode,
        /// The server's own words.
        text: Option<String>,
    },
    /// The network failed, or the server closed without a word.
    #[error("the connection was lost: {0}")]
    Lost(io::Error),
    /// The server did not answer in time.
    #[error("the server did not answer {0} in time")]
    Silent(&'static str),
    /// The server broke the protocol.
    #[error("the server broke the protocol: {0}")]
    Protocol(String),
}

fn because(text: &Option<String>) -> String {
    text.as_ref()
        .map(|text| format!(" ({text})"))
        .unwrap_or_default()
}
