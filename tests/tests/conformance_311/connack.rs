//! Statements of MQTT 3.1.1, section 3.2: CONNACK, byte for byte.

use waypost_mqtt::{Packet, ProtocolVersion::V311, QoS};
use waypost_tests::{RawClient, ServerOptions};

use crate::wire::{
    Answer, CLEAN, check_refused_connects, connect_as_bytes, connect_bytes, connect_session,
    expect_closed_soon, publish_from_elsewhere, server, text,
};

/// Sends a CONNECT with `CleanSession` 0 or 1 and returns the two bytes of the CONNACK's variable header.
fn connack(server: &waypost_tests::Server, clean: bool) -> [u8; 2] {
    let mut client = RawClient::open(server.mqtt(), V311);
    client.send_raw(&connect_bytes(u8::from(clean) << 1, &[text("connack")]));
    let answer = client.receive();
    assert_eq!(answer.bytes()[..2], [0x20, 2]);
    client.send_raw(&[0xE0, 0]);
    client.expect_closed();
    [answer.bytes()[2], answer.bytes()[3]]
}

/// [MQTT-3.2.2-1], [MQTT-3.2.2-2], [MQTT-3.2.2-3], [MQTT-3.1.4-4]: Session Present is 1 where `CleanSession` is 0 and the server has a session,
/// otherwise 0; the return code is 0.
#[test]
fn session_present_says_what_the_server_has() {
    let server = server();
    let present = [1, 0];
    let absent = [0, 0];
    for (clean, expect) in [
        (false, absent),
        (false, present),
        (false, present),
        (true, absent),
        (false, absent),
        (false, present),
        (true, absent),
        (true, absent),
    ] {
        assert_eq!(connack(&server, clean), expect);
    }
}

/// [MQTT-3.2.2-4], [MQTT-3.2.2-5]: refusals have Session Present 0, also where there is a session, and end the connection.
#[test]
fn refusals_have_session_present_0() {
    let server = server();
    drop(connect_session(&server, "refusals", false));
    check_refused_connects(
        Answer::ReturnCode(1),
        [(
            "level 3",
            connect_as_bytes("MQTT", 3, 0, &[text("refusals")]),
        )],
    );
    check_refused_connects(
        Answer::ReturnCode(5),
        [(
            "another user",
            connect_bytes(0x80, &[text("refusals"), text("mallory")]),
        )],
    );
    assert!(
        connect_session(&server, "refusals", false).1,
        "it is as it was"
    );
}

/// [MQTT-3.2.0-1]: CONNACK comes before the messages of a resumed session, and once.
#[test]
fn connack_comes_before_waiting_messages() {
    let server = server();
    let (mut client, _) = connect_session(&server, "waiting", false);
    client.subscribe("waiting", QoS::AtLeastOnce);
    client.disconnect();
    for number in 0..5 {
        publish_from_elsewhere(&server, "waiting", &[number]);
    }
    let mut client = RawClient::open(server.mqtt(), V311);
    client.send_raw(&connect_bytes(0, &[text("waiting")]));
    assert_eq!(client.receive().bytes(), [0x20, 2, 1, 0]);
    for number in 0..5 {
        assert_eq!(client.receive_message().publish().payload, [number]);
    }
    client.expect_nothing();
}

/// [MQTT-4.8.0-2], [MQTT-3.2.2-5]: a server that has no room for another session says 0x03 and closes that connection, and only that.
#[test]
fn a_full_server_is_unavailable() {
    let server = ServerOptions::new()
        .shards(1)
        .configuration("[limits]\nsessions_max = 1\n")
        .start();
    let mut first = RawClient::connect(&server, V311, "first");
    for _ in 0..2 {
        let mut second = RawClient::open(server.mqtt(), V311);
        second.send_raw(&connect_bytes(CLEAN, &[text("second")]));
        assert_eq!(second.receive().bytes(), [0x20, 2, 0, 3]);
        expect_closed_soon(&mut second);
    }
    first.send(&Packet::PingReq);
    assert!(matches!(first.receive().packet(), Packet::PingResp));
    first.disconnect();
    RawClient::connect(&server, V311, "second").disconnect();
}
