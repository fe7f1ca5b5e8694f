//! What lies between a socket and MQTT where a door has more than TCP: TLS, WebSocket, or both.
//! Bytes in, bytes out.

use std::io::Read;

use rustls::ClientConnection;

use super::websocket::{self, WebSocket};
use super::{Door, DoorError};

/// MQTT's bytes put into one frame, and so into what the socket has not taken, at most.
const WRAP_BYTES_MAX: usize = 64 * 1024;

/// The layers of one connection.
#[derive(Debug)]
pub struct Wire {
    tls: Option<ClientConnection>,
    websocket: Option<WebSocket>,
    /// The upgrade, until TLS can carry it.
    request: Vec<u8>,
    /// Bytes for the socket, and how many of them it took.
    outgoing: Vec<u8>,
    taken: usize,
    /// How many of MQTT's bytes are in `outgoing`.
    wrapped: usize,
    /// Nothing follows what is in `outgoing`.
    closed: bool,
    /// What TLS had inside.
    plain: Vec<u8>,
    /// A frame on its way into TLS.
    frame: Vec<u8>,
}

impl Wire {
    /// The layers of `door`, with what they say first; none where MQTT is all there is.
    pub fn new(door: &Door) -> Result<Option<Box<Self>>, DoorError> {
        if door.tls.is_none() && door.websocket.is_none() {
            return Ok(None);
        }
        let tls = match &door.tls {
            None => None,
            Some((config, name)) => {
                let tls = ClientConnection::new(config.clone(), name.clone());
                let mut tls = tls.map_err(DoorError::Tls)?;
                // `wrap` is the bound.
                tls.set_buffer_limit(None);
                Some(tls)
            }
        };
        let websocket = door.websocket.as_ref().map(WebSocket::new).transpose();
        let (websocket, request) = match websocket.map_err(no_random)? {
            None => (None, Vec::new()),
            Some((websocket, request)) => (Some(websocket), request),
        };
        let mut wire = Self {
            tls,
            websocket,
            request,
            outgoing: Vec::new(),
            taken: 0,
            wrapped: 0,
            closed: false,
            plain: Vec::new(),
            frame: Vec::new(),
        };
        wire.advance()?;
        Ok(Some(Box::new(wire)))
    }

    /// Whether MQTT's bytes pass.
    pub fn is_open(&self) -> bool {
        self.is_secure() && self.websocket.as_ref().is_none_or(WebSocket::is_open)
    }

    /// What the server owes while the wire is not open.
    pub fn awaited(&self) -> &'static str {
        if self.is_secure() {
            "the WebSocket request"
        } else {
            "the TLS handshake"
        }
    }

    /// What it means that the connection ended while the wire was not open.
    pub fn ended_early(&self) -> DoorError {
        if self.is_secure() {
            DoorError::ClosedBeforeUpgrade
        } else {
            DoorError::ClosedBeforeTls
        }
    }

    /// Takes bytes of the socket; those of MQTT are added to `mqtt`. Some text: the server ended
    /// the layer in order, and said so.
    pub fn receive(
        &mut self,
        mut bytes: &[u8],
        mqtt: &mut Vec<u8>,
    ) -> Result<Option<String>, DoorError> {
        let mut ended = None;
        let Some(tls) = &mut self.tls else {
            let heard = self.unframe(bytes, mqtt);
            self.advance()?;
            return heard;
        };
        let mut plain = std::mem::take(&mut self.plain);
        while !bytes.is_empty() {
            if tls.read_tls(&mut bytes).is_err() {
                break;
            }
            let outcome = tls.process_new_packets();
            // Ends at "would block"; a clean end shows in the state.
            let _ = tls.reader().read_to_end(&mut plain);
            match outcome {
                Ok(state) if state.peer_has_closed() => {
                    ended = Some("TLS was closed".to_owned());
                    break;
                }
                Ok(_) => {}
                Err(error) => {
                    // The alert tells the server why.
                    let _ = tls.write_tls(&mut self.outgoing);
                    return Err(tls_error(tls.is_handshaking(), error));
                }
            }
        }
        let heard = if self.websocket.is_some() {
            self.unframe(&plain, mqtt)
        } else {
            mqtt.extend_from_slice(&plain);
            Ok(None)
        };
        plain.clear();
        self.plain = plain;
        self.advance()?;
        Ok(heard?.or(ended))
    }

    /// Wraps the beginning of MQTT's bytes, if all before were taken; the wire must be open.
    pub fn wrap(&mut self, mqtt: &[u8]) -> Result<(), DoorError> {
        let part = mqtt.get(..WRAP_BYTES_MAX).unwrap_or(mqtt);
        if !self.pending().is_empty() || part.is_empty() {
            return Ok(());
        }
        match (&self.websocket, &self.tls) {
            (Some(_), None) => websocket::send(part, &mut self.outgoing).map_err(no_random)?,
            (Some(_), Some(_)) => {
                let mut frame = std::mem::take(&mut self.frame);
                frame.clear();
                websocket::send(part, &mut frame).map_err(no_random)?;
                self.encrypt(&frame)?;
                self.frame = frame;
            }
            (None, _) => self.encrypt(part)?,
        }
        self.wrapped = part.len();
        Ok(())
    }

    /// Bytes for the socket.
    pub fn pending(&self) -> &[u8] {
        self.outgoing.get(self.taken..).unwrap_or_default()
    }

    /// The socket took `count` bytes; gives how many of MQTT's are out with them.
    pub fn on_written(&mut self, count: usize) -> usize {
        self.taken += count;
        if self.taken < self.outgoing.len() {
            return 0;
        }
        self.outgoing.clear();
        self.taken = 0;
        std::mem::take(&mut self.wrapped)
    }

    /// Says that nothing follows.
    pub fn close(&mut self) -> Result<(), DoorError> {
        if self.closed {
            return Ok(());
        }
        self.closed = true;
        if !self.is_open() {
            return Ok(());
        }
        if self.websocket.is_some() {
            let mut frame = Vec::new();
            websocket::close(&mut frame).map_err(no_random)?;
            self.put(&frame)?;
        }
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
        }
        self.advance()
    }

    /// Whether [`Self::close`] was called.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    fn is_secure(&self) -> bool {
        self.tls.as_ref().is_none_or(|tls| !tls.is_handshaking())
    }

    fn unframe(&mut self, bytes: &[u8], mqtt: &mut Vec<u8>) -> Result<Option<String>, DoorError> {
        let Some(websocket) = &mut self.websocket else {
            return Ok(None);
        };
        let heard = websocket.receive(bytes, mqtt)?;
        if !heard.answer.is_empty() {
            self.put(&heard.answer)?;
        }
        Ok(heard
            .closed
            .map(|text| format!("the WebSocket was closed {text}")))
    }

    /// Sends what the layers have to say by themselves.
    fn advance(&mut self) -> Result<(), DoorError> {
        if !self.request.is_empty() && self.is_secure() {
            let request = std::mem::take(&mut self.request);
            self.put(&request)?;
        }
        self.drain_tls();
        Ok(())
    }

    /// Below WebSocket.
    fn put(&mut self, bytes: &[u8]) -> Result<(), DoorError> {
        if self.tls.is_some() {
            self.encrypt(bytes)
        } else {
            self.outgoing.extend_from_slice(bytes);
            Ok(())
        }
    }

    fn encrypt(&mut self, bytes: &[u8]) -> Result<(), DoorError> {
        if let Some(tls) = &mut self.tls {
            std::io::Write::write_all(&mut tls.writer(), bytes)
                .map_err(|error| DoorError::Tls(rustls::Error::General(error.to_string())))?;
        }
        self.drain_tls();
        Ok(())
    }

    fn drain_tls(&mut self) {
        if let Some(tls) = &mut self.tls {
            while tls.wants_write() && tls.write_tls(&mut self.outgoing).is_ok() {}
        }
    }
}

/// What TLS's own error means: garbage before the handshake is no TLS at all.
fn tls_error(handshaking: bool, error: rustls::Error) -> DoorError {
    match error {
        rustls::Error::InvalidMessage(
            rustls::InvalidMessage::InvalidContentType
            | rustls::InvalidMessage::UnknownProtocolVersion
            | rustls::InvalidMessage::InvalidEmptyPayload
            | rustls::InvalidMessage::MessageTooLarge,
        ) if handshaking => DoorError::NotTls,
        error => DoorError::Tls(error),
    }
}

fn no_random(error: getrandom::Error) -> DoorError {
    DoorError::Tls(rustls::Error::General(format!(
        "no random numbers: {error}"
    )))
}
