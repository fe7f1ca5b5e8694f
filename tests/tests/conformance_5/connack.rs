//! Statements of MQTT 5, section 3.2: CONNACK.

use std::mem::{Discriminant, discriminant};

use waypost_mqtt::{Connect, Packet, Property, ProtocolVersion::V5, ReasonCode};
use waypost_tests::{RawClient, Received, ServerOptions, connect_packet};

use crate::wire::{CLEAN, connect_bytes, connect_properties, properties, server, text};

/// The CONNACKs of many different CONNECTs, accepted and refused.
fn connacks() -> Vec<Received> {
    let server = server();
    let mut answers = Vec::new();
    for client_id in ["", "connack"] {
        answers.push(RawClient::connect_with(&server, &connect_packet(V5, client_id)).1);
        let everything = [
            Property::SessionExpiryInterval(u32::MAX),
            Property::ReceiveMaximum(1),
            Property::MaximumPacketSize(1_000),
            Property::TopicAliasMaximum(5),
            Property::RequestResponseInformation(true),
            Property::RequestProblemInformation(true),
        ];
        let (client, answer) = connect_properties(&server, client_id, everything);
        client.disconnect();
        answers.push(answer);
    }
    for refused in [
        connect_bytes(CLEAN, b"\x15\0\x04NONE", &[text("connack")]),
        connect_bytes(CLEAN | 1, &[], &[text("connack")]),
        connect_bytes(CLEAN, b"\x21\0\0", &[text("connack")]),
        connect_bytes(CLEAN, &[], &[text("i".repeat(65_535))]),
    ] {
        let mut client = RawClient::open(server.mqtt(), V5);
        client.send_raw(&refused);
        answers.push(client.receive());
    }
    answers
}

/// No property of CONNACK is given twice: [W5-3.2.2.3.2-a], [W5-3.2.2.3.3-a], [W5-3.2.2.3.4-a], [W5-3.2.2.3.5-a], [W5-3.2.2.3.6-a],
/// [W5-3.2.2.3.7-a], [W5-3.2.2.3.8-a], [W5-3.2.2.3.9-a], [W5-3.2.2.3.11-a], [W5-3.2.2.3.12-a], [W5-3.2.2.3.13-a], [W5-3.2.2.3.14-a],
/// [W5-3.2.2.3.15-a], [W5-3.2.2.3.16-a], [W5-3.2.2.3.17-a], [W5-3.2.2.3.18-a]; their values are in range: [W5-3.2.2.3.3-b],
/// [W5-3.2.2.3.4-b], [W5-3.2.2.3.5-b], [W5-3.2.2.3.6-b], [W5-3.2.2.3.11-b], [W5-3.2.2.3.12-b], [W5-3.2.2.3.13-b]. (A boolean that is neither
/// 0 nor 1 fails to decode here.) [MQTT-3.2.2-1]: the reserved bits of the flags are 0; [MQTT-3.2.2-6], [MQTT-3.2.2-8].
#[test]
fn connack_is_well_formed() {
    for answer in connacks() {
        let conn_ack = answer.conn_ack();
        let mut seen: Vec<Discriminant<Property<'_>>> = Vec::new();
        for property in conn_ack.properties.iter() {
            match property {
                Property::UserProperty(..) => continue,
                Property::ReceiveMaximum(value) => assert_ne!(value, 0),
                Property::MaximumPacketSize(value) => assert_ne!(value, 0),
                Property::MaximumQoS(value) => assert!(value < 2),
                _ => {}
            }
            assert!(
                !seen.contains(&discriminant(&property)),
                "{property:?} twice in {answer:?}"
            );
            seen.push(discriminant(&property));
        }
        let bytes = answer.bytes();
        assert_eq!(bytes[2], 0, "{answer:?}");
        let accepted = conn_ack.reason == ReasonCode::Success;
        assert!(accepted || conn_ack.reason.is_error(), "{answer:?}");
    }
}

/// [MQTT-3.2.2-1], [MQTT-3.2.2-3]: Session Present is bit 0 of the flags and all there is.
#[test]
fn connect_acknowledge_flags() {
    let server = server();
    let stays = properties([Property::SessionExpiryInterval(60)]);
    let connect = Connect {
        properties: stays.as_properties(),
        ..connect_packet(V5, "flags")
    };
    let (client, answer) = RawClient::connect_with(&server, &connect);
    assert_eq!(answer.bytes()[2..4], [0, 0]);
    client.disconnect();
    let connect = Connect {
        clean_start: false,
        ..connect_packet(V5, "flags")
    };
    let (_, answer) = RawClient::connect_with(&server, &connect);
    assert_eq!(answer.bytes()[2..4], [1, 0]);
}

/// [MQTT-3.2.2-18], [MQTT-3.2.2-17]: a server whose Topic Alias Maximum is 0 takes no alias: 0x94.
#[test]
fn a_server_without_aliases_takes_none() {
    let server = ServerOptions::new()
        .configuration("[limits]\ntopic_alias_max = 0\n")
        .start();
    let (mut client, answer) = RawClient::connect_with(&server, &connect_packet(V5, "none"));
    assert_eq!(
        answer
            .conn_ack()
            .properties
            .topic_alias_maximum()
            .unwrap_or(0),
        0
    );
    let alias = properties([Property::TopicAlias(1)]);
    client.send(&Packet::Publish(waypost_mqtt::Publish {
        topic: "t",
        properties: alias.as_properties(),
        ..waypost_tests::empty_publish()
    }));
    client.expect_refused(ReasonCode::TopicAliasInvalid);
}

/// [MQTT-3.1.2-23], [MQTT-3.2.2-3]: a server with a longest Session Expiry Interval says what it grants, and keeps to it.
#[test]
fn a_shorter_session_expiry_is_told() {
    let server = ServerOptions::new()
        .configuration("[limits]\nsession_expiry_max = \"60s\"\n")
        .start();
    for (asked, granted) in [(u32::MAX, Some(60)), (61, Some(60)), (60, None), (0, None)] {
        let (_, answer) =
            connect_properties(&server, "granted", [Property::SessionExpiryInterval(asked)]);
        assert_eq!(
            answer.conn_ack().properties.session_expiry_interval(),
            granted,
            "{asked}"
        );
    }
}
