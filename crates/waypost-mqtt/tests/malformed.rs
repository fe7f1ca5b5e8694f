//! Every rule that one packet can break, broken. Each row names the statement, and the decoder must
//! name the same one, with the field, its offset and the Reason Code: a rule that is not checked
//! fails its row.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod notation;

use notation::bytes;
use waypost_mqtt::{DecodeErrorKind, ProtocolVersion, ReasonCode, Role, decode};

/// Rows of: version of the connection, sender, packet, offset, field, statement, Reason Code.
macro_rules! check {
    ($($version:ident $sender:ident $text:expr, $offset:literal, $field:expr, $rule:expr, $reason:literal;)*) => {
        $(check_row($version, $sender, $text, ($rule, $field, $offset, $reason));)*
    };
}

fn check_row(version: ProtocolVersion, sender: Role, text: &str, expect: (&str, &str, usize, u8)) {
    match decode(&bytes(text), version, sender) {
        Ok(decoded) => panic!("{text}: {} was not enforced: {decoded:?}", expect.0),
        Err(error) => {
            let found = (error.rule, error.field, error.offset, error.reason.as_u8());
            assert_eq!(found, expect, "{text}: {error}");
        }
    }
}

const V31: ProtocolVersion = ProtocolVersion::V31;
const V4: ProtocolVersion = ProtocolVersion::V311;
const V5: ProtocolVersion = ProtocolVersion::V5;
const C: Role = Role::Client;
const S: Role = Role::Server;

#[test]
fn fixed_header() {
    check! {
        V4 C "00 @", 0, "type", "3.1.1 §2.2.1", 0x81;
        V5 C "00 @", 0, "type", "5 §2.1.2", 0x81;
        V4 C "F0 @", 0, "type", "3.1.1 §2.2.1", 0x81;
        V5 C "30", 1, "Remaining Length", "5 §2.1.4", 0x81;
        V5 C "30 05 0001 'a'", 2, "Remaining Length", "5 §2.1.4", 0x81;
        V4 C "C0 00 00", 2, "Remaining Length", "3.1.1 §2.2.3", 0x81;
        V5 C "C0 80808000", 1, "Remaining Length", "5 [MQTT-1.5.5-1]", 0x81;
        V5 C "C0 8000", 1, "Remaining Length", "5 [MQTT-1.5.5-1]", 0x81;
        V5 C "30 84 00 0001 'a' 00", 1, "Remaining Length", "5 [MQTT-1.5.5-1]", 0x81;
        V5 C "C0 8080808000", 4, "Remaining Length", "5 §1.5.5", 0x81;
        V4 C "C0 FFFFFFFF7F", 4, "Remaining Length", "5 §1.5.5", 0x81;
        V4 C r#"11 @ "MQTT" 04 02 0000 "c""#, 0, "flags", "3.1.1 [MQTT-2.2.2-1]", 0x81;
        V5 S "C1 @", 0, "flags", "5 [MQTT-2.1.3-1]", 0x81;
        V4 C "C1 @", 0, "flags", "3.1.1 [MQTT-2.2.2-1]", 0x81;
        V5 C "C1 @", 0, "flags", "5 [MQTT-2.1.3-1]", 0x81;
        V5 S "D8 @", 0, "flags", "5 [MQTT-2.1.3-1]", 0x81;
        V5 C r#"12 @ "MQTT" 05 02 0000 { } "c""#, 0, "flags", "5 [MQTT-2.1.3-1]", 0x81;
        V4 C "42 @ 0001", 0, "flags", "3.1.1 [MQTT-2.2.2-1]", 0x81;
        V5 S "51 @ 0001", 0, "flags", "5 [MQTT-2.1.3-1]", 0x81;
        V4 C "60 @ 0001", 0, "flags", "3.1.1 [MQTT-3.6.1-1]", 0x81;
        V5 C "63 @ 0001", 0, "flags", "5 [MQTT-3.6.1-1]", 0x81;
        V4 C r#"80 @ 0001 "a" 00"#, 0, "flags", "3.1.1 [MQTT-3.8.1-1]", 0x81;
        V4 C r#"8A @ 0001 "a" 00"#, 0, "flags", "3.1.1 [MQTT-3.8.1-1]", 0x81;
        V5 C r#"83 @ 0001 { } "a" 00"#, 0, "flags", "5 [MQTT-3.8.1-1]", 0x81;
        V31 C r#"83 @ 0001 "a" 00"#, 0, "flags", "3.1.1 [MQTT-3.8.1-1]", 0x81;
        V4 C r#"A0 @ 0001 "a""#, 0, "flags", "3.1.1 [MQTT-3.10.1-1]", 0x81;
        V5 C r#"A6 @ 0001 { } "a""#, 0, "flags", "5 [MQTT-3.10.1-1]", 0x81;
        V4 C "E1 @", 0, "flags", "3.1.1 [MQTT-3.14.1-1]", 0x81;
        V5 C "E8 @", 0, "flags", "5 [MQTT-3.14.1-1]", 0x81;
        V5 C r#"F4 @ 18 { 15 "m" }"#, 0, "flags", "5 [MQTT-3.15.1-1]", 0x81;
        V5 C "C0 @ 00", 2, "contents", "5 §2.1.4", 0x81;
        V4 S "D0 @ 00", 2, "contents", "3.1.1 §2.2.3", 0x81;
    }
}

#[test]
fn packets_of_the_other_side() {
    check! {
        V5 S r#"10 @ "MQTT" 05 02 0000 { } "c""#, 0, "type", "5 §2.1.2", 0x82;
        V5 C "20 @ 00 00 { }", 0, "type", "5 §2.1.2", 0x82;
        V4 C "20 @ 00 00", 0, "type", "3.1.1 §2.2.1", 0x82;
        V5 S r#"82 @ 0001 { } "a" 00"#, 0, "type", "5 §2.1.2", 0x82;
        V4 C "90 @ 0001 00", 0, "type", "3.1.1 §2.2.1", 0x82;
        V5 S r#"A2 @ 0001 { } "a""#, 0, "type", "5 §2.1.2", 0x82;
        V5 C "B0 @ 0001 { } 00", 0, "type", "5 §2.1.2", 0x82;
        V5 S "C0 @", 0, "type", "5 §2.1.2", 0x82;
        V5 C "D0 @", 0, "type", "5 §2.1.2", 0x82;
        V4 S "E0 @", 0, "type", "3.1.1 §2.2.1", 0x82;
    }
}

#[test]
fn connect_of_3_1_1() {
    let r = "3.1.1 §2.2.3";
    check! {
        V4 C "10 @", 2, "Protocol Name", "5 §2.1.4", 0x81;
        V4 C r#"10 @ "MQTT""#, 8, "Protocol Version", "5 §2.1.4", 0x81;
        V4 C r#"10 @ "MQTT" 04"#, 9, "Connect Flags", r, 0x81;
        V4 C r#"10 @ "MQTT" 04 02 00"#, 10, "Keep Alive", r, 0x81;
        V4 C r#"10 @ "MQTT" 04 02 0000"#, 12, "Client Identifier", r, 0x81;
        V4 C r#"10 @ "MQTT" 04 02 0000 0005 'abcd'"#, 12, "Client Identifier", r, 0x81;
        V4 C r#"10 @ "mqtt" 04 02 0000 "c""#, 2, "Protocol Name", "5 [MQTT-3.1.2-1]", 0x84;
        V4 C r#"10 @ "MQTT" 04 03 0000 "c""#, 9, "Connect Flags", "3.1.1 [MQTT-3.1.2-3]", 0x81;
        V4 C r#"10 @ "MQTT" 04 0A 0000 "c""#, 9, "Connect Flags", "3.1.1 [MQTT-3.1.2-13]", 0x81;
        V4 C r#"10 @ "MQTT" 04 22 0000 "c""#, 9, "Connect Flags", "3.1.1 [MQTT-3.1.2-15]", 0x81;
        V4 C r#"10 @ "MQTT" 04 1E 0000 "c" "w" "m""#, 9, "Connect Flags", "3.1.1 [MQTT-3.1.2-14]", 0x81;
        V4 C r#"10 @ "MQTT" 04 42 0000 "c" "p""#, 9, "Connect Flags", "3.1.1 [MQTT-3.1.2-22]", 0x81;
        V31 C r#"10 @ "MQIsdp" 03 42 0000 "c" "p""#, 11, "Connect Flags", "3.1.1 [MQTT-3.1.2-22]", 0x81;
        // 3.1.1 [MQTT-3.1.2-9]: with a Will Flag come its fields
        V4 C r#"10 @ "MQTT" 04 06 0000 "c""#, 15, "Will Topic", r, 0x81;
        V4 C r#"10 @ "MQTT" 04 06 0000 "c" "w""#, 18, "Will Payload", r, 0x81;
        // 3.1.1 [MQTT-3.1.2-11], [MQTT-3.1.2-18], [MQTT-3.1.2-20]: without a flag no field
        V4 C r#"10 @ "MQTT" 04 02 0000 "c" "w" "m""#, 15, "contents", r, 0x81;
        V4 C r#"10 @ "MQTT" 04 82 0000 "c" "u" "p""#, 18, "contents", r, 0x81;
        // 3.1.1 [MQTT-3.1.2-19], [MQTT-3.1.2-21]: with a flag the field
        V4 C r#"10 @ "MQTT" 04 82 0000 "c""#, 15, "User Name", r, 0x81;
        V4 C r#"10 @ "MQTT" 04 C2 0000 "c" "u""#, 18, "Password", r, 0x81;
        // 3.1.1 [MQTT-3.1.3-4], [MQTT-3.1.3-10], [MQTT-3.1.3-11]
        V4 C r#"10 @ "MQTT" 04 02 0000 0001 FF"#, 12, "Client Identifier", "3.1.1 [MQTT-1.5.3-1]", 0x81;
        V4 C r#"10 @ "MQTT" 04 02 0000 0001 00"#, 12, "Client Identifier", "3.1.1 [MQTT-1.5.3-2]", 0x81;
        V4 C r#"10 @ "MQTT" 04 06 0000 "c" 0001 FF "m""#, 15, "Will Topic", "3.1.1 [MQTT-1.5.3-1]", 0x81;
        V4 C r#"10 @ "MQTT" 04 82 0000 "c" 0003 EDA080"#, 15, "User Name", "3.1.1 [MQTT-1.5.3-1]", 0x81;
        V4 C r#"10 @ "MQTT" 04 06 0000 "c" "w/#" "m""#, 15, "Will Topic", "3.1.1 [MQTT-3.3.2-2]", 0x81;
        V4 C r#"10 @ "MQTT" 04 06 0000 "c" "" "m""#, 15, "Will Topic", "3.1.1 [MQTT-4.7.3-1]", 0x81;
    }
}

#[test]
fn connect_of_5() {
    let r = "5 §2.1.4";
    check! {
        V5 C r#"10 @ "MQTT" 05 03 0000 { } "c""#, 9, "Connect Flags", "5 [MQTT-3.1.2-3]", 0x81;
        V5 C r#"10 @ "MQTT" 05 12 0000 { } "c""#, 9, "Connect Flags", "5 [MQTT-3.1.2-11]", 0x81;
        V5 C r#"10 @ "MQTT" 05 1E 0000 { } "c" { } "w" "m""#, 9, "Connect Flags", "5 [MQTT-3.1.2-12]", 0x81;
        V5 C r#"10 @ "MQTT" 05 22 0000 { } "c""#, 9, "Connect Flags", "5 [MQTT-3.1.2-13]", 0x81;
        // 5 [MQTT-3.1.2-9], [MQTT-3.1.2-16], [MQTT-3.1.2-17], [MQTT-3.1.2-18], [MQTT-3.1.2-19]
        V5 C r#"10 @ "MQTT" 05 06 0000 { } "c""#, 16, "Property Length", r, 0x81;
        V5 C r#"10 @ "MQTT" 05 06 0000 { } "c" { }"#, 17, "Will Topic", r, 0x81;
        V5 C r#"10 @ "MQTT" 05 06 0000 { } "c" { } "w""#, 20, "Will Payload", r, 0x81;
        V5 C r#"10 @ "MQTT" 05 02 0000 { } "c" "u""#, 16, "contents", r, 0x81;
        V5 C r#"10 @ "MQTT" 05 82 0000 { } "c""#, 16, "User Name", r, 0x81;
        V5 C r#"10 @ "MQTT" 05 82 0000 { } "c" "u" "p""#, 19, "contents", r, 0x81;
        V5 C r#"10 @ "MQTT" 05 42 0000 { } "c""#, 16, "Password", r, 0x81;
        // 5 [MQTT-3.1.3-3], [MQTT-3.1.3-4], [MQTT-3.1.3-11], [MQTT-3.1.3-12]
        V5 C r#"10 @ "MQTT" 05 02 0000 { }"#, 13, "Client Identifier", r, 0x81;
        V5 C r#"10 @ "MQTT" 05 02 0000 { } 0002 C080"#, 13, "Client Identifier", "5 [MQTT-1.5.4-1]", 0x81;
        V5 C r#"10 @ "MQTT" 05 06 0000 { } "c" { } 0001 FF "m""#, 17, "Will Topic", "5 [MQTT-1.5.4-1]", 0x81;
        V5 C r#"10 @ "MQTT" 05 82 0000 { } "c" 0001 00"#, 16, "User Name", "5 [MQTT-1.5.4-2]", 0x81;
        V5 C r#"10 @ "MQTT" 05 06 0000 { } "c" { } "+" "m""#, 17, "Will Topic", "5 [MQTT-3.3.2-2]", 0x81;
        V5 C r#"10 @ "MQTT" 05 06 0000 { } "c" { } "" "m""#, 17, "Will Topic", "5 [MQTT-4.7.3-1]", 0x81;
        V5 C r#"10 8E00 "MQTT" 05 02 0000 { } "c""#, 1, "Remaining Length", "5 [MQTT-1.5.5-1]", 0x81;
        // 5 [MQTT-2.2.2-1]: no properties are said with a length of 0
        V5 C r#"10 @ "MQTT" 05 02 0000"#, 12, "Property Length", r, 0x81;
    }
}

#[test]
fn connack() {
    let (reason, code) = ("Connect Reason Code", "Connect Return code");
    check! {
        V5 S "20 @", 2, "Connect Acknowledge Flags", "5 §2.1.4", 0x81;
        V5 S "20 @ 02 00 { }", 2, "Connect Acknowledge Flags", "5 [MQTT-3.2.2-1]", 0x81;
        V4 S "20 @ 80 00", 2, "Connect Acknowledge Flags", "3.1.1 §3.2.2.1", 0x81;
        V5 S "20 @ 01 87 { }", 2, "Session Present", "5 [MQTT-3.2.2-6]", 0x82;
        V4 S "20 @ 01 05", 2, "Session Present", "3.1.1 [MQTT-3.2.2-4]", 0x82;
        V5 S "20 @ 00 01 { }", 3, reason, "5 [MQTT-3.2.2-8]", 0x82;
        V5 S "20 @ 00 8E { }", 3, reason, "5 [MQTT-3.2.2-8]", 0x82;
        V4 S "20 @ 00 06", 3, code, "3.1.1 §3.2.2.3", 0x82;
        V5 S "20 @ 00 00", 4, "Property Length", "5 §2.1.4", 0x81;
        V4 S "20 @ 00 00 00", 4, "contents", "3.1.1 §2.2.3", 0x81;
        V5 S r#"20 @ 00 00 { 16 "data" }"#, 5, "Authentication Data", "5 §3.1.2.11.10", 0x82;
    }
}

#[test]
fn publish() {
    let topic = "Topic Name";
    check! {
        V4 C r#"36 @ "a" 0001"#, 0, "QoS", "3.1.1 [MQTT-3.3.1-4]", 0x81;
        V5 S r#"36 @ "a" 0001 { }"#, 0, "QoS", "5 [MQTT-3.3.1-4]", 0x81;
        V4 C r#"38 @ "a""#, 0, "DUP", "3.1.1 [MQTT-3.3.1-2]", 0x81;
        V5 C r#"38 @ "a" { }"#, 0, "DUP", "5 [MQTT-3.3.1-2]", 0x81;
        V5 C "30 @", 2, topic, "5 §2.1.4", 0x81;
        V5 C "30 @ 00", 2, topic, "5 §2.1.4", 0x81;
        V5 C "30 @ 0002 'a'", 2, topic, "5 §2.1.4", 0x81;
        V4 C "30 @ 0001 FF", 2, topic, "3.1.1 [MQTT-1.5.3-1]", 0x81;
        V5 C "30 @ 0003 EDA080 { }", 2, topic, "5 [MQTT-1.5.4-1]", 0x81;
        V5 C "30 @ 0004 F8888080 { }", 2, topic, "5 [MQTT-1.5.4-1]", 0x81;
        V4 C "30 @ 0003 'a' 00 'b'", 2, topic, "3.1.1 [MQTT-1.5.3-2]", 0x81;
        V5 C "30 @ 0001 00 { }", 2, topic, "5 [MQTT-1.5.4-2]", 0x81;
        V4 C r#"30 @ "a/+""#, 2, topic, "3.1.1 [MQTT-3.3.2-2]", 0x81;
        V5 C r##"30 @ "#" { }"##, 2, topic, "5 [MQTT-3.3.2-2]", 0x81;
        V4 C r#"30 @ "" 'x'"#, 2, topic, "3.1.1 [MQTT-4.7.3-1]", 0x81;
        V5 C r#"30 @ "" { } 'x'"#, 2, topic, "5 §3.3.2.1", 0x82;
        V5 C r#"30 @ "" { 01 00 } 'x'"#, 2, topic, "5 §3.3.2.1", 0x82;
        V4 C r#"32 @ "a" 00"#, 5, "Packet Identifier", "3.1.1 §2.2.3", 0x81;
        V4 C r#"32 @ "a" 0000"#, 5, "Packet Identifier", "3.1.1 [MQTT-2.3.1-1]", 0x82;
        V5 C r#"34 @ "a" 0000 { }"#, 5, "Packet Identifier", "5 [MQTT-2.2.1-3]", 0x82;
        V5 S r#"32 @ "a" 0000 { }"#, 5, "Packet Identifier", "5 [MQTT-2.2.1-4]", 0x82;
        V5 C r#"30 @ "a""#, 5, "Property Length", "5 §2.1.4", 0x81;
        V5 C r#"30 @ "a" 01"#, 6, "Property Length", "5 §2.1.4", 0x81;
    }
}

#[test]
fn acknowledgements() {
    let (id, reason) = ("Packet Identifier", "Reason Code");
    check! {
        V4 C "40 @ 00", 2, id, "3.1.1 §2.2.3", 0x81;
        V4 C "40 @ 0000", 2, id, "3.1.1 [MQTT-2.3.1-6]", 0x82;
        V5 S "50 @ 0000", 2, id, "5 [MQTT-2.2.1-5]", 0x82;
        V4 C "62 @ 0001 00", 4, "contents", "3.1.1 §2.2.3", 0x81;
        V5 C "40 @ 0001 01", 4, reason, "5 [MQTT-3.4.2-1]", 0x82;
        V5 C "40 @ 0001 92", 4, reason, "5 [MQTT-3.4.2-1]", 0x82;
        // 5 §3.4.2.1, §3.5.2.1: No matching subscribers is sent only by the server
        V5 C "40 @ 0001 10", 4, reason, "5 [MQTT-3.4.2-1]", 0x82;
        V5 C "50 @ 0001 10", 4, reason, "5 [MQTT-3.5.2-1]", 0x82;
        V5 S "50 @ 0001 92", 4, reason, "5 [MQTT-3.5.2-1]", 0x82;
        V5 C "62 @ 0001 80", 4, reason, "5 [MQTT-3.6.2-1]", 0x82;
        V5 S "70 @ 0001 10", 4, reason, "5 [MQTT-3.7.2-1]", 0x82;
        V5 C "70 @ 0001 FF", 4, reason, "5 [MQTT-3.7.2-1]", 0x82;
        V5 C "40 @ 0001 00 { } 00", 6, "contents", "5 §2.1.4", 0x81;
        V5 C "40 @ 0001 00 01", 6, "Property Length", "5 §2.1.4", 0x81;
    }
}

#[test]
fn subscribe() {
    let (filter, options) = ("Topic Filter", "Subscription Options");
    check! {
        V4 C r#"82 @ 0000 "a" 00"#, 2, "Packet Identifier", "3.1.1 [MQTT-2.3.1-1]", 0x82;
        V5 C r#"82 @ 0000 { } "a" 00"#, 2, "Packet Identifier", "5 [MQTT-2.2.1-3]", 0x82;
        V4 C "82 @ 0001", 4, "payload", "3.1.1 [MQTT-3.8.3-3]", 0x82;
        V5 C "82 @ 0001 { }", 5, "payload", "5 [MQTT-3.8.3-2]", 0x82;
        V5 C "82 @ 0001", 4, "Property Length", "5 §2.1.4", 0x81;
        V4 C r#"82 @ 0001 "a""#, 7, options, "3.1.1 §2.2.3", 0x81;
        V4 C r#"82 @ 0001 "a" 00 00"#, 8, filter, "3.1.1 §2.2.3", 0x81;
        // 3.1.1 [MQTT-3.8.3-1]; 5 [MQTT-3.8.3-1]
        V4 C "82 @ 0001 0001 FF 00", 4, filter, "3.1.1 [MQTT-1.5.3-1]", 0x81;
        V5 C "82 @ 0001 { } 0001 FF 00", 5, filter, "5 [MQTT-1.5.4-1]", 0x81;
        V5 C "82 @ 0001 { } 0001 00 00", 5, filter, "5 [MQTT-1.5.4-2]", 0x81;
        V4 C r#"82 @ 0001 "" 00"#, 4, filter, "3.1.1 [MQTT-4.7.3-1]", 0x81;
        V5 C r#"82 @ 0001 { } "a" 00 "" 00"#, 9, filter, "5 [MQTT-4.7.3-1]", 0x81;
        V4 C r#"82 @ 0001 "a#" 00"#, 4, filter, "3.1.1 [MQTT-4.7.1-2]", 0x81;
        V5 C r##"82 @ 0001 { } "#/a" 00"##, 5, filter, "5 [MQTT-4.7.1-1]", 0x81;
        V4 C r#"82 @ 0001 "a+" 00"#, 4, filter, "3.1.1 [MQTT-4.7.1-3]", 0x81;
        V5 C r#"82 @ 0001 { } "a/b+/c" 00"#, 5, filter, "5 [MQTT-4.7.1-2]", 0x81;
        V4 C r#"82 @ 0001 "a" 03"#, 7, options, "3.1.1 [MQTT-3.8.3-4]", 0x82;
        V4 C r#"82 @ 0001 "a" 04"#, 7, options, "3.1.1 [MQTT-3.8.3-4]", 0x81;
        V5 C r#"82 @ 0001 { } "a" 03"#, 8, options, "5 §3.8.3.1", 0x82;
        V5 C r#"82 @ 0001 { } "a" 30"#, 8, options, "5 §3.8.3.1", 0x82;
        V5 C r#"82 @ 0001 { } "a" 40"#, 8, options, "5 [MQTT-3.8.3-5]", 0x81;
        V5 C r#"82 @ 0001 { } "a" 80"#, 8, options, "5 [MQTT-3.8.3-5]", 0x81;
        V5 C r#"82 @ 0001 { } "$share/g/a" 04"#, 17, options, "5 [MQTT-3.8.3-4]", 0x82;
        V5 C r#"82 @ 0001 { } "$share//a" 00"#, 5, filter, "5 [MQTT-4.8.2-1]", 0x81;
        V5 C r#"82 @ 0001 { } "$share/+/a" 00"#, 5, filter, "5 [MQTT-4.8.2-1]", 0x81;
        V5 C r#"82 @ 0001 { } "$share/g" 00"#, 5, filter, "5 [MQTT-4.8.2-2]", 0x81;
        V5 C r#"82 @ 0001 { } "$share/g/" 00"#, 5, filter, "5 [MQTT-4.8.2-2]", 0x81;
    }
}

#[test]
fn suback() {
    check! {
        V4 S "90 @ 0000 00", 2, "Packet Identifier", "3.1.1 [MQTT-2.3.1-7]", 0x82;
        V5 S "90 @ 0000 { } 00", 2, "Packet Identifier", "5 [MQTT-2.2.1-6]", 0x82;
        V4 S "90 @ 0001", 4, "payload", "3.1.1 [MQTT-3.8.4-5]", 0x82;
        V5 S "90 @ 0001 { }", 5, "payload", "5 [MQTT-3.8.4-6]", 0x82;
        V4 S "90 @ 0001 00 03", 5, "Reason Code", "3.1.1 [MQTT-3.9.3-2]", 0x82;
        V4 S "90 @ 0001 87", 4, "Reason Code", "3.1.1 [MQTT-3.9.3-2]", 0x82;
        V5 S "90 @ 0001 { } 11", 5, "Reason Code", "5 [MQTT-3.9.3-2]", 0x82;
    }
}

#[test]
fn unsubscribe_and_unsuback() {
    check! {
        V4 C r#"A2 @ 0000 "a""#, 2, "Packet Identifier", "3.1.1 [MQTT-2.3.1-1]", 0x82;
        V4 C "A2 @ 0001", 4, "payload", "3.1.1 [MQTT-3.10.3-2]", 0x82;
        V5 C "A2 @ 0001 { }", 5, "payload", "5 [MQTT-3.10.3-2]", 0x82;
        // 3.1.1 [MQTT-3.10.3-1]; 5 [MQTT-3.10.3-1]
        V4 C "A2 @ 0001 0001 FF", 4, "Topic Filter", "3.1.1 [MQTT-1.5.3-1]", 0x81;
        V5 C "A2 @ 0001 { } 0001 FF", 5, "Topic Filter", "5 [MQTT-1.5.4-1]", 0x81;
        V5 C r#"A2 @ 0001 { } "a+""#, 5, "Topic Filter", "5 [MQTT-4.7.1-2]", 0x81;
        V5 C r#"A2 @ 0001 { } "$share/g""#, 5, "Topic Filter", "5 [MQTT-4.8.2-2]", 0x81;
        V4 S "B0 @ 0000", 2, "Packet Identifier", "3.1.1 [MQTT-2.3.1-7]", 0x82;
        V4 S "B0 @ 0001 00", 4, "contents", "3.1.1 §2.2.3", 0x81;
        V5 S "B0 @ 0001 { }", 5, "payload", "5 §3.11.3", 0x82;
        V5 S "B0 @ 0001 { } 01", 5, "Reason Code", "5 [MQTT-3.11.3-2]", 0x82;
    }
}

#[test]
fn disconnect_and_auth() {
    let (disconnect, auth) = ("Disconnect Reason Code", "Authenticate Reason Code");
    check! {
        V4 C "E0 @ 00", 2, "contents", "3.1.1 §2.2.3", 0x81;
        V5 C "E0 @ 01", 2, disconnect, "5 [MQTT-3.14.2-1]", 0x82;
        // 5 §3.14.2.1, table 3-10: 0x8E is a server's, 0x04 a client's
        V5 C "E0 @ 8E", 2, disconnect, "5 [MQTT-3.14.2-1]", 0x82;
        V5 S "E0 @ 04", 2, disconnect, "5 [MQTT-3.14.2-1]", 0x82;
        V5 S "E0 @ 00 { 11 00000001 }", 4, "Session Expiry Interval", "5 [MQTT-3.14.2-2]", 0x82;
        V5 C "E0 @ 00 { } 00", 4, "contents", "5 §2.1.4", 0x81;
        V5 C "F0 @", 2, auth, "5 [MQTT-3.15.2-1]", 0x82;
        V5 C r#"F0 @ 00 { 15 "m" }"#, 2, auth, "5 [MQTT-3.15.2-1]", 0x82;
        V5 S r#"F0 @ 19 { 15 "m" }"#, 2, auth, "5 [MQTT-3.15.2-1]", 0x82;
        V5 S r#"F0 @ 80 { 15 "m" }"#, 2, auth, "5 [MQTT-3.15.2-1]", 0x82;
        V5 C "F0 @ 18", 3, "Property Length", "5 §2.1.4", 0x81;
        V5 C "F0 @ 18 { }", 3, "Authentication Method", "5 §3.15.2.2.2", 0x82;
        V5 C r#"F0 @ 18 { 16 "d" }"#, 4, "Authentication Data", "5 §3.1.2.11.10", 0x82;
        V5 C r#"F0 @ 18 { 15 "m" } 00"#, 8, "contents", "5 §2.1.4", 0x81;
    }
}

#[test]
fn property_lists() {
    let (len, id) = ("Property Length", "Property Identifier");
    check! {
        V5 C r#"30 @ "a" 8000"#, 5, len, "5 [MQTT-1.5.5-1]", 0x81;
        V5 C r#"30 @ "a" 8080808001"#, 5, len, "5 §1.5.5", 0x81;
        V5 C r#"30 @ "a" 80"#, 5, len, "5 §2.1.4", 0x81;
        V5 C r#"30 @ "a" 03 2300"#, 6, len, "5 §2.1.4", 0x81;
        V5 C r#"30 @ "a" { 00 01 }"#, 6, id, "5 §2.2.2.2", 0x81;
        V5 C r#"30 @ "a" { 01 01 2B 00 }"#, 8, id, "5 §2.2.2.2", 0x81;
        V5 C r#"30 @ "a" { 8101 01 }"#, 6, id, "5 §2.2.2.2", 0x81;
        // each shape cut short by the end of the list
        V5 C r#"30 @ "a" { 01 }"#, 7, "Payload Format Indicator", "5 §2.1.4", 0x81;
        V5 C r#"30 @ "a" { 02 000000 } 00"#, 9, "Message Expiry Interval", "5 §2.1.4", 0x81;
        V5 C r#"30 @ "a" { 23 00 } 0001"#, 7, "Topic Alias", "5 §2.1.4", 0x81;
        V5 C r#"30 @ "a" { 03 0001 } 'a'"#, 7, "Content Type", "5 §2.1.4", 0x81;
        V5 C r#"30 @ "a" { 09 0001 } 'a'"#, 7, "Correlation Data", "5 §2.1.4", 0x81;
        V5 C r#"30 @ "a" { 26 "k" } "v""#, 10, "User Property", "5 §2.1.4", 0x81;
        V5 C r#"82 @ 0001 { 0B 80 } "a" 00"#, 6, "Subscription Identifier", "5 §2.1.4", 0x81;
        V5 C r#"82 @ 0001 { 0B 8080808001 } "a" 00"#, 6, "Subscription Identifier", "5 §1.5.5", 0x81;
        V5 C r#"82 @ 0001 { 0B 8100 } "a" 00"#, 6, "Subscription Identifier", "5 [MQTT-1.5.5-1]", 0x81;
        // strings
        V5 C r#"30 @ "a" { 03 0001 FF }"#, 7, "Content Type", "5 [MQTT-1.5.4-1]", 0x81;
        V5 C r#"30 @ "a" { 03 0001 00 }"#, 7, "Content Type", "5 [MQTT-1.5.4-2]", 0x81;
        // 5 [MQTT-1.5.7-1]
        V5 C r#"30 @ "a" { 26 0001 FF "v" }"#, 7, "User Property", "5 [MQTT-1.5.4-1]", 0x81;
        V5 C r#"30 @ "a" { 26 "k" 0001 00 }"#, 10, "User Property", "5 [MQTT-1.5.4-2]", 0x81;
        // 5 [MQTT-3.3.2-13], [MQTT-3.3.2-19]
        V5 C r#"30 @ "a" { 08 0001 FF }"#, 7, "Response Topic", "5 [MQTT-1.5.4-1]", 0x81;
        V5 C r#"30 @ "a" { 08 "a/+" }"#, 7, "Response Topic", "5 [MQTT-3.3.2-14]", 0x81;
        V5 C r##"30 @ "a" { 08 "#" }"##, 7, "Response Topic", "5 [MQTT-3.3.2-14]", 0x81;
        V5 C r#"30 @ "a" { 08 "" }"#, 7, "Response Topic", "5 [MQTT-4.7.3-1]", 0x81;
    }
}

/// Every Protocol Error of MQTT 5 about the value of a property; the numbers are of no statement.
#[test]
fn property_values() {
    let connect =
        |property| format!(r#"10 @ "MQTT" 05 02 0000 {{ {property} }} "c""#).leak() as &str;
    let connack = |property| format!("20 @ 00 00 {{ {property} }}").leak() as &str;
    let boolean = "is neither 0 nor 1";
    check! {
        V5 C connect("21 0000"), 13, "Receive Maximum", "5 §3.1.2.11.3", 0x82;
        V5 S connack("21 0000"), 5, "Receive Maximum", "5 §3.1.2.11.3", 0x82;
        V5 C connect("27 00000000"), 13, "Maximum Packet Size", "5 §3.1.2.11.4", 0x82;
        V5 S connack("27 00000000"), 5, "Maximum Packet Size", "5 §3.1.2.11.4", 0x82;
        V5 C connect("19 02"), 13, "Request Response Information", "5 §3.1.2.11.6", 0x82;
        V5 C connect("17 02"), 13, "Request Problem Information", "5 §3.1.2.11.7", 0x82;
        V5 C connect(r#"16 "d""#), 13, "Authentication Data", "5 §3.1.2.11.10", 0x82;
        V5 S connack("24 02"), 5, "Maximum QoS", "5 §3.2.2.3.4", 0x82;
        V5 S connack("25 02"), 5, "Retain Available", "5 §3.2.2.3.5", 0x82;
        V5 S connack("28 FF"), 5, "Wildcard Subscription Available", "5 §3.2.2.3.11", 0x82;
        V5 S connack("29 02"), 5, "Subscription Identifier Available", "5 §3.2.2.3.12", 0x82;
        V5 S connack("2A 02"), 5, "Shared Subscription Available", "5 §3.2.2.3.13", 0x82;
        V5 C r#"30 @ "a" { 01 02 }"#, 6, "Payload Format Indicator", "5 §3.3.2.3.2", 0x82;
        V5 C r#"30 @ "a" { 23 0000 }"#, 6, "Topic Alias", "5 [MQTT-3.3.2-8]", 0x94;
        V5 S r#"30 @ "" { 23 0000 }"#, 5, "Topic Alias", "5 [MQTT-3.3.2-8]", 0x94;
        V5 C r#"30 @ "a" { 0B 01 }"#, 6, "Subscription Identifier", "5 [MQTT-3.3.4-6]", 0x82;
        V5 S r#"30 @ "a" { 0B 00 }"#, 6, "Subscription Identifier", "5 §3.8.2.1.2", 0x82;
        V5 C r#"82 @ 0001 { 0B 00 } "a" 00"#, 5, "Subscription Identifier", "5 §3.8.2.1.2", 0x82;
    }
    let error = decode(&bytes(connack("2A 02")), V5, S).unwrap_err();
    assert_eq!(error.problem, boolean);
}

/// Goal: each property is refused where it does not belong and, where it does, given twice.
/// Method: every property in every packet, against the table of 5 §2.2.2.2 written out anew.
#[test]
fn property_places() {
    const EVERYWHERE: &str = "connect will connack publish puback pubrec pubrel pubcomp subscribe suback unsubscribe unsuback disconnect auth";
    let places = [
        ("connect", C, r#"10 @ "MQTT" 05 02 0000 { PROPERTY } "c""#),
        (
            "will",
            C,
            r#"10 @ "MQTT" 05 06 0000 { } "c" { PROPERTY } "w" "m""#,
        ),
        ("connack", S, "20 @ 00 00 { PROPERTY }"),
        ("publish", S, r#"30 @ "a" { PROPERTY }"#),
        ("puback", S, "40 @ 0001 00 { PROPERTY }"),
        ("pubrec", S, "50 @ 0001 00 { PROPERTY }"),
        ("pubrel", S, "62 @ 0001 00 { PROPERTY }"),
        ("pubcomp", S, "70 @ 0001 00 { PROPERTY }"),
        ("subscribe", C, r#"82 @ 0001 { PROPERTY } "a" 00"#),
        ("suback", S, "90 @ 0001 { PROPERTY } 00"),
        ("unsubscribe", C, r#"A2 @ 0001 { PROPERTY } "a""#),
        ("unsuback", S, "B0 @ 0001 { PROPERTY } 00"),
        ("disconnect", C, "E0 @ 00 { PROPERTY }"),
        ("auth", S, r#"F0 @ 18 { 15 "m" PROPERTY }"#),
    ];
    let properties = [
        ("01 01", "publish will"),
        ("02 00000001", "publish will"),
        (r#"03 "a""#, "publish will"),
        (r#"08 "a""#, "publish will"),
        (r#"09 "a""#, "publish will"),
        ("0B 01", "publish subscribe"),
        ("11 00000001", "connect connack disconnect"),
        (r#"12 "a""#, "connack"),
        ("13 0001", "connack"),
        (r#"15 "a""#, "connect connack auth"),
        (r#"15 "a" 16 "a""#, "connect connack auth"),
        ("17 01", "connect"),
        ("18 00000001", "will"),
        ("19 01", "connect"),
        (r#"1A "a""#, "connack"),
        (r#"1C "a""#, "connack disconnect"),
        (
            r#"1F "a""#,
            "connack puback pubrec pubrel pubcomp suback unsuback disconnect auth",
        ),
        ("21 0001", "connect connack"),
        ("22 0001", "connect connack"),
        ("23 0001", "publish"),
        ("24 01", "connack"),
        ("25 01", "connack"),
        (r#"26 "a" "b""#, EVERYWHERE),
        ("27 00000001", "connect connack"),
        ("28 01", "connack"),
        ("29 01", "connack"),
        ("2A 01", "connack"),
    ];
    for (property, allowed) in properties {
        for (place, sender, template) in places {
            // The AUTH of the template has the Authentication Method it must have.
            let property = if place == "auth" {
                property.strip_prefix(r#"15 "a""#).unwrap_or(property)
            } else {
                property
            };
            let decode_with = |property: &str| {
                let packet = bytes(&template.replace("PROPERTY", property));
                decode(&packet, V5, sender)
                    .map(|_| ())
                    .map_err(|error| (error.rule, error.reason.as_u8(), error.problem))
            };
            let is_allowed = allowed.split(' ').any(|name| name == place);
            let once = decode_with(property);
            if !is_allowed {
                let error = ("5 §2.2.2.2", 0x81, "is not valid in this packet");
                assert_eq!(once, Err(error), "{property} in {place}");
                continue;
            }
            assert_eq!(once, Ok(()), "{property} in {place}");
            if property.trim().is_empty() {
                continue;
            }
            let twice = decode_with(&format!("{property} {property}"));
            let may_repeat =
                property.starts_with("26") || (property.starts_with("0B") && place == "publish");
            if may_repeat {
                assert_eq!(twice, Ok(()), "{property} twice in {place}");
            } else {
                let error = ("5 §2.2.2.2", 0x82, "is given twice");
                assert_eq!(twice, Err(error), "{property} twice in {place}");
            }
        }
    }
}

/// Which refusals of a CONNECT may be said with a CONNACK, and in which version's form.
#[test]
fn refused_connects() {
    use DecodeErrorKind::{Malformed, Protocol, Unsupported};
    let check = |text, connack, kind| {
        let error = decode(&bytes(text), V4, C).unwrap_err();
        assert_eq!((error.connack, error.kind), (connack, kind), "{text}");
        if kind == DecodeErrorKind::Unsupported {
            assert_eq!(error.reason, ReasonCode::UnsupportedProtocolVersion);
        }
    };
    // 3.1.1 [MQTT-3.1.2-2]: an unsupported level is answered with 0x01
    check(r#"10 @ "MQTT" 03 02 0000 "c""#, Some(V4), Unsupported);
    check(r#"10 @ "MQTT" 00 02 0000 "c""#, Some(V4), Unsupported);
    check(r#"10 @ "MQIsdp" 04 02 0000 "c""#, Some(V4), Unsupported);
    check(r#"10 @ "MQTT" 84 02 0000 "c""#, Some(V4), Unsupported);
    // 5 [MQTT-3.1.2-2] only allows an answer, so the older MUST decides its form
    check(r#"10 @ "MQTT" 06 02 0000 "c""#, Some(V4), Unsupported);
    // 3.1.1 [MQTT-3.1.2-1]
    check(r#"10 @ "HTTP" 04 02 0000 "c""#, None, Unsupported);
    // 3.1.1 [MQTT-3.1.4-1]: a malformed one gets no CONNACK
    check(r#"10 @ "MQTT" 04 03 0000 "c""#, None, Malformed);
    // 5 §3.1.4: it may
    check(r#"10 @ "MQTT" 05 03 0000 { } "c""#, Some(V5), Malformed);
    check(
        r#"10 @ "MQTT" 05 02 0000 { 21 0000 } "c""#,
        Some(V5),
        Protocol,
    );
    check("10 @ 0004 'MQ'", None, Malformed);
}

#[test]
fn an_error_reads_as_a_sentence() {
    let error = decode(&bytes(r#"30 @ "a/+" { }"#), V5, C).unwrap_err();
    assert_eq!(
        error.to_string(),
        "PUBLISH: Topic Name at offset 2 contains a wildcard (5 [MQTT-3.3.2-2])"
    );
}
