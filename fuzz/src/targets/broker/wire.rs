//! What a client and the network see of a broker, and what they hold against it.

use std::collections::{BTreeMap, VecDeque};

use waypost_core::{ConnectionId, DeliveryFlags, Effects, MailBatch, Message, ShardId, Target};
use waypost_mqtt::{
    Ack, Packet, PacketId, ProtocolVersion, Publish, PublishHead, QoS, Role, decode, encode,
    encode_publish_head,
};

use super::SLOTS;

/// The client's end of a connection.
#[derive(Default)]
pub(super) struct Wire {
    pub is_open: bool,
    /// Known from the CONNECT that the broker was given.
    pub version: Option<ProtocolVersion>,
    receive_maximum: usize,
    packet_bytes_max: usize,
    /// Packet Identifiers of the server's PUBLISH packets that are not finished.
    unfinished: BTreeMap<u16, QoS>,
    /// What a well-behaved client would answer.
    pub owed: VecDeque<(Answer, PacketId)>,
    pub is_parked: bool,
    pub inbox: VecDeque<Vec<u8>>,
    pub outbox_bytes: usize,
    /// It reads nothing.
    pub is_stalled: bool,
}

#[derive(Clone, Copy)]
#[expect(clippy::enum_variant_names, reason = "the packets' names")]
pub(super) enum Answer {
    PubAck,
    PubRec,
    PubComp,
}

impl Wire {
    /// What a packet of the client changes in what the server may do.
    pub fn note(&mut self, packet: &Packet<'_>) {
        match packet {
            Packet::Connect(connect) if self.version.is_none() => {
                self.version = Some(connect.version);
                let properties = connect.properties;
                self.receive_maximum =
                    usize::from(properties.receive_maximum().unwrap_or(u16::MAX));
                self.packet_bytes_max = properties
                    .maximum_packet_size()
                    .and_then(|size| usize::try_from(size).ok())
                    .unwrap_or(usize::MAX);
            }
            Packet::PubAck(ack) => self.finish(ack, QoS::AtLeastOnce),
            Packet::PubComp(ack) => self.finish(ack, QoS::ExactlyOnce),
            Packet::PubRec(ack) if ack.reason.is_error() => self.finish(ack, QoS::ExactlyOnce),
            _ => {}
        }
    }

    fn finish(&mut self, ack: &Ack<'_>, qos: QoS) {
        if self.unfinished.get(&ack.packet_id.value()) == Some(&qos) {
            self.unfinished.remove(&ack.packet_id.value());
        }
    }

    /// Looks at one packet of the server.
    fn receive(&mut self, bytes: &[u8]) {
        assert!(self.is_open, "the server sends on a closed connection");
        let Some(version) = self.version else {
            panic!("the server speaks before it knows the version")
        };
        let packet = match decode(bytes, version, Role::Server) {
            Ok(packet) => packet,
            Err(error) => panic!("the server sends a malformed packet: {error}: {bytes:02x?}"),
        };
        assert!(
            bytes.len() <= self.packet_bytes_max.max(1) || self.packet_bytes_max == 0,
            "{} bytes for a client that takes {}: {packet:?}",
            bytes.len(),
            self.packet_bytes_max
        );
        self.outbox_bytes += bytes.len();
        match packet {
            Packet::Publish(publish) => self.take(&publish),
            Packet::PubRel(ack) => self.owed.push_back((Answer::PubComp, ack.packet_id)),
            _ => {}
        }
    }

    fn take(&mut self, publish: &Publish<'_>) {
        let Some(packet_id) = publish.packet_id else {
            assert!(!publish.dup, "DUP at QoS 0");
            return;
        };
        let before = self.unfinished.insert(packet_id.value(), publish.qos);
        assert_eq!(before, None, "{packet_id:?} is in use");
        assert!(
            self.unfinished.len() <= self.receive_maximum,
            "{} unfinished, Receive Maximum {}",
            self.unfinished.len(),
            self.receive_maximum
        );
        let answer = if publish.qos == QoS::AtLeastOnce {
            Answer::PubAck
        } else {
            Answer::PubRec
        };
        self.owed.push_back((answer, packet_id));
    }
}

/// The world as one broker sees it during one call.
pub(super) struct Net<'a> {
    pub shard: usize,
    pub wires: &'a mut [Wire; SLOTS],
    pub mail: &'a mut [MailBatch],
    pub read_again: Vec<usize>,
    pub journal: waypost_core::journal::NoJournal,
}

impl Net<'_> {
    fn wire(&mut self, id: ConnectionId) -> &mut Wire {
        &mut self.wires[id.0 as usize]
    }
}

impl Effects for Net<'_> {
    fn journal(&mut self) -> &mut dyn waypost_core::journal::Journal {
        &mut self.journal
    }

    fn send(&mut self, connection: ConnectionId, packet: &Packet<'_>) {
        let wire = self.wire(connection);
        let mut bytes = Vec::new();
        encode(
            packet,
            wire.version.unwrap_or(ProtocolVersion::V5),
            &mut bytes,
        );
        if !bytes.is_empty() {
            wire.receive(&bytes);
        }
    }

    fn deliver_many(
        &mut self,
        message: &Message<'_>,
        targets: &[Target],
        subscription_identifiers: &[u32],
    ) {
        for target in targets {
            let flags = target.flags;
            let wire = self.wire(target.connection);
            let head = PublishHead {
                version: wire.version.unwrap_or(ProtocolVersion::V5),
                dup: flags.has(DeliveryFlags::DUP),
                qos: flags.qos(),
                retain: flags.has(DeliveryFlags::RETAIN),
                topic: if flags.has(DeliveryFlags::TOPIC_KNOWN) {
                    ""
                } else {
                    message.topic
                },
                packet_id: target.packet_id,
                topic_alias: (target.alias != 0).then_some(target.alias),
                message_expiry_interval: message.expiry_s,
                subscription_identifiers: target.identifiers.of(subscription_identifiers),
                properties: message.properties,
                payload_len: message.payload.bytes.len(),
            };
            let mut bytes = Vec::new();
            encode_publish_head(&head, &mut bytes);
            bytes.extend_from_slice(message.payload.bytes);
            wire.receive(&bytes);
        }
    }
    fn outbox_bytes(&self, connection: ConnectionId) -> usize {
        let wire = &self.wires[connection.0 as usize];
        if wire.is_stalled {
            wire.outbox_bytes
        } else {
            0
        }
    }

    /// Clients that are not stalled have read everything at once, and those that were are told anyway.
    fn tell_when_written(&mut self, _connection: ConnectionId) {}

    fn close(&mut self, connection: ConnectionId) {
        let wire = self.wire(connection);
        assert!(wire.is_open, "closed twice");
        *wire = Wire::default();
    }

    fn read(&mut self, connection: ConnectionId, on: bool) {
        let wire = self.wire(connection);
        assert!(wire.is_open, "reads a closed connection");
        wire.is_parked = !on;
        if on {
            self.read_again.push(connection.0 as usize);
        }
    }
    fn mailbox(&mut self, to: ShardId) -> &mut MailBatch {
        assert_ne!(usize::from(to.0), self.shard, "mail to itself");
        &mut self.mail[usize::from(to.0)]
    }
}
