//! One TLS connection of the server's side, from its first byte to its last.
//!
//! On rustls' unbuffered API: the handshake and the records are rustls', the buffers are ours. So an
//! idle connection holds no buffer at all, which is half of what rustls' own buffering would cost,
//! and all connections of a thread share one to read into and one to write from.
//!
//! Deliberately not here: sockets, and which certificate is shown to whom (`door`).

use std::mem;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncryptError, UnbufferedStatus, WriteTraffic,
};
use rustls::{HandshakeKind, ServerConfig};

use super::Outgoing;

/// Bytes of one record's header: type, version, length.
const RECORD_HEADER_BYTES: usize = 5;
/// What rustls accepts as one record: a header, 2¹⁴ bytes and what protects them.
const RECORD_BYTES_MAX: usize = RECORD_HEADER_BYTES + 16 * 1024 + 2048;
/// Incomplete records and handshake messages that are kept at most: a client's certificates are
/// the largest.
pub(crate) const UNREAD_BYTES_MAX: usize = 2 * RECORD_BYTES_MAX;
/// What a batch of records is longer than its content, at most: header, nonce, type and tag of each,
/// and a key update or an alert before them.
const OVERHEAD_BYTES: usize = 512;

/// One TLS connection.
pub(crate) struct Tls {
    connection: Box<UnbufferedServerConnection>,
    /// The beginning of a record or a handshake message that is not whole yet.
    unread: Vec<u8>,
    /// The peer said `close_notify`; it sends nothing more.
    peer_closed: bool,
    /// It ended with an error; rustls is not asked again.
    failed: bool,
}

/// Why a TLS connection cannot go on. What the peer is to be told is in the bytes to send.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    /// The peer broke a rule, or the certificates do not please one side.
    #[error(transparent)]
    Tls(#[from] rustls::Error),
    /// A handshake message that is larger than anything a client has to say.
    #[error("a handshake message of more than {UNREAD_BYTES_MAX} bytes")]
    UnreadBytesExceeded,
    /// The keys have protected as much as they may.
    #[error("the keys are used up")]
    KeysExhausted,
}

impl Tls {
    /// A connection before its handshake.
    pub(crate) fn new(config: Arc<ServerConfig>) -> Result<Self, TlsError> {
        Ok(Self {
            connection: Box::new(UnbufferedServerConnection::new(config)?),
            unread: Vec::new(),
            peer_closed: false,
            failed: false,
        })
    }

    /// The handshake is not done: nothing may be written yet.
    pub(crate) fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    /// The peer's certificate and those it was signed by, when it showed one and it was good.
    pub(crate) fn peer_certificates(&self) -> Option<&[CertificateDer<'static>]> {
        self.connection.peer_certificates()
    }

    /// The peer went on with an earlier session: its certificate was checked then, not now.
    pub(crate) fn is_resumed(&self) -> bool {
        self.connection.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// The peer said that it sends nothing more.
    pub(crate) fn is_peer_closed(&self) -> bool {
        self.peer_closed
    }

    /// Bytes of an incomplete record that stand before whatever is read next.
    pub(crate) fn unread_len(&self) -> usize {
        self.unread.len()
    }

    /// Takes what was read, as `read_behind_unread` does, from anywhere.
    pub(crate) fn read(
        &mut self,
        bytes: &[u8],
        out: &mut Outgoing,
        plain: &mut dyn FnMut(&[u8]),
    ) -> Result<(), TlsError> {
        let mut wire = vec![0; self.unread.len()];
        wire.extend_from_slice(bytes);
        self.read_behind_unread(&mut wire, out, plain)
    }

    /// Takes what was read from the socket to `wire` behind the first `unread_len` bytes, which are
    /// ours to fill. What it says goes to `plain`, what must be answered to `out`, also when this
    /// is an error. Nothing that is whole stays behind.
    pub(crate) fn read_behind_unread(
        &mut self,
        wire: &mut [u8],
        out: &mut Outgoing,
        plain: &mut dyn FnMut(&[u8]),
    ) -> Result<(), TlsError> {
        let Some((before, new)) = wire.split_at_mut_checked(self.unread.len()) else {
            return Ok(());
        };
        if self.failed {
            return Ok(());
        }
        // Bytes that come one by one are not copied back and forth one by one.
        if !self.is_whole_record_with(new) {
            self.unread.extend_from_slice(new);
            return Ok(());
        }
        before.copy_from_slice(&self.unread);
        self.unread = Vec::new();
        let mut at = 0;
        let result = loop {
            let step = self.step(wire.get_mut(at..).unwrap_or_default(), out, plain, None);
            at += step.discard;
            match step.end {
                Ok(false) => {}
                Ok(true) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        if result.is_err() {
            self.failed = true;
            self.put_alert(wire.get_mut(at..).unwrap_or_default(), out);
            return result;
        }
        let rest = wire.get(at..).unwrap_or_default();
        if rest.len() > UNREAD_BYTES_MAX {
            self.failed = true;
            return Err(TlsError::UnreadBytesExceeded);
        }
        if !self.peer_closed {
            self.unread = rest.to_vec();
        }
        Ok(())
    }

    /// Appends the alert that tells the peer what was wrong.
    fn put_alert(&mut self, mut wire: &mut [u8], out: &mut Outgoing) {
        while self.connection.wants_write() {
            let step = self.step(wire, out, &mut |_| {}, None);
            wire = wire.get_mut(step.discard..).unwrap_or_default();
        }
    }

    /// Whether what is unread and these bytes make a record that can be opened, or never one: what
    /// speaks no TLS hears so at once instead of being waited for.
    fn is_whole_record_with(&self, new: &[u8]) -> bool {
        let mut header = self.unread.iter().chain(new);
        let mut next = || header.next().copied();
        let (Some(kind), Some(major), Some(_), Some(high), Some(low)) =
            (next(), next(), next(), next(), next())
        else {
            return false;
        };
        let len = RECORD_HEADER_BYTES + usize::from(u16::from_be_bytes([high, low]));
        let is_record = matches!(kind, 0x14..=0x17) && major == 3 && len <= RECORD_BYTES_MAX;
        !is_record || self.unread.len() + new.len() >= len
    }

    /// Lets rustls do one thing with the bytes that are not discarded yet.
    fn step(
        &mut self,
        wire: &mut [u8],
        out: &mut Outgoing,
        plain: &mut dyn FnMut(&[u8]),
        write: Option<Write<'_>>,
    ) -> Step {
        let UnbufferedStatus { discard, state } = self.connection.process_tls_records(wire);
        let end = match state {
            Ok(ConnectionState::ReadTraffic(mut traffic)) => loop {
                match traffic.next_record() {
                    Some(Ok(record)) => plain(record.payload),
                    Some(Err(error)) => break Err(error.into()),
                    None => break Ok(false),
                }
            },
            Ok(ConnectionState::EncodeTlsData(mut data)) => {
                out.put(|room| match data.encode(room) {
                    Err(EncodeError::InsufficientSize(size)) => Err(size.required_size),
                    other => Ok(other.unwrap_or(0)),
                });
                Ok(false)
            }
            Ok(ConnectionState::TransmitTlsData(transmit)) => {
                transmit.done();
                Ok(false)
            }
            Ok(ConnectionState::PeerClosed) => {
                self.peer_closed = true;
                Ok(false)
            }
            Ok(ConnectionState::WriteTraffic(mut traffic)) => write
                .map_or(Ok(()), |write| put(write, &mut traffic, out))
                .map(|()| true),
            // It waits for more, or for us to write. Early data is never offered.
            Ok(_) => Ok(true),
            Err(error) => Err(error.into()),
        };
        Step { discard, end }
    }

    /// Appends `plain` to `out`, in records as full as they can be. After an error, or after `close`,
    /// nothing.
    pub(crate) fn write(&mut self, plain: &[u8], out: &mut Outgoing) -> Result<(), TlsError> {
        out.reserve(plain.len() + OVERHEAD_BYTES);
        self.protect(out, &mut |traffic, room| traffic.encrypt(plain, room))
    }

    /// Appends `close_notify`: nothing may be written after it.
    pub(crate) fn close(&mut self, out: &mut Outgoing) -> Result<(), TlsError> {
        self.protect(out, &mut |traffic, room| traffic.queue_close_notify(room))
    }

    fn protect(&mut self, out: &mut Outgoing, write: Write<'_>) -> Result<(), TlsError> {
        if self.failed {
            return Ok(());
        }
        // What was not whole is shown again: rustls remembers how far it is in it.
        let mut unread = mem::take(&mut self.unread);
        let mut at = 0;
        let result = loop {
            let rest = unread.get_mut(at..).unwrap_or_default();
            let step = self.step(rest, out, &mut |_| {}, Some(write));
            at += step.discard;
            match step.end {
                Ok(false) => {}
                Ok(true) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        unread.drain(..at);
        self.unread = unread;
        result
    }
}

type Writer<'a> = WriteTraffic<'a, ServerConnectionData>;

/// Appends something protected: application data or `close_notify`.
type Write<'a> = &'a mut dyn FnMut(&mut Writer<'_>, &mut [u8]) -> Result<usize, EncryptError>;

fn put(write: Write<'_>, traffic: &mut Writer<'_>, out: &mut Outgoing) -> Result<(), TlsError> {
    let mut result = Ok(());
    out.put(|room| match write(traffic, room) {
        Ok(len) => Ok(len),
        Err(EncryptError::InsufficientSize(size)) => Err(size.required_size),
        Err(EncryptError::EncryptExhausted) => {
            result = Err(TlsError::KeysExhausted);
            Ok(0)
        }
    });
    result
}

/// What one step came to.
struct Step {
    /// Bytes at the front that are done with.
    discard: usize,
    /// Whether there is nothing left to do.
    end: Result<bool, TlsError>,
}

#[cfg(test)]
mod tests {
    use rustls::version::{TLS12, TLS13};

    use super::*;
    use crate::stream::peer::{self, shake_hands};

    fn read_all(tls: &mut Tls, wire: &[u8], step: usize) -> Result<Vec<u8>, TlsError> {
        let mut out = Outgoing::default();
        let mut plain = Vec::new();
        for piece in wire.chunks(step) {
            tls.read(piece, &mut out, &mut |bytes| plain.extend_from_slice(bytes))?;
        }
        Ok(plain)
    }

    #[test]
    fn every_way_to_cut_the_reads_gives_the_same_bytes() {
        for version in [&TLS12, &TLS13] {
            let (mut tls, mut client) = shake_hands(version);
            let text: Vec<u8> = (0..40_000_u32).map(|at| at.to_le_bytes()[0]).collect();
            for step in [1, 2, 5, 1000, 17_000, 100_000] {
                let wire = peer::said(&mut client, &text);
                assert!(read_all(&mut tls, &wire, step).unwrap() == text);
                assert_eq!(tls.unread.capacity(), 0, "nothing is held while idle");
            }
        }
    }

    #[test]
    fn what_is_written_arrives_in_full_records() {
        for version in [&TLS12, &TLS13] {
            let (mut tls, mut client) = shake_hands(version);
            let mut out = Outgoing::default();
            let text = vec![7; 3 * 16_384];
            tls.write(&text, &mut out).unwrap();
            assert!(out.as_slice().len() <= text.len() + 3 * 29);
            let mut plain = Vec::new();
            peer::understood(&mut client, out.as_slice(), &mut plain).unwrap();
            assert!(plain == text);
        }
    }

    #[test]
    fn new_keys_are_taken_and_answered() {
        let (mut tls, mut client) = shake_hands(&TLS13);
        client.refresh_traffic_keys().unwrap();
        let wire = peer::said(&mut client, b"new");
        assert_eq!(read_all(&mut tls, &wire, 3).unwrap(), b"new");
        let mut out = Outgoing::default();
        tls.write(b"old", &mut out).unwrap();
        let mut plain = Vec::new();
        peer::understood(&mut client, out.as_slice(), &mut plain).unwrap();
        assert_eq!(plain, b"old");
    }

    /// Goal: what speaks no TLS is not waited for. Method: headers that no record has, nothing behind.
    #[test]
    fn what_is_no_record_is_refused_at_its_header() {
        for bytes in [
            b"\x10\x2c\0\x04MQTT",
            b"GET /mqt",
            b"\x16\x02\x01\0\x40abc",
            b"\x16\x03\x01\xff\xffabc",
        ] {
            let mut server = Tls::new(peer::server_config(&TLS13)).unwrap();
            let mut out = Outgoing::default();
            let early = server.read(&bytes[..4], &mut out, &mut |_| {});
            assert!(early.is_ok(), "{bytes:02x?}");
            let result = server.read(&bytes[4..], &mut out, &mut |_| {});
            assert!(
                matches!(result, Err(TlsError::Tls(_))),
                "{bytes:02x?}: {result:?}"
            );
        }
    }

    /// Goal: writing while a record is only half there harms neither.
    #[test]
    fn a_write_between_the_halves_of_a_record() {
        let (mut tls, mut client) = shake_hands(&TLS13);
        client.refresh_traffic_keys().unwrap();
        let wire = peer::said(&mut client, b"whole");
        let mut out = Outgoing::default();
        let mut plain = Vec::new();
        for byte in &wire {
            tls.read(&[*byte], &mut out, &mut |bytes| {
                plain.extend_from_slice(bytes);
            })
            .unwrap();
            tls.write(b"x", &mut out).unwrap();
        }
        assert_eq!(plain, b"whole");
        let mut received = Vec::new();
        peer::understood(&mut client, out.as_slice(), &mut received).unwrap();
        assert_eq!(received, vec![b'x'; wire.len()]);
    }

    #[test]
    fn each_side_hears_that_the_other_closes() {
        for version in [&TLS12, &TLS13] {
            let (mut tls, mut client) = shake_hands(version);
            client.send_close_notify();
            let wire = peer::sent(&mut client);
            assert_eq!(read_all(&mut tls, &wire, 1).unwrap(), b"");
            assert!(tls.is_peer_closed());
            // What comes behind is nobody's.
            assert_eq!(read_all(&mut tls, b"garbage", 7).unwrap(), b"");
            let mut out = Outgoing::default();
            tls.write(b"last", &mut out).unwrap();
            tls.close(&mut out).unwrap();
            tls.write(b"after", &mut out).unwrap();
            let mut plain = Vec::new();
            peer::understood(&mut client, out.as_slice(), &mut plain).unwrap();
            assert_eq!(plain, b"last");
        }
    }

    /// Goal: no single wrong byte gets through, and the peer is told by an alert.
    #[test]
    fn a_corrupted_record_ends_the_connection() {
        let len = {
            let (_, mut client) = shake_hands(&TLS13);
            peer::said(&mut client, b"word").len()
        };
        for at in 0..len {
            let (mut tls, mut client) = shake_hands(&TLS13);
            let mut wire = peer::said(&mut client, b"word");
            wire[at] ^= 0x01;
            let mut out = Outgoing::default();
            let mut plain = Vec::new();
            let result = tls.read(&wire, &mut out, &mut |bytes| plain.extend_from_slice(bytes));
            if result.is_err() {
                assert_eq!(plain, b"", "byte {at}");
                assert!(!out.as_slice().is_empty(), "byte {at}: no alert");
                let told = peer::understood(&mut client, out.as_slice(), &mut plain);
                assert!(
                    matches!(told, Err(rustls::Error::AlertReceived(_))),
                    "{told:?}"
                );
            } else {
                // A longer length waits for more; type and version are not what is protected.
                assert!(at < RECORD_HEADER_BYTES);
                assert!(plain == b"word" || tls.unread_len() == wire.len());
            }
            out.clear();
            tls.write(b"no", &mut out).unwrap();
            tls.close(&mut out).unwrap();
            assert_eq!(out.as_slice().is_empty(), result.is_err());
        }
    }

    /// Goal: a handshake after the handshake is refused; asking once harms nobody in TLS 1.2.
    #[test]
    fn renegotiation_is_refused() {
        let (mut tls, _) = shake_hands(&TLS13);
        let hello = peer::sent(&mut peer::client());
        assert!(read_all(&mut tls, &hello, 1000).is_err());
        let (mut tls, _) = shake_hands(&TLS12);
        assert!(read_all(&mut tls, &hello, 1000).is_err());
    }

    /// Goal: a handshake message of which only the beginning comes neither costs more than its bound
    /// nor harms who writes meanwhile. Method: fragments of a `ClientHello` as large as one may be.
    #[test]
    fn the_beginning_of_a_handshake_message_is_bounded() {
        let mut tls = Tls::new(peer::server_config(&TLS13)).unwrap();
        let mut record = vec![0x16, 3, 1, 0x20, 0];
        record.extend_from_slice(&[1, 0, 0xFF, 0xF0]);
        record.resize(RECORD_HEADER_BYTES + 0x2000, 0);
        let mut out = Outgoing::default();
        let mut kept = 0;
        let result = loop {
            let result = tls.read(&record, &mut out, &mut |_| {});
            // What was discarded already must not be asked for.
            tls.write(b"x", &mut out).unwrap();
            if result.is_err() {
                break result;
            }
            assert!(tls.unread_len() > kept);
            kept = tls.unread_len();
            record.truncate(RECORD_HEADER_BYTES);
            record.resize(RECORD_HEADER_BYTES + 0x2000, 0);
        };
        assert!(kept <= UNREAD_BYTES_MAX, "{kept}");
        assert!(
            matches!(result, Err(TlsError::UnreadBytesExceeded)),
            "{result:?}"
        );
    }
}
