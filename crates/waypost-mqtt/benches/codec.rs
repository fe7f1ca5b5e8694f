//! Nanoseconds of CPU per packet: `cargo bench -p waypost-mqtt`.

#![allow(missing_docs)]

use std::hint::black_box;
use std::sync::LazyLock;
use std::time::Instant;

use waypost_mqtt::{
    Packet, Property, PropertyBuffer, ProtocolVersion, Publish, PublishHead, QoS, Role, decode,
    decode_header, encode, encode_publish_head,
};

const ROUNDS: usize = 15;
const PACKETS: u32 = 2_000_000;
const TOPIC: &str = "rooms/17/members/4711/chat";
const PAYLOAD: [u8; 64] = [b'x'; 64];

fn main() {
    for version in [ProtocolVersion::V311, ProtocolVersion::V5] {
        decoding(
            &format!("{version:?} decode 64 B PUBLISH"),
            version,
            &publish(version, TOPIC, &PropertyBuffer::new()),
        );
        encoding(version);
    }
    let mut properties = PropertyBuffer::new();
    properties
        .push(Property::MessageExpiryInterval(60))
        .push(Property::ContentType("application/json"))
        .push(Property::UserProperty("trace", "0123456789abcdef"));
    let packet = publish(ProtocolVersion::V5, TOPIC, &properties);
    decoding(
        "V5 decode 64 B PUBLISH, three properties",
        ProtocolVersion::V5,
        &packet,
    );
    let packet = publish(
        ProtocolVersion::V311,
        "räume/17/mitglieder/4711/gespräch",
        &PropertyBuffer::new(),
    );
    decoding(
        "V311 decode 64 B PUBLISH, topic beyond ASCII",
        ProtocolVersion::V311,
        &packet,
    );
    decoding("V311 decode PINGREQ", ProtocolVersion::V311, &[0xC0, 0]);
    decoding(
        "V311 decode PUBACK",
        ProtocolVersion::V311,
        &[0x40, 2, 0, 1],
    );
}

fn publish(version: ProtocolVersion, topic: &str, properties: &PropertyBuffer) -> Vec<u8> {
    let mut out = Vec::new();
    let publish = Publish {
        dup: false,
        qos: QoS::AtMostOnce,
        retain: false,
        topic,
        packet_id: None,
        properties: properties.as_properties(),
        payload: &PAYLOAD,
    };
    encode(&Packet::Publish(publish), version, &mut out);
    out
}

fn decoding(name: &str, version: ProtocolVersion, packet: &[u8]) {
    // As a shard does it: a buffer of many packets, each found by its header.
    let stream = packet.repeat(64);
    measure(name, || {
        let mut rest = black_box(stream.as_slice());
        while let Ok(Some(header)) = decode_header(rest) {
            let Some((packet, after)) = rest.split_at_checked(header.total_len()) else {
                break;
            };
            let _ = black_box(decode(packet, version, Role::Client));
            rest = after;
        }
        64
    });
}

fn encoding(version: ProtocolVersion) {
    let mut out = Vec::with_capacity(1 << 16);
    measure(
        &format!("{version:?} encode 64 B PUBLISH head and payload"),
        || {
            out.clear();
            for packet_id in 0..64 {
                let head = PublishHead {
                    version,
                    dup: false,
                    qos: QoS::AtLeastOnce,
                    retain: false,
                    topic: black_box(TOPIC),
                    packet_id,
                    topic_alias: None,
                    message_expiry_interval: None,
                    subscription_identifiers: &[],
                    properties: &[],
                    payload_len: PAYLOAD.len(),
                };
                encode_publish_head(&head, &mut out);
                out.extend_from_slice(black_box(&PAYLOAD));
            }
            black_box(&mut out);
            64
        },
    );
}

/// Nanoseconds this thread has run. Where the kernel does not say, those that have passed.
fn cpu_ns() -> f64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    let since_start = || START.elapsed().as_secs_f64() * 1e9;
    std::fs::read_to_string("/proc/thread-self/schedstat")
        .ok()
        .and_then(|line| line.split(' ').next()?.parse().ok())
        .unwrap_or_else(since_start)
}

/// Prints the best and the median of the rounds; other load on the machine only slows them.
fn measure(name: &str, mut work: impl FnMut() -> u32) {
    let mut rounds: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let start = cpu_ns();
            let mut packets = 0;
            while packets < PACKETS {
                packets += work();
            }
            (cpu_ns() - start) / f64::from(packets)
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    let best = rounds.first().copied().unwrap_or_default();
    let median = rounds.get(ROUNDS / 2).copied().unwrap_or_default();
    println!("{best:7.1} ns (median {median:7.1})  {name}");
}
