//! The client's side of RFC 6455: the upgrade, and MQTT in binary frames. Bytes in, bytes out.
//!
//! Deliberately not here: how frames are laid out and checked, which is the server's code too
//! ([`waypost_mqtt::websocket`]), extensions (none is offered, so none may be used), and
//! waiting for the server's Close: MQTT's own DISCONNECT has been said by then.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use waypost_mqtt::websocket::{CloseCode, Decoder, End, FrameHeader, Masked, Opcode, Sender};

use super::DoorError;

/// The longest answer to the upgrade, and its headers.
const ANSWER_BYTES_MAX: usize = 16 * 1024;
const ANSWER_HEADERS_MAX: usize = 64;
/// What the answer's key is made with (RFC 6455 section 1.3).
const KEY_SUFFIX: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// In a frame's second byte: a mask follows the length.
const MASKED: u8 = 0x80;

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
    /// Until the server has accepted the upgrade: what its answer must carry, and as much of the
    /// answer as has come.
    upgrading: Option<Upgrading>,
    decoder: Decoder,
}

#[derive(Debug)]
struct Upgrading {
    accept: String,
    answer: Vec<u8>,
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
            upgrading: Some(Upgrading {
                accept: accept(&key),
                answer: Vec::new(),
            }),
            decoder: Decoder::new(Sender::Server),
        };
        Ok((websocket, text.into_bytes()))
    }

    /// Whether the server has accepted the upgrade.
    pub fn is_open(&self) -> bool {
        self.upgrading.is_none()
    }

    /// Takes the server's bytes; what they carry of MQTT is added to `payload`.
    pub fn receive(&mut self, bytes: &[u8], payload: &mut Vec<u8>) -> Result<Heard, DoorError> {
        let mut heard = Heard::default();
        let mut answer = Vec::new();
        let mut frames = bytes;
        if let Some(upgrading) = &mut self.upgrading {
            upgrading.answer.extend_from_slice(bytes);
            let Some(length) = read_answer(&upgrading.answer, &upgrading.accept)? else {
                return Ok(heard);
            };
            answer.append(&mut upgrading.answer);
            frames = answer.get(length..).unwrap_or_default();
            self.upgrading = None;
        }
        self.decoder
            .decode(frames, &mut |part| part.append_to(payload));
        if let Some(ping) = self.decoder.take_unanswered_ping() {
            write_frame(Opcode::Pong, &ping, &mut heard.answer)
                .map_err(|_| DoorError::BadFrame("cannot be answered without random numbers"))?;
        }
        match self.decoder.end() {
            None => {}
            Some(End::Closed(None)) => heard.closed = Some("without a code".to_owned()),
            Some(End::Closed(Some(code))) => heard.closed = Some(format!("with code {}", code.0)),
            Some(End::Failed(error)) => return Err(DoorError::BadFrame(error.problem)),
        }
        Ok(heard)
    }
}

/// Adds a message of one frame to `out`.
pub fn send(payload: &[u8], out: &mut Vec<u8>) -> Result<(), getrandom::Error> {
    write_frame(Opcode::Binary, payload, out)
}

/// Adds the last frame to `out`.
pub fn close(out: &mut Vec<u8>) -> Result<(), getrandom::Error> {
    write_frame(Opcode::Close, &CloseCode::NORMAL.0.to_be_bytes(), out)
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
fn write_frame(opcode: Opcode, payload: &[u8], out: &mut Vec<u8>) -> Result<(), getrandom::Error> {
    let mut mask = [0; 4];
    getrandom::fill(&mut mask)?;
    let start = out.len();
    out.extend_from_slice(FrameHeader::new(opcode, payload.len()).as_slice());
    if let Some(length) = out.get_mut(start + 1) {
        *length |= MASKED;
    }
    out.extend(mask);
    // A mask takes itself off.
    Masked::new(payload, mask).append_to(out);
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
    fn frame(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
        [FrameHeader::new(opcode, payload.len()).as_slice(), payload].concat()
    }

    /// What a server reads of a client's frames.
    fn read(frames: &[u8]) -> (Vec<u8>, Decoder) {
        let (mut payload, mut decoder) = (Vec::new(), Decoder::new(Sender::Client));
        decoder.decode(frames, &mut |part| part.append_to(&mut payload));
        (payload, decoder)
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
            bytes.extend(frame(Opcode::Binary, b"he"));
            bytes.extend(frame(Opcode::Ping, b"are you there"));
            bytes.extend(frame(Opcode::Pong, b""));
            bytes.extend(frame(Opcode::Binary, b"llo"));
            bytes.extend(frame(Opcode::Binary, &long));
            bytes.extend(frame(Opcode::Close, b"\x03\xf1too big"));
            let (mut payload, mut answer, mut closed) = (Vec::new(), Vec::new(), None);
            for part in bytes.chunks(piece) {
                let heard = websocket.receive(part, &mut payload).unwrap();
                answer.extend(heard.answer);
                closed = closed.or(heard.closed);
            }
            assert_eq!(payload, [b"hello", &long[..]].concat(), "pieces of {piece}");
            assert_eq!(closed.as_deref(), Some("with code 1009"));
            assert_eq!(answer[0], frame(Opcode::Pong, b"")[0]);
            assert!(read(&answer).1.end().is_none(), "a server takes the pong");
        }
    }

    #[test]
    fn frames_of_every_length_are_masked() {
        let mut masks = Vec::new();
        for length in [0, 1, 7, 8, 125, 126, 65_535, 65_536] {
            let payload: Vec<u8> = (0..length).map(|at: u32| at.to_le_bytes()[0]).collect();
            let mut out = Vec::new();
            send(&payload, &mut out).unwrap();
            let (read, decoder) = read(&out);
            assert_eq!((read, decoder.end()), (payload, None));
            let mask = out.len() - usize::try_from(length).unwrap() - 4;
            masks.push(out[mask..mask + 4].to_vec());
        }
        masks.sort();
        masks.dedup();
        assert!(masks.len() > 1, "each has a mask of its own");
        let mut out = Vec::new();
        close(&mut out).unwrap();
        let end = read(&out).1.end();
        assert_eq!(end, Some(End::Closed(Some(CloseCode::NORMAL))));
    }

    #[test]
    fn frames_that_break_the_rules_are_refused() {
        let mut masked = Vec::new();
        send(b"a", &mut masked).unwrap();
        for (bytes, part) in [(masked, "masked"), (frame(Opcode::Text, b"a"), "text")] {
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
