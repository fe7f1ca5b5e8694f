//! What of a session outlives its connection.

use std::collections::{HashSet, VecDeque};

use waypost_mqtt::{PacketId, PropertyBuffer, QoS};

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

/// A message to publish, with its own bytes.
#[derive(Debug)]
pub struct Waiting {
    /// Comes back in events.
    pub tag: u64,
    /// A valid topic name.
    pub topic: String,
    /// What it says.
    pub payload: Vec<u8>,
    /// How surely.
    pub qos: QoS,
    /// Whether the server keeps it.
    pub retain: bool,
    /// Version 5 properties.
    pub properties: PropertyBuffer,
}

impl Remains {
    /// The tags of the messages published and not finished, in order.
    pub fn tags(&self) -> impl Iterator<Item = u64> {
        let in_flight = self.in_flight.iter().map(|message| message.tag);
        in_flight.chain(self.waiting.iter().map(|message| message.tag))
    }

    /// The messages published and not finished that may have to be sent again, in order.
    pub fn messages(&self) -> impl Iterator<Item = &Waiting> {
        let sent = self
            .in_flight
            .iter()
            .filter_map(|sent| sent.message.as_ref());
        sent.chain(&self.waiting)
    }

    /// The messages that were never sent, in order.
    pub fn into_waiting(self) -> impl Iterator<Item = Waiting> {
        self.waiting.into_iter()
    }

    /// A message to be published once there is a connection, after those before it.
    pub fn publish(&mut self, message: Waiting) {
        self.waiting.push_back(message);
    }

    /// A message of QoS 2 was dealt with after its connection was lost: it must not come again.
    pub fn acknowledge(&mut self, qos: QoS, packet_id: PacketId) {
        if qos == QoS::ExactlyOnce {
            self.received.insert(packet_id);
        }
    }
}

impl Waiting {
    /// A copy of `message`.
    pub fn new(message: &Outgoing<'_>, tag: u64) -> Self {
        let mut properties = PropertyBuffer::new();
        for property in message.properties.iter() {
            properties.push(property);
        }
        Self {
            tag,
            topic: message.topic.to_owned(),
            payload: message.payload.to_owned(),
            qos: message.qos,
            retain: message.retain,
            properties,
        }
    }

    /// The same, borrowed.
    pub fn message(&self) -> Outgoing<'_> {
        Outgoing {
            topic: &self.topic,
            payload: &self.payload,
            qos: self.qos,
            retain: self.retain,
            properties: self.properties.as_properties(),
        }
    }
}
