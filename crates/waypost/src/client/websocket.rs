//! The client's side of RFC 6455: the upgrade, and MQTT in binary frames. Bytes in, bytes out.
//!
//! Deliberately not here: extensions (none is offered, so none may be used), text, and waiting for
//! the server's Close: MQTT's own DISCONNECT has been said by then.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::door::DoorError;

/// The longest answer to the upgrade, and its headers.
const ANSWER_BYTES_MAX: usize = 16 * 1024;
const ANSWER_HEADERS_MAX: usize = 64;
/// What the answer's key is made with (RFC 6455 section 1.3).
const KEY_SUFFIX: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// The longest payload of a Close, Ping or Pong.
const CONTROL_BYTES_MAX: usize = 125;
/// The longest header of a frame without a mask.
const HEADER_BYTES_MAX: usize = 10;
const FINAL: u8 = 0x80;
const MASKED: u8 = 0x80;
/// Stand for a length of two and of eight bytes that follows.
const LENGTH_16: u8 = 126;
const LENGTH_64: u8 = 127;
const CONTINUATION: u8 = 0;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;
/// Close: the purpose is fulfilled.
const NORMAL: u16 = 1000;

/// The upgrade a door asks for.
#[derive(Debug, Clone)]
pub struct Request {
    authority: String,
    path: String,
}

impl Request {
    /// To the server that calls itself `authority`, for what it has at `path`.
    pub fn new(authority: &str, path: &str) -> Self {
        Self {
            authority: authority.to_owned(),
            path: path.to_owned(),
        }
    }
}

/// One WebSocket.
#[derive(Debug)]
pub struct WebSocket {
    state: State,
    /// The answer, or the header of a frame, as far as it has come.
    head: Vec<u8>,
    /// The payload of a control frame, as far as it has come.
    control: Vec<u8>,
    /// The message's last frame has not come.
    fragmented: bool,
}

#[derive(Debug)]
enum State {
    /// The upgrade is out; its answer must carry this.
    Upgrading {
        accept: String,
    },
    /// Between frames, or in a frame's header.
    Header,
    /// In a frame's payload.
    Payload {
        opcode: u8,
        left: u64,
    },
    Closed,
}

/// What the server's bytes were.
#[derive(Debug, Default)]
pub struct Heard {
    /// Frames to be sent in answer.
    pub answer: Vec<u8>,
    /// The server said Close: its code and words.
    pub closed: Option<String>,
}

impl WebSocket {
    /// A WebSocket, and the request to send first.
    pub fn new(request: &Request) -> Result<(Self, Vec<u8>), getrandom::Error> {
        let mut nonce = [0; 16];
        getrandom::fill(&mut nonce)?;
        let key = STANDARD.encode(nonce);
        let text = format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Protocol: mqtt\r\n\r\n",
            request.path, request.authority
        );
        let websocket = Self {
            state: State::Upgrading {
                accept: accept(&key),
            },
            head: Vec::new(),
            control: Vec::new(),
            fragmented: false,
        };
        Ok((websocket, text.into_bytes()))
    }

    /// Whether the server has accepted the upgrade.
    pub fn is_open(&self) -> bool {
        !matches!(self.state, State::Upgrading { .. })
    }

    /// Takes the server's bytes; what they carry of MQTT is added to `payload`.
    pub fn receive(&mut self, mut bytes: &[u8], payload: &mut Vec<u8>) -> Result<Heard, DoorError> {
        let mut heard = Heard::default();
        if let State::Upgrading { accept } = &self.state {
            let before = self.head.len();
            self.head.extend_from_slice(bytes);
            let Some(length) = read_answer(&self.head, accept)? else {
                return Ok(heard);
            };
            self.head.clear();
            self.state = State::Header;
            bytes = bytes.get(length - before..).unwrap_or_default();
        }
        loop {
            match self.state {
                State::Upgrading { .. } | State::Closed => return Ok(heard),
                State::Header => {
                    let Some(rest) = self.read_header(bytes)? else {
                        return Ok(heard);
                    };
                    bytes = rest;
                }
                State::Payload { opcode, left } => {
                    let count = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                    let (part, rest) = bytes.split_at(count);
                    bytes = rest;
                    if opcode >= CLOSE {
                        self.control.extend_from_slice(part);
                    } else {
                        payload.extend_from_slice(part);
                    }
                    let left = left - count as u64;
                    if left > 0 {
                        self.state = State::Payload { opcode, left };
                        return Ok(heard);
                    }
                    self.state = State::Header;
                    if opcode >= CLOSE {
                        self.on_control(opcode, &mut heard)?;
                    }
                }
            }
        }
    }

    /// Reads a frame's header; gives what follows it, once it is whole.
    fn read_header<'b>(&mut self, bytes: &'b [u8]) -> Result<Option<&'b [u8]>, DoorError> {
        let before = self.head.len();
        let wanted = HEADER_BYTES_MAX - before;
        self.head
            .extend_from_slice(bytes.get(..wanted).unwrap_or(bytes));
        let Some((&[first, second], rest)) = self.head.split_first_chunk::<2>() else {
            return Ok(None);
        };
        let (extra, length) = match second & !MASKED {
            LENGTH_16 => (
                2,
                rest.first_chunk()
                    .map(|bytes| u64::from(u16::from_be_bytes(*bytes))),
            ),
            LENGTH_64 => (
                8,
                rest.first_chunk().map(|bytes| u64::from_be_bytes(*bytes)),
            ),
            short => (0, Some(u64::from(short))),
        };
        let (opcode, is_final) = (first & 0x0f, first & FINAL != 0);
        let wrong = if first & 0x70 != 0 {
            Some("an extension nobody asked for")
        } else if second & MASKED != 0 {
            Some("a masked frame")
        } else {
            match opcode {
                CONTINUATION if !self.fragmented => Some("a continuation of nothing"),
                BINARY if self.fragmented => Some("a message inside another"),
                CLOSE | PING | PONG if !is_final || second > 125 => {
                    Some("a control frame in parts or too long")
                }
                CONTINUATION | BINARY | CLOSE | PING | PONG => None,
                1 => Some("a text frame, where MQTT wants binary ones"),
                _ => Some("a frame of an unknown kind"),
            }
        };
        if let Some(wrong) = wrong {
            return Err(DoorError::BadFrame(wrong));
        }
        let Some(length) = length else {
            return Ok(None);
        };
        if opcode < CLOSE {
            self.fragmented = !is_final;
        }
        self.head.clear();
        self.state = State::Payload {
            opcode,
            left: length,
        };
        Ok(Some(bytes.get(2 + extra - before..).unwrap_or_default()))
    }

    fn on_control(&mut self, opcode: u8, heard: &mut Heard) -> Result<(), DoorError> {
        let payload = std::mem::take(&mut self.control);
        let failed = |_| DoorError::BadFrame("no random numbers to answer it with");
        match opcode {
            PING => write_frame(PONG, &payload, &mut heard.answer).map_err(failed)?,
            CLOSE => {
                self.state = State::Closed;
                heard.closed = Some(match payload.split_first_chunk::<2>() {
                    None => "without a code".to_owned(),
                    Some((code, text)) => format!(
                        "code {} {}",
                        u16::from_be_bytes(*code),
                        String::from_utf8_lossy(text)
                    ),
                });
            }
            _ => {}
        }
        Ok(())
    }
}

/// Adds a message of one frame to `out`.
pub fn send(payload: &[u8], out: &mut Vec<u8>) -> Result<(), getrandom::Error> {
    write_frame(BINARY, payload, out)
}

/// Adds the last frame to `out`.
pub fn close(out: &mut Vec<u8>) -> Result<(), getrandom::Error> {
    write_frame(CLOSE, &NORMAL.to_be_bytes(), out)
}

/// The length of the answer to the upgrade, once it is whole and as it must be.
fn read_answer(bytes: &[u8], accept: &str) -> Result<Option<usize>, DoorError> {
    // A TLS alert or handshake record.
    if let [0x15 | 0x16, 3, ..] = bytes {
        return Err(DoorError::OnlyTls);
    }
    let mut headers = [httparse::EMPTY_HEADER; ANSWER_HEADERS_MAX];
    let mut answer = httparse::Response::new(&mut headers);
    let length = match answer.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if bytes.len() <= ANSWER_BYTES_MAX => return Ok(None),
        Ok(httparse::Status::Partial) | Err(_) => return Err(DoorError::NotWebSocket),
    };
    let status = answer.code.unwrap_or_default();
    if status != 101 {
        return Err(DoorError::UpgradeRefused {
            status,
            reason: answer.reason.unwrap_or_default().to_owned(),
        });
    }
    let header = |name: &str| {
        let mut found = answer
            .headers
            .iter()
            .filter(|header| header.name.eq_ignore_ascii_case(name));
        let value = found
            .next()
            .and_then(|header| str::from_utf8(header.value).ok());
        value.map(str::trim).filter(|_| found.next().is_none())
    };
    let is = |name: &str, wanted: &str| {
        header(name).is_some_and(|value| value.eq_ignore_ascii_case(wanted))
    };
    let wrong = if !is("upgrade", "websocket") || !is("connection", "upgrade") {
        "it upgrades to something else"
    } else if header("sec-websocket-accept") != Some(accept) {
        "its key does not answer ours"
    } else if header("sec-websocket-protocol") != Some("mqtt") {
        "it does not agree to the subprotocol mqtt"
    } else if header("sec-websocket-extensions").is_some() {
        "it uses an extension nobody offered"
    } else {
        return Ok(Some(length));
    };
    Err(DoorError::BadUpgrade(wrong))
}

fn accept(key: &str) -> String {
    let text = format!("{key}{KEY_SUFFIX}");
    STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes()))
}

/// Adds a masked frame to `out`.
fn write_frame(opcode: u8, payload: &[u8], out: &mut Vec<u8>) -> Result<(), getrandom::Error> {
    debug_assert!(opcode < CLOSE || payload.len() <= CONTROL_BYTES_MAX);
    let mut mask = [0; 4];
    getrandom::fill(&mut mask)?;
    out.push(FINAL | opcode);
    if let Some(short) = u8::try_from(payload.len())
        .ok()
        .filter(|&length| length < LENGTH_16)
    {
        out.push(MASKED | short);
    } else if let Ok(medium) = u16::try_from(payload.len()) {
        out.push(MASKED | LENGTH_16);
        out.extend(medium.to_be_bytes());
    } else {
        out.push(MASKED | LENGTH_64);
        out.extend((payload.len() as u64).to_be_bytes());
    }
    out.extend(mask);
    let start = out.len();
    out.extend_from_slice(payload);
    // Eight bytes at a time: a mask twice over.
    let [a, b, c, d] = mask;
    let twice = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (blocks, rest) = out
        .get_mut(start..)
        .unwrap_or_default()
        .as_chunks_mut::<8>();
    for block in blocks {
        *block = (u64::from_ne_bytes(*block) ^ twice).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACCEPTED: &str = "HTTP/1.1 101 Switching Protocols\r\nupgrade: WebSocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Protocol: mqtt\r\nSec-WebSocket-Accept: ";

    /// A WebSocket and an answer that its request deserves.
    fn asked() -> (WebSocket, Vec<u8>) {
        let (websocket, request) = WebSocket::new(&Request::new("h:80", "/mqtt")).unwrap();
        let request = String::from_utf8(request).unwrap();
        let key = request.split("Key: ").nth(1).unwrap().split('\r').next();
        let answer = format!("{ACCEPTED}{}\r\n\r\n", accept(key.unwrap()));
        (websocket, answer.into_bytes())
    }

    fn open() -> WebSocket {
        let (mut websocket, answer) = asked();
        websocket.receive(&answer, &mut Vec::new()).unwrap();
        websocket
    }

    /// A frame as a server writes it.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![first];
        match payload.len() {
            short @ ..126 => frame.push(u8::try_from(short).unwrap()),
            medium => {
                frame.push(126);
                frame.extend(u16::try_from(medium).unwrap().to_be_bytes());
            }
        }
        frame.extend(payload);
        frame
    }

    #[test]
    fn the_key_is_answered_as_the_rfc_shows() {
        assert_eq!(
            accept("dGhlIHNhbXBsZSBub25jZQ=="),
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
    }

    /// Wherever the network cuts the server's bytes, the same MQTT comes out.
    #[test]
    fn answers_and_frames_may_come_in_any_pieces() {
        let long = [7; 300];
        for piece in [1, 2, 3, 5, 100, 10_000] {
            let (mut websocket, mut bytes) = asked();
            bytes.extend(frame(BINARY, b"he"));
            bytes.extend(frame(FINAL | PING, b"are you there"));
            bytes.extend(frame(CONTINUATION, b""));
            bytes.extend(frame(FINAL | CONTINUATION, b"llo"));
            bytes.extend(frame(FINAL | PONG, b""));
            bytes.extend(frame(FINAL | BINARY, &long));
            bytes.extend(frame(FINAL | CLOSE, b"\x03\xf1too big"));
            let (mut payload, mut answer, mut closed) = (Vec::new(), Vec::new(), None);
            for part in bytes.chunks(piece) {
                let heard = websocket.receive(part, &mut payload).unwrap();
                answer.extend(heard.answer);
                closed = closed.or(heard.closed);
            }
            assert_eq!(payload, [b"hello", &long[..]].concat(), "pieces of {piece}");
            assert_eq!(closed.as_deref(), Some("code 1009 too big"));
            let [first, second, mask @ ..] = answer.as_slice() else {
                panic!("no pong")
            };
            assert_eq!((*first, *second), (FINAL | PONG, MASKED + 13));
            let (mask, pong) = mask.split_at(4);
            let pong: Vec<u8> = pong
                .iter()
                .zip(mask.iter().cycle())
                .map(|(byte, mask)| byte ^ mask)
                .collect();
            assert_eq!(pong, b"are you there");
        }
    }

    #[test]
    fn frames_of_every_length_are_masked() {
        for length in [0, 1, 7, 8, 125, 126, 65_535, 65_536] {
            let payload: Vec<u8> = (0..length).map(|at: u32| at.to_le_bytes()[0]).collect();
            let mut out = vec![9; 3];
            send(&payload, &mut out).unwrap();
            let frame = &out[3..];
            assert_eq!(frame[0], FINAL | BINARY);
            let (said, head) = match frame[1] & !MASKED {
                126 => (u64::from(u16::from_be_bytes([frame[2], frame[3]])), 4),
                127 => (u64::from_be_bytes(frame[2..10].try_into().unwrap()), 10),
                short => (short.into(), 2),
            };
            assert_eq!(frame[1] & MASKED, MASKED);
            assert_eq!(said, u64::from(length));
            let (mask, masked) = frame[head..].split_at(4);
            let plain: Vec<u8> = masked
                .iter()
                .zip(mask.iter().cycle())
                .map(|(byte, mask)| byte ^ mask)
                .collect();
            assert_eq!(plain, payload);
        }
    }

    #[test]
    fn frames_that_break_the_rules_are_refused() {
        for (bytes, part) in [
            (vec![FINAL | BINARY | 0x40, 0], "extension"),
            (vec![FINAL | BINARY, MASKED | 1, 0, 0, 0, 0, 0], "masked"),
            (vec![FINAL | CONTINUATION, 0], "continuation of nothing"),
            (
                [frame(BINARY, b"a"), frame(BINARY, b"b")].concat(),
                "inside another",
            ),
            (vec![FINAL | 1, 0], "text"),
            (vec![FINAL | 3, 0], "unknown"),
            (vec![PING, 0], "control frame"),
            (vec![FINAL | PING, 126, 0, 126], "control frame"),
        ] {
            let error = open().receive(&bytes, &mut Vec::new()).unwrap_err();
            assert!(error.to_string().contains(part), "{bytes:?}: {error}");
        }
    }

    #[test]
    fn wrong_answers_are_named() {
        let check = |answer: &str, part: &str| {
            let (mut websocket, _) = asked();
            let error = websocket.receive(answer.as_bytes(), &mut Vec::new());
            let error = error.expect_err(answer).to_string();
            assert!(error.contains(part), "{answer}: {error}");
        };
        check("HTTP/1.1 404 Not Found\r\n\r\n", "404 Not Found");
        check("\x15\x03\x03\0\x02\x02\x46", "speaks TLS");
        check("\x20\x02\0\0", "not a WebSocket");
        check("HTTP/1.1 200 OK\r\n\r\n", "200 OK");
        check(&format!("{ACCEPTED}x\r\n\r\n"), "key");
        let endless = format!("HTTP/1.1 101 x\r\na: {}", "b".repeat(ANSWER_BYTES_MAX));
        check(&endless, "not a WebSocket");
        for (from, to, part) in [
            ("upgrade: WebSocket", "Upgrade: h2c", "something else"),
            ("Connection: Upgrade", "Connection: close", "something else"),
            ("Protocol: mqtt", "Protocol: mqttv3.1", "subprotocol"),
            (
                "Protocol: mqtt",
                "Extensions: x\r\nSec-WebSocket-Protocol: mqtt",
                "extension",
            ),
        ] {
            let (mut websocket, answer) = asked();
            let answer = String::from_utf8(answer).unwrap().replace(from, to);
            let error = websocket.receive(answer.as_bytes(), &mut Vec::new());
            let error = error.expect_err(&answer).to_string();
            assert!(error.contains(part), "{answer}: {error}");
        }
    }
}
