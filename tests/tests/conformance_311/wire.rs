//! What the chapters share: one server, packets byte by byte, and the two ways of being refused.

use std::{
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use waypost_mqtt::{
    Ack, Connect, Packet, PacketId, Properties, ProtocolVersion::V311, QoS, ReasonCode, Topic, Will,
};
use waypost_tests::{
    LIMIT, RawClient, Received, Server, ServerOptions, connect_packet, with_fixed_header,
};

/// The server of all tests that need no settings of their own; it ends with the last of them.
pub fn server() -> Arc<Server> {
    static RUNNING: Mutex<Weak<Server>> = Mutex::new(Weak::new());
    let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    running.upgrade().unwrap_or_else(|| {
        let server = Arc::new(
            ServerOptions::new()
                .environment("WAYPOST_LIMITS__CONNECT_TIMEOUT", "5m")
                .start(),
        );
        *running = Arc::downgrade(&server);
        server
    })
}

/// A name that no other test has.
pub fn unique(name: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("{name}-{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

/// A CONNECT with `CleanSession` 0 or 1; the client and Session Present.
#[track_caller]
pub fn connect_session(server: &Server, client_id: &str, clean: bool) -> (RawClient, bool) {
    let connect = Connect {
        clean_start: clean,
        ..connect_packet(V311, client_id)
    };
    let (client, answer) = RawClient::connect_with(server, &connect);
    let session_present = answer.conn_ack().session_present;
    (client, session_present)
}

/// A Will to struct-update: QoS 0, not retained.
pub fn will<'a>(topic: &'a str, payload: &'a [u8]) -> Will<'a> {
    Will {
        topic: Topic::parse(topic).expect("a valid topic"),
        payload,
        qos: QoS::AtMostOnce,
        retain: false,
        properties: Properties::EMPTY,
    }
}

/// Publishes at QoS 1 from a client of its own; the server has taken it over when this returns.
pub fn publish_from_elsewhere(server: &Server, topic: &str, payload: &[u8]) {
    let mut publisher = RawClient::connect(server, V311, &unique("elsewhere"));
    publisher.publish(topic, QoS::AtLeastOnce, payload);
}

pub fn id(packet_id: u16) -> PacketId {
    PacketId::new(packet_id).expect("not 0")
}

/// The Packet Identifier of a PUBLISH at QoS 1 or 2.
#[track_caller]
pub fn id_of(received: &Received) -> PacketId {
    received
        .publish()
        .packet_id
        .expect("a PUBLISH at QoS 1 or 2")
}

/// PUBACK, PUBREC, PUBREL or PUBCOMP of 3.1.1.
pub fn ack(packet_id: PacketId) -> Ack<'static> {
    Ack::new(packet_id, ReasonCode::Success)
}

/// Takes `count` messages and completes their exchanges, however their packets are mixed.
#[track_caller]
pub fn take_messages(client: &mut RawClient, count: usize) -> Vec<Received> {
    let mut messages = Vec::new();
    let mut unreleased = 0;
    while messages.len() < count || unreleased > 0 {
        let received = client.receive();
        let publish = match received.packet() {
            Packet::PubRel(release) => {
                unreleased -= 1;
                client.send(&Packet::PubComp(ack(release.packet_id)));
                continue;
            }
            _ => received.publish(),
        };
        match (publish.qos, publish.packet_id) {
            (QoS::AtLeastOnce, Some(packet_id)) => client.send(&Packet::PubAck(ack(packet_id))),
            (QoS::ExactlyOnce, Some(packet_id)) => {
                unreleased += 1;
                client.send(&Packet::PubRec(ack(packet_id)));
            }
            _ => {}
        }
        messages.push(received);
    }
    messages
}

/// A string or binary data, well formed or not, with its length before it.
pub fn text(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let bytes = bytes.as_ref();
    let length = u16::try_from(bytes.len()).expect("at most 65,535 bytes");
    [&length.to_be_bytes(), bytes].concat()
}

/// Connect Flags: `CleanSession`, and with a Will.
pub const CLEAN: u8 = 0x02;
pub const WITH_WILL: u8 = 0x06;

/// A CONNECT of version 3.1.1 with Keep Alive 60, its flags and payload fields as given.
pub fn connect_bytes(flags: u8, fields: &[Vec<u8>]) -> Vec<u8> {
    connect_as_bytes("MQTT", 4, flags, fields)
}

/// A CONNECT with any Protocol Name and Level.
pub fn connect_as_bytes(name: &str, level: u8, flags: u8, fields: &[Vec<u8>]) -> Vec<u8> {
    let mut body = text(name);
    body.extend([level, flags, 0, 60]);
    body.extend(fields.concat());
    with_fixed_header(0x10, &body)
}

/// A PUBLISH with this first byte, its topic as given, and the payload `x`.
pub fn publish_bytes(first_byte: u8, topic: impl AsRef<[u8]>, packet_id: Option<u16>) -> Vec<u8> {
    let mut body = text(topic);
    body.extend(packet_id.into_iter().flat_map(u16::to_be_bytes));
    body.push(b'x');
    with_fixed_header(first_byte, &body)
}

/// A packet that begins with a Packet Identifier: acknowledgements, SUBSCRIBE, UNSUBSCRIBE.
pub fn identified_bytes(first_byte: u8, packet_id: u16, rest: &[u8]) -> Vec<u8> {
    with_fixed_header(first_byte, &[&packet_id.to_be_bytes(), rest].concat())
}

/// A SUBSCRIBE with one filter and its requested QoS, both as given.
pub fn subscribe_to_bytes(filter: impl AsRef<[u8]>, qos: u8) -> Vec<u8> {
    identified_bytes(0x82, 1, &[text(filter), vec![qos]].concat())
}

/// An UNSUBSCRIBE with one filter, well formed or not.
pub fn unsubscribe_from_bytes(filter: impl AsRef<[u8]>) -> Vec<u8> {
    identified_bytes(0xA2, 1, &text(filter))
}

/// Before the server's `connect_timeout`, which closes what is not connected for another reason.
const SOON: Duration = LIMIT;

/// The server closes this connection, which never had a good CONNECT, for what it sent.
#[track_caller]
pub fn expect_closed_soon(client: &mut RawClient) {
    let received = client.receive_within(SOON);
    assert!(received.is_none(), "expected the end, got {received:?}");
}

/// What a refused CONNECT gets before the connection closes.
#[derive(Clone, Copy, Debug)]
pub enum Answer {
    /// Nothing.
    Silence,
    /// A CONNACK with Session Present 0 and this return code.
    ReturnCode(u8),
}

/// Each of these CONNECTs is refused, of itself and with a PUBLISH behind it, which reaches nobody.
#[track_caller]
pub fn check_refused_connects<N: AsRef<str>>(
    answer: Answer,
    breaches: impl IntoIterator<Item = (N, Vec<u8>)>,
) {
    let server = server();
    let topic = unique("refused");
    let mut witness = RawClient::connect(&server, V311, &unique("witness"));
    witness.subscribe(&topic, QoS::AtMostOnce);
    let publish = publish_bytes(0x30, &topic, None);
    for (name, bytes) in breaches {
        let name = name.as_ref();
        eprintln!("CONNECT: {name}");
        for behind in [&[][..], &publish] {
            let mut client = RawClient::open(server.mqtt(), V311);
            client.send_raw(&[&bytes[..], behind].concat());
            if let Answer::ReturnCode(code) = answer {
                assert_eq!(client.receive().bytes(), [0x20, 2, 0, code], "{name}");
            }
            expect_closed_soon(&mut client);
        }
    }
    witness.expect_nothing();
}

/// Each of these, sent by a connected client, closes its connection without a word, and nobody else's; neither it
/// nor a PUBLISH behind it has an effect.
#[track_caller]
pub fn check_closed<N: AsRef<str>>(breaches: impl IntoIterator<Item = (N, Vec<u8>)>) {
    let server = server();
    let mut witness = RawClient::connect(&server, V311, &unique("witness"));
    let topic = unique("behind");
    witness.subscribe("breach/#", QoS::AtMostOnce);
    witness.subscribe(&topic, QoS::AtMostOnce);
    for (name, bytes) in breaches {
        eprintln!("breach: {}", name.as_ref());
        let mut client = RawClient::connect(&server, V311, &unique("breach"));
        client.send_raw(&[bytes, publish_bytes(0x30, &topic, None)].concat());
        client.expect_closed();
    }
    witness.expect_nothing();
}
