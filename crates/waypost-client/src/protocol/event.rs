//! What a client is told about its connection, and why a connection ends.

use std::cell::RefCell;
use std::io;

use waypost_mqtt::{ConnAck, PacketId, Publish, ReasonCode, ReasonCodes};

use super::remains::Remains;
use crate::door::DoorError;

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
        /// What it says in words.
        why: Option<&'a str>,
    },
    /// A message that an earlier connection did not finish is sent again.
    Resent,
    /// The connection ended before this message was finished, and it will not be sent again.
    Lost {
        /// What [`publish`](super::session::Session::publish) was told.
        tag: u64,
    },
    /// The server answered SUBSCRIBE.
    Subscribed {
        /// Which SUBSCRIBE.
        packet_id: PacketId,
        /// For each filter.
        reasons: ReasonCodes<'a>,
        /// What it says in words; version 3 says nothing.
        why: Option<&'a str>,
    },
    /// The server answered UNSUBSCRIBE; version 3 gives no reasons.
    Unsubscribed {
        /// Which UNSUBSCRIBE.
        packet_id: PacketId,
        /// For each filter.
        reasons: ReasonCodes<'a>,
    },
    /// The connection is gone; nothing follows.
    Closed {
        /// Why.
        why: &'a Closed,
        /// For the session's next connection, to be taken.
        remains: &'a RefCell<Remains>,
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
    /// What lies between the socket and MQTT did not come about, or broke.
    #[error("{0}")]
    Door(DoorError),
    /// The server refused CONNECT.
    #[error("the server refused the connection: {}{}", reason.text(), because(text.as_deref()))]
    Refused {
        /// Why.
        reason: ReasonCode,
        /// The server's own words.
        text: Option<String>,
    },
    /// The server said DISCONNECT.
    #[error("the server disconnected the client: {}{}", reason.text(), because(text.as_deref()))]
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

impl Closed {
    /// Whether a connection made again may fare better.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::Lost(_) | Self::Silent(_) => true,
            Self::Refused { reason, .. } | Self::Disconnected { reason, .. } => matches!(
                reason,
                ReasonCode::ServerUnavailable
                    | ReasonCode::ServerBusy
                    | ReasonCode::ServerShuttingDown
                    | ReasonCode::KeepAliveTimeout
                    | ReasonCode::ConnectionRateExceeded
            ),
            Self::Door(error) => error.is_passing(),
            Self::Finished | Self::Protocol(_) => false,
        }
    }
}

fn because(text: Option<&str>) -> String {
    text.map(|text| format!(" ({text})")).unwrap_or_default()
}
