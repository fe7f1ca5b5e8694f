//! Each counter counts what it says, seen where an operator sees it: at `/metrics`.
//!
//! Method: do something by hand, then wait until the number has risen by exactly as much. Most
//! counters are hit together with the setting that bounds them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use waypost_mqtt::{
    Ack, Connect, Packet, PacketId, Property, PropertyBuffer, ProtocolVersion, Publish, QoS,
    ReasonCode, Topic, Will,
};
use waypost_tests::{
    LIMIT, RawClient, Server, ServerOptions, connect_packet, empty_publish, subscribe_bytes,
    wait_for, with_fixed_header,
};

const V5: ProtocolVersion = ProtocolVersion::V5;

/// A server that publishes nothing of its own while others are counted.
fn quiet() -> ServerOptions {
    ServerOptions::new().arguments(["--set", "server.sys_interval=0s"])
}

/// Every metric's value, summed over the shards.
fn metrics(server: &Server) -> BTreeMap<String, f64> {
    let mut sums = BTreeMap::new();
    for line in server
        .get("/metrics")
        .1
        .lines()
        .filter(|line| !line.starts_with('#'))
    {
        let (sample, value) = line.rsplit_once(' ').unwrap();
        let name = sample.split('{').next().unwrap();
        *sums.entry(name.to_owned()).or_default() += value.parse::<f64>().unwrap();
    }
    sums
}

/// Does it, and waits until each of the metrics has risen by exactly that much.
#[track_caller]
fn rises<T>(server: &Server, expect: &[(&str, i32)], action: impl FnOnce() -> T) -> T {
    let before = metrics(server);
    let result = action();
    for (name, by) in expect {
        let due = before
            .get(*name)
            .unwrap_or_else(|| panic!("{name} is not exported"))
            + f64::from(*by);
        wait_for(&format!("{name} to become {due}"), LIMIT, || {
            let is = metrics(server)[*name];
            ((is - due).abs() < 0.5).then_some(())
        });
    }
    result
}

fn id(value: u16) -> PacketId {
    PacketId::new(value).unwrap()
}

/// A refusal closes the connection; what was said before that is not looked at here.
fn until_closed(mut client: RawClient) {
    while client.receive_within(LIMIT).is_some() {}
}

#[test]
fn connections_and_sessions_are_counted() {
    let server = quiet().start();
    let expect = [
        ("waypost_accepts_total", 1),
        ("waypost_connections_opened_total", 1),
        ("waypost_connects_accepted_total", 1),
        ("waypost_sessions_created_total", 1),
        ("waypost_sessions_attached_total", 1),
        ("waypost_packets_received_total", 1),
        ("waypost_packets_sent_total", 1),
        ("waypost_bytes_received_total", 15),
        ("waypost_bytes_sent_total", 4),
        ("waypost_connections", 1),
        ("waypost_clients", 1),
        ("waypost_sessions", 1),
    ];
    let first = rises(&server, &expect, || {
        RawClient::connect(&server, ProtocolVersion::V311, "a")
    });
    let expect = [
        ("waypost_takeovers_total", 1),
        ("waypost_connections_closed_total", 1),
        ("waypost_sessions_detached_total", 1),
        ("waypost_sessions_ended_total", 1),
    ];
    let second = rises(&server, &expect, || {
        let second = RawClient::connect(&server, ProtocolVersion::V311, "a");
        until_closed(first);
        second
    });
    let expect = [("waypost_sessions_ended_total", 1), ("waypost_clients", -1)];
    rises(&server, &expect, || second.disconnect());

    let mut expiry = PropertyBuffer::new();
    expiry.push(Property::SessionExpiryInterval(1_000));
    let staying = Connect {
        clean_start: false,
        properties: expiry.as_properties(),
        ..connect_packet(V5, "b")
    };
    RawClient::connect_with(&server, &staying).0.disconnect();
    rises(&server, &[("waypost_sessions_resumed_total", 1)], || {
        RawClient::connect_with(&server, &staying).0.disconnect();
    });
}

/// Method: a socket closed with unread bytes in it resets its connection.
#[test]
fn failed_connections_are_counted() {
    let server = quiet().start();
    let unread = rises(&server, &[("waypost_packets_sent_total", 1)], || {
        let mut client = RawClient::open(server.mqtt(), V5);
        client.send(&Packet::Connect(connect_packet(V5, "unread")));
        client
    });
    let expect = [
        ("waypost_read_errors_total", 1),
        ("waypost_connections_closed_total", 1),
    ];
    rises(&server, &expect, || drop(unread));
}

#[test]
fn messages_are_counted() {
    let server = quiet().start();
    let mut publisher = RawClient::connect(&server, V5, "publisher");
    let mut subscriber = RawClient::connect(&server, V5, "subscriber");
    rises(&server, &[("waypost_publishes_unmatched_total", 1)], || {
        publisher.publish("t", QoS::AtMostOnce, b"x");
    });
    let expect = [
        ("waypost_subscribes_accepted_total", 1),
        ("waypost_subscriptions", 1),
    ];
    rises(&server, &expect, || {
        subscriber.subscribe("t", QoS::ExactlyOnce);
    });
    let expect = [
        ("waypost_publishes_received_total", 3),
        ("waypost_publishes_received_qos1_total", 1),
        ("waypost_publishes_received_qos2_total", 1),
        ("waypost_deliveries_total", 3),
    ];
    rises(&server, &expect, || {
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            publisher.publish("t", qos, b"x");
            subscriber.receive_message();
        }
    });
    rises(&server, &[("waypost_publishes_repeated_total", 1)], || {
        for dup in [false, true] {
            publisher.send(&Packet::Publish(Publish {
                topic: "t",
                qos: QoS::ExactlyOnce,
                packet_id: Some(id(9_000)),
                dup,
                ..empty_publish()
            }));
            publisher.receive().pub_rec();
        }
        subscriber.receive_message();
    });
    rises(&server, &[("waypost_refused_by_client_total", 1)], || {
        publisher.publish("t", QoS::AtLeastOnce, b"x");
        let packet_id = subscriber.receive().publish().packet_id.unwrap();
        subscriber.send(&Packet::PubAck(Ack::new(
            packet_id,
            ReasonCode::QuotaExceeded,
        )));
        subscriber.fence();
    });
    let expect = [
        ("waypost_unsubscribes_total", 1),
        ("waypost_subscriptions", -1),
    ];
    rises(&server, &expect, || subscriber.unsubscribe("t"));
    // More levels than limits.topic_levels_max.
    let deep = "/".repeat(500);
    rises(&server, &[("waypost_subscribes_refused_total", 1)], || {
        subscriber.send_raw(&subscribe_bytes(V5, 77, &[(&deep, 0)]));
        subscriber.receive();
    });
}

#[test]
fn retained_messages_and_wills_are_counted() {
    let server = quiet().start();
    let mut client = RawClient::connect(&server, V5, "client");
    let expect = [
        ("waypost_retained_stored_total", 1),
        ("waypost_retained_messages", 1),
    ];
    rises(&server, &expect, || {
        client.publish_retained("r", QoS::AtLeastOnce, b"x");
    });
    rises(&server, &[("waypost_retained_sent_total", 1)], || {
        client.subscribe("r", QoS::AtMostOnce);
        client.receive_message();
    });
    client.unsubscribe("r");
    let expect = [
        ("waypost_retained_removed_total", 1),
        ("waypost_retained_messages", -1),
    ];
    rises(&server, &expect, || {
        client.publish_retained("r", QoS::AtLeastOnce, b"");
    });

    let will = Will {
        topic: Topic::parse("will").unwrap(),
        payload: b"gone",
        qos: QoS::AtMostOnce,
        retain: false,
        properties: waypost_mqtt::Properties::EMPTY,
    };
    let dying = Connect {
        will: Some(will),
        ..connect_packet(V5, "dying")
    };
    rises(&server, &[("waypost_wills_published_total", 1)], || {
        RawClient::connect_with(&server, &dying).0.cut();
    });
}

#[test]
fn absent_clients_queues_are_counted_and_bounded() {
    let server = quiet()
        .arguments([
            "--set",
            "limits.queue_messages_max=2",
            "--set",
            "limits.queue_bytes_max=400B",
        ])
        .start();
    let mut expiry = PropertyBuffer::new();
    expiry.push(Property::SessionExpiryInterval(1_000));
    let staying = Connect {
        clean_start: false,
        properties: expiry.as_properties(),
        ..connect_packet(V5, "away")
    };
    let (mut away, _) = RawClient::connect_with(&server, &staying);
    away.subscribe("q", QoS::AtLeastOnce);
    away.disconnect();
    let mut publisher = RawClient::connect(&server, V5, "publisher");
    let expect = [
        ("waypost_queued_total", 2),
        ("waypost_dropped_queue_full_total", 1),
    ];
    rises(&server, &expect, || {
        for _ in 0..3 {
            publisher.publish("q", QoS::AtLeastOnce, b"x");
        }
    });
    let (mut back, _) = RawClient::connect_with(&server, &staying);
    back.receive_message();
    rises(&server, &[("waypost_redeliveries_total", 1)], || {
        // The second one is out and not acknowledged.
        back.receive().publish();
        back.cut();
        let (mut again, _) = RawClient::connect_with(&server, &staying);
        assert!(again.receive_message().publish().dup);
        again.disconnect();
    });
    rises(&server, &[("waypost_dropped_queue_full_total", 1)], || {
        publisher.publish("q", QoS::AtLeastOnce, &[b'x'; 60]);
        publisher.publish("q", QoS::AtLeastOnce, &[b'x'; 60]);
    });
    rises(
        &server,
        &[("waypost_dropped_session_ended_total", 1)],
        || {
            RawClient::connect(&server, V5, "away").disconnect();
        },
    );
}

#[test]
fn refusals_are_counted() {
    let server = quiet().start();
    let client = || RawClient::connect(&server, V5, "client");
    rises(&server, &[("waypost_malformed_packets_total", 1)], || {
        let mut client = client();
        client.send_raw(&with_fixed_header(0x80, b""));
        until_closed(client);
    });
    rises(&server, &[("waypost_protocol_errors_total", 1)], || {
        let mut client = client();
        client.send(&Packet::Connect(connect_packet(V5, "client")));
        until_closed(client);
    });
    rises(&server, &[("waypost_publishes_denied_total", 1)], || {
        let mut client = client();
        client.publish("$SYS/mine", QoS::AtLeastOnce, b"x");
    });
    rises(
        &server,
        &[("waypost_publishes_reserved_property_total", 1)],
        || {
            let mut reserved = PropertyBuffer::new();
            reserved.push(Property::UserProperty("waypost-offset", "1"));
            let mut client = client();
            client.publish_with(&Publish {
                topic: "t",
                qos: QoS::AtLeastOnce,
                properties: reserved.as_properties(),
                ..empty_publish()
            });
        },
    );
    rises(&server, &[("waypost_dropped_too_large_total", 1)], || {
        let mut small = PropertyBuffer::new();
        small.push(Property::MaximumPacketSize(50));
        let connect = Connect {
            properties: small.as_properties(),
            ..connect_packet(V5, "small")
        };
        let (mut small, _) = RawClient::connect_with(&server, &connect);
        small.subscribe("big", QoS::AtMostOnce);
        let mut client = client();
        client.publish("big", QoS::AtMostOnce, &[0; 100]);
        small.expect_nothing();
    });
}

#[test]
fn limits_are_kept_and_counted() {
    let server = quiet()
        .configuration(
            "[limits]\n\
             packet_bytes_max = \"10KiB\"\n\
             receive_maximum = 2\n\
             topic_levels_max = 3\n\
             subscriptions_per_session_max = 2\n\
             client_id_bytes_max = \"23B\"\n\
             user_properties_max = 1\n",
        )
        .start();
    let client = || RawClient::connect(&server, V5, "client");
    rises(&server, &[("waypost_packets_over_limit_total", 1)], || {
        let mut client = client();
        client.publish("t", QoS::AtMostOnce, &[0; 10_000]);
        client.send(&Packet::Publish(Publish {
            topic: "t",
            payload: &[0; 10_240],
            ..empty_publish()
        }));
        until_closed(client);
    });
    rises(
        &server,
        &[("waypost_receive_maximum_exceeded_total", 1)],
        || {
            let mut client = client();
            for number in 1..=3 {
                client.send(&Packet::Publish(Publish {
                    topic: "t",
                    qos: QoS::ExactlyOnce,
                    packet_id: Some(id(number)),
                    ..empty_publish()
                }));
            }
            until_closed(client);
        },
    );
    let expect = [
        ("waypost_topic_levels_exceeded_total", 1),
        ("waypost_subscriptions_exceeded_total", 1),
    ];
    rises(&server, &expect, || {
        let mut client = client();
        let filters = [("a/b/c", 0), ("a/b/c/d", 0), ("b", 0), ("c", 0)];
        client.send_raw(&subscribe_bytes(V5, 1, &filters));
        let answer = client.receive();
        let reasons: Vec<u8> = answer
            .sub_ack()
            .reasons
            .iter()
            .map(ReasonCode::as_u8)
            .collect();
        assert_eq!(reasons, [0, 0x8F, 0, 0x97]);
    });
    rises(&server, &[("waypost_connects_refused_total", 1)], || {
        RawClient::connect(&server, V5, &"i".repeat(23)).disconnect();
        let mut client = RawClient::open(server.mqtt(), V5);
        client.send(&Packet::Connect(connect_packet(V5, &"i".repeat(24))));
        let reason = client.receive().conn_ack().reason;
        assert_eq!(reason, ReasonCode::ClientIdentifierNotValid);
    });
    rises(
        &server,
        &[("waypost_user_properties_exceeded_total", 1)],
        || {
            let mut two = PropertyBuffer::new();
            two.push(Property::UserProperty("a", "1"));
            two.push(Property::UserProperty("b", "2"));
            let mut client = client();
            client.send(&Packet::Publish(Publish {
                topic: "t",
                qos: QoS::AtLeastOnce,
                packet_id: Some(id(1)),
                properties: two.as_properties(),
                ..empty_publish()
            }));
            assert_eq!(client.receive().pub_ack().reason, ReasonCode::QuotaExceeded);
        },
    );
}

#[test]
fn the_shells_bounds_are_kept_and_counted() {
    let server = quiet()
        .arguments([
            "--set",
            "limits.connections_max=2",
            "--set",
            "limits.receive_bytes_max=1MiB",
        ])
        .start();
    let mut first = RawClient::connect(&server, V5, "first");
    let mut second = RawClient::connect(&server, V5, "second");
    rises(&server, &[("waypost_accepts_refused_total", 1)], || {
        until_closed(RawClient::open(server.mqtt(), V5));
    });
    // The beginnings of two packets of 700,000 bytes: together more than there is room for.
    let mut packet = with_fixed_header(0x30, &vec![0; 700_000]);
    packet.truncate(20_000);
    rises(&server, &[("waypost_receive_bytes", 700_004)], || {
        first.send_raw(&packet);
    });
    rises(
        &server,
        &[("waypost_receive_bytes_exceeded_total", 1)],
        || {
            second.send_raw(&packet);
            until_closed(second);
        },
    );
    rises(&server, &[("waypost_receive_bytes", -700_004)], || {
        first.cut();
    });
}

/// Goal: a reader that stops costs its own bounded outbox and nobody else. Method: it never reads,
/// while the publisher sends many times what its outbox and the kernel's buffers hold.
#[test]
fn a_reader_that_stops_is_counted() {
    let server = quiet()
        .arguments(["--set", "limits.outbox_bytes_max=64KiB"])
        .start();
    let mut stopped = RawClient::connect(&server, V5, "stopped");
    stopped.subscribe("flood", QoS::AtLeastOnce);
    let mut publisher = RawClient::connect(&server, V5, "publisher");
    let payload = vec![0; 8_000];
    wait_for("drops to be counted", LIMIT, || {
        for _ in 0..500 {
            publisher.publish("flood", QoS::AtMostOnce, &payload);
        }
        (metrics(&server)["waypost_dropped_qos0_outbox_total"] > 0.0).then_some(())
    });
    assert!(metrics(&server)["waypost_outbox_bytes"] > 0.0);
}

/// Goal: without file descriptors nothing breaks, and it is counted. Method: take them away from
/// the running server; an HTTP connection that is open already goes on telling.
#[test]
fn accepting_without_descriptors_is_counted() {
    let server = quiet().start();
    let pid = Pid::from_raw(server.pid().cast_signed());
    let limit = |current| Rlimit {
        current: Some(current),
        maximum: Some(1_000),
    };
    let mut http = BufReader::new(TcpStream::connect(server.http()).unwrap());
    http.get_ref().set_read_timeout(Some(LIMIT)).unwrap();
    let mut accept_errors = || {
        http.get_mut()
            .write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            .unwrap();
        loop {
            let mut line = String::new();
            http.read_line(&mut line).unwrap();
            if let Some(value) = line.strip_prefix("waypost_accept_errors_total ") {
                return value.trim().parse::<u64>().unwrap();
            }
        }
    };
    assert_eq!(accept_errors(), 0);
    prlimit(pid, Resource::Nofile, limit(0)).unwrap();
    let mut waiting = RawClient::open(server.mqtt(), V5);
    waiting.send(&Packet::Connect(connect_packet(V5, "waiting")));
    wait_for("accepting to fail", LIMIT, || {
        (accept_errors() > 0).then_some(())
    });
    prlimit(pid, Resource::Nofile, limit(1_000)).unwrap();
    // It waited in the backlog.
    assert_eq!(waiting.receive().conn_ack().reason, ReasonCode::Success);
}
