//! What a shard asks of the world, as bytes on the wires of its clients.

use std::collections::VecDeque;

use waypost_mqtt::{Packet, ProtocolVersion, PublishHead, QoS, encode, encode_publish_head};

use super::{Client, Wire};
use crate::journal::Journal;
use crate::mail::MailBatch;
use crate::tests::store::Pen;
use crate::{ConnectionId, DeliveryFlags, Effects, Message, ShardId, Target};

pub(super) struct Net<'a> {
    pub(super) shard: usize,
    pub(super) wires: &'a mut [Wire],
    pub(super) mail: &'a mut [MailBatch],
    pub(super) unparked: Vec<usize>,
    pub(super) arrivals: &'a mut VecDeque<Client>,
    pub(super) pen: Pen<'a>,
}

impl Net<'_> {
    fn position(&self, id: ConnectionId) -> Client {
        self.wires
            .iter()
            .rposition(|wire| wire.shard == self.shard && wire.id == id.0 && !wire.is_closed)
            .expect("the core writes to an open connection")
    }

    fn wire(&mut self, id: ConnectionId) -> &mut Wire {
        let at = self.position(id);
        &mut self.wires[at]
    }

    fn put(&mut self, id: ConnectionId, bytes: Vec<u8>) {
        let at = self.position(id);
        let wire = &mut self.wires[at];
        wire.outbox_bytes += bytes.len();
        if !bytes.is_empty() {
            wire.received.push_back(bytes);
            self.arrivals.push_back(at);
        }
    }
}

impl Effects for Net<'_> {
    fn send(&mut self, connection: ConnectionId, packet: &Packet<'_>) {
        let version = self
            .wire(connection)
            .version
            .expect("nothing is sent before CONNECT");
        let mut bytes = Vec::new();
        encode(packet, version, &mut bytes);
        self.put(connection, bytes);
    }

    fn deliver_many(
        &mut self,
        message: &Message<'_>,
        targets: &[Target],
        subscription_identifiers: &[u32],
    ) {
        let mut connections: Vec<_> = targets.iter().map(|target| target.connection).collect();
        connections.sort_unstable();
        connections.dedup();
        assert_eq!(
            connections.len(),
            targets.len(),
            "at most once to each connection"
        );
        for target in targets {
            let version = self.wire(target.connection).version.unwrap();
            let flags = target.flags;
            assert_eq!(flags.has(DeliveryFlags::V5), version == ProtocolVersion::V5);
            let mut bytes = Vec::new();
            if let (Some(verbatim), true) = (message.verbatim, version < ProtocolVersion::V5)
                && flags == DeliveryFlags::new(QoS::AtMostOnce)
            {
                bytes.extend_from_slice(verbatim);
            } else {
                let head = PublishHead {
                    version,
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
                encode_publish_head(&head, &mut bytes);
                bytes.extend_from_slice(message.payload.bytes);
            }
            self.put(target.connection, bytes);
        }
    }

    fn outbox_bytes(&self, connection: ConnectionId) -> usize {
        let shard = self.shard;
        let wire = self
            .wires
            .iter()
            .rev()
            .find(|wire| wire.shard == shard && wire.id == connection.0);
        wire.unwrap().outbox_bytes
    }

    fn tell_when_written(&mut self, connection: ConnectionId) {
        self.wire(connection).was_above = true;
    }

    fn close(&mut self, connection: ConnectionId) {
        self.wire(connection).is_closed = true;
    }

    fn read(&mut self, connection: ConnectionId, on: bool) {
        let shard = self.shard;
        let at = self
            .wires
            .iter()
            .rposition(|wire| wire.shard == shard && wire.id == connection.0)
            .unwrap();
        self.wires[at].is_parked = !on;
        if on {
            self.unparked.push(at);
        }
    }

    fn mailbox(&mut self, to: ShardId) -> &mut MailBatch {
        assert_ne!(usize::from(to.0), self.shard, "no mail to oneself");
        &mut self.mail[usize::from(to.0)]
    }

    fn journal(&mut self) -> &mut dyn Journal {
        &mut self.pen
    }
}
