//! OpenSSL's `s_client`, whose handshakes are not rustls's: raw MQTT piped through.

use std::fs::File;

use waypost_mqtt::{
    Disconnect, Packet, PacketId, Properties, ProtocolVersion, Publish, QoS, ReasonCode, encode,
};
use waypost_tests::{Program, Run, connect_packet, empty_publish, required_program};

use crate::doors::Doors;

const VERSION: ProtocolVersion = ProtocolVersion::V311;
/// CONNACK, PUBACK, PINGRESP.
const ANSWERS: [u8; 10] = [0x20, 2, 0, 0, 0x40, 2, 0, 1, 0xd0, 0];

/// What `s_client` with these words gets in answer to CONNECT, PUBLISH, PINGREQ and DISCONNECT;
/// none where there is no OpenSSL.
fn pipe(doors: &Doors, words: &str) -> Option<Run> {
    let mut bytes = Vec::new();
    encode(
        &Packet::Connect(connect_packet(VERSION, "s_client")),
        VERSION,
        &mut bytes,
    );
    let publish = Publish {
        topic: "a",
        qos: QoS::AtLeastOnce,
        packet_id: PacketId::new(1),
        ..empty_publish()
    };
    encode(&Packet::Publish(publish), VERSION, &mut bytes);
    encode(&Packet::PingReq, VERSION, &mut bytes);
    let farewell = Disconnect {
        reason: ReasonCode::Success,
        properties: Properties::EMPTY,
    };
    encode(&Packet::Disconnect(farewell), VERSION, &mut bytes);
    let file = doors.certificates.path("conversation");
    std::fs::write(&file, bytes).unwrap();

    let mut command = required_program(Program::OpenSsl)?;
    command
        .args(["s_client", "-quiet", "-verify_return_error", "-connect"])
        .arg(doors.place("mqtts"))
        .arg("-CAfile")
        .arg(doors.certificates.path("ca.pem"))
        .args(words.split_whitespace())
        .stdin(File::open(&file).unwrap());
    Some(Run::to_end(command, [""; 0]))
}

#[test]
fn handshakes_that_rustls_would_not_make() {
    let doors = Doors::open();
    for words in [
        "-tls1_3",
        "-tls1_2",
        "-tls1_3 -ciphersuites TLS_CHACHA20_POLY1305_SHA256",
        "-tls1_2 -cipher ECDHE-ECDSA-AES128-GCM-SHA256",
        "-groups P-384",
        "-no_ticket",
        "-noservername",
        "-servername elsewhere.example",
        // Records of 512 bytes, and more than one of them in a write.
        "-max_send_frag 512 -split_send_frag 512",
    ] {
        let Some(run) = pipe(&doors, words) else {
            return;
        };
        assert_eq!(
            run.stdout,
            String::from_utf8_lossy(&ANSWERS),
            "{words}: {}",
            run.stderr
        );
    }
}

#[test]
fn what_is_too_weak_is_refused() {
    let doors = Doors::open();
    for words in [
        "-tls1_1 -cipher DEFAULT@SECLEVEL=0",
        "-tls1_2 -cipher AES128-SHA",
        "-tls1_2 -cipher ECDHE-ECDSA-AES128-SHA",
    ] {
        let Some(run) = pipe(&doors, words) else {
            return;
        };
        assert!(
            !run.success && run.stdout.is_empty(),
            "{words}: {}",
            run.stdout
        );
        assert!(run.stderr.contains("alert"), "{words}: {}", run.stderr);
    }
}
