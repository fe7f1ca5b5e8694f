//! What a client of any library reports, in one form.

use std::sync::mpsc::Sender;

use waypost_tests::ledger::{Event, Message};

/// Where all clients report to.
pub type Reports = Sender<Report>;

/// One thing that happened to one client.
#[derive(Debug)]
pub enum Report {
    /// Something for the ledger.
    Ledger(Event),
    /// Connected: whether the server still had its session.
    On {
        client: String,
        connection: u64,
        session_present: bool,
    },
    /// The connection ended.
    Off { client: String, connection: u64 },
    /// A SUBACK, with the packet identifier where the client tells it.
    Subscribed {
        client: String,
        packet_id: String,
        is_granted: bool,
    },
    /// An UNSUBACK.
    Unsubscribed { packet_id: String },
    /// A filter is being subscribed to or unsubscribed from by the packet with that identifier.
    Asked { filter: String, packet_id: String },
    /// A retained message, or a live one to the client that looks at them.
    Kept {
        topic: String,
        number: u64,
        is_retained: bool,
    },
    /// A message that the client of changing subscriptions got.
    Told { topic: String },
    /// A program that should have stayed has ended.
    Ended { client: String },
    /// A publisher has stopped.
    Paused,
}

/// The message that a payload names.
pub fn message(payload: &str) -> Option<Message> {
    let mut words = payload.split(' ');
    Some(Message {
        publisher: words.next()?.to_owned(),
        number: words.next()?.parse().ok()?,
    })
}

/// A receipt; a payload that no publisher can have sent is message 0, which is a finding.
pub fn received(subscriber: &str, payload: &str, qos: u8, connection: u64) -> Report {
    Report::Ledger(Event::Received {
        subscriber: subscriber.to_owned(),
        message: message(payload).unwrap_or_else(|| Message {
            publisher: payload.to_owned(),
            number: 0,
        }),
        qos,
        connection,
    })
}
