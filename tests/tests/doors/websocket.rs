//! From HTTP to WebSocket: the doors `ws` and `wss`, and `/mqtt` of the HTTP address.

use std::io::{Read, Write};
use std::sync::Arc;

use waypost_tests::{Certificates, Server, ServerOptions};

use crate::peer::{CONNACK, client, connect, read_to_end, tcp, wrap};

const REQUEST: &str = "GET /mqtt HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                       Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                       Sec-WebSocket-Protocol: mqtt\r\n";

/// One binary frame, masked with zeros: as good as any for a test.
fn frame(payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).unwrap();
    assert!(length < 126);
    [&[0x82, 0x80 | length, 0, 0, 0, 0], payload].concat()
}

/// Upgrades and connects, both in one write: what comes right behind the request belongs to MQTT.
#[track_caller]
pub fn greet(stream: &mut (impl Read + Write), client_id: &str, headers: &str) {
    let request = format!("{REQUEST}{headers}\r\n");
    stream
        .write_all(&[request.as_bytes(), &frame(&connect(client_id))].concat())
        .unwrap();
    let head = read_head(stream);
    assert!(head.starts_with("http/1.1 101 "), "{head}");
    assert!(
        head.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=\r\n"),
        "{head}"
    );
    assert!(head.contains("sec-websocket-protocol: mqtt\r\n"), "{head}");
    let mut answer = [0; 6];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer, [&[0x82, 4][..], &CONNACK].concat()[..]);
}

/// The head of an answer, in lower case.
fn read_head(stream: &mut impl Read) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap().to_lowercase()
}

fn server(certificates: &Certificates) -> Server {
    ServerOptions::new()
        .arguments([
            "--ws",
            "127.0.0.1:0",
            "--wss",
            "127.0.0.1:0",
            "--cert",
            &certificates.file("server.pem"),
            "--key",
            &certificates.file("server.key"),
        ])
        .configuration(
            "[http]\nallowed_origins = [\"https://app.example.org\"]\nallowed_hosts = [\"broker.example.org\"]\n",
        )
        .start()
}

#[test]
fn mqtt_over_websocket_at_every_door() {
    let certificates = Certificates::make();
    let server = server(&certificates);
    let host = "Host: localhost\r\n";
    greet(&mut tcp(&server.door("ws")), "ws", host);
    greet(&mut tcp(&server.http().to_string()), "http", host);
    let config = Arc::new(client(&certificates, None));
    greet(&mut wrap(tcp(&server.door("wss")), &config), "wss", host);
    let mut browser = client(&certificates, None);
    browser.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    greet(
        &mut wrap(tcp(&server.door("wss")), &Arc::new(browser)),
        "browser",
        host,
    );
}

#[test]
fn browsers_come_from_known_pages_to_known_hosts() {
    let certificates = Certificates::make();
    let server = server(&certificates);
    let (ws, http) = (server.door("ws"), server.http().to_string());
    for (host, origin, expect) in [
        ("localhost", None, "101"),
        ("broker.example.org", None, "101"),
        ("evil.example", None, "403"),
        ("localhost", Some("http://localhost"), "101"),
        ("localhost", Some("https://app.example.org"), "101"),
        ("localhost", Some("http://evil.example"), "403"),
        ("localhost", Some("null"), "403"),
        ("evil.example", Some("http://evil.example"), "403"),
    ] {
        let origin = origin.map_or_else(String::new, |origin| format!("Origin: {origin}\r\n"));
        for door in [&ws, &http] {
            let mut stream = tcp(door);
            write!(stream, "{REQUEST}Host: {host}\r\n{origin}\r\n").unwrap();
            let head = read_head(&mut stream);
            assert_eq!(&head[9..12], expect, "{host} {origin} at {door}");
        }
    }
}

#[test]
fn what_is_no_upgrade_is_told_what_it_should_be() {
    let certificates = Certificates::make();
    let server = server(&certificates);
    let (ws, http) = (server.door("ws"), server.http().to_string());
    let mut failed = 0.0;
    for (from, to, expect) in [
        ("GET /mqtt", "GET /elsewhere", "404"),
        ("GET", "POST", "405"),
        ("Upgrade: websocket\r\n", "", "426"),
        ("Version: 13", "Version: 8", "426"),
        ("dGhlIHNhbXBsZSBub25jZQ==", "c2hvcnQ=", "400"),
        ("Protocol: mqtt", "Protocol: chat", "400"),
        ("GET /mqtt HTTP/1.1", "\u{16}\u{3}\u{1}", "400"),
    ] {
        let request =
            format!("{REQUEST}Host: localhost\r\nContent-Length: 0\r\n\r\n").replace(from, to);
        for door in [&ws, &http] {
            let mut stream = tcp(door);
            stream.write_all(request.as_bytes()).unwrap();
            let head = read_head(&mut stream);
            assert_eq!(&head[9..12], expect, "{from} -> {to} at {door}: {head}");
            if door == &ws {
                read_to_end(&mut stream);
                failed += 1.0;
            }
        }
    }
    server.wait_for_metric("waypost_handshakes_failed_upgrade_total", failed);
}

#[test]
fn a_listener_has_origins_of_its_own() {
    let server = ServerOptions::new()
        .configuration(
            "[http]\nallowed_origins = [\"https://app.example.org\"]\n[[listener]]\nprotocol = \"ws\"\n\
             address = \"127.0.0.1:0\"\nallowed_origins = [\"https://other.example.org\"]\n",
        )
        .start();
    for (origin, expect) in [
        ("https://other.example.org", "101"),
        ("https://app.example.org", "403"),
    ] {
        let mut stream = tcp(&server.door("ws"));
        write!(
            stream,
            "{REQUEST}Host: localhost\r\nOrigin: {origin}\r\n\r\n"
        )
        .unwrap();
        assert_eq!(&read_head(&mut stream)[9..12], expect, "{origin}");
    }
}
