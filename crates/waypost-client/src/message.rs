//! A message that came.

use waypost_mqtt::{PacketId, Properties, Publish, QoS};

use crate::sealing::Sealed;
use crate::spec::Place;

/// A message that came, with its own bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    topic: String,
    payload: Vec<u8>,
    qos: QoS,
    retain: bool,
    dup: bool,
    packet_id: Option<PacketId>,
    properties: Vec<u8>,
    sealed: Option<Sealed>,
}

impl Message {
    pub(crate) fn new(publish: &Publish<'_>) -> Self {
        Self {
            topic: publish.topic.to_owned(),
            payload: publish.payload.to_owned(),
            qos: publish.qos,
            retain: publish.retain,
            dup: publish.dup,
            packet_id: publish.packet_id,
            properties: publish.properties.as_bytes().to_owned(),
            sealed: None,
        }
    }

    /// Where it was published.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// What it says: unpacked and opened, where it was packed or sealed.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// What it says, if that is text.
    pub fn text(&self) -> Option<&str> {
        str::from_utf8(&self.payload).ok()
    }

    /// What it says, without a copy.
    pub fn into_payload(self) -> Vec<u8> {
        self.payload
    }

    /// How surely it came.
    pub fn qos(&self) -> QoS {
        self.qos
    }

    /// Whether the server had kept it from before the subscription.
    pub fn is_retained(&self) -> bool {
        self.retain
    }

    /// Whether it may have come before.
    pub fn may_be_repeated(&self) -> bool {
        self.dup
    }

    /// Its MQTT 5 properties; none in 3.1.1.
    pub fn properties(&self) -> Properties<'_> {
        Properties::from_validated(&self.properties)
    }

    /// The value of the first user property with this name.
    pub fn user_property(&self, name: &str) -> Option<&str> {
        let mut all = self.properties().user_properties();
        all.find(|(found, _)| *found == name)
            .map(|(_, value)| value)
    }

    /// Where it is in a stream, if it came from one (MQTT 5).
    pub fn place(&self) -> Option<Place<'_>> {
        Place::of(&self.as_publish())
    }

    /// How it was sealed, and by whom; nothing: it was not, and the server could read and change it.
    pub fn sealed(&self) -> Option<&Sealed> {
        self.sealed.as_ref()
    }

    pub(crate) fn set_sealed(&mut self, sealed: Sealed) {
        self.sealed = Some(sealed);
    }

    pub(crate) fn set_payload(&mut self, payload: Vec<u8>) {
        self.payload = payload;
    }

    /// What it takes in memory, or nearly.
    pub(crate) fn bytes(&self) -> usize {
        self.topic.len() + self.payload.len() + self.properties.len()
    }

    /// As the wire has it.
    pub fn as_publish(&self) -> Publish<'_> {
        Publish {
            dup: self.dup,
            qos: self.qos,
            retain: self.retain,
            topic: &self.topic,
            packet_id: self.packet_id,
            properties: self.properties(),
            payload: &self.payload,
        }
    }
}
