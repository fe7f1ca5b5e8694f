//! One connection between accept and its shard: PROXY header, TLS, HTTP Upgrade, whichever its door has, in that order.
//!
//! A state machine over a socket that does not block: [`Handshake::advance`] goes as far as the bytes at hand lead. What
//! it holds is bounded: a PROXY header, the head of one request, and what rustls holds of one handshake message.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;

use mio::event::Source as _;
use mio::{Interest, Registry, Token};

use super::entrance::Place;
use super::proxy::{self, PROXY_FIXED_BYTES, ProxyError, ProxySource};
use super::upgrade::{self, Answer, Pages};
use super::{Door, Settings, certificate};
use crate::mailbox::{Handover, UNREAD_BYTES_MAX};
use crate::socket::{Framing, Socket};
use crate::stream::Outgoing;
use crate::stream::tls::{Tls, TlsError};

/// Bytes read at once; the first message of TLS is seldom longer.
const READ_BYTES: usize = 4 << 10;

/// Bytes thrown away of what a refused client still sends, so that closing does not reset the connection before the client
/// has read why.
const DISCARD_BYTES_MAX: usize = 64 << 10;

/// A connection whose handshakes are not done.
pub(super) struct Handshake {
    socket: Socket,
    peer: Option<SocketAddr>,
    place: Place,
    door: Arc<Door>,
    /// As the door was when the connection came.
    settings: Arc<Settings>,
    stage: Stage,
    tls: Option<Tls>,
    certificate: Vec<String>,
    framing: Framing,
    /// Read, decrypted and not understood yet.
    unread: Vec<u8>,
    /// On its way to the client, as it goes over the wire.
    unsent: Vec<u8>,
    /// The PROXY header named the client, so a proxy has looked at its Host.
    is_proxied: bool,
}

/// What all handshakes of a thread share to read into and to write from.
pub(super) struct Buffers {
    read: Vec<u8>,
    out: Outgoing,
}

impl Default for Buffers {
    fn default() -> Self {
        Self {
            read: vec![0; READ_BYTES],
            out: Outgoing::default(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Proxy,
    Tls,
    Upgrade,
    /// The last of our side is being written.
    Answering,
    /// The same, and then the end: it was refused.
    Refusing,
    /// Our side is shut; that many bytes were thrown away since.
    Discarding(usize),
    Done,
}

/// How far it got.
#[derive(Debug)]
pub(super) enum Progress {
    /// The client, or its network, has to do something.
    Waiting,
    /// It failed and is only there until the client has read why.
    Refused(Failure),
    /// Nothing is left to do for it.
    Over,
    /// A shard may have it.
    Done,
}

/// Why a handshake failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// The client closed the connection, or it broke.
    Gone,
    /// The PROXY header was missing or wrong.
    Proxy(ProxyError),
    /// TLS failed for another reason than the client's certificate.
    Tls(TlsError),
    /// The client's certificate is missing or not good.
    Certificate(TlsError),
    /// The HTTP request was no WebSocket that may come in.
    Upgrade(u16, &'static str),
    /// The client said more than a shard takes over.
    TooMuch,
    /// It took too long.
    TimedOut,
}

impl Handshake {
    pub(super) fn new(
        socket: Socket,
        peer: Option<SocketAddr>,
        place: Place,
        door: Arc<Door>,
    ) -> Self {
        let settings = door.settings();
        let mut handshake = Self {
            socket,
            peer,
            place,
            stage: Stage::Proxy,
            tls: None,
            certificate: Vec::new(),
            framing: Framing::Raw,
            unread: Vec::new(),
            unsent: Vec::new(),
            is_proxied: false,
            settings,
            door,
        };
        if !peer.is_some_and(|peer| handshake.settings.is_proxy(peer.ip())) {
            handshake.stage = handshake.after_proxy();
        }
        handshake
    }

    fn after_proxy(&self) -> Stage {
        if self.settings.tls.is_some() {
            Stage::Tls
        } else {
            self.after_tls()
        }
    }

    fn after_tls(&self) -> Stage {
        if self.door.protocol.is_websocket() {
            Stage::Upgrade
        } else {
            Stage::Done
        }
    }

    pub(super) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let both = Interest::READABLE | Interest::WRITABLE;
        self.socket.register(registry, token, both)
    }

    pub(super) fn deregister(&mut self, registry: &Registry) {
        // Closing takes it off as well.
        let _ = self.socket.deregister(registry);
    }

    /// Where the client is, for the log.
    pub(super) fn peer(&self) -> String {
        self.peer
            .map_or_else(|| "a Unix socket".to_owned(), |peer| peer.to_string())
    }

    pub(super) fn door(&self) -> &Door {
        &self.door
    }

    /// Whether it only waits for the client to read why it was refused.
    pub(super) fn is_refused(&self) -> bool {
        matches!(self.stage, Stage::Refusing | Stage::Discarding(_))
    }

    pub(super) fn is_resumed(&self) -> bool {
        self.tls.as_ref().is_some_and(Tls::is_resumed)
    }

    pub(super) fn into_handover(self) -> Handover {
        Handover {
            socket: self.socket,
            peer: self.peer,
            certificate: self.certificate,
            tls: self.tls,
            framing: self.framing,
            unread: self.unread,
            place: self.place,
        }
    }

    /// Goes on until the client has to do something, or an end.
    pub(super) fn advance(&mut self, buffers: &mut Buffers) -> Progress {
        let mut failure = None;
        loop {
            let step = match self.stage {
                Stage::Proxy => self.read_proxy_header(),
                Stage::Tls => self.shake_hands(buffers),
                Stage::Upgrade => self.read_request(buffers),
                Stage::Answering => self.write_last(Stage::Done),
                Stage::Refusing => self.write_last(Stage::Discarding(0)),
                Stage::Discarding(count) => self.discard(count, buffers),
                Stage::Done if self.unread.len() > UNREAD_BYTES_MAX => Err(Failure::TooMuch),
                Stage::Done => return Progress::Done,
            };
            match step {
                Ok(true) => {}
                Ok(false) => {
                    return failure.map_or(Progress::Waiting, Progress::Refused);
                }
                Err(_) if self.is_refused() => {
                    return failure.map_or(Progress::Over, Progress::Refused);
                }
                Err(Failure::Gone) => {
                    self.stage = Stage::Discarding(DISCARD_BYTES_MAX);
                    return Progress::Refused(Failure::Gone);
                }
                Err(why) => {
                    failure = Some(why);
                    self.stage = Stage::Refusing;
                }
            }
        }
    }

    /// Reads the header to its last byte, and not beyond: what follows may be for TLS.
    fn read_proxy_header(&mut self) -> Result<bool, Failure> {
        loop {
            let wanted = proxy::decode_proxy_length(&self.unread)
                .map_err(Failure::Proxy)?
                .unwrap_or(PROXY_FIXED_BYTES);
            if self.unread.len() >= wanted
                && let Some(source) =
                    proxy::decode_proxy_header(&self.unread).map_err(Failure::Proxy)?
            {
                match source {
                    ProxySource::Proxy => {}
                    ProxySource::Client(address) => self.peer = Some(address),
                    ProxySource::Unix => self.peer = None,
                }
                self.is_proxied = true;
                self.unread = Vec::new();
                self.stage = self.after_proxy();
                return Ok(true);
            }
            let begun = self.unread.len();
            self.unread.resize(wanted, 0);
            let missing = self.unread.get_mut(begun..).unwrap_or_default();
            let read = self.socket.read(missing);
            self.unread
                .truncate(begun + read.as_ref().map_or(0, |count| *count));
            if would_block(read)?.is_none() {
                return Ok(false);
            }
        }
    }

    fn shake_hands(&mut self, buffers: &mut Buffers) -> Result<bool, Failure> {
        let Some(settings) = self.settings.tls.as_ref() else {
            return Err(Failure::Gone);
        };
        if self.tls.is_none() {
            let config = Arc::clone(&settings.config);
            self.tls = Some(Tls::new(config).map_err(Failure::Tls)?);
        }
        while self.tls.as_ref().is_some_and(Tls::is_handshaking) {
            if !self.send()? || !self.read_tls(buffers)? {
                return Ok(false);
            }
        }
        let (Some(tls), Some(settings)) = (&self.tls, &self.settings.tls) else {
            return Err(Failure::Gone);
        };
        if !settings.is_still_good(tls) {
            let why = rustls::Error::from(rustls::CertificateError::Expired);
            return Err(Failure::Certificate(why.into()));
        }
        if let Some(own) = tls.peer_certificates().and_then(<[_]>::first) {
            self.certificate = certificate::names(own);
        }
        // What TLS had to say last, its ticket, goes with the answer to the upgrade where there is one.
        self.stage = match self.after_tls() {
            Stage::Done => Stage::Answering,
            stage => stage,
        };
        Ok(true)
    }

    /// Reads once: what it says to `unread`, what TLS answers to `unsent`. `false`: nothing was there.
    fn read_tls(&mut self, buffers: &mut Buffers) -> Result<bool, Failure> {
        let Some(tls) = &mut self.tls else {
            return Ok(false);
        };
        let Some(count) = would_block(self.socket.read(&mut buffers.read))? else {
            return Ok(false);
        };
        let bytes = buffers.read.get(..count).unwrap_or_default();
        let unread = &mut self.unread;
        buffers.out.clear();
        let read = tls.read(bytes, &mut buffers.out, &mut |plain| {
            unread.extend_from_slice(plain);
        });
        self.unsent.extend_from_slice(buffers.out.as_slice());
        read.map_err(of_tls)?;
        Ok(true)
    }

    fn read_request(&mut self, buffers: &mut Buffers) -> Result<bool, Failure> {
        loop {
            let pages = Pages {
                scheme: if self.tls.is_some() {
                    "https://"
                } else {
                    "http://"
                },
                allowed_origins: &self.settings.allowed_origins,
                allowed_hosts: (self.door.is_on_loopback() && !self.is_proxied)
                    .then_some(&self.settings.allowed_hosts),
            };
            match upgrade::answer(&self.unread, &pages) {
                Answer::Incomplete => {}
                Answer::Agreed(length, agreed) => {
                    self.unread.drain(..length);
                    self.framing = Framing::WebSocket;
                    self.answer(&agreed.response(), buffers)?;
                    self.stage = Stage::Answering;
                    return Ok(true);
                }
                Answer::Refused(refused) => {
                    self.answer(&refused.response(), buffers)?;
                    return Err(Failure::Upgrade(refused.status, refused.why));
                }
            }
            let more = if self.tls.is_some() {
                self.send()? && self.read_tls(buffers)?
            } else {
                let read = would_block(self.socket.read(&mut buffers.read))?;
                let bytes = buffers.read.get(..read.unwrap_or(0)).unwrap_or_default();
                self.unread.extend_from_slice(bytes);
                read.is_some()
            };
            if !more {
                return Ok(false);
            }
        }
    }

    /// Says it, through TLS where there is TLS.
    fn answer(&mut self, plain: &[u8], buffers: &mut Buffers) -> Result<(), Failure> {
        let Some(tls) = &mut self.tls else {
            self.unsent.extend_from_slice(plain);
            return Ok(());
        };
        buffers.out.clear();
        tls.write(plain, &mut buffers.out).map_err(Failure::Tls)?;
        self.unsent.extend_from_slice(buffers.out.as_slice());
        Ok(())
    }

    /// Writes what waits; `false`: not all of it.
    fn send(&mut self) -> Result<bool, Failure> {
        while !self.unsent.is_empty() {
            let Some(count) = would_block(self.socket.write(&self.unsent))? else {
                return Ok(false);
            };
            self.unsent.drain(..count.min(self.unsent.len()));
        }
        Ok(true)
    }

    /// Writes the last of our side, and goes on to `next`.
    fn write_last(&mut self, next: Stage) -> Result<bool, Failure> {
        if !self.send()? {
            return Ok(false);
        }
        if next != Stage::Done {
            self.socket
                .shutdown(Shutdown::Write)
                .map_err(|_| Failure::Gone)?;
        }
        self.stage = next;
        Ok(true)
    }

    fn discard(&mut self, count: usize, buffers: &mut Buffers) -> Result<bool, Failure> {
        if count >= DISCARD_BYTES_MAX {
            return Err(Failure::Gone);
        }
        let Some(read) = would_block(self.socket.read(&mut buffers.read))? else {
            return Ok(false);
        };
        self.stage = Stage::Discarding(count + read);
        Ok(true)
    }
}

/// `None`: not now. No bytes at all are the end.
fn would_block(result: io::Result<usize>) -> Result<Option<usize>, Failure> {
    match result {
        Ok(0) => Err(Failure::Gone),
        Ok(count) => Ok(Some(count)),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) if error.kind() == ErrorKind::Interrupted => Ok(Some(0)),
        Err(_) => Err(Failure::Gone),
    }
}

/// Whether it is the client's certificate that is wrong.
fn of_tls(error: TlsError) -> Failure {
    match error {
        TlsError::Tls(
            rustls::Error::InvalidCertificate(_)
            | rustls::Error::NoCertificatesPresented
            | rustls::Error::InvalidCertRevocationList(_),
        ) => Failure::Certificate(error),
        other => Failure::Tls(other),
    }
}
