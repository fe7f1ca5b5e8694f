//! Statements of MQTT 3.1.1 on the Will (sections 3.1.2.5 to 3.1.2.7, 3.14.4).

use waypost_mqtt::{Connect, Packet, ProtocolVersion::V311, QoS, Will};
use waypost_tests::{RawClient, Server, connect_packet};

use crate::wire::{connect_session, publish_bytes, server, will};

const QUALITIES: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];

/// Ends a connection in some way.
type End = fn(&Server, RawClient);

fn connect_with_will(server: &Server, client_id: &str, clean: bool, will: Will<'_>) -> RawClient {
    let connect = Connect {
        clean_start: clean,
        will: Some(will),
        ..connect_packet(V311, client_id)
    };
    RawClient::connect_with(server, &connect).0
}

fn witness(server: &Server, client_id: &str, filter: &str) -> RawClient {
    let mut witness = RawClient::connect(server, V311, client_id);
    witness.subscribe(filter, QoS::ExactlyOnce);
    witness
}

/// [MQTT-3.1.2-8], [MQTT-3.1.2-9]: the Will is published as it was given, at its QoS, when the connection ends without
/// DISCONNECT: the network fails, the client breaks the protocol, another takes over its `ClientId`.
#[test]
fn the_will_is_published_when_the_connection_fails() {
    let server = server();
    let mut witness = witness(&server, "will-witness", "will/#");
    let endings: [(&str, End); 5] = [
        ("the network", |_, client| client.cut()),
        ("malformed", |_, mut client| {
            client.send_raw(&publish_bytes(0x36, "x", Some(1)));
            client.expect_closed();
        }),
        ("violation", |_, mut client| {
            client.send(&Packet::Connect(connect_packet(V311, "will-client")));
            client.expect_closed();
        }),
        ("takeover, CleanSession 1", |server, mut client| {
            connect_session(server, "will-client", true).0.disconnect();
            client.expect_closed();
        }),
        ("takeover, CleanSession 0", |server, mut client| {
            connect_session(server, "will-client", false).0.disconnect();
            client.expect_closed();
        }),
    ];
    for (clean, (name, end)) in [true, false]
        .into_iter()
        .flat_map(|c| endings.map(|e| (c, e)))
    {
        eprintln!("{name}, CleanSession {clean}");
        for qos in QUALITIES {
            let left = Will {
                qos,
                ..will("will/left", b"gone")
            };
            end(
                &server,
                connect_with_will(&server, "will-client", clean, left),
            );
            let received = witness.receive_message();
            assert_eq!(received.publish().topic, "will/left");
            assert_eq!(received.publish().payload, b"gone");
            assert_eq!(received.publish().qos, qos);
        }
    }
    connect_with_will(&server, "will-client", true, will("will/empty", b"")).cut();
    let received = witness.receive_message();
    assert_eq!(
        (received.publish().topic, received.publish().payload),
        ("will/empty", &b""[..])
    );
    witness.expect_nothing();
}

/// [MQTT-3.1.2-8]: the Will is stored, not published, as long as the connection lives.
#[test]
fn the_will_waits_for_the_end() {
    let server = server();
    let mut witness = witness(&server, "end-witness", "end");
    let mut client = connect_with_will(&server, "end", true, will("end", b"gone"));
    client.publish("other", QoS::ExactlyOnce, b"alive");
    witness.expect_nothing();
    client.cut();
    assert_eq!(witness.receive().publish().payload, b"gone");
}

/// [MQTT-3.1.2-8], [MQTT-3.1.2-10], [MQTT-3.14.4-3]: DISCONNECT takes the Will back for good: it is not published then, nor when the
/// session ends.
#[test]
fn disconnect_takes_the_will_back() {
    let server = server();
    let mut witness = witness(&server, "back-witness", "back");
    for clean in [true, false] {
        for qos in QUALITIES {
            let left = Will {
                qos,
                retain: true,
                ..will("back", b"gone")
            };
            connect_with_will(&server, "back", clean, left).disconnect();
            connect_session(&server, "back", clean).0.cut();
            connect_session(&server, "back", true).0.disconnect();
        }
    }
    witness.expect_nothing();
    witness.subscribe("back", QoS::AtMostOnce);
    witness.expect_nothing();
}

/// [MQTT-3.1.2-10], [MQTT-3.1.2-12]: a Will that was published is gone: the session's next connection has its own, or with Will
/// Flag 0 none.
#[test]
fn each_connection_has_its_own_will() {
    let server = server();
    let mut witness = witness(&server, "own-witness", "own");
    connect_with_will(&server, "own", false, will("own", b"first")).cut();
    assert_eq!(witness.receive().publish().payload, b"first");
    let (client, session_present) = connect_session(&server, "own", false);
    assert!(session_present);
    client.cut();
    connect_session(&server, "own", false).0.cut();
    connect_with_will(&server, "own", false, will("own", b"second")).cut();
    assert_eq!(witness.receive().publish().payload, b"second");
    connect_session(&server, "own", true).0.cut();
    connect_session(&server, "own", true).0.disconnect();
    witness.expect_nothing();
}

/// [MQTT-3.1.2-16], [MQTT-3.1.2-17]: Will Retain 1 makes it a retained message, which goes to later subscribers; Will Retain 0
/// does not, and leaves what is retained.
#[test]
fn will_retain_decides_whether_it_is_retained() {
    let server = server();
    let mut live = witness(&server, "retain-live", "retain-will/#");
    let later = |expect: &[u8]| {
        let mut late = RawClient::connect(&server, V311, "retain-late");
        late.subscribe("retain-will/t", QoS::ExactlyOnce);
        if !expect.is_empty() {
            let received = late.receive_message();
            assert_eq!(
                (received.publish().payload, received.publish().retain),
                (expect, true)
            );
        }
        late.expect_nothing();
    };
    let mut leave = |retain, payload: &[u8]| {
        for qos in QUALITIES {
            let left = Will {
                qos,
                retain,
                ..will("retain-will/t", payload)
            };
            connect_with_will(&server, "retain-will", true, left).cut();
            let received = live.receive_message();
            assert_eq!(
                (received.publish().payload, received.publish().retain),
                (payload, false)
            );
        }
    };
    leave(false, b"passing");
    later(b"");
    leave(true, b"kept");
    later(b"kept");
    leave(false, b"passing");
    later(b"kept");
    leave(true, b"");
    later(b"");
}
