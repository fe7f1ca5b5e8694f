//! Statements of MQTT 5 on stored state (section 4.1), when the server's process ends without a word and another begins on what
//! it has left.

use waypost_mqtt::{Connect, Property, ProtocolVersion::V5, QoS, Will};
use waypost_tests::{RawClient, Server, ServerOptions, connect_packet};

use crate::wire::{connect_session, properties, take_messages, unique, will};

/// Longer than a test.
const LONG_S: u32 = 3_600;

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

/// [MQTT-3.1.2-5], [MQTT-3.1.2-23]: a session that outlives its connection outlives the process, connected at the end or not,
/// with its subscriptions, their options and what waits; one with Session Expiry Interval 0 does not.
#[test]
fn a_session_outlives_the_process_if_it_outlives_its_connection() {
    let directory = tempfile::tempdir().unwrap();
    let (server, options) = begin(&directory);
    let (mut away, _) = connect_session(&server, "away", false, LONG_S);
    away.subscribe("stored/#", QoS::ExactlyOnce);
    away.disconnect();
    let (mut there, _) = connect_session(&server, "there", false, LONG_S);
    there.subscribe("stored/#", QoS::AtLeastOnce);
    let (mut passing, _) = connect_session(&server, "passing", false, 0);
    passing.subscribe("stored/#", QoS::AtLeastOnce);
    let mut publisher = RawClient::connect(&server, V5, "publisher");
    for number in 0..10_u8 {
        publisher.publish("stored/x", QoS::ExactlyOnce, &[number]);
    }
    let server = crash(server, &options);
    for (client_id, qos) in [("away", QoS::ExactlyOnce), ("there", QoS::AtLeastOnce)] {
        let (mut client, session_present) = connect_session(&server, client_id, false, LONG_S);
        assert!(session_present, "{client_id}");
        let received = take_messages(&mut client, 10);
        for (number, message) in (0..).zip(&received) {
            assert_eq!(
                (message.publish().payload, message.publish().qos),
                (&[number][..], qos),
                "{client_id}"
            );
        }
        client.expect_nothing();
    }
    assert!(!connect_session(&server, "passing", false, 0).1);
}

/// [MQTT-3.1.2-4]: a session that Clean Start 1 has deleted stays deleted over a crash.
#[test]
fn a_deleted_session_stays_deleted() {
    let directory = tempfile::tempdir().unwrap();
    let (server, options) = begin(&directory);
    let (mut client, _) = connect_session(&server, "deleted", false, LONG_S);
    client.subscribe("deleted", QoS::AtLeastOnce);
    client.disconnect();
    let mut publisher = RawClient::connect(&server, V5, "publisher");
    publisher.publish("deleted", QoS::AtLeastOnce, b"waits");
    assert!(!connect_session(&server, "deleted", true, 0).1);
    let server = crash(server, &options);
    let (mut client, session_present) = connect_session(&server, "deleted", false, LONG_S);
    assert!(!session_present);
    client.expect_nothing();
}

/// [MQTT-4.1.0-2]: a session whose interval runs out after a crash is deleted; it counts from the start for whoever was connected.
#[test]
fn a_session_expires_after_a_crash_too() {
    let directory = tempfile::tempdir().unwrap();
    let (server, options) = begin(&directory);
    let (mut client, _) = connect_session(&server, "brief", false, 1);
    client.subscribe("brief", QoS::AtLeastOnce);
    let server = crash(server, &options);
    // A will that is sent when its session ends shows when a second has passed.
    crate::wire::pass_seconds(&server, 2);
    assert!(!connect_session(&server, "brief", false, LONG_S).1);
}

/// [MQTT-3.1.2-8]: the will of a session that was connected is published when the server is back, once its Will Delay has passed.
#[test]
fn wills_outlive_the_process() {
    let directory = tempfile::tempdir().unwrap();
    let (server, options) = begin(&directory);
    let (mut watcher, _) = connect_session(&server, "watcher", false, LONG_S);
    watcher.subscribe("will/+", QoS::AtLeastOnce);
    for (topic, delay_s) in [
        ("will/at-once", 0),
        ("will/later", 1),
        ("will/cancelled", 30),
    ] {
        let delay = properties([Property::WillDelayInterval(delay_s)]);
        let stays = properties([Property::SessionExpiryInterval(LONG_S)]);
        let last_will = Will {
            qos: QoS::AtLeastOnce,
            properties: delay.as_properties(),
            ..will(topic, b"gone")
        };
        let connect = Connect {
            clean_start: false,
            properties: stays.as_properties(),
            will: Some(last_will),
            ..connect_packet(V5, topic.trim_start_matches("will/"))
        };
        RawClient::connect_with(&server, &connect);
    }
    let server = crash(server, &options);
    let (_back, session_present) = connect_session(&server, "cancelled", false, LONG_S);
    assert!(session_present);
    let (mut watcher, _) = connect_session(&server, "watcher", false, LONG_S);
    let received = take_messages(&mut watcher, 2);
    let topics: Vec<_> = received
        .iter()
        .map(|message| message.publish().topic)
        .collect();
    assert_eq!(topics, ["will/at-once", "will/later"]);
    watcher.expect_nothing();
}

/// [MQTT-4.8.2-4]: what a group of durable members has not been told to be finished goes to a member after a crash.
#[test]
fn a_durable_group_outlives_the_process() {
    let directory = tempfile::tempdir().unwrap();
    let (server, options) = begin(&directory);
    let (first, second) = (unique("first"), unique("second"));
    for client_id in [&first, &second] {
        let (mut member, _) = connect_session(&server, client_id, false, LONG_S);
        member.subscribe("$share/group/shared", QoS::AtLeastOnce);
        member.disconnect();
    }
    let mut publisher = RawClient::connect(&server, V5, "publisher");
    for number in 0..10_u8 {
        publisher.publish("shared", QoS::AtLeastOnce, &[number]);
    }
    let server = crash(server, &options);
    let (mut member, session_present) = connect_session(&server, &first, false, LONG_S);
    assert!(session_present);
    let received = take_messages(&mut member, 10);
    let payloads: Vec<_> = received
        .iter()
        .map(|message| message.publish().payload[0])
        .collect();
    assert_eq!(payloads, (0..10).collect::<Vec<_>>());
}
