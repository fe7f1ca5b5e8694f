//! Good packets, cut and changed at every byte, and bytes that never were MQTT.

use std::net::Shutdown;

use waypost_mqtt::{
    Auth, Connect, Disconnect, Packet, PacketId, Property, PropertyBuffer, ProtocolVersion,
    ProtocolVersion::V5, ProtocolVersion::V311, Publish, QoS, ReasonCode, Topic, Will, encode,
};
use waypost_tests::{
    LIMIT, RawClient, Server, bytes::identified_bytes, connect_packet, empty_publish,
    subscribe_bytes, unsubscribe_bytes, with_fixed_header,
};

use crate::neighbours::Neighbours;

fn encoded(packet: &Packet<'_>, version: ProtocolVersion) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(packet, version, &mut bytes);
    bytes
}

fn buffer<const N: usize>(list: [Property<'_>; N]) -> PropertyBuffer {
    let mut buffer = PropertyBuffer::new();
    for property in list {
        buffer.push(property);
    }
    buffer
}

/// A CONNECT with everything in it that the version has.
fn full_connect(version: ProtocolVersion) -> Vec<u8> {
    let is_v5 = version == V5;
    let list = buffer([
        Property::ReceiveMaximum(10),
        Property::MaximumPacketSize(10_000),
        Property::UserProperty("n", "v"),
    ]);
    let will_list = buffer([Property::ContentType("c"), Property::UserProperty("n", "v")]);
    let empty = waypost_mqtt::Properties::EMPTY;
    let connect = Connect {
        properties: if is_v5 { list.as_properties() } else { empty },
        will: Some(Will {
            topic: Topic::parse("damaged/will").unwrap(),
            payload: b"gone",
            qos: QoS::AtLeastOnce,
            retain: false,
            properties: if is_v5 {
                will_list.as_properties()
            } else {
                empty
            },
        }),
        user_name: Some("user"),
        password: Some(b"password"),
        ..connect_packet(version, "damaged-full")
    };
    encoded(&Packet::Connect(connect), version)
}

/// A good packet of each type that a connected client sends.
fn good_packets(version: ProtocolVersion) -> Vec<Vec<u8>> {
    let list = buffer([
        Property::PayloadFormatIndicator(1),
        Property::MessageExpiryInterval(1),
        Property::ContentType("text"),
        Property::ResponseTopic("damaged/r"),
        Property::CorrelationData(b"\0\xFF"),
        Property::TopicAlias(3),
        Property::UserProperty("n", "v"),
    ]);
    let is_v5 = version == V5;
    let publish = Publish {
        topic: "damaged/t",
        qos: QoS::ExactlyOnce,
        packet_id: PacketId::new(258),
        properties: if is_v5 {
            list.as_properties()
        } else {
            waypost_mqtt::Properties::EMPTY
        },
        payload: b"payload",
        ..empty_publish()
    };
    let mut packets = vec![
        encoded(&Packet::Publish(publish), version),
        encoded(
            &Packet::Publish(Publish {
                qos: QoS::AtMostOnce,
                packet_id: None,
                ..publish
            }),
            version,
        ),
        subscribe_bytes(version, 1, &[("damaged/+", 1), ("damaged/#", 2)]),
        unsubscribe_bytes(version, 2, &["damaged/+", "damaged/#"]),
        vec![0xC0, 0],
    ];
    for first_byte in [0x40, 0x50, 0x62, 0x70] {
        packets.push(identified_bytes(first_byte, 258, &[]));
    }
    if is_v5 {
        let reason = [
            vec![0],
            vec![12, 0x1F, 0, 2, b'o', b'k', 0x26, 0, 1, b'n', 0, 1, b'v'],
        ]
        .concat();
        packets.push(identified_bytes(0x62, 258, &reason));
        packets.push(with_fixed_header(0xE0, &reason));
        let method = buffer([
            Property::AuthenticationMethod("m"),
            Property::AuthenticationData(b"d"),
        ]);
        let auth = Auth {
            reason: ReasonCode::ContinueAuthentication,
            properties: method.as_properties(),
        };
        packets.push(encoded(&Packet::Auth(auth), version));
        let expiry = buffer([Property::SessionExpiryInterval(0)]);
        let disconnect = Disconnect {
            reason: ReasonCode::Success,
            properties: expiry.as_properties(),
        };
        packets.push(encoded(&Packet::Disconnect(disconnect), version));
    }
    packets
}

/// Sends bytes, ends the sending side, and takes all that the server says until it closes: only well-formed packets.
#[track_caller]
fn send_and_end(client: &mut RawClient, bytes: &[u8]) -> usize {
    client.send_raw(bytes);
    drop(client.stream().shutdown(Shutdown::Write));
    let mut count = 0;
    while let Some(received) = client.receive_within(LIMIT) {
        assert!(
            received.packet().packet_type() as u8 > 1,
            "a server sends no CONNECT"
        );
        count += 1;
    }
    count
}

/// Goal: a packet that stops in the middle is never handled. Method: each good packet cut at each byte.
#[test]
fn packets_cut_at_every_byte() {
    let server = Server::start();
    let mut neighbours = Neighbours::new(&server);
    let mut witness = RawClient::connect(&server, V5, "damaged-witness");
    witness.subscribe("damaged/#", QoS::AtMostOnce);
    for version in [V5, V311] {
        let connect = full_connect(version);
        for length in 0..connect.len() {
            let mut client = RawClient::open(server.mqtt(), version);
            assert_eq!(send_and_end(&mut client, &connect[..length]), 0, "{length}");
        }
        for packet in good_packets(version) {
            for length in 0..packet.len() {
                let mut client = RawClient::connect(&server, version, "damaged");
                assert_eq!(
                    send_and_end(&mut client, &packet[..length]),
                    0,
                    "{packet:02x?} cut at {length}"
                );
            }
            neighbours.converse();
        }
    }
    witness.expect_nothing();
}

/// Goal: no length inside a packet is believed. Method: each good packet cut at each byte, its Remaining Length made to fit.
#[test]
fn packets_whose_insides_are_cut() {
    let server = Server::start();
    let mut neighbours = Neighbours::new(&server);
    for version in [V5, V311] {
        let connect = full_connect(version);
        let header = if connect.len() > 129 { 3 } else { 2 };
        for length in header..connect.len() {
            let mut client = RawClient::open(server.mqtt(), version);
            client.send_raw(&with_fixed_header(connect[0], &connect[header..length]));
            if let Some(answer) = client.receive_within(LIMIT) {
                assert!(answer.conn_ack().reason.is_error(), "cut at {length}");
                client.expect_closed();
            }
        }
        for packet in good_packets(version) {
            for length in 2..packet.len() {
                let mut client = RawClient::connect(&server, version, "inside");
                send_and_end(
                    &mut client,
                    &with_fixed_header(packet[0], &packet[2..length]),
                );
            }
            neighbours.converse();
        }
    }
}

/// Goal: whatever a byte is changed to, the server answers in well-formed packets, and only that client. Method: each byte of each
/// good packet changed in several ways.
#[test]
fn packets_changed_at_every_byte() {
    let server = Server::start();
    let mut neighbours = Neighbours::new(&server);
    for version in [V5, V311] {
        for packet in good_packets(version) {
            for position in 0..packet.len() {
                for change in [0x01, 0x80, 0xFF] {
                    let mut changed = packet.clone();
                    changed[position] ^= change;
                    let mut client = RawClient::connect(&server, version, "changed");
                    send_and_end(&mut client, &changed);
                }
            }
            neighbours.converse();
        }
        let connect = full_connect(version);
        for position in 0..connect.len() {
            let mut changed = connect.clone();
            changed[position] ^= 0xFF;
            let mut client = RawClient::open(server.mqtt(), V311);
            client.send_raw(&changed);
            drop(client.stream().shutdown(Shutdown::Write));
            while client.receive_within(LIMIT).is_some() {}
        }
        neighbours.converse();
    }
}

/// A stream of numbers that look random and are the same in each run.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// Goal: what is no MQTT is closed without an answer. Method: other protocols' first bytes, and noise.
#[test]
fn other_protocols_are_closed_without_an_answer() {
    let server = Server::start();
    let mut neighbours = Neighbours::new(&server);
    let http = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let tls = b"\x16\x03\x01\0\xF4\x01\0\0\xF0\x03\x03";
    let first_bytes: [&[u8]; 8] = [
        http,
        b"POST /mqtt HTTP/1.0\r\n\r\n",
        tls,
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n",
        &[0; 1_000],
        &[0xFF; 1_000],
        b"\r\n\r\n",
    ];
    for bytes in first_bytes {
        let mut client = RawClient::open(server.mqtt(), V5);
        assert_eq!(send_and_end(&mut client, bytes), 0, "{bytes:02x?}");
        neighbours.converse();
    }
    for seed in 0..200 {
        let mut client = RawClient::open(server.mqtt(), V5);
        assert_eq!(
            send_and_end(&mut client, &noise(seed, 500)),
            0,
            "seed {seed}"
        );
        let mut client = RawClient::connect(&server, V5, "noise");
        send_and_end(&mut client, &noise(seed, 500));
    }
    neighbours.converse();
}
