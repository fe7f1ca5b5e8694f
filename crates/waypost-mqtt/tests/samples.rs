//! Every sample is decoded and written back to the same bytes; every sample is cut and corrupted in
//! every place, and nothing panics or passes for what it is not.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod notation;

use notation::{SAMPLES, bytes};
use waypost_mqtt::{Packet, PacketType, ProtocolVersion, Role, decode, decode_header, encode};

fn write(packet: &Packet<'_>, version: ProtocolVersion) -> Vec<u8> {
    let mut out = Vec::new();
    encode(packet, version, &mut out);
    out
}

/// Whatever is decoded can be written, and what was written says the same.
fn check_if_decoded(packet: &[u8], version: ProtocolVersion, sender: Role) {
    if let Ok(decoded) = decode(packet, version, sender) {
        let version = match &decoded {
            Packet::Connect(connect) => connect.version,
            _ => version,
        };
        let written = write(&decoded, version);
        let again = decode(&written, version, sender);
        assert_eq!(
            again.as_ref(),
            Ok(&decoded),
            "{packet:02X?} became {written:02X?}"
        );
    }
}

#[test]
fn each_sample_is_written_back_byte_for_byte() {
    for sample in SAMPLES {
        let packet = bytes(sample.text);
        let decoded = decode(&packet, sample.version, sample.sender)
            .unwrap_or_else(|error| panic!("{}: {error}", sample.name));
        assert_eq!(write(&decoded, sample.version), packet, "{}", sample.name);
    }
}

#[test]
fn the_samples_have_every_packet_of_every_version_from_either_side() {
    let is_there = |packet, version, sender| {
        SAMPLES.iter().any(|sample| {
            let first_byte = bytes(sample.text)[0];
            (sample.version, sample.sender) == (version, sender)
                && PacketType::from_first_byte(first_byte) == Some(packet)
        })
    };
    for version in [ProtocolVersion::V311, ProtocolVersion::V5] {
        for first_byte in (0x10..=0xE0).step_by(16) {
            let packet = PacketType::from_first_byte(first_byte).unwrap();
            assert!(
                is_there(packet, version, Role::Client) || is_there(packet, version, Role::Server),
                "{packet:?} of {version:?}"
            );
        }
    }
    assert!(is_there(
        PacketType::Auth,
        ProtocolVersion::V5,
        Role::Client
    ));
    assert!(is_there(
        PacketType::Auth,
        ProtocolVersion::V5,
        Role::Server
    ));
}

#[test]
fn no_truncation_passes_for_a_packet() {
    for sample in SAMPLES {
        let packet = bytes(sample.text);
        for end in 0..packet.len() {
            let cut = &packet[..end];
            assert!(
                decode(cut, sample.version, sample.sender).is_err(),
                "{} {end}",
                sample.name
            );
            let needs_more = match decode_header(cut).unwrap() {
                Some(header) => header.total_len() > end,
                None => true,
            };
            assert!(needs_more, "{} cut at {end}", sample.name);
        }
    }
}

/// Goal: what says it is whole and lacks its end is refused, or was a packet without that end.
/// Method: cut each sample and make its Remaining Length fit; what is decoded must be written back
/// to exactly those bytes, or to fewer where a 0x00 or an empty list could be left out.
#[test]
fn no_truncation_with_a_length_that_fits_loses_a_field() {
    for sample in SAMPLES {
        let packet = bytes(sample.text);
        let header = decode_header(&packet).unwrap().unwrap();
        for end in header.header_len..packet.len() {
            let mut cut = vec![packet[0]];
            let mut len = end - header.header_len;
            while len >= 0x80 {
                cut.push(u8::try_from(len & 0x7F).unwrap() | 0x80);
                len >>= 7;
            }
            cut.push(u8::try_from(len).unwrap());
            cut.extend(&packet[header.header_len..end]);
            if let Ok(decoded) = decode(&cut, sample.version, sample.sender) {
                let written = write(&decoded, sample.version);
                let is_prefix = cut[2..].starts_with(written.get(2..).unwrap_or_default());
                let is_same = written == cut || (written.len() < cut.len() && is_prefix);
                // 3.1 §3.1: a User Name or Password may be missing though its flag is set.
                let is_v31_connect = sample.version == ProtocolVersion::V31 && packet[0] == 0x10;
                assert!(
                    is_same || is_v31_connect,
                    "{} cut at {end}: {decoded:?}",
                    sample.name
                );
            }
        }
    }
}

#[test]
fn no_corruption_of_one_byte_panics_or_changes_on_its_way() {
    for sample in SAMPLES {
        let mut packet = bytes(sample.text);
        for index in 0..packet.len() {
            let original = packet[index];
            for value in 0..=u8::MAX {
                packet[index] = value;
                let _ = decode_header(&packet);
                check_if_decoded(&packet, sample.version, sample.sender);
            }
            packet[index] = original;
        }
    }
}

#[test]
fn no_sample_panics_in_another_version_or_from_the_other_side() {
    for sample in SAMPLES {
        let packet = bytes(sample.text);
        for version in [
            ProtocolVersion::V31,
            ProtocolVersion::V311,
            ProtocolVersion::V5,
        ] {
            for sender in [Role::Client, Role::Server] {
                check_if_decoded(&packet, version, sender);
            }
        }
    }
}

#[test]
fn a_connect_states_its_own_version() {
    let packet = bytes(r#"10 @ "MQTT" 05 02 003C { } "c""#);
    let Ok(Packet::Connect(connect)) = decode(&packet, ProtocolVersion::V31, Role::Client) else {
        panic!("refused");
    };
    assert_eq!(connect.version, ProtocolVersion::V5);
}

#[test]
fn a_byte_order_mark_is_kept() {
    // 3.1.1 [MQTT-1.5.3-3], 5 [MQTT-1.5.4-3]
    for version in [ProtocolVersion::V311, ProtocolVersion::V31] {
        let packet = bytes("30 @ 0004 EFBBBF 'a'");
        let Ok(Packet::Publish(publish)) = decode(&packet, version, Role::Client) else {
            panic!("refused");
        };
        assert_eq!(publish.topic, "\u{FEFF}a");
    }
}

#[test]
fn version_3_takes_a_remaining_length_that_is_not_the_shortest() {
    // 5 [MQTT-1.5.5-1] has no like in 3.1.1
    let packet = bytes("C0 80 00");
    assert_eq!(
        decode(&packet, ProtocolVersion::V311, Role::Client),
        Ok(Packet::PingReq)
    );
    assert!(decode(&packet, ProtocolVersion::V5, Role::Client).is_err());
}

#[test]
fn version_3_1_is_read_as_it_was_written() {
    let client = |text| {
        let packet = bytes(text);
        decode(&packet, ProtocolVersion::V31, Role::Client).map(|_| ())
    };
    // 3.1 §2.1: SUBSCRIBE, UNSUBSCRIBE and PUBREL may be re-sent with DUP.
    assert_eq!(client(r#"8A @ 0001 "a" 00"#), Ok(()));
    assert_eq!(client(r#"AA @ 0001 "a""#), Ok(()));
    assert_eq!(client("6A @ 0001"), Ok(()));
    // 3.1 §2.1, §3.1, §3.14: CONNECT and DISCONNECT do not use the flags.
    assert_eq!(client(r#"14 @ "MQIsdp" 03 02 003C "c""#), Ok(()));
    assert_eq!(client("E1 @"), Ok(()));
    // 3.1 §3.1: the Remaining Length takes precedence over the User Name flag.
    assert_eq!(client(r#"10 @ "MQIsdp" 03 C2 003C "c""#), Ok(()));
    assert_eq!(client(r#"10 @ "MQIsdp" 03 C2 003C "c" "user""#), Ok(()));
    // 3.1 §3.1: bit 0 and the Will bits without a Will have no meaning.
    assert_eq!(client(r#"10 @ "MQIsdp" 03 33 003C "c""#), Ok(()));
}
