//! The PROXY protocol: required from proxies, refused from others, and the client's address is the one it names.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use waypost_tests::{Certificates, LIMIT, Server, ServerOptions, wait_for};

use crate::peer::{CONNACK, client, connect, greet, read_to_end, tcp, wrap};

/// A header of version 2 for TCP over IPv4 from 203.0.113.7:49153, with a TLV.
const HEADER: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x10\xcb\x00\x71\x07\xc0\x00\x02\x01\xc0\x01\x07\x5b\x04\x00\x01\x00";
/// The proxy speaks for itself.
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00";

fn server(from: &str, certificates: &Certificates) -> Server {
    let (cert, key) = (
        certificates.file("server.pem"),
        certificates.file("server.key"),
    );
    let door = |protocol: &str| {
        format!(
            "[[listener]]\nprotocol = {protocol:?}\naddress = \"127.0.0.1:0\"\nproxy_from = [{from:?}]\n"
        )
    };
    ServerOptions::new()
        .configuration(&format!(
            "[listen]\nmqtt = [\"127.0.0.1:0\"]\n[auth]\nallow_anonymous_from_anywhere = true\n\
             [tls]\ncert = {cert:?}\nkey = {key:?}\n{}{}{}{}",
            door("mqtt"),
            door("mqtts"),
            door("ws"),
            door("wss"),
        ))
        .start()
}

/// The plain door behind the proxy: the second that is printed.
fn proxied(server: &Server) -> TcpStream {
    let log = server.log();
    let mut doors = log.lines().filter_map(|line| line.strip_prefix("mqtt "));
    tcp(doors.nth(1).unwrap().trim())
}

fn address(server: &Server, client_id: &str) -> String {
    let (status, client) = server.get(&format!("/api/v1/clients/{client_id}"));
    assert_eq!(status, 200, "{client}");
    let line = client
        .lines()
        .find(|line| line.contains("\"address\""))
        .unwrap();
    line.split('"').nth(3).unwrap().to_owned()
}

#[test]
fn clients_have_the_address_that_the_header_names() {
    let certificates = Certificates::make();
    let server = server("127.0.0.0/8", &certificates);
    let mut plain = proxied(&server);
    // A byte at a time, and then the CONNECT at once with the last one.
    for byte in &HEADER[..HEADER.len() - 1] {
        plain.write_all(&[*byte]).unwrap();
    }
    plain
        .write_all(&[&HEADER[HEADER.len() - 1..], &connect("plain")].concat())
        .unwrap();
    let mut answer = [0; 4];
    plain.read_exact(&mut answer).unwrap();
    assert_eq!(answer, CONNACK);
    assert_eq!(address(&server, "plain"), "203.0.113.7:49153");

    let mut socket = tcp(&server.door("mqtts"));
    socket.write_all(HEADER).unwrap();
    let mut stream = wrap(socket, &Arc::new(client(&certificates, None)));
    greet(&mut stream, "tls").unwrap();
    assert_eq!(address(&server, "tls"), "203.0.113.7:49153");

    let mut local = proxied(&server);
    local.write_all(LOCAL).unwrap();
    let own = local.local_addr().unwrap().to_string();
    greet(&mut local, "check").unwrap();
    assert_eq!(address(&server, "check"), own);

    for (door, client_id) in [("ws", "ws"), ("wss", "wss")] {
        let mut socket = tcp(&server.door(door));
        socket.write_all(HEADER).unwrap();
        if door == "ws" {
            crate::websocket::greet(&mut socket, client_id, "Host: broker.example.org\r\n");
        } else {
            let mut stream = wrap(socket, &Arc::new(client(&certificates, None)));
            crate::websocket::greet(&mut stream, client_id, "Host: broker.example.org\r\n");
        }
    }
}

#[test]
fn what_a_proxy_must_not_send() {
    let certificates = Certificates::make();
    let server = server("127.0.0.0/8", &certificates);
    let too_long = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff";
    let datagram =
        b"\r\n\r\n\0\r\nQUIT\n\x21\x12\x00\x0c\x01\x02\x03\x04\x05\x06\x07\x08\x00\x01\x00\x02";
    let mut failed = 0.0;
    for wrong in [
        connect("no-header").as_slice(),
        b"PROXY TCP4 203.0.113.7 192.0.2.1 49153 1883\r\n",
        too_long,
        datagram,
        b"\x16\x03\x01\x02\x00",
    ] {
        let mut stream = proxied(&server);
        stream.write_all(wrong).unwrap();
        assert!(read_to_end(&mut stream).is_empty(), "{wrong:?}");
        failed += 1.0;
        server.wait_for_metric("waypost_handshakes_failed_proxy_total", failed);
    }
    wait_for("a line that names version 2", LIMIT, || {
        server
            .log()
            .contains("set the proxy to version 2")
            .then_some(())
    });
}

#[test]
fn from_elsewhere_there_is_no_header() {
    let certificates = Certificates::make();
    let server = server("192.0.2.0/24", &certificates);
    let mut without = proxied(&server);
    greet(&mut without, "direct").unwrap();
    let mut with = proxied(&server);
    with.write_all(&[HEADER, &connect("liar")].concat())
        .unwrap();
    assert!(read_to_end(&mut with).is_empty());
    let mut over_tls = tcp(&server.door("mqtts"));
    over_tls.write_all(HEADER).unwrap();
    let alert = read_to_end(&mut over_tls);
    assert_eq!(alert.first(), Some(&0x15), "a TLS alert, not {alert:02x?}");
    let mut over_http = tcp(&server.door("ws"));
    over_http.write_all(HEADER).unwrap();
    over_http.write_all(b"GET /mqtt HTTP/1.1\r\n\r\n").unwrap();
    assert!(read_to_end(&mut over_http).starts_with(b"HTTP/1.1 400 "));
    assert_eq!(server.get("/api/v1/clients/liar").0, 404);
}
