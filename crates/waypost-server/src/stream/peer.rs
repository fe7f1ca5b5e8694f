//! The other side of the layers, for tests: rustls' buffered client, which believes anybody, and
//! a client's frames.

use std::io::{Read, Write};
use std::sync::{Arc, LazyLock};

use rcgen::{CertifiedKey, KeyPair};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, ServerConfig, SignatureScheme,
    SupportedProtocolVersion,
};

use super::Outgoing;
use super::tls::Tls;
use crate::socket::Framing;
use waypost_mqtt::websocket::{Decoder, End, FrameHeader, Masked, Opcode, Sender};

/// What lies between a test's client and the server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Door {
    pub(crate) tls: Option<&'static SupportedProtocolVersion>,
    pub(crate) framing: Framing,
}

impl Door {
    pub(crate) const PLAIN: Self = Self {
        tls: None,
        framing: Framing::Raw,
    };
    pub(crate) const TLS: Self = Self {
        tls: Some(&rustls::version::TLS13),
        framing: Framing::Raw,
    };
    pub(crate) const TLS12: Self = Self {
        tls: Some(&rustls::version::TLS12),
        framing: Framing::Raw,
    };
    pub(crate) const WEBSOCKET: Self = Self {
        tls: None,
        framing: Framing::WebSocket,
    };
    pub(crate) const WSS: Self = Self {
        tls: Self::TLS.tls,
        framing: Framing::WebSocket,
    };
    /// Those with a layer.
    pub(crate) const LAYERED: [Self; 4] = [Self::TLS, Self::TLS12, Self::WEBSOCKET, Self::WSS];
}

/// The client's side of a door, hands shaken.
pub(crate) struct PeerLayers {
    pub(crate) tls: Option<ClientConnection>,
    pub(crate) frames: Option<Decoder>,
    /// Frames that are not whole yet.
    framed: Vec<u8>,
    /// Pongs that came.
    pub(crate) pongs: usize,
    /// The server said `close_notify`.
    pub(crate) is_tls_closed: bool,
    /// How the server ended TLS, if it did so with an alert.
    pub(crate) alert: Option<Error>,
}

impl PeerLayers {
    /// And the server's.
    pub(crate) fn new(door: Door) -> (Self, Option<Tls>) {
        let shaken = door.tls.map(shake_hands);
        let (tls, server) = shaken.map_or((None, None), |(server, client)| {
            (Some(client), Some(server))
        });
        let layers = Self {
            tls,
            frames: (door.framing == Framing::WebSocket).then(|| Decoder::new(Sender::Server)),
            alert: None,
            framed: Vec::new(),
            pongs: 0,
            is_tls_closed: false,
        };
        (layers, server)
    }

    /// What the client sends to say `bytes`, in one frame if in frames.
    pub(crate) fn said(&mut self, bytes: &[u8]) -> Vec<u8> {
        let framed = if self.frames.is_some() {
            frame(true, 2, [1, 2, 3, 4], bytes)
        } else {
            bytes.to_vec()
        };
        self.protected(&framed)
    }

    /// What the client sends to say bytes that are framed already.
    pub(crate) fn protected(&mut self, framed: &[u8]) -> Vec<u8> {
        match &mut self.tls {
            Some(tls) => said(tls, framed),
            None => framed.to_vec(),
        }
    }

    /// What the client sends to close TLS.
    pub(crate) fn closed(&mut self) -> Vec<u8> {
        let Some(tls) = &mut self.tls else {
            return Vec::new();
        };
        tls.send_close_notify();
        sent(tls)
    }

    /// Appends what the server said to `plain`.
    pub(crate) fn understand(&mut self, wire: &[u8], plain: &mut Vec<u8>) {
        let mut open = Vec::new();
        match &mut self.tls {
            Some(tls) => {
                self.alert = understood(tls, wire, &mut open).err().or(self.alert.take());
                let state = tls.process_new_packets();
                self.is_tls_closed = state.is_ok_and(|state| state.peer_has_closed());
            }
            None => open.extend_from_slice(wire),
        }
        self.count_pongs(&open);
        match &mut self.frames {
            Some(decoder) => decoder.decode(&open, &mut |bytes: Masked<'_>| bytes.append_to(plain)),
            None => plain.append(&mut open),
        }
    }

    fn count_pongs(&mut self, open: &[u8]) {
        self.framed.extend_from_slice(open);
        while self.frames.is_some()
            && let [opcode, short, rest @ ..] = self.framed.as_slice()
        {
            let long = |bytes: usize| {
                let length = rest.get(..bytes)?;
                Some((
                    bytes,
                    length
                        .iter()
                        .fold(0, |sum, byte| sum << 8 | usize::from(*byte)),
                ))
            };
            let length = match short {
                126 => long(2),
                127 => long(8),
                _ => Some((0, usize::from(*short))),
            };
            let Some((bytes, length)) =
                length.filter(|(bytes, length)| rest.len() >= bytes + length)
            else {
                return;
            };
            self.pongs += usize::from(*opcode == 0x8A);
            self.framed.drain(..2 + bytes + length);
        }
    }

    /// How the server closed WebSocket.
    pub(crate) fn close_code(&self) -> Option<u16> {
        match self.frames.as_ref()?.end()? {
            End::Closed(code) => Some(code?.0),
            End::Failed(error) => panic!("{error}"),
        }
    }
}

/// A frame of a client, right or not: a server's, its first byte another, masked.
pub(crate) fn frame(is_last: bool, opcode: u8, mask: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let header = FrameHeader::new(Opcode::Binary, payload.len());
    let mut bytes = header.as_slice().to_vec();
    bytes[0] = u8::from(is_last) << 7 | opcode;
    bytes[1] |= 0x80;
    bytes.extend(mask);
    Masked::new(payload, mask).append_to(&mut bytes);
    bytes
}

/// A connection and its client, after the handshake.
pub(crate) fn shake_hands(version: &'static SupportedProtocolVersion) -> (Tls, ClientConnection) {
    let mut tls = Tls::new(server_config(version)).unwrap();
    let mut client = client();
    let mut out = Outgoing::default();
    let mut plain = Vec::new();
    while tls.is_handshaking() || client.is_handshaking() {
        let bytes = sent(&mut client);
        tls.read(&bytes, &mut out, &mut |_| {}).unwrap();
        understood(&mut client, out.as_slice(), &mut plain).unwrap();
        out.clear();
    }
    assert_eq!(tls.unread_len(), 0);
    (tls, client)
}

/// A server with a certificate of its own making.
pub(crate) fn server_config(version: &'static SupportedProtocolVersion) -> Arc<ServerConfig> {
    static MADE: LazyLock<CertifiedKey<KeyPair>> =
        LazyLock::new(|| rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap());
    let made = &*MADE;
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    Arc::new(config)
}

/// A client that speaks to it.
pub(crate) fn client() -> ClientConnection {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
    client.set_buffer_limit(None);
    client
}

/// Everything the client has to send.
pub(crate) fn sent(client: &mut ClientConnection) -> Vec<u8> {
    let mut bytes = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut bytes).unwrap();
    }
    bytes
}

/// What the client sends to say `plain`.
pub(crate) fn said(client: &mut ClientConnection, plain: &[u8]) -> Vec<u8> {
    client.writer().write_all(plain).unwrap();
    sent(client)
}

/// What the client understands of `wire`, until the server says it is done.
pub(crate) fn understood(
    client: &mut ClientConnection,
    mut wire: &[u8],
    plain: &mut Vec<u8>,
) -> Result<(), Error> {
    while !wire.is_empty() {
        if client.read_tls(&mut wire).unwrap() == 0 {
            break;
        }
        let state = client.process_new_packets()?;
        let mut new = vec![0; state.plaintext_bytes_to_read()];
        client.reader().read_exact(&mut new).unwrap();
        plain.append(&mut new);
    }
    Ok(())
}

#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
