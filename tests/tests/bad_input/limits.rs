//! Limits of the whole server and of messages: at N all is well, at N + 1 the stated thing happens, at 2N no more than that.

use waypost_mqtt::{
    Packet, Property, PropertyBuffer, ProtocolVersion::V5, ProtocolVersion::V311, Publish, QoS,
    ReasonCode,
};
use waypost_tests::{
    LIMIT, RawClient, Server, ServerOptions,
    bytes::{CLEAN, connect_bytes, publish_bytes, text},
    connect_packet, empty_publish, subscribe_bytes, wait_for, with_fixed_header,
};

use crate::neighbours::{expect_metric, metric};

/// A server with one line of settings, and of one shard: most limits are a shard's.
pub fn server_with(settings: &str) -> Server {
    ServerOptions::new()
        .shards(1)
        .configuration(settings)
        .start()
}

/// A connection with a session that stays.
pub fn connect_staying(server: &Server, client_id: &str) -> RawClient {
    let mut stays = PropertyBuffer::new();
    stays.push(Property::SessionExpiryInterval(600));
    let connect = waypost_mqtt::Connect {
        clean_start: false,
        properties: stays.as_properties(),
        ..connect_packet(V5, client_id)
    };
    RawClient::connect_with(server, &connect).0
}

/// `limits.connections_max`: the connection beyond it is closed at once and counted; one that ends makes room.
#[test]
fn connections_max() {
    const N: usize = 5;
    let server = server_with("[limits]\nconnections_max = 5\n");
    let mut clients: Vec<RawClient> = (0..N)
        .map(|number| RawClient::connect(&server, V5, &format!("c{number}")))
        .collect();
    for refused in 1..=N {
        let mut client = RawClient::open(server.mqtt(), V5);
        client.expect_closed();
        expect_metric(&server, "waypost_accepts_refused_total", refused as u64);
    }
    for client in &mut clients {
        client.fence();
    }
    clients.remove(0).disconnect();
    wait_for("room for one more", LIMIT, || {
        let mut client = RawClient::open(server.mqtt(), V5);
        client.send_raw(&connect_bytes(CLEAN, &[], &[text("more")]));
        client.receive_within(LIMIT)
    });
}

/// `limits.sessions_max`: a CONNECT that needs one more session gets 0x97, in 3.1.1 0x03; who has a session comes back to it.
#[test]
fn sessions_max() {
    const N: usize = 4;
    let server = server_with("[limits]\nsessions_max = 4\n");
    for number in 0..N {
        connect_staying(&server, &format!("s{number}")).disconnect();
    }
    for refused in 1..=N {
        let mut client = RawClient::open(server.mqtt(), V5);
        client.send_raw(&connect_bytes(CLEAN, &[], &[text(format!("t{refused}"))]));
        assert_eq!(
            client.receive().conn_ack().reason,
            ReasonCode::QuotaExceeded
        );
        client.expect_closed();
    }
    let mut old = RawClient::open(server.mqtt(), V311);
    old.send(&Packet::Connect(connect_packet(V311, "old")));
    assert_eq!(
        old.receive().conn_ack().reason,
        ReasonCode::ServerUnavailable
    );
    expect_metric(&server, "waypost_sessions_refused_total", N as u64 + 1);
    connect_staying(&server, "s0").fence();
    RawClient::connect(&server, V5, "s1").disconnect();
    RawClient::connect(&server, V5, "room for one").fence();
}

/// `limits.retained_messages_max`: at the bound a new topic is delivered and not retained, a known one is replaced; removal makes room.
#[test]
fn retained_messages_max() {
    const N: usize = 10;
    // The server's own, which the bound does not count: the alarms of the store and of the clock.
    const OWN: u64 = 2;
    let server =
        server_with("[limits]\nretained_messages_max = 10\n[server]\nsys_interval = \"0s\"\n");
    let mut live = RawClient::connect(&server, V5, "live");
    live.subscribe("r/+", QoS::AtMostOnce);
    let mut publisher = RawClient::connect(&server, V5, "pub");
    for number in 0..2 * N {
        publisher.publish_retained(&format!("r/{number}"), QoS::AtLeastOnce, b"1");
        assert_eq!(live.receive().publish().topic, format!("r/{number}"));
        expect_metric(
            &server,
            "waypost_retained_messages",
            OWN + N.min(number + 1) as u64,
        );
    }
    expect_metric(&server, "waypost_retained_refused_total", N as u64);
    publisher.publish_retained("r/0", QoS::AtLeastOnce, b"2");
    publisher.publish_retained("r/1", QoS::AtLeastOnce, b"");
    publisher.publish_retained("r/new", QoS::AtLeastOnce, b"2");
    let mut late = RawClient::connect(&server, V5, "late");
    late.subscribe("r/+", QoS::AtMostOnce);
    let mut found: Vec<_> = late
        .drain()
        .iter()
        .map(|packet| {
            (
                packet.publish().topic.to_owned(),
                packet.publish().payload.to_vec(),
            )
        })
        .collect();
    found.sort();
    let mut expect: Vec<_> = (2..N)
        .map(|number| (format!("r/{number}"), b"1".to_vec()))
        .collect();
    expect.insert(0, ("r/0".to_owned(), b"2".to_vec()));
    expect.push(("r/new".to_owned(), b"2".to_vec()));
    assert_eq!(found, expect);
}

/// `limits.retained_bytes_max`: the same by topics and payloads.
#[test]
fn retained_bytes_max() {
    let server =
        server_with("[limits]\nretained_bytes_max = \"10KiB\"\n[server]\nsys_interval = \"0s\"\n");
    let mut publisher = RawClient::connect(&server, V5, "pub");
    for number in 0..20 {
        publisher.publish_retained(&format!("r/{number:02}"), QoS::AtLeastOnce, &[b'x'; 1_000]);
    }
    let mut late = RawClient::connect(&server, V5, "late");
    late.subscribe("r/+", QoS::AtMostOnce);
    let mut topics: Vec<_> = late
        .drain()
        .iter()
        .map(|packet| packet.publish().topic.to_owned())
        .collect();
    topics.sort();
    let kept: Vec<_> = (0..topics.len())
        .map(|number| format!("r/{number:02}"))
        .collect();
    assert_eq!(topics, kept);
    assert!((8..=10).contains(&topics.len()), "{}", topics.len());
    expect_metric(
        &server,
        "waypost_retained_refused_total",
        20 - topics.len() as u64,
    );
}

/// `limits.packet_bytes_max`: N is taken, N + 1 and 2N are 0x95.
#[test]
fn packet_bytes_max() {
    let server = server_with("[limits]\npacket_bytes_max = \"10KiB\"\n");
    let mut publisher = RawClient::connect(&server, V5, "pub");
    let publish = |length: usize| {
        let header = if length > 16_387 { 4 } else { 3 };
        let body = [text("t"), vec![0], vec![b'x'; length - header - 4]].concat();
        let bytes = with_fixed_header(0x30, &body);
        assert_eq!(bytes.len(), length);
        bytes
    };
    publisher.send_raw(&publish(10_240));
    publisher.fence();
    for length in [10_241, 20_480] {
        let mut publisher = RawClient::connect(&server, V5, "beyond");
        publisher.send_raw(&publish(length));
        publisher.expect_refused(ReasonCode::PacketTooLarge);
    }
    let mut connect = RawClient::open(server.mqtt(), V5);
    connect.send_raw(&connect_bytes(CLEAN, &[], &[text("i".repeat(10_241))]));
    while connect.receive_within(LIMIT).is_some() {}
    publisher.fence();
}

/// `limits.receive_bytes_max`: whoever begins a large packet when the memory for such packets is full is refused; the others' arrive.
#[test]
fn receive_bytes_max() {
    const LENGTH: usize = 600_000;
    let server = server_with("[limits]\nreceive_bytes_max = \"1MiB\"\n");
    let mut large = Vec::new();
    let payload = vec![b'x'; LENGTH];
    let publish = Publish {
        topic: "t",
        payload: &payload,
        ..empty_publish()
    };
    waypost_mqtt::encode(&Packet::Publish(publish), V5, &mut large);
    let mut subscriber = RawClient::connect(&server, V5, "sub");
    subscriber.subscribe("t", QoS::AtMostOnce);
    let mut first = RawClient::connect(&server, V5, "first");
    first.send_raw(&large[..LENGTH / 2]);
    wait_for("the first packet to be under way", LIMIT, || {
        (metric(&server, "waypost_bytes_received_total") > LENGTH as u64 / 2).then_some(())
    });
    for number in 1..=2 {
        let mut beyond = RawClient::connect(&server, V5, &format!("beyond-{number}"));
        beyond.send_raw(&large[..LENGTH / 2]);
        beyond.expect_refused(ReasonCode::QuotaExceeded);
        expect_metric(&server, "waypost_receive_bytes_exceeded_total", number);
    }
    for part in [&large[LENGTH / 2..], &large[..]] {
        first.send_raw(part);
        assert_eq!(subscriber.receive().publish().payload.len(), LENGTH);
    }
}

/// `limits.user_properties_max`, for each of N, N + 1 and 2N.
#[test]
fn user_properties_max() {
    let server = server_with("[limits]\nuser_properties_max = 10\n");
    let mut client = RawClient::connect(&server, V5, "props");
    client.subscribe("t", QoS::AtMostOnce);
    for (count, reason) in [
        (10, ReasonCode::Success),
        (11, ReasonCode::QuotaExceeded),
        (20, ReasonCode::QuotaExceeded),
    ] {
        let mut buffer = PropertyBuffer::new();
        for _ in 0..count {
            buffer.push(Property::UserProperty("", ""));
        }
        client.send_raw(&publish_bytes(0x32, b"t", Some(1), buffer.as_bytes()));
        if reason == ReasonCode::Success {
            assert_eq!(
                client
                    .receive()
                    .publish()
                    .properties
                    .user_properties()
                    .count(),
                count
            );
        }
        assert_eq!(client.receive().pub_ack().reason, reason, "{count}");
    }
    expect_metric(&server, "waypost_user_properties_exceeded_total", 2);
}

/// `limits.topic_levels_max`: topics and filters of N levels are good, of N + 1 and 2N not.
#[test]
fn topic_levels_max() {
    let server = server_with("[limits]\ntopic_levels_max = 5\n");
    let mut client = RawClient::connect(&server, V5, "levels");
    for (levels, refused) in [(5, false), (6, true), (10, true)] {
        let topic = vec!["l"; levels].join("/");
        client.send_raw(&subscribe_bytes(V5, 1, &[(&topic, 0)]));
        let expect = if refused {
            ReasonCode::TopicFilterInvalid
        } else {
            ReasonCode::Success
        };
        assert!(
            client.receive().sub_ack().reasons.iter().eq([expect]),
            "{levels}"
        );
        client.send_raw(&publish_bytes(0x32, topic.as_bytes(), Some(1), &[]));
        if !refused {
            assert_eq!(client.receive().publish().topic, topic);
        }
        let expect = if refused {
            ReasonCode::TopicNameInvalid
        } else {
            ReasonCode::Success
        };
        assert_eq!(client.receive().pub_ack().reason, expect, "{levels}");
    }
    expect_metric(&server, "waypost_topic_levels_exceeded_total", 4);
}

/// `limits.client_id_bytes_max`, for each of N, N + 1 and 2N, in both versions.
#[test]
fn client_id_bytes_max() {
    let server = server_with("[limits]\nclient_id_bytes_max = \"30B\"\n");
    for (length, refused) in [(30, false), (31, true), (60, true)] {
        let client_id = "i".repeat(length);
        for version in [V5, V311] {
            let mut client = RawClient::open(server.mqtt(), version);
            client.send(&Packet::Connect(connect_packet(version, &client_id)));
            let reason = client.receive().conn_ack().reason;
            let expect = if refused {
                ReasonCode::ClientIdentifierNotValid
            } else {
                ReasonCode::Success
            };
            assert_eq!(reason, expect, "{length}");
        }
    }
}

/// `limits.match_cache_entries_max`: with a tiny cache every message still finds its subscribers.
#[test]
fn match_cache_entries_max() {
    const N: usize = 3;
    let server = server_with("[limits]\nmatch_cache_entries_max = 3\n");
    let mut client = RawClient::connect(&server, V5, "cache");
    client.subscribe("cache/+", QoS::AtMostOnce);
    let mut publisher = RawClient::connect(&server, V5, "pub");
    for number in (0..N).chain(0..=N).chain(0..2 * N).chain(0..2 * N) {
        let topic = format!("cache/{number}");
        publisher.publish(&topic, QoS::AtMostOnce, b"x");
        assert_eq!(client.receive().publish().topic, topic);
    }
    client.unsubscribe("cache/+");
    publisher.publish("cache/0", QoS::AtMostOnce, b"x");
    client.expect_nothing();
}
