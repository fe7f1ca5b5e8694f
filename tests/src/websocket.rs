//! A WebSocket connection (RFC 6455), frame by frame, right or wrong: the handshake is as the test words it, and so is
//! every header bit.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use waypost_mqtt::{Packet, ProtocolVersion, encode};

use crate::LIMIT;

/// What a frame carries, RFC 6455 §5.2.
pub mod opcode {
    /// More of a fragmented message.
    pub const CONTINUATION: u8 = 0x0;
    /// UTF-8.
    pub const TEXT: u8 = 0x1;
    /// Bytes: what MQTT travels in.
    pub const BINARY: u8 = 0x2;
    /// The end, with a code.
    pub const CLOSE: u8 = 0x8;
    /// To be answered by a pong.
    pub const PING: u8 = 0x9;
    /// The answer.
    pub const PONG: u8 = 0xA;
}

/// The first bit of a frame: its message ends with it.
pub const FIN: u8 = 0x80;

/// One frame as it came from the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebSocketFrame {
    /// FIN, the reserved bits and the opcode.
    pub first_byte: u8,
    /// What it carries.
    pub payload: Vec<u8>,
}

/// A connection that speaks WebSocket as the test says.
pub struct WebSocket {
    stream: TcpStream,
    /// Received but not yet taken.
    buffer: Vec<u8>,
    /// The header of the server's answer.
    head: String,
    /// Bytes of MQTT received but not yet taken.
    mqtt: Vec<u8>,
}

impl WebSocket {
    /// Opens `/mqtt` with the subprotocol `mqtt`; the server must switch protocols.
    #[track_caller]
    pub fn open(address: SocketAddr) -> Self {
        let socket = Self::request(address, "/mqtt", "Sec-WebSocket-Protocol: mqtt\r\n");
        assert_eq!(socket.status(), 101, "{}", socket.head);
        socket
    }

    /// Sends the handshake with further header lines and takes the head of the answer, whatever it says.
    #[track_caller]
    pub fn request(address: SocketAddr, path: &str, headers: &str) -> Self {
        let mut stream = TcpStream::connect(address).expect("the server accepts");
        stream.set_nodelay(true).expect("TCP_NODELAY can be set");
        // The key of RFC 6455 §1.3, whose answer is known.
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{headers}\r\n"
        );
        stream
            .write_all(request.as_bytes())
            .expect("the request is sent");
        let mut socket = Self {
            stream,
            buffer: Vec::new(),
            head: String::new(),
            mqtt: Vec::new(),
        };
        let deadline = Instant::now() + LIMIT;
        let end = loop {
            let found = socket
                .buffer
                .windows(4)
                .position(|window| window == b"\r\n\r\n");
            if let Some(at) = found {
                break at + 4;
            }
            assert!(
                socket.read_more(deadline),
                "the server closed the connection during the handshake"
            );
        };
        let rest = socket.buffer.split_off(end);
        let head = std::mem::replace(&mut socket.buffer, rest);
        socket.head = String::from_utf8(head).expect("a head in UTF-8");
        socket
    }

    /// The status code of the handshake's answer.
    pub fn status(&self) -> u16 {
        self.head
            .split(' ')
            .nth(1)
            .and_then(|code| code.parse().ok())
            .expect("a status code")
    }

    /// A header of the handshake's answer.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// Sends a masked frame, as a client must.
    pub fn send_frame(&mut self, first_byte: u8, payload: &[u8]) {
        let mask = [0x37, 0xfa, 0x21, 0x3d];
        let mut frame = vec![first_byte];
        match payload.len() {
            short @ 0..126 => frame.push(0x80 | u8::try_from(short).unwrap()),
            middle @ 126..0x1_0000 => {
                frame.push(0x80 | 0x7e);
                frame.extend(u16::try_from(middle).unwrap().to_be_bytes());
            }
            long => {
                frame.push(0x80 | 0x7f);
                frame.extend((long as u64).to_be_bytes());
            }
        }
        frame.extend(mask);
        frame.extend(
            payload
                .iter()
                .zip(mask.iter().cycle())
                .map(|(byte, mask)| byte ^ mask),
        );
        self.send_raw(&frame);
    }

    /// Sends bytes as they are; a connection closed meanwhile is no error here.
    pub fn send_raw(&mut self, bytes: &[u8]) {
        if let Err(error) = self.stream.write_all(bytes) {
            assert!(
                matches!(
                    error.kind(),
                    ErrorKind::BrokenPipe | ErrorKind::ConnectionReset
                ),
                "the frame cannot be sent: {error}"
            );
        }
    }

    /// Sends MQTT bytes in one binary frame.
    pub fn send_binary(&mut self, bytes: &[u8]) {
        self.send_frame(FIN | opcode::BINARY, bytes);
    }

    /// Sends a packet in one binary frame.
    pub fn send(&mut self, packet: &Packet<'_>, version: ProtocolVersion) {
        let mut bytes = Vec::new();
        encode(packet, version, &mut bytes);
        self.send_binary(&bytes);
    }

    /// The next frame, or none when the server closed the connection first.
    #[track_caller]
    pub fn receive_frame(&mut self) -> Option<WebSocketFrame> {
        let deadline = Instant::now() + LIMIT;
        loop {
            if let Some(frame) = self.take_frame() {
                return Some(frame);
            }
            if !self.read_more(deadline) {
                assert!(self.buffer.is_empty(), "closed in the middle of a frame");
                return None;
            }
        }
    }

    fn take_frame(&mut self) -> Option<WebSocketFrame> {
        let (&first_byte, rest) = self.buffer.split_first()?;
        let (&short, rest) = rest.split_first()?;
        assert_eq!(short & 0x80, 0, "RFC 6455 §5.1: a server does not mask");
        let (length, rest) = match short {
            126 => {
                let (length, rest) = rest.split_first_chunk()?;
                (u64::from(u16::from_be_bytes(*length)), rest)
            }
            127 => {
                let (length, rest) = rest.split_first_chunk()?;
                (u64::from_be_bytes(*length), rest)
            }
            short => (u64::from(short), rest),
        };
        let payload = rest.get(..usize::try_from(length).unwrap())?.to_vec();
        let used = self.buffer.len() - rest.len() + payload.len();
        self.buffer.drain(..used);
        Some(WebSocketFrame {
            first_byte,
            payload,
        })
    }

    /// As many bytes of MQTT, out of as many binary frames as it takes.
    #[track_caller]
    pub fn receive_mqtt(&mut self, count: usize) -> Vec<u8> {
        while self.mqtt.len() < count {
            let frame = self
                .receive_frame()
                .expect("the server closed the connection; a frame was expected");
            assert!(
                matches!(frame.first_byte, 0x82 | 0x02 | 0x00 | 0x80),
                "a binary frame was expected: {frame:?}"
            );
            self.mqtt.extend(frame.payload);
        }
        let rest = self.mqtt.split_off(count);
        std::mem::replace(&mut self.mqtt, rest)
    }

    /// One whole MQTT packet.
    #[track_caller]
    pub fn receive_packet(&mut self) -> Vec<u8> {
        let mut packet = self.receive_mqtt(2);
        while packet.len() < 5 && packet[packet.len() - 1] & 0x80 != 0 {
            packet.extend(self.receive_mqtt(1));
        }
        let length = packet[1..]
            .iter()
            .rev()
            .fold(0, |length, byte| length << 7 | usize::from(byte & 0x7f));
        packet.extend(self.receive_mqtt(length));
        packet
    }

    /// The server ends the connection with this code; other frames before are not looked at.
    #[track_caller]
    pub fn expect_close(&mut self, code: u16) {
        loop {
            let frame = self
                .receive_frame()
                .unwrap_or_else(|| panic!("closed without a close frame of {code}"));
            if frame.first_byte == FIN | opcode::CLOSE {
                assert_eq!(frame.payload.get(..2), Some(&code.to_be_bytes()[..]));
                break;
            }
        }
        self.expect_closed();
    }

    /// The server closes the connection, without another frame.
    #[track_caller]
    pub fn expect_closed(&mut self) {
        if let Some(frame) = self.receive_frame() {
            panic!("expected the connection to close, got {frame:?}");
        }
    }

    /// Reads what there is; false at the end of the stream.
    #[track_caller]
    fn read_more(&mut self, deadline: Instant) -> bool {
        let left = deadline.saturating_duration_since(Instant::now());
        assert!(!left.is_zero(), "nothing arrived within the limit");
        self.stream
            .set_read_timeout(Some(left.max(Duration::from_millis(1))))
            .expect("a read timeout can be set");
        let mut chunk = vec![0; 64 * 1024];
        match self.stream.read(&mut chunk) {
            Ok(0) => false,
            Ok(count) => {
                self.buffer.extend_from_slice(&chunk[..count]);
                true
            }
            Err(error) => match error.kind() {
                ErrorKind::ConnectionReset => false,
                ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => true,
                _ => panic!("the connection failed: {error}"),
            },
        }
    }
}
