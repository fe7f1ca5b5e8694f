//! Statements of MQTT 3.1.1, §6: MQTT over WebSocket.

use waypost_mqtt::{Packet, ProtocolVersion, Publish, QoS};
use waypost_tests::{
    FIN, RawClient, Server, WebSocket, connect_packet, empty_publish, opcode, subscribe_bytes,
};

const V311: ProtocolVersion = ProtocolVersion::V311;

/// A WebSocket with a session.
#[track_caller]
fn connected(server: &Server, client_id: &str) -> WebSocket {
    let mut socket = WebSocket::open(server.http());
    socket.send(&Packet::Connect(connect_packet(V311, client_id)), V311);
    let connack = socket.receive_packet();
    assert_eq!((connack[0], connack[3]), (0x20, 0), "{connack:02x?}");
    socket
}

/// The socket subscribes, somebody publishes over TCP, the socket receives.
#[track_caller]
fn check_receives(server: &Server, socket: &mut WebSocket, topic: &str, payload: &[u8]) {
    socket.send_binary(&subscribe_bytes(V311, 1, &[(topic, 0)]));
    assert_eq!(socket.receive_packet(), [0x90, 3, 0, 1, 0]);
    let client_id = format!("publisher of {topic}");
    RawClient::connect(server, V311, &client_id).publish(topic, QoS::AtMostOnce, payload);
    let publish = socket.receive_packet();
    assert_eq!(publish[0], 0x30);
    assert!(publish.ends_with(payload));
}

/// [MQTT-6.0.0-1]: control packets come in binary frames; a text frame ends the connection, with 1003 (RFC 6455 §7.4.1).
#[test]
fn mqtt_travels_in_binary_frames() {
    let server = Server::start();
    let mut socket = connected(&server, "binary");
    // `receive_packet` fails on any frame that is not binary.
    check_receives(&server, &mut socket, "binary", &vec![b'x'; 70_000]);

    for when in ["before CONNECT", "after CONNACK"] {
        let mut socket = if when == "before CONNECT" {
            WebSocket::open(server.http())
        } else {
            connected(&server, "text")
        };
        // A PINGREQ, but in a text frame.
        socket.send_frame(FIN | opcode::TEXT, &[0xC0, 0]);
        socket.expect_close(1003);
    }
}

/// [MQTT-6.0.0-2]: several packets in one frame, one packet in many frames, in fragments with control frames between, and
/// frames that begin and end in the middle of packets.
#[test]
fn packets_need_not_line_up_with_frames() {
    let server = Server::start();
    let mut connect = Vec::new();
    waypost_mqtt::encode(
        &Packet::Connect(connect_packet(V311, "frames")),
        V311,
        &mut connect,
    );
    let pingreq = [0xC0, 0];

    // Three packets in one frame.
    let mut socket = WebSocket::open(server.http());
    socket.send_binary(&[&connect[..], &pingreq, &pingreq].concat());
    assert_eq!(socket.receive_packet()[0], 0x20);
    assert_eq!(socket.receive_packet(), [0xD0, 0]);
    assert_eq!(socket.receive_packet(), [0xD0, 0]);

    // A frame for each byte, empty ones among them.
    let mut socket = WebSocket::open(server.http());
    for byte in connect.iter().chain(&pingreq) {
        socket.send_binary(&[*byte]);
        socket.send_binary(&[]);
    }
    assert_eq!(socket.receive_packet()[0], 0x20);
    assert_eq!(socket.receive_packet(), [0xD0, 0]);

    // One message in fragments, a ping between them.
    let mut socket = WebSocket::open(server.http());
    let (first, rest) = connect.split_at(5);
    let (second, third) = rest.split_at(3);
    socket.send_frame(opcode::BINARY, first);
    socket.send_frame(FIN | opcode::PING, b"still there?");
    socket.send_frame(opcode::CONTINUATION, second);
    socket.send_frame(FIN | opcode::CONTINUATION, third);
    let pong = socket.receive_frame().unwrap();
    assert_eq!(pong.first_byte, FIN | opcode::PONG);
    assert_eq!(pong.payload, b"still there?");
    assert_eq!(socket.receive_packet()[0], 0x20);

    // The end of one packet and the beginning of the next in one frame.
    let mut publish = Vec::new();
    let large = Publish {
        topic: "frames/large",
        payload: &[7; 3_000],
        ..empty_publish()
    };
    waypost_mqtt::encode(&Packet::Publish(large), V311, &mut publish);
    let bytes = [&publish[..], &publish, &pingreq].concat();
    socket.send_binary(&bytes[..1_000]);
    socket.send_binary(&bytes[1_000..4_000]);
    socket.send_binary(&bytes[4_000..]);
    assert_eq!(socket.receive_packet(), [0xD0, 0]);
}

/// [MQTT-6.0.0-3], [MQTT-6.0.0-4]: `mqtt` is chosen among what the client offers; who does not offer it gets no WebSocket.
#[test]
fn the_subprotocol_is_mqtt() {
    let server = Server::start();
    for offered in ["mqtt", "chat, mqtt", "mqtt, superchat"] {
        let headers = format!("Sec-WebSocket-Protocol: {offered}\r\n");
        let socket = WebSocket::request(server.http(), "/mqtt", &headers);
        assert_eq!(socket.status(), 101, "{offered}");
        assert_eq!(socket.header("Sec-WebSocket-Protocol"), Some("mqtt"));
        // RFC 6455 §1.3
        assert_eq!(
            socket.header("Sec-WebSocket-Accept"),
            Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
        );
    }
    for headers in [
        "",
        "Sec-WebSocket-Protocol: chat\r\n",
        "Sec-WebSocket-Protocol: mqttx\r\n",
    ] {
        let socket = WebSocket::request(server.http(), "/mqtt", headers);
        assert_eq!(socket.status(), 400, "{headers:?}");
    }
}
