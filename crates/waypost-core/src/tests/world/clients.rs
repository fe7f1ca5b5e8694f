//! What clients do.

use waypost_mqtt::{
    Ack, Connect, Disconnect, Packet, PacketId, Properties, Property, PropertyBuffer, Publish, QoS,
    ReasonCode, Role, Subscribe, SubscriptionOptions, SubscriptionRequest, Topic, Unsubscribe,
    Will, decode,
};

use super::{Client, Options, World, line, options};

impl World {
    /// A connection at shard 0, accepted. Its CONNACK is taken.
    pub fn connect(&mut self, options: &Options) -> Client {
        let (client, connack) = self.try_connect(options);
        assert!(connack.starts_with("CONNACK 00"), "{connack}");
        client
    }

    /// A connection and the first line it receives.
    pub fn try_connect(&mut self, options: &Options) -> (Client, String) {
        let client = self.open_at(options.shard);
        self.send_connect(client, options);
        let wire = &mut self.wires[client];
        let first = wire.received.pop_front();
        let line = first.map_or("nothing".into(), |bytes| {
            line(&decode(&bytes, wire.version.unwrap(), Role::Server).unwrap())
        });
        (client, line)
    }

    pub fn send_connect(&mut self, client: Client, options: &Options) {
        let will = options.will.as_ref().map(|will| Will {
            topic: Topic::parse(&will.topic).unwrap(),
            payload: will.payload.as_bytes(),
            qos: will.qos,
            retain: will.retain,
            properties: will.properties.as_properties(),
        });
        let connect = Connect {
            version: options.version,
            clean_start: options.clean_start,
            keep_alive: options.keep_alive,
            client_id: &options.client_id,
            properties: options.properties.as_properties(),
            will,
            user_name: options.user_name.as_deref(),
            password: None,
        };
        self.send(client, &Packet::Connect(connect));
    }

    /// Subscribes with Packet Identifier 1 and takes the SUBACK.
    pub fn subscribe(&mut self, client: Client, filter: &str, qos: u8) -> String {
        self.subscribe_with(client, &[(filter, options(qos))], 0)
    }

    pub fn subscribe_with(
        &mut self,
        client: Client,
        filters: &[(&str, SubscriptionOptions)],
        identifier: u32,
    ) -> String {
        let requests: Vec<_> = filters
            .iter()
            .map(|(filter, options)| SubscriptionRequest {
                filter: waypost_mqtt::Filter::parse(filter).unwrap(),
                options: *options,
            })
            .collect();
        let mut buffer = PropertyBuffer::new();
        if identifier != 0 {
            buffer.push(Property::SubscriptionIdentifier(identifier));
        }
        let packet_id = PacketId::new(1).unwrap();
        self.send(
            client,
            &Packet::Subscribe(Subscribe::new(packet_id, buffer.as_properties(), &requests)),
        );
        self.take_first(client, "SUBACK")
    }

    pub fn unsubscribe(&mut self, client: Client, filter: &str) -> String {
        let filters = [waypost_mqtt::Filter::parse(filter).unwrap()];
        let packet_id = PacketId::new(2).unwrap();
        self.send(
            client,
            &Packet::Unsubscribe(Unsubscribe::new(packet_id, Properties::EMPTY, &filters)),
        );
        self.take_first(client, "UNSUBACK")
    }

    /// Takes the first line that begins so out of what was received.
    pub fn take_first(&mut self, client: Client, start: &str) -> String {
        let wire = &mut self.wires[client];
        let version = wire.version.unwrap();
        let lines: Vec<_> = wire
            .received
            .iter()
            .map(|bytes| line(&decode(bytes, version, Role::Server).unwrap()))
            .collect();
        match lines.iter().position(|line| line.starts_with(start)) {
            Some(at) => {
                wire.received.remove(at);
                lines[at].clone()
            }
            None => format!("no {start} in {lines:?}"),
        }
    }

    pub fn publish(&mut self, client: Client, topic: &str, payload: &str, qos: u8) {
        self.publish_with(
            client,
            topic,
            payload,
            qos,
            10,
            false,
            &PropertyBuffer::new(),
        );
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of a PUBLISH")]
    pub fn publish_with(
        &mut self,
        client: Client,
        topic: &str,
        payload: &str,
        qos: u8,
        packet_id: u16,
        retain: bool,
        properties: &PropertyBuffer,
    ) {
        let qos = QoS::try_from(qos).unwrap();
        let publish = Publish {
            dup: false,
            qos,
            retain,
            topic,
            packet_id: PacketId::new(packet_id).filter(|_| qos != QoS::AtMostOnce),
            properties: properties.as_properties(),
            payload: payload.as_bytes(),
        };
        self.send(client, &Packet::Publish(publish));
    }

    /// Publishes as a client does, for the first time or again.
    pub fn publish_as(
        &mut self,
        client: Client,
        topic: &str,
        payload: &str,
        qos: u8,
        packet_id: u16,
        dup: bool,
    ) {
        let publish = Publish {
            dup,
            qos: QoS::try_from(qos).unwrap(),
            retain: false,
            topic,
            packet_id: PacketId::new(packet_id),
            properties: Properties::EMPTY,
            payload: payload.as_bytes(),
        };
        self.send(client, &Packet::Publish(publish));
    }

    pub fn retain(&mut self, client: Client, topic: &str, payload: &str, qos: u8) {
        self.publish_with(
            client,
            topic,
            payload,
            qos,
            10,
            true,
            &PropertyBuffer::new(),
        );
        if qos == 2 {
            self.ack(client, "PUBREL", 10);
        }
    }

    pub fn ack(&mut self, client: Client, kind: &str, packet_id: u16) {
        self.ack_with(client, kind, packet_id, ReasonCode::Success);
    }

    pub fn ack_with(&mut self, client: Client, kind: &str, packet_id: u16, reason: ReasonCode) {
        let ack = Ack::new(PacketId::new(packet_id).unwrap(), reason);
        let packet = match kind {
            "PUBACK" => Packet::PubAck(ack),
            "PUBREC" => Packet::PubRec(ack),
            "PUBREL" => Packet::PubRel(ack),
            "PUBCOMP" => Packet::PubComp(ack),
            _ => panic!("{kind}"),
        };
        self.send(client, &packet);
    }

    pub fn disconnect(&mut self, client: Client, reason: ReasonCode) {
        self.disconnect_with(client, reason, &PropertyBuffer::new());
    }

    pub fn disconnect_with(
        &mut self,
        client: Client,
        reason: ReasonCode,
        properties: &PropertyBuffer,
    ) {
        let properties = properties.as_properties();
        self.send(
            client,
            &Packet::Disconnect(Disconnect { reason, properties }),
        );
    }
}
