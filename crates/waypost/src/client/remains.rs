//! What of a session outlives its connection.

use std::collections::{HashSet, VecDeque};

use waypost_mqtt::{PacketId, Properties, QoS};

use super::options::Outgoing;

/// What a lost connection leaves for the session's next one.
#[derive(Debug, Default)]
pub struct Remains {
    /// QoS 2 messages received and not released by the server.
    pub(super) received: HashSet<PacketId>,
    /// Messages sent and not acknowledged, in the order they were sent.
    pub(super) in_flight: VecDeque<InFlight>,
    /// Messages not sent yet, in order.
    pub(super) waiting: VecDeque<Waiting>,
}

#[derive(Debug)]
pub(super) struct InFlight {
    pub packet_id: PacketId,
    pub tag: u64,
    /// QoS 2: PUBREC came, PUBREL is out.
    pub released: bool,
    /// Kept when it may have to be sent again.
    pub message: Option<Waiting>,
}

#[derive(Debug)]
pub(super) struct Waiting {
    pub tag: u64,
    topic: String,
    payload: Vec<u8>,
    pub qos: QoS,
    retain: bool,
    properties: Vec<u8>,
}

impl Remains {
    /// The tags of the messages published and not finished, in order.
    pub fn tags(&self) -> impl Iterator<Item = u64> {
        let in_flight = self.in_flight.iter().map(|message| message.tag);
        in_flight.chain(self.waiting.iter().map(|message| message.tag))
    }
}

impl Waiting {
    pub fn new(message: &Outgoing<'_>, tag: u64) -> Self {
        Self {
            tag,
            topic: message.topic.to_owned(),
            payload: message.payload.to_owned(),
            qos: message.qos,
            retain: message.retain,
            properties: message.properties.as_bytes().to_owned(),
        }
    }

    pub fn message(&self) -> Outgoing<'_> {
        Outgoing {
            topic: &self.topic,
            payload: &self.payload,
            qos: self.qos,
            retain: self.retain,
            properties: Properties::from_validated(&self.properties),
        }
    }
}
