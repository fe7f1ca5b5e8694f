//! Every packet, in every version, from either side, filled with anything: what is written is read
//! back as it was.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use proptest::prelude::*;
use waypost_mqtt::{
    Ack, Auth, ConnAck, Connect, Disconnect, Filter, Packet, PacketId, PacketType, Properties,
    Property, PropertyBuffer, ProtocolVersion, Publish, PublishHead, QoS, ReasonCode, ReasonCodes,
    Role, SubAck, Subscribe, SubscriptionOptions, SubscriptionRequest, Topic, UnsubAck,
    Unsubscribe, Will, decode, decode_header, encode, encode_publish_head, publish_len,
};

/// What packets are filled with.
#[derive(Clone, Debug)]
struct Filling {
    packet_id: u16,
    number: u32,
    flags: u32,
    /// A bit for each property that is there.
    present: u32,
    topic: String,
    text: String,
    payload: Vec<u8>,
    filters: Vec<(String, u8)>,
    pairs: Vec<(String, String)>,
    identifiers: Vec<u32>,
    choices: Vec<usize>,
}

fn filling() -> impl Strategy<Value = Filling> {
    let level = "[^\0+#/]{0,6}";
    let text = "[^\0]{0,40}";
    let filter = prop::collection::vec(prop_oneof![Just("+".to_owned()), level], 1..5)
        .prop_map(|levels| levels.join("/"))
        .prop_filter("a Topic Filter", |text| {
            Filter::parse(text).is_ok_and(|filter| filter.shared().is_none())
        });
    let shared = "\\$share/[a-z]{1,4}/[a-z]{1,4}/#";
    let filter = prop_oneof![4 => filter, 1 => shared];
    (
        (1..=u16::MAX, 1..=u32::MAX, any::<u32>(), any::<u32>()),
        "[^\0+#]{1,60}",
        text,
        prop::collection::vec(any::<u8>(), 0..300),
        prop::collection::vec((filter, any::<u8>()), 1..6),
        prop::collection::vec((text, text), 0..4),
        prop::collection::vec(1..268_435_456_u32, 0..4),
        prop::collection::vec(any::<usize>(), 1..6),
    )
        .prop_map(
            |(
                (packet_id, number, flags, present),
                topic,
                text,
                payload,
                filters,
                pairs,
                identifiers,
                choices,
            )| {
                Filling {
                    packet_id,
                    number,
                    flags,
                    present,
                    topic,
                    text,
                    payload,
                    filters,
                    pairs,
                    identifiers,
                    choices,
                }
            },
        )
}

/// Makes one of the four packets that look alike.
type Wrap = fn(Ack<'_>) -> Packet<'_>;

/// Where properties stand; [`PacketType::Connect`] twice, once for the Will.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Packet(PacketType),
    Will,
}

impl Filling {
    fn flag(&self, bit: u32) -> bool {
        self.flags >> bit & 1 == 1
    }

    fn id(&self) -> PacketId {
        PacketId::new(self.packet_id).unwrap()
    }

    fn qos(&self) -> QoS {
        QoS::try_from((self.flags >> 8 & 0xFF) as u8 % 3).unwrap()
    }

    /// A Reason Code the packet may have in this version from this sender.
    fn reasons(
        &self,
        packet: PacketType,
        version: ProtocolVersion,
        sender: Role,
    ) -> Vec<ReasonCode> {
        let is_listed = |code: &&ReasonCode| match (version, packet) {
            (ProtocolVersion::V5, _) => code.is_valid_in(packet, sender),
            (_, PacketType::ConnAck) => {
                code.to_return_code().and_then(ReasonCode::from_return_code) == Some(**code)
            }
            (_, PacketType::SubAck) => matches!(code.as_u8(), 0..=2 | 0x80),
            _ => **code == ReasonCode::Success,
        };
        let listed: Vec<ReasonCode> = ReasonCode::ALL.iter().filter(is_listed).copied().collect();
        self.choices
            .iter()
            .map(|choice| listed[choice % listed.len()])
            .collect()
    }

    /// Properties that this place may have.
    fn properties(&self, place: Place, version: ProtocolVersion, sender: Role) -> PropertyBuffer {
        use PacketType::{
            Auth, ConnAck, Connect, Disconnect, PubAck, PubComp, PubRec, PubRel, Publish, SubAck,
            Subscribe, UnsubAck,
        };
        let text = self.text.as_str();
        let short = (self.number & 0xFFFF) as u16;
        let nonzero = short.max(1);
        let one = self.flag(20);
        let is =
            |packets: &[PacketType]| packets.iter().any(|&packet| place == Place::Packet(packet));
        let message = place == Place::Will || is(&[Publish]);
        let candidates = [
            (message, Property::PayloadFormatIndicator(u8::from(one))),
            (message, Property::MessageExpiryInterval(self.number)),
            (message, Property::ContentType(text)),
            (message, Property::ResponseTopic(&self.topic)),
            (message, Property::CorrelationData(&self.payload)),
            (
                is(&[Subscribe]),
                Property::SubscriptionIdentifier(self.number.min(268_435_455)),
            ),
            (
                is(&[Connect, ConnAck]) || (is(&[Disconnect]) && sender == Role::Client),
                Property::SessionExpiryInterval(self.number),
            ),
            (is(&[ConnAck]), Property::AssignedClientIdentifier(text)),
            (is(&[ConnAck]), Property::ServerKeepAlive(short)),
            (
                is(&[Connect, ConnAck, Auth]),
                Property::AuthenticationMethod(text),
            ),
            (
                is(&[Connect, ConnAck, Auth]),
                Property::AuthenticationData(&self.payload),
            ),
            (is(&[Connect]), Property::RequestProblemInformation(one)),
            (
                place == Place::Will,
                Property::WillDelayInterval(self.number),
            ),
            (is(&[Connect]), Property::RequestResponseInformation(one)),
            (is(&[ConnAck]), Property::ResponseInformation(text)),
            (is(&[ConnAck, Disconnect]), Property::ServerReference(text)),
            (
                is(&[
                    ConnAck, PubAck, PubRec, PubRel, PubComp, SubAck, UnsubAck, Disconnect, Auth,
                ]),
                Property::ReasonString(text),
            ),
            (is(&[Connect, ConnAck]), Property::ReceiveMaximum(nonzero)),
            (is(&[Connect, ConnAck]), Property::TopicAliasMaximum(short)),
            (is(&[Publish]), Property::TopicAlias(nonzero)),
            (is(&[ConnAck]), Property::MaximumQoS(u8::from(one))),
            (is(&[ConnAck]), Property::RetainAvailable(one)),
            (
                is(&[Connect, ConnAck]),
                Property::MaximumPacketSize(self.number),
            ),
            (is(&[ConnAck]), Property::WildcardSubscriptionAvailable(one)),
            (
                is(&[ConnAck]),
                Property::SubscriptionIdentifierAvailable(one),
            ),
            (is(&[ConnAck]), Property::SharedSubscriptionAvailable(one)),
        ];
        let mut buffer = PropertyBuffer::new();
        if version < ProtocolVersion::V5 {
            return buffer;
        }
        for (index, (is_allowed, property)) in candidates.into_iter().enumerate() {
            // Authentication Data never comes without its method, which an AUTH always has.
            let authenticates = matches!(
                property,
                Property::AuthenticationMethod(_) | Property::AuthenticationData(_)
            );
            let bit = if authenticates { 9 } else { index };
            let is_present = self.present >> bit & 1 == 1 || (authenticates && is(&[Auth]));
            if is_allowed && is_present {
                buffer.push(property);
            }
        }
        if is(&[Publish]) && sender == Role::Server {
            for &identifier in &self.identifiers {
                buffer.push(Property::SubscriptionIdentifier(identifier));
            }
        }
        for (name, value) in &self.pairs {
            buffer.push(Property::UserProperty(name, value));
        }
        buffer
    }
}

/// Writes and reads one packet.
fn check(packet: &Packet<'_>, version: ProtocolVersion, sender: Role) {
    let mut bytes = b"before".to_vec();
    encode(packet, version, &mut bytes);
    let bytes = &bytes[6..];
    let header = decode_header(bytes).unwrap().unwrap();
    assert_eq!(header.total_len(), bytes.len());
    assert_eq!(header.packet_type(), Some(packet.packet_type()));
    assert_eq!(
        decode(bytes, version, sender).as_ref(),
        Ok(packet),
        "{bytes:02X?}"
    );
}

fn from_either_side(filling: &Filling, version: ProtocolVersion, sender: Role) {
    let is_v5 = version == ProtocolVersion::V5;
    let buffer = |packet| filling.properties(Place::Packet(packet), version, sender);
    let publish = buffer(PacketType::Publish);
    let packet_id = (filling.qos() != QoS::AtMostOnce).then(|| filling.id());
    let properties = publish.as_properties();
    let is_alias_alone = properties.topic_alias().is_some() && filling.flag(1);
    check(
        &Packet::Publish(Publish {
            dup: filling.flag(0) && packet_id.is_some(),
            qos: filling.qos(),
            retain: filling.flag(2),
            topic: if is_alias_alone { "" } else { &filling.topic },
            packet_id,
            properties,
            payload: &filling.payload,
        }),
        version,
        sender,
    );
    let acks: [(PacketType, Wrap); 4] = [
        (PacketType::PubAck, |ack| Packet::PubAck(ack)),
        (PacketType::PubRec, |ack| Packet::PubRec(ack)),
        (PacketType::PubRel, |ack| Packet::PubRel(ack)),
        (PacketType::PubComp, |ack| Packet::PubComp(ack)),
    ];
    for (packet, wrap) in acks {
        let buffer = buffer(packet);
        let ack = Ack {
            packet_id: filling.id(),
            reason: filling.reasons(packet, version, sender)[0],
            properties: buffer.as_properties(),
        };
        check(&wrap(ack), version, sender);
    }
    if is_v5 || sender == Role::Client {
        let buffer = buffer(PacketType::Disconnect);
        let disconnect = Disconnect {
            reason: filling.reasons(PacketType::Disconnect, version, sender)[0],
            properties: buffer.as_properties(),
        };
        check(&Packet::Disconnect(disconnect), version, sender);
    }
    if is_v5 {
        let buffer = buffer(PacketType::Auth);
        let auth = Auth {
            reason: filling.reasons(PacketType::Auth, version, sender)[0],
            properties: buffer.as_properties(),
        };
        check(&Packet::Auth(auth), version, sender);
    }
}

fn from_a_client(filling: &Filling, version: ProtocolVersion) {
    let is_v5 = version == ProtocolVersion::V5;
    let buffer = |place| filling.properties(place, version, Role::Client);
    let connect = buffer(Place::Packet(PacketType::Connect));
    let will = buffer(Place::Will);
    let has_user_name = filling.flag(3);
    check(
        &Packet::Connect(Connect {
            version,
            clean_start: filling.flag(4),
            keep_alive: filling.packet_id,
            client_id: &filling.text,
            properties: connect.as_properties(),
            will: filling.flag(5).then(|| Will {
                topic: Topic::parse(&filling.topic).unwrap(),
                payload: &filling.payload,
                qos: filling.qos(),
                retain: filling.flag(6),
                properties: will.as_properties(),
            }),
            user_name: has_user_name.then_some(filling.text.as_str()),
            password: (filling.flag(7) && (has_user_name || is_v5))
                .then_some(filling.payload.as_slice()),
        }),
        version,
        Role::Client,
    );
    let requests: Vec<SubscriptionRequest<'_>> = filling
        .filters
        .iter()
        .map(|(filter, options)| {
            let filter = Filter::parse(filter).unwrap();
            let valid = (0..=u8::MAX)
                .filter_map(|byte| SubscriptionOptions::from_u8(options.wrapping_add(byte)))
                .find(|options| !(options.no_local && filter.shared().is_some()))
                .unwrap();
            let options = if is_v5 {
                valid
            } else {
                SubscriptionOptions {
                    qos: valid.qos,
                    ..SubscriptionOptions::default()
                }
            };
            SubscriptionRequest { filter, options }
        })
        .collect();
    let filters: Vec<Filter<'_>> = requests.iter().map(|request| request.filter).collect();
    let properties = buffer(Place::Packet(PacketType::Subscribe));
    let subscribe = Subscribe::new(filling.id(), properties.as_properties(), &requests);
    check(&Packet::Subscribe(subscribe), version, Role::Client);
    let properties = buffer(Place::Packet(PacketType::Unsubscribe));
    let unsubscribe = Unsubscribe::new(filling.id(), properties.as_properties(), &filters);
    check(&Packet::Unsubscribe(unsubscribe), version, Role::Client);
    check(&Packet::PingReq, version, Role::Client);
}

fn from_a_server(filling: &Filling, version: ProtocolVersion) {
    let buffer = |packet| filling.properties(Place::Packet(packet), version, Role::Server);
    let reasons = |packet| filling.reasons(packet, version, Role::Server);
    let connack = buffer(PacketType::ConnAck);
    let reason = reasons(PacketType::ConnAck)[0];
    check(
        &Packet::ConnAck(ConnAck {
            session_present: filling.flag(0)
                && reason == ReasonCode::Success
                && version > ProtocolVersion::V31,
            reason,
            properties: connack.as_properties(),
        }),
        version,
        Role::Server,
    );
    let (properties, codes) = (buffer(PacketType::SubAck), reasons(PacketType::SubAck));
    let suback = SubAck {
        packet_id: filling.id(),
        properties: properties.as_properties(),
        reasons: ReasonCodes::new(&codes),
    };
    check(&Packet::SubAck(suback), version, Role::Server);
    let (properties, codes) = (buffer(PacketType::UnsubAck), reasons(PacketType::UnsubAck));
    let is_v5 = version == ProtocolVersion::V5;
    let unsuback = UnsubAck {
        packet_id: filling.id(),
        properties: properties.as_properties(),
        reasons: if is_v5 {
            ReasonCodes::new(&codes)
        } else {
            ReasonCodes::EMPTY
        },
    };
    check(&Packet::UnsubAck(unsuback), version, Role::Server);
    check(&Packet::PingResp, version, Role::Server);
}

proptest! {
    #[test]
    fn every_packet_survives_the_way_there_and_back(filling in filling()) {
        for version in [ProtocolVersion::V31, ProtocolVersion::V311, ProtocolVersion::V5] {
            for sender in [Role::Client, Role::Server] {
                from_either_side(&filling, version, sender);
            }
            from_a_client(&filling, version);
            from_a_server(&filling, version);
        }
    }

    /// Goal: a head with its parts apart is the packet with all of them. Method: decode what was
    /// written and compare part by part; the identifier is where the encoder says.
    #[test]
    fn a_publish_head_is_the_packet_without_its_payload(filling in filling()) {
        let all = filling.properties(Place::Packet(PacketType::Publish), ProtocolVersion::V5, Role::Server);
        let mut forwardable = Vec::new();
        all.as_properties().forward_into(&mut forwardable);
        prop_assert_eq!(Properties::from_validated(&forwardable).forwardable(), Some(&forwardable[..]));
        for version in [ProtocolVersion::V31, ProtocolVersion::V311, ProtocolVersion::V5] {
            let head = PublishHead {
                version,
                dup: false,
                qos: filling.qos(),
                retain: filling.flag(0),
                topic: &filling.topic,
                packet_id: 0,
                topic_alias: filling.flag(1).then_some(filling.packet_id),
                message_expiry_interval: filling.flag(2).then_some(filling.number),
                subscription_identifiers: &filling.identifiers,
                properties: &forwardable,
                payload_len: filling.payload.len(),
            };
            let mut bytes = b"before".to_vec();
            let at = encode_publish_head(&head, &mut bytes);
            prop_assert_eq!(at == 0, head.qos == QoS::AtMostOnce);
            if at > 0 {
                bytes[at..at + 2].copy_from_slice(&filling.packet_id.to_be_bytes());
            }
            bytes.extend_from_slice(&filling.payload);
            let packet = &bytes[6..];
            prop_assert_eq!(packet.len(), publish_len(&head));
            let decoded = decode(packet, version, Role::Server);
            let Ok(Packet::Publish(publish)) = decoded else {
                panic!("{decoded:?}");
            };
            prop_assert_eq!(publish.topic, head.topic);
            prop_assert_eq!(publish.payload, &filling.payload[..]);
            prop_assert_eq!(publish.packet_id.map_or(0, PacketId::value), if at > 0 { filling.packet_id } else { 0 });
            if version == ProtocolVersion::V5 {
                let properties = publish.properties;
                prop_assert_eq!(properties.topic_alias(), head.topic_alias);
                prop_assert_eq!(properties.message_expiry_interval(), head.message_expiry_interval);
                prop_assert!(properties.subscription_identifiers().eq(filling.identifiers.iter().copied()));
                let mut rest = Vec::new();
                properties.forward_into(&mut rest);
                prop_assert_eq!(&rest, &forwardable);
                let is_whole = head.topic_alias.is_none() && head.message_expiry_interval.is_none() && filling.identifiers.is_empty();
                prop_assert_eq!(properties.forwardable(), is_whole.then_some(&forwardable[..]));
            } else {
                prop_assert!(publish.properties.is_empty());
            }
        }
    }
}

/// What version 3 cannot say is not written at all, or as the next best thing.
#[test]
fn version_3_leaves_out_what_it_cannot_say() {
    let write = |packet: Packet<'_>| {
        let mut out = Vec::new();
        encode(&packet, ProtocolVersion::V311, &mut out);
        out
    };
    let properties = Properties::EMPTY;
    let connack = |reason| {
        write(Packet::ConnAck(ConnAck {
            session_present: true,
            reason,
            properties,
        }))
    };
    // 3.1.1 [MQTT-3.2.2-4]: no Session Present in a refusal
    assert_eq!(connack(ReasonCode::Banned), [0x20, 2, 0, 5]);
    assert_eq!(connack(ReasonCode::ServerBusy), [0x20, 2, 0, 3]);
    // 3.1.1 [MQTT-3.2.2-6]: no return code fits
    assert_eq!(connack(ReasonCode::PacketTooLarge), []);
    let disconnect = |reason| write(Packet::Disconnect(Disconnect { reason, properties }));
    assert_eq!(disconnect(ReasonCode::NORMAL_DISCONNECTION), [0xE0, 0]);
    assert_eq!(disconnect(ReasonCode::SessionTakenOver), []);
    assert_eq!(disconnect(ReasonCode::DisconnectWithWillMessage), []);
    let auth = Auth {
        reason: ReasonCode::ContinueAuthentication,
        properties,
    };
    assert_eq!(write(Packet::Auth(auth)), []);
    // 3.1.1 [MQTT-3.9.3-2]: there is but one failure
    let reasons = [
        ReasonCode::GrantedQoS2,
        ReasonCode::SharedSubscriptionsNotSupported,
    ];
    let packet_id = PacketId::new(7).unwrap();
    let suback = SubAck {
        packet_id,
        properties,
        reasons: ReasonCodes::new(&reasons),
    };
    assert_eq!(write(Packet::SubAck(suback)), [0x90, 4, 0, 7, 2, 0x80]);
    let ack = Ack::new(packet_id, ReasonCode::QuotaExceeded);
    assert_eq!(write(Packet::PubRec(ack)), [0x50, 2, 0, 7]);
}

#[test]
fn strings_that_are_too_long_are_cut_at_a_character() {
    let long = "é".repeat(40_000);
    let mut buffer = PropertyBuffer::new();
    buffer
        .push(Property::ReasonString(&long))
        .push(Property::UserProperty("k", "v"));
    let properties = buffer.as_properties();
    assert_eq!(properties.reason_string().map(str::len), Some(65_534));
    assert_eq!(
        properties.user_properties().collect::<Vec<_>>(),
        [("k", "v")]
    );
}
