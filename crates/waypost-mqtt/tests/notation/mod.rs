//! A notation for packets that can be read: `30 @ "a/b" 0001 { 23 0005 } 'payload'`.
//!
//! - two hexadecimal digits are a byte, spaces do not matter;
//! - `@` is the Remaining Length of what follows;
//! - `"…"` is a string with its length before it, `'…'` is a string without;
//! - `{ … }` is what it contains with its length before it, as properties have it.

#![allow(dead_code, reason = "each test program uses a part of it")]

use waypost_mqtt::{ProtocolVersion, Role};

/// The bytes that `text` notes.
pub fn bytes(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut text.chars(), &mut out);
    out
}

fn write(text: &mut std::str::Chars<'_>, out: &mut Vec<u8>) {
    while let Some(character) = text.next() {
        match character {
            ' ' => {}
            '@' | '{' => {
                let mut contents = Vec::new();
                write(text, &mut contents);
                out.extend(variable_byte_integer(contents.len()));
                out.extend(contents);
            }
            '}' => return,
            '"' => {
                let string: String = text.take_while(|&character| character != '"').collect();
                out.extend(u16::try_from(string.len()).unwrap().to_be_bytes());
                out.extend(string.bytes());
            }
            '\'' => {
                let string: String = text.take_while(|&character| character != '\'').collect();
                out.extend(string.bytes());
            }
            high => {
                let digits: String = [high, text.next().unwrap()].iter().collect();
                out.push(u8::from_str_radix(&digits, 16).unwrap());
            }
        }
    }
}

fn variable_byte_integer(mut value: usize) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        let low = u8::try_from(value & 0x7F).unwrap();
        value >>= 7;
        if value == 0 {
            out.push(low);
            return out;
        }
        out.push(low | 0x80);
    }
}

/// A valid packet.
pub struct Sample {
    /// What it shows.
    pub name: &'static str,
    pub version: ProtocolVersion,
    pub sender: Role,
    /// In the notation of this module.
    pub text: &'static str,
}

macro_rules! samples {
    ($($version:ident $sender:ident $name:literal $text:literal;)*) => {
        /// Valid packets in the form in which this crate writes them: every type, in every version
        /// and from either side.
        pub const SAMPLES: &[Sample] = &[$(Sample {
            name: $name,
            version: ProtocolVersion::$version,
            sender: Role::$sender,
            text: $text,
        }),*];
    };
}

samples! {
    V31 Client "connect" r#"10 @ "MQIsdp" 03 02 003C "c""#;
    V31 Client "connect-all" r#"10 @ "MQIsdp" 03 EE 003C "c" "will/t" "gone" "user" "pass""#;
    V31 Server "connack" "20 @ 00 00";
    V31 Server "connack-refused" "20 @ 00 05";
    V31 Client "publish-0" r#"30 @ "a/b" 'hello'"#;
    V31 Client "publish-2" r#"3D @ "a/b" 000A 'hello'"#;
    V31 Client "subscribe" r#"82 @ 0001 "a/#" 01"#;
    V31 Server "suback" "90 @ 0001 01";
    V31 Client "unsubscribe" r#"A2 @ 0002 "a/#""#;
    V31 Server "unsuback" "B0 @ 0002";
    V31 Client "pingreq" "C0 @";
    V31 Server "pingresp" "D0 @";
    V31 Client "disconnect" "E0 @";

    V311 Client "connect" r#"10 @ "MQTT" 04 02 003C "c""#;
    V311 Client "connect-no-id" r#"10 @ "MQTT" 04 02 0000 "" "#;
    V311 Client "connect-all" r#"10 @ "MQTT" 04 F6 FFFF "client" "will/t" "gone" "user" "pass""#;
    V311 Client "connect-user" r#"10 @ "MQTT" 04 80 000A "client" "user""#;
    V311 Server "connack" "20 @ 00 00";
    V311 Server "connack-present" "20 @ 01 00";
    V311 Server "connack-refused" "20 @ 00 01";
    V311 Client "publish-0" r#"30 @ "a/b" 'hello'"#;
    V311 Client "publish-0-empty" r#"31 @ "a""#;
    V311 Server "publish-1" r#"32 @ "a/b" 0001 'hello'"#;
    V311 Client "publish-1-dup" r#"3B @ "temperature/ünde/日本" FFFF '21.5'"#;
    V311 Server "publish-2" r#"34 @ "a/b" 000A"#;
    V311 Client "publish-long" r#"30 @ "a/b" '0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789'"#;
    V311 Client "puback" "40 @ 0001";
    V311 Server "pubrec" "50 @ 0001";
    V311 Client "pubrel" "62 @ 0001";
    V311 Server "pubcomp" "70 @ 0001";
    V311 Client "subscribe" r#"82 @ 0001 "a/b" 00"#;
    V311 Client "subscribe-three" r##"82 @ 0102 "a/+/c" 00 "#" 01 "$SYS/#" 02"##;
    V311 Client "subscribe-share" r#"82 @ 0102 "$share/" 00"#;
    V311 Server "suback" "90 @ 0102 00 01 02 80";
    V311 Client "unsubscribe" r#"A2 @ 0002 "a/b" "+/+""#;
    V311 Server "unsuback" "B0 @ 0002";
    V311 Client "pingreq" "C0 @";
    V311 Server "pingresp" "D0 @";
    V311 Client "disconnect" "E0 @";

    V5 Client "connect" r#"10 @ "MQTT" 05 02 003C { } "c""#;
    V5 Client "connect-password" r#"10 @ "MQTT" 05 40 003C { } "" "pass""#;
    V5 Client "connect-all" r#"10 @ "MQTT" 05 EE 003C { 11 FFFFFFFF 15 "SCRAM" 16 "data" 17 01 19 00 21 0014 22 000A 26 "k" "v" 26 "k" "w" 27 00100000 } "c" { 01 01 02 0000003C 03 "text/plain" 08 "re/ply" 09 "corr" 18 0000000A 26 "x" "" } "will/t" "gone" "user" "pass""#;
    V5 Server "connack" "20 @ 00 00 { }";
    V5 Server "connack-all" r#"20 @ 01 00 { 11 00000E10 12 "id" 13 003C 15 "SCRAM" 16 "data" 1A "info" 1C "other" 1F "fine" 21 0001 22 FFFF 24 01 25 00 26 "k" "v" 27 00000001 28 01 29 01 2A 00 }"#;
    V5 Server "connack-refused" r#"20 @ 00 84 { 1F "no" }"#;
    V5 Client "publish-0" r#"30 @ "a/b" { } 'hello'"#;
    V5 Client "publish-1" r#"32 @ "a/b" 0001 { } 'hello'"#;
    V5 Client "publish-alias" r#"30 @ "" { 23 0001 } 'hello'"#;
    V5 Client "publish-all" r#"3D @ "a/b" 0001 { 01 01 02 0000003C 03 "text" 08 "re" 09 "corr" 23 0005 26 "k" "v" } 'hello'"#;
    V5 Server "publish-identifiers" r#"35 @ "a/b" 0001 { 0B 01 0B FFFFFF7F 26 "k" "v" 26 "k" "v" } 'hello'"#;
    V5 Client "puback" "40 @ 0001";
    V5 Server "puback-no-subscribers" "40 @ 0001 10";
    V5 Client "puback-reason" r#"40 @ 0001 97 { 1F "full" 26 "k" "v" }"#;
    V5 Server "pubrec" "50 @ 0001";
    V5 Client "pubrec-reason" "50 @ 0001 80";
    V5 Client "pubrel" "62 @ 0001";
    V5 Server "pubrel-reason" r#"62 @ 0001 92 { 1F "what" }"#;
    V5 Client "pubcomp" "70 @ 0001";
    V5 Server "pubcomp-properties" r#"70 @ 0001 00 { 26 "k" "v" }"#;
    V5 Client "subscribe" r#"82 @ 0001 { } "a/b" 2E "$share/g/#" 01"#;
    V5 Client "subscribe-identifier" r#"82 @ 0001 { 0B FFFFFF7F 26 "k" "v" } "a/b" 00"#;
    V5 Server "suback" r#"90 @ 0001 { 1F "so" } 00 01 02 80 83 87 8F 91 97 9E A1 A2"#;
    V5 Client "unsubscribe" r#"A2 @ 0002 { 26 "k" "v" } "a/b" "$share/g/+""#;
    V5 Server "unsuback" "B0 @ 0002 { } 00 11 80";
    V5 Client "pingreq" "C0 @";
    V5 Server "pingresp" "D0 @";
    V5 Client "disconnect" "E0 @";
    V5 Client "disconnect-with-will" "E0 @ 04";
    V5 Client "disconnect-expiry" "E0 @ 00 { 11 00000000 }";
    V5 Server "disconnect-moved" r#"E0 @ 9D { 1C "other" 1F "gone" }"#;
    V5 Client "auth" r#"F0 @ 18 { 15 "SCRAM" 16 "data" }"#;
    V5 Client "re-auth" r#"F0 @ 19 { 15 "SCRAM" }"#;
    V5 Server "auth-success" "F0 @";
    V5 Server "auth-continue" r#"F0 @ 18 { 15 "SCRAM" 16 "" 1F "more" 26 "k" "v" }"#;
}
