//! Limits of one session and one connection, each at N, N + 1 and 2N.

use std::collections::HashSet;

use waypost_mqtt::{
    Ack, Packet, Property, PropertyBuffer, ProtocolVersion::V5, Publish, QoS, ReasonCode,
};
use waypost_tests::{
    LIMIT, RawClient, Server, bytes::publish_bytes, connect_packet, empty_publish, subscribe_bytes,
};

use crate::{
    limits::{connect_staying, server_with},
    neighbours::{expect_metric, metric},
};

fn numbers(packets: &[waypost_tests::Received]) -> Vec<u8> {
    packets
        .iter()
        .map(|packet| packet.publish().payload[0])
        .collect()
}

/// `limits.queue_messages_max`: an absent client's queue keeps the first N; what is beyond is dropped and counted.
#[test]
fn queue_messages_max() {
    const N: u8 = 10;
    let server = server_with("[limits]\nqueue_messages_max = 10\n");
    for (sent, dropped) in [(N, 0), (N + 1, 1), (2 * N, N)] {
        let before = metric(&server, "waypost_dropped_queue_full_total");
        let mut client = connect_staying(&server, "queue");
        client.subscribe("q", QoS::AtLeastOnce);
        client.disconnect();
        let mut publisher = RawClient::connect(&server, V5, "pub");
        for number in 0..sent {
            publisher.publish("q", QoS::AtLeastOnce, &[number]);
        }
        expect_metric(
            &server,
            "waypost_dropped_queue_full_total",
            before + u64::from(dropped),
        );
        let mut client = connect_staying(&server, "queue");
        let packets = client.drain_owed(sent.min(N).into());
        assert_eq!(numbers(&packets), (0..N).collect::<Vec<_>>());
        for packet in packets {
            client.send(&Packet::PubAck(Ack::new(
                packet.publish().packet_id.unwrap(),
                ReasonCode::Success,
            )));
        }
        client.expect_nothing();
    }
}

/// `limits.queue_bytes_max`: the same by what the messages cost.
#[test]
fn queue_bytes_max() {
    let server = server_with("[limits]\nqueue_bytes_max = \"10KiB\"\n");
    let mut client = connect_staying(&server, "queue");
    client.subscribe("q", QoS::AtLeastOnce);
    client.disconnect();
    let mut publisher = RawClient::connect(&server, V5, "pub");
    for number in 0..20 {
        publisher.publish("q", QoS::AtLeastOnce, &[number; 1_024]);
    }
    let refused = metric(&server, "waypost_dropped_queue_full_total");
    let kept = 20 - u8::try_from(refused).unwrap();
    let packets = connect_staying(&server, "queue").drain_owed(kept.into());
    assert_eq!(packets.len(), usize::from(kept));
    assert_eq!(numbers(&packets), (0..kept).collect::<Vec<_>>());
    assert!((8..=10).contains(&kept), "{kept}");
    expect_metric(
        &server,
        "waypost_dropped_queue_full_total",
        20 - u64::from(kept),
    );
}

/// `limits.inflight_max`: N messages are out unacknowledged, the others wait their turn and come in order.
#[test]
fn inflight_max() {
    const N: usize = 4;
    let server = server_with("[limits]\ninflight_max = 4\n");
    let mut client = RawClient::connect(&server, V5, "window");
    client.subscribe("w", QoS::AtLeastOnce);
    let mut publisher = RawClient::connect(&server, V5, "pub");
    for number in 0..2 * N {
        publisher.publish("w", QoS::AtLeastOnce, &[u8::try_from(number).unwrap()]);
    }
    let mut out = client.drain();
    assert_eq!(numbers(&out), [0, 1, 2, 3]);
    for number in N..2 * N {
        let first = out.remove(0).publish().packet_id.unwrap();
        client.send(&Packet::PubAck(Ack::new(first, ReasonCode::Success)));
        out.push(client.receive());
        assert_eq!(usize::from(out[N - 1].publish().payload[0]), number);
        client.expect_nothing();
    }
}

/// `limits.receive_maximum`: N unfinished messages are taken, the next ends the connection with 0x93.
#[test]
fn receive_maximum() {
    let server = server_with("[limits]\nreceive_maximum = 5\n");
    let (mut client, answer) = RawClient::connect_with(&server, &connect_packet(V5, "receive"));
    assert_eq!(answer.conn_ack().properties.receive_maximum(), Some(5));
    for packet_id in 1..=5 {
        client.send_raw(&publish_bytes(0x34, b"t", Some(packet_id), &[]));
        assert_eq!(client.receive().pub_rec().packet_id.value(), packet_id);
    }
    client.fence();
    client.send_raw(&publish_bytes(0x34, b"t", Some(6), &[]));
    client.expect_refused(ReasonCode::ReceiveMaximumExceeded);
    let mut flood = RawClient::connect(&server, V5, "receive");
    let packets: Vec<u8> = (1..=10)
        .flat_map(|packet_id| publish_bytes(0x34, b"t", Some(packet_id), &[]))
        .collect();
    flood.send_raw(&packets);
    for packet_id in 1..=5 {
        assert_eq!(flood.receive().pub_rec().packet_id.value(), packet_id);
    }
    flood.expect_refused(ReasonCode::ReceiveMaximumExceeded);
    expect_metric(&server, "waypost_receive_maximum_exceeded_total", 2);
}

/// `limits.topic_alias_max`: alias N is good, N + 1 and 2N are 0x94.
#[test]
fn topic_alias_max() {
    let server = server_with("[limits]\ntopic_alias_max = 5\n");
    for (alias, refused) in [(5, false), (6, true), (10, true)] {
        let (mut client, answer) = RawClient::connect_with(&server, &connect_packet(V5, "alias"));
        assert_eq!(answer.conn_ack().properties.topic_alias_maximum(), Some(5));
        client.send_raw(&publish_bytes(0x30, b"t", None, &[0x23, 0, alias]));
        if refused {
            client.expect_refused(ReasonCode::TopicAliasInvalid);
        } else {
            client.fence();
        }
    }
}

/// `limits.topic_alias_out_max`: a client that takes 65,535 aliases is given N; further topics come in full.
#[test]
fn topic_alias_out_max() {
    const N: usize = 3;
    let server = server_with("[limits]\ntopic_alias_out_max = 3\n");
    let mut maximum = PropertyBuffer::new();
    maximum.push(Property::TopicAliasMaximum(65_535));
    let connect = waypost_mqtt::Connect {
        properties: maximum.as_properties(),
        ..connect_packet(V5, "out")
    };
    let (mut client, _) = RawClient::connect_with(&server, &connect);
    client.subscribe("out/+", QoS::AtMostOnce);
    let mut publisher = RawClient::connect(&server, V5, "pub");
    let mut aliases = HashSet::new();
    for number in (0..2 * N).chain(0..2 * N) {
        let topic = format!("out/{number}");
        publisher.publish(&topic, QoS::AtMostOnce, b"x");
        let received = client.receive();
        match received.publish().properties.topic_alias() {
            Some(alias) => {
                aliases.insert(alias);
            }
            None => assert_eq!(received.publish().topic, topic),
        }
    }
    assert_eq!(aliases.len(), N);
}

/// `limits.subscriptions_per_session_max`: the filter beyond it gets 0x97; replacing one does not count, removing one makes room.
#[test]
fn subscriptions_per_session_max() {
    let server = server_with("[limits]\nsubscriptions_per_session_max = 3\n");
    let mut client = RawClient::connect(&server, V5, "subs");
    let filters = ["f/0", "f/1", "f/2", "f/3", "f/4", "f/5", "f/0"];
    let requests = filters.map(|filter| (filter, 0));
    client.send_raw(&subscribe_bytes(V5, 1, &requests));
    let codes: Vec<u8> = client
        .receive()
        .sub_ack()
        .reasons
        .iter()
        .map(ReasonCode::as_u8)
        .collect();
    assert_eq!(codes, [0, 0, 0, 0x97, 0x97, 0x97, 0]);
    client.unsubscribe("f/1");
    client.subscribe("f/3", QoS::AtMostOnce);
    expect_metric(&server, "waypost_subscriptions", 3);
    expect_metric(&server, "waypost_subscriptions_exceeded_total", 3);
    RawClient::connect(&server, V5, "other").subscribe("f/9", QoS::AtMostOnce);
}

/// `limits.outbox_bytes_max` and `limits.burst_messages_max`: with tiny ones a long queue is sent piece by piece, all of it, in order.
#[test]
fn a_long_queue_in_small_pieces() {
    const COUNT: u32 = 2_000;
    let server = server_with("[limits]\noutbox_bytes_max = \"64KiB\"\nburst_messages_max = 7\n");
    let mut client = connect_staying(&server, "pieces");
    client.subscribe("p", QoS::AtLeastOnce);
    client.disconnect();
    let mut publisher = RawClient::connect(&server, V5, "pub");
    for number in 0..COUNT {
        let mut payload = vec![b'x'; 500];
        payload[..4].copy_from_slice(&number.to_be_bytes());
        publisher.publish("p", QoS::AtLeastOnce, &payload);
    }
    let mut client = connect_staying(&server, "pieces");
    for number in 0..COUNT {
        let received = client.receive_message();
        assert_eq!(received.publish().payload[..4], number.to_be_bytes());
    }
    client.expect_nothing();
}

/// `limits.retained_pending_max`: of the filters of a SUBSCRIBE, N get their retained messages; those beyond are left out and counted.
#[test]
fn retained_pending_max() {
    const N: usize = 5;
    let server = server_with("[limits]\nretained_pending_max = 5\n");
    let mut publisher = RawClient::connect(&server, V5, "pub");
    let topics: Vec<String> = (0..2 * N)
        .map(|number| format!("pending/{number}"))
        .collect();
    for topic in &topics {
        publisher.publish_retained(topic, QoS::AtLeastOnce, b"x");
    }
    let mut left_out = 0;
    for count in [N, N + 1, 2 * N] {
        let mut client = RawClient::connect(&server, V5, "pending");
        let requests: Vec<(&str, u8)> = topics[..count]
            .iter()
            .map(|topic| (topic.as_str(), 1))
            .collect();
        client.send_raw(&subscribe_bytes(V5, 1, &requests));
        assert_eq!(client.receive().sub_ack().reasons.len(), count);
        let found = client.drain();
        let found: Vec<&str> = found.iter().map(|packet| packet.publish().topic).collect();
        assert_eq!(found, topics[..N]);
        left_out += count - N;
        let name = "waypost_retained_pending_exceeded_total";
        expect_metric(&server, name, left_out as u64);
    }
}

/// A client's own Maximum Packet Size: an answer that cannot be made to fit is dropped and counted; the connection goes on.
#[test]
fn answers_too_large_for_a_client() {
    let server = Server::start();
    let mut maximum = PropertyBuffer::new();
    maximum.push(Property::MaximumPacketSize(20));
    let connect = waypost_mqtt::Connect {
        properties: maximum.as_properties(),
        ..connect_packet(V5, "tiny")
    };
    let mut client = RawClient::open(server.mqtt(), V5);
    client.send(&Packet::Connect(connect));
    assert_eq!(client.receive().conn_ack().reason, ReasonCode::Success);
    for (filters, dropped) in [(15, 0), (16, 1), (32, 2)] {
        client.send_raw(&subscribe_bytes(V5, 1, &vec![("t", 0); filters]));
        if dropped == 0 {
            assert_eq!(client.receive().bytes().len(), 20);
        }
        client.expect_nothing();
        expect_metric(&server, "waypost_packets_too_large_total", dropped);
    }
}

/// `limits.session_expiry_max`: the session of a client that asked for longer ends when the server said.
#[test]
fn session_expiry_max() {
    let server = server_with("[limits]\nsession_expiry_max = \"1s\"\n");
    let client = connect_staying(&server, "short");
    client.cut();
    expect_metric(&server, "waypost_sessions_expired_total", 1);
    expect_metric(&server, "waypost_sessions", 0);
}

/// `limits.keep_alive_max`: a client without keep alive is closed when it is silent for one and a half times the server's.
#[test]
fn keep_alive_max() {
    let server = server_with("[limits]\nkeep_alive_max = \"1s\"\n");
    let connect = waypost_mqtt::Connect {
        keep_alive: 0,
        ..connect_packet(V5, "silent")
    };
    let (mut client, _) = RawClient::connect_with(&server, &connect);
    client.expect_refused(ReasonCode::KeepAliveTimeout);
    expect_metric(&server, "waypost_keep_alive_timeouts_total", 1);
}

/// `limits.outboxes_bytes_max`: beyond it, for all clients together, a slow reader keeps little more than its sockets hold.
#[test]
fn outboxes_bytes_max() {
    let server = server_with("[limits]\noutboxes_bytes_max = \"1MiB\"\n");
    let mut slow: Vec<RawClient> = (0..4)
        .map(|number| {
            let mut client = RawClient::connect(&server, V5, &format!("slow-{number}"));
            client.subscribe("t", QoS::AtMostOnce);
            client
        })
        .collect();
    let mut quick = RawClient::connect(&server, V5, "quick");
    quick.subscribe("t", QoS::AtMostOnce);
    let mut publisher = RawClient::connect(&server, V5, "pub");
    let payload = vec![b'x'; 64 * 1024];
    for _ in 0..160 {
        publisher.publish_with(&Publish {
            topic: "t",
            payload: &payload,
            ..empty_publish()
        });
        quick.receive();
    }
    let waiting = metric(&server, "waypost_outbox_bytes");
    assert!(waiting < 2 * 1024 * 1024, "{waiting}");
    assert!(metric(&server, "waypost_dropped_qos0_outbox_total") > 0);
    for client in &mut slow {
        client.send(&Packet::PingReq);
        while !matches!(
            client.receive_within(LIMIT).unwrap().packet(),
            Packet::PingResp
        ) {}
    }
}
