//! Statements of MQTT 3.1.1 on stored state (section 4.1), when the server's process ends without a word and another begins on
//! what it has left.

use waypost_mqtt::{Connect, Packet, ProtocolVersion::V311, QoS, Will};
use waypost_tests::{RawClient, Server, ServerOptions, connect_packet};

use crate::wire::{ack, connect_session, id_of, publish_bytes, take_messages, will};

/// Kills the server and starts one on the same data.
fn crash(server: Server, options: &ServerOptions) -> Server {
    drop(server);
    options.clone().start()
}

/// A server and the options that start the next one where it was.
fn begin(directory: &tempfile::TempDir) -> (Server, ServerOptions) {
    let options = ServerOptions::new().data_dir(&directory.path().join("data"));
    (options.clone().start(), options)
}

/// [MQTT-3.1.2-4], [MQTT-3.1.2-5], [MQTT-4.1.0-1]: subscriptions and what waits for them are there after a crash, in order, at the
/// granted QoS; an unsubscribed filter is not.
#[test]
fn a_session_outlives_the_process() {
    let directory = tempfile::tempdir().unwrap();
    let (server, options) = begin(&directory);
    let (mut client, _) = connect_session(&server, "stored", false);
    client.subscribe("stored/1", QoS::AtLeastOnce);
    client.subscribe("stored/2", QoS::ExactlyOnce);
    client.subscribe("stored/gone", QoS::AtLeastOnce);
    client.unsubscribe("stored/gone");
    client.disconnect();
    let mut publisher = RawClient::connect(&server, V311, "publisher");
    for (number, topic) in ["stored/1", "stored/2", "stored/gone", "stored/1"]
        .iter()
        .enumerate()
    {
        publisher.publish(topic, QoS::ExactlyOnce, number.to_string().as_bytes());
    }
    let server = crash(server, &options);
    let (mut client, session_present) = connect_session(&server, "stored", false);
    assert!(session_present);
    let received = take_messages(&mut client, 3);
    let heard: Vec<_> = received
        .iter()
        .map(|message| (message.publish().qos as u8, message.publish().payload[0]))
        .collect();
    assert_eq!(heard, [(1, b'0'), (2, b'1'), (1, b'3')]);
    let mut publisher = RawClient::connect(&server, V311, "publisher");
    publisher.publish("stored/gone", QoS::AtLeastOnce, b"");
    publisher.publish("stored/1", QoS::AtLeastOnce, b"live");
    assert_eq!(client.receive_message().publish().payload, b"live");
    client.expect_nothing();
}

/// [MQTT-4.4.0-1], [MQTT-4.3.3-1]: QoS 2 goes on where it was: a PUBLISH without its PUBREC comes again under its identifier with DUP 1,
/// a PUBREC is answered by PUBREL again, and what is complete does not come again.
#[test]
fn qos_2_to_a_subscriber_goes_on_after_a_crash() {
    let directory = tempfile::tempdir().unwrap();
    let (server, options) = begin(&directory);
    let (mut client, _) = connect_session(&server, "flight", false);
    client.subscribe("flight", QoS::ExactlyOnce);
    let mut publisher = RawClient::connect(&server, V311, "publisher");
    for payload in ["complete", "released", "open"] {
        publisher.publish("flight", QoS::ExactlyOnce, payload.as_bytes());
    }
    let sent: Vec<_> = (0..3).map(|_| client.receive()).collect();
    let [complete, released, open] = [0, 1, 2].map(|index| id_of(&sent[index]));
    for packet_id in [complete, released] {
        client.send(&Packet::PubRec(ack(packet_id)));
        assert_eq!(client.receive().pub_rel().packet_id, packet_id);
    }
    client.send(&Packet::PubComp(ack(complete)));
    client.fence();
    // What the server has handled is written down with the next thing that waits for it.
    publisher.publish("flight", QoS::ExactlyOnce, b"later");
    let later = id_of(&client.receive());
    let server = crash(server, &options);
    let (mut client, _) = connect_session(&server, "flight", false);
    // With several shards they come when the session has moved and its messages are read.
    let again: Vec<_> = (0..3).map(|_| client.receive()).collect();
    let released_again = again
        .iter()
        .any(|packet| matches!(packet.packet(), Packet::PubRel(ack) if ack.packet_id == released));
    assert!(released_again, "{again:?}");
    let messages: Vec<_> = again
        .iter()
        .filter_map(|packet| match packet.packet() {
            Packet::Publish(publish) => Some((publish.packet_id, publish.dup, publish.payload)),
            _ => None,
        })
        .collect();
    assert_eq!(
        messages,
        [
            (Some(open), true, &b"open"[..]),
            (Some(later), true, b"later")
        ]
    );
}

/// [MQTT-4.3.3-2]: an identifier of QoS 2 that was answered with PUBREC stays taken over a crash until its PUBREL: the same
/// PUBLISH again is no new message, and after PUBCOMP it is.
#[test]
fn qos_2_of_a_publisher_is_known_after_a_crash() {
    let directory = tempfile::tempdir().unwrap();
    let (server, options) = begin(&directory);
    let (mut subscriber, _) = connect_session(&server, "subscriber", false);
    subscriber.subscribe("once", QoS::ExactlyOnce);
    let (mut publisher, _) = connect_session(&server, "publisher", false);
    publisher.send_raw(&publish_bytes(0x34, "once", Some(9)));
    let packet_id = publisher.receive().pub_rec().packet_id;
    let server = crash(server, &options);
    let (mut publisher, session_present) = connect_session(&server, "publisher", false);
    assert!(session_present);
    publisher.send_raw(&publish_bytes(0x3C, "once", Some(9)));
    assert_eq!(publisher.receive().pub_rec().packet_id, packet_id);
    publisher.send(&Packet::PubRel(ack(packet_id)));
    assert_eq!(publisher.receive().pub_comp().packet_id, packet_id);
    let server = crash(server, &options);
    let (mut publisher, _) = connect_session(&server, "publisher", false);
    publisher.send_raw(&publish_bytes(0x34, "once", Some(9)));
    assert_eq!(publisher.receive().pub_rec().packet_id, packet_id);
    let (mut subscriber, _) = connect_session(&server, "subscriber", false);
    take_messages(&mut subscriber, 2);
    subscriber.expect_nothing();
}

/// [MQTT-3.3.1-5], [MQTT-3.1.2-8]: a retained message is there after a crash and a deleted one is not; the will of a session that
/// outlives its connection is published when the server is back.
#[test]
fn retained_messages_and_wills_outlive_the_process() {
    let directory = tempfile::tempdir().unwrap();
    let (server, options) = begin(&directory);
    let (mut watcher, _) = connect_session(&server, "watcher", false);
    watcher.subscribe("will", QoS::AtLeastOnce);
    let connect = Connect {
        clean_start: false,
        will: Some(Will {
            qos: QoS::AtLeastOnce,
            ..will("will", b"gone")
        }),
        ..connect_packet(V311, "mortal")
    };
    let (_mortal, _) = RawClient::connect_with(&server, &connect);
    let mut publisher = RawClient::connect(&server, V311, "publisher");
    publisher.publish_retained("kept", QoS::AtLeastOnce, b"first");
    publisher.publish_retained("kept", QoS::AtLeastOnce, b"kept");
    publisher.publish_retained("deleted", QoS::AtLeastOnce, b"x");
    publisher.publish_retained("deleted", QoS::AtLeastOnce, b"");
    let server = crash(server, &options);
    let mut late = RawClient::connect(&server, V311, "late");
    late.subscribe("deleted", QoS::AtLeastOnce);
    late.subscribe("kept", QoS::AtLeastOnce);
    let received = late.receive_message();
    assert_eq!(
        (received.publish().retain, received.publish().payload),
        (true, &b"kept"[..])
    );
    late.expect_nothing();
    let (mut watcher, _) = connect_session(&server, "watcher", false);
    assert_eq!(watcher.receive_message().publish().payload, b"gone");
}
