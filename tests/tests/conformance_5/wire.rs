//! What the chapters share: one server, packets byte by byte, the two ways of being refused, and the server's clock.

use std::sync::{
    Arc, Mutex, PoisonError, Weak,
    atomic::{AtomicU32, Ordering},
};

use waypost_mqtt::{
    Ack, Connect, Packet, Properties, Property, PropertyBuffer, ProtocolVersion::V5, QoS,
    ReasonCode, Topic, Will,
};
pub use waypost_tests::bytes::{
    CLEAN, WITH_WILL, connect_bytes, connect_will_bytes, identified_bytes, listed, publish_bytes,
    request, subscribe_with_bytes, text,
};
use waypost_tests::{RawClient, Received, Server, connect_packet};

/// The server of all tests that need no settings of their own; it ends with the last of them.
pub fn server() -> Arc<Server> {
    static RUNNING: Mutex<Weak<Server>> = Mutex::new(Weak::new());
    let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    running.upgrade().unwrap_or_else(|| {
        let server = Arc::new(Server::start());
        *running = Arc::downgrade(&server);
        server
    })
}

/// A name that no other test has.
pub fn unique(name: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("{name}-{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Properties in this order.
pub fn properties<const N: usize>(list: [Property<'_>; N]) -> PropertyBuffer {
    let mut buffer = PropertyBuffer::new();
    for property in list {
        buffer.push(property);
    }
    buffer
}

/// A CONNECT with Clean Start 0 or 1 and a Session Expiry Interval; the client and Session Present.
#[track_caller]
pub fn connect_session(
    server: &Server,
    client_id: &str,
    clean_start: bool,
    expiry_s: u32,
) -> (RawClient, bool) {
    let properties = properties([Property::SessionExpiryInterval(expiry_s)]);
    let (client, answer) = RawClient::connect_with(
        server,
        &Connect {
            clean_start,
            properties: properties.as_properties(),
            ..connect_packet(V5, client_id)
        },
    );
    let session_present = answer.conn_ack().session_present;
    (client, session_present)
}

/// A connection whose CONNECT has these properties; the client and its CONNACK.
#[track_caller]
pub fn connect_properties<const N: usize>(
    server: &Server,
    client_id: &str,
    list: [Property<'_>; N],
) -> (RawClient, Received) {
    RawClient::connect_with(
        server,
        &Connect {
            properties: properties(list).as_properties(),
            ..connect_packet(V5, client_id)
        },
    )
}

/// A Will to struct-update: QoS 0, not retained, no properties.
pub fn will<'a>(topic: &'a str, payload: &'a [u8]) -> Will<'a> {
    Will {
        topic: Topic::parse(topic).expect("a valid topic"),
        payload,
        qos: QoS::AtMostOnce,
        retain: false,
        properties: Properties::EMPTY,
    }
}

/// Returns when that much time has passed for the server: when a Will Delay of `seconds` has run out.
#[track_caller]
pub fn pass_seconds(server: &Server, seconds: u32) {
    let topic = unique("clock");
    let mut witness = RawClient::connect(server, V5, &unique("witness"));
    witness.subscribe(&topic, QoS::AtMostOnce);
    let delay = properties([Property::WillDelayInterval(seconds)]);
    let stays = properties([Property::SessionExpiryInterval(seconds + 60)]);
    let (clock, _) = RawClient::connect_with(
        server,
        &Connect {
            properties: stays.as_properties(),
            will: Some(Will {
                properties: delay.as_properties(),
                ..will(&topic, b"passed")
            }),
            ..connect_packet(V5, &unique("clock"))
        },
    );
    clock.cut();
    assert_eq!(witness.receive().publish().payload, b"passed");
}

/// Takes `count` messages and completes their exchanges, however their packets are mixed.
#[track_caller]
pub fn take_messages(client: &mut RawClient, count: usize) -> Vec<Received> {
    let mut messages = Vec::new();
    let mut unreleased = 0;
    while messages.len() < count || unreleased > 0 {
        let received = client.receive();
        let publish = match received.packet() {
            Packet::PubRel(ack) => {
                unreleased -= 1;
                client.send(&Packet::PubComp(Ack::new(
                    ack.packet_id,
                    ReasonCode::Success,
                )));
                continue;
            }
            _ => received.publish(),
        };
        if let Some(packet_id) = publish.packet_id {
            let ack = Ack::new(packet_id, ReasonCode::Success);
            if publish.qos == QoS::AtLeastOnce {
                client.send(&Packet::PubAck(ack));
            } else {
                unreleased += 1;
                client.send(&Packet::PubRec(ack));
            }
        }
        messages.push(received);
    }
    messages
}

/// A breach: its name, the bytes, the expected Reason Code.
pub type Breach = (&'static str, Vec<u8>, ReasonCode);

/// Each of these CONNECTs is refused with its reason: a CONNACK with Session Present 0, then the connection closes.
#[track_caller]
pub fn check_refused_connects(breaches: impl IntoIterator<Item = Breach>) {
    let server = server();
    for (name, bytes, reason) in breaches {
        eprintln!("CONNECT: {name}");
        let mut client = RawClient::open(server.mqtt(), V5);
        client.send_raw(&bytes);
        let answer = client.receive();
        assert_eq!(answer.conn_ack().reason, reason, "{name}");
        assert!(!answer.conn_ack().session_present, "{name}");
        client.expect_closed();
    }
}

/// Each of these, sent by a connected client, ends its connection with its reason, and nobody else's.
#[track_caller]
pub fn check_disconnected(breaches: impl IntoIterator<Item = Breach>) {
    let server = server();
    let mut other = RawClient::connect(&server, V5, &unique("other"));
    for (name, bytes, reason) in breaches {
        eprintln!("breach: {name}");
        let mut client = RawClient::connect(&server, V5, &unique("breach"));
        client.send_raw(&bytes);
        let answer = client.receive();
        assert_eq!(answer.disconnect().reason, reason, "{name}");
        client.expect_closed();
    }
    other.fence();
}
