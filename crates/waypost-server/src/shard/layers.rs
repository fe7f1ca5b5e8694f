//! What lies between one connection's socket and MQTT: TLS, WebSocket, or WebSocket in TLS.
//!
//! Reading takes as many bytes from the socket as the plain ones fit in the shard's buffer, and
//! opens everything that is whole, so that nothing is left that no event of the socket would bring
//! up again. Writing takes plain bytes from the outbox only to put them in frames and records that
//! are sent whole: what the socket does not take is kept here, out of reach of whoever drops
//! messages from the outbox.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};

use super::connection::BEYOND_LARGE_BYTES;
use super::outbox::{BufferPool, Outbox, SLICES_MAX};
use crate::socket::Framing;
use crate::stream::Outgoing;
use crate::stream::tls::Tls;
use waypost_mqtt::websocket;
use waypost_mqtt::websocket::{
    CloseCode, Decoder, FrameHeader, Masked, Opcode, Sender, close_frame,
};

/// The plain bytes that are made into frames and records at once, and so about the most that one
/// connection keeps beyond its outbox: four full records.
const BATCH_BYTES_MAX: usize = 64 * 1024;

/// What one frame announces at most of what is sent without a copy. It stays in the outbox, but may
/// not be dropped from it any more.
const FRAME_BYTES_MAX: usize = 256 * 1024;

/// What is read at once to where it stays, and unmasked there while it is in the processor's cache.
const IN_PLACE_BYTES_MAX: usize = 128 * 1024;

/// From so much on, nearly all of a read goes there.
const IN_PLACE_BYTES_MIN: usize = 16 * 1024;

/// The layers of one connection.
pub(super) struct Layers {
    tls: Option<Tls>,
    websocket: Option<Decoder>,
    /// Bytes for the wire that the socket did not take yet.
    wire: Vec<u8>,
    wire_written: usize,
    /// Bytes at the front of the outbox that a frame has announced: they must follow as they are.
    frame_left: usize,
    /// Nothing more comes from the peer.
    end: Option<End>,
    /// What we close WebSocket with.
    close_code: CloseCode,
    /// Our side is closed: nothing may follow.
    is_closed: bool,
}

/// Why nothing more comes from the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It said so, in TLS or in WebSocket.
    Closed,
    /// TLS cannot go on.
    Tls,
    /// A frame of WebSocket was wrong.
    WebSocket,
}

/// Memory that all layers of a shard share.
pub(super) struct LayerBuffers {
    /// What was read.
    incoming: Vec<u8>,
    /// What goes before the outbox's bytes, and all of it in one piece for TLS.
    before: Vec<u8>,
    plain: Vec<u8>,
    /// What is to be written.
    outgoing: Outgoing,
}

impl LayerBuffers {
    /// To read `incoming_bytes` at once.
    pub(super) fn new(incoming_bytes: usize) -> Self {
        Self {
            incoming: vec![0; incoming_bytes],
            before: Vec::new(),
            plain: Vec::new(),
            outgoing: Outgoing::default(),
        }
    }
}

/// Where plain bytes go: to what is missing of a large packet, then to the shard's buffer.
pub(super) struct Plain<'a> {
    large: &'a mut [u8],
    buffer: &'a mut [u8],
    filled: usize,
}

impl<'a> Plain<'a> {
    pub(super) fn new(large: &'a mut [u8], buffer: &'a mut [u8]) -> Self {
        Self {
            large,
            buffer,
            filled: 0,
        }
    }

    pub(super) fn filled(&self) -> usize {
        self.filled
    }

    fn room(&self) -> usize {
        self.large.len() + self.buffer.len() - self.filled
    }

    /// The next places of a large packet, at most `len`.
    fn rest_of_large(&mut self, len: usize) -> &mut [u8] {
        let rest = self.large.get_mut(self.filled..).unwrap_or_default();
        let len = len.min(rest.len()).min(IN_PLACE_BYTES_MAX);
        rest.get_mut(..len).unwrap_or_default()
    }

    /// Whoever reads keeps to `room`.
    pub(super) fn put(&mut self, mut bytes: Masked<'_>) {
        let in_large = self.large.len();
        let places = [
            self.large.get_mut(self.filled..),
            self.buffer.get_mut(self.filled.saturating_sub(in_large)..),
        ];
        for place in places.into_iter().flatten() {
            let (now, rest) = bytes.split_at(place.len());
            now.copy_to(place);
            self.filled += now.len();
            bytes = rest;
        }
    }
}

/// What one read brought from the wire.
pub(super) struct WireRead {
    /// Bytes read; 0 means the peer is done.
    pub(super) count: usize,
    /// The read filled all the room there was.
    pub(super) filled_all: bool,
}

impl Layers {
    /// `None`: MQTT's bytes are the socket's.
    pub(super) fn of(tls: Option<Tls>, framing: Framing) -> Option<Box<Self>> {
        let websocket = match framing {
            Framing::Raw if tls.is_none() => return None,
            Framing::Raw => None,
            Framing::WebSocket => Some(Decoder::new(Sender::Client)),
        };
        Some(Box::new(Self {
            tls,
            websocket,
            wire: Vec::new(),
            wire_written: 0,
            frame_left: 0,
            end: None,
            close_code: CloseCode::NORMAL,
            is_closed: false,
        }))
    }

    /// Takes what was read before the connection came here: `bytes`, open but still framed, and
    /// what TLS has of its own.
    pub(super) fn adopt(&mut self, bytes: &[u8], plain: &mut Plain<'_>, with: &mut LayerBuffers) {
        unframe(self.websocket.as_mut(), bytes, plain);
        self.open(0, plain, with);
    }

    /// Reads the socket once and opens what that makes whole.
    pub(super) fn read(
        &mut self,
        socket: &mut impl Read,
        plain: &mut Plain<'_>,
        with: &mut LayerBuffers,
    ) -> io::Result<WireRead> {
        if self.end.is_some() {
            return Ok(WireRead {
                count: 0,
                filled_all: false,
            });
        }
        let kept = self.tls.as_ref().map_or(0, Tls::unread_len);
        // What is plain is never longer than what is on the wire.
        let most = with.incoming.len().min(plain.room());
        let mut in_place = match (&self.tls, &self.websocket) {
            (None, Some(websocket)) => plain.rest_of_large(websocket.payload_left()),
            _ => &mut [],
        };
        // What follows much payload is likely more of it, and is better read in its place.
        let most = match in_place.len() {
            IN_PLACE_BYTES_MIN.. => most.min(BEYOND_LARGE_BYTES),
            _ => most,
        };
        let room = with.incoming.get_mut(kept..most).unwrap_or_default();
        let (in_place_len, room_len) = (in_place.len(), room.len());
        let count = if in_place.is_empty() {
            socket.read(room)?
        } else {
            socket.read_vectored(&mut [IoSliceMut::new(in_place), IoSliceMut::new(room)])?
        };
        if let Some(websocket) = &mut self.websocket {
            in_place = plain.rest_of_large(count.min(in_place_len));
            websocket.decode_in_place(in_place);
            plain.filled += in_place.len();
        }
        if count > in_place_len {
            self.open(count - in_place_len, plain, with);
        }
        Ok(WireRead {
            count,
            filled_all: count == in_place_len + room_len,
        })
    }

    /// Opens what is in `incoming`: `count` bytes behind what TLS had not opened yet.
    fn open(&mut self, count: usize, plain: &mut Plain<'_>, with: &mut LayerBuffers) {
        let kept = self.tls.as_ref().map_or(0, Tls::unread_len);
        let bytes = with.incoming.get_mut(..kept + count).unwrap_or_default();
        let mut unframe = |bytes: &[u8]| unframe(self.websocket.as_mut(), bytes, plain);
        if let Some(tls) = &mut self.tls {
            let result = tls.read_behind_unread(bytes, &mut with.outgoing, &mut unframe);
            if tls.is_peer_closed() {
                self.end = Some(End::Closed);
            }
            if let Err(error) = result {
                log::debug!("TLS ended: {error}");
                self.end = Some(End::Tls);
            }
            self.wire.extend_from_slice(with.outgoing.as_slice());
            with.outgoing.clear();
        } else {
            unframe(bytes);
        }
        match self.websocket.as_ref().and_then(Decoder::end) {
            Some(websocket::End::Closed(code)) => {
                self.close_code = code.unwrap_or(CloseCode::NORMAL);
                self.end = self.end.or(Some(End::Closed));
            }
            Some(websocket::End::Failed(error)) => {
                log::debug!("WebSocket ended: {error}");
                self.close_code = error.code;
                self.end = self.end.or(Some(End::WebSocket));
            }
            None => {}
        }
    }

    /// Why nothing more comes from the peer, if so.
    pub(super) fn end(&self) -> Option<End> {
        self.end
    }

    /// Bytes for the wire that the socket did not take yet.
    pub(super) fn wire_len(&self) -> usize {
        self.wire.len() - self.wire_written
    }

    /// Something is to be written though nothing is in the outbox.
    pub(super) fn has_answers(&self) -> bool {
        let pinged = |websocket: &Decoder| websocket.has_unanswered_ping();
        self.wire_len() > 0 || self.websocket.as_ref().is_some_and(pinged)
    }

    /// Bytes at the front of the outbox that are promised: dropping one would tear a frame.
    pub(super) fn promised_len(&self) -> usize {
        self.frame_left
    }

    /// What to close WebSocket with, unless the peer has closed it already.
    pub(super) fn close_with(&mut self, code: CloseCode) {
        if self.end.is_none() {
            self.close_code = code;
        }
    }

    /// Writes as much of what waits as the socket takes; at last, if the connection `is_closing`,
    /// that it is closed. Returns how many bytes the socket took.
    pub(super) fn write(
        &mut self,
        socket: &mut impl Write,
        outbox: &mut Outbox,
        is_closing: bool,
        with: &mut LayerBuffers,
        pool: &mut BufferPool,
    ) -> io::Result<usize> {
        if self.tls.is_none() {
            return self.write_frames(socket, outbox, is_closing, with, pool);
        }
        let mut sent = self.write_wire(socket, pool)?;
        while self.wire_len() == 0 && self.has_more(outbox, is_closing) {
            sent += self.write_records(socket, outbox, is_closing, with, pool)?;
        }
        Ok(sent)
    }

    /// Frames without TLS: the outbox's bytes are sent from where they are.
    fn write_frames(
        &mut self,
        socket: &mut impl Write,
        outbox: &mut Outbox,
        is_closing: bool,
        with: &mut LayerBuffers,
        pool: &mut BufferPool,
    ) -> io::Result<usize> {
        let mut sent = 0;
        loop {
            with.before.clear();
            with.before
                .extend_from_slice(self.wire.get(self.wire_written..).unwrap_or_default());
            if self.frame_left == 0 && with.before.is_empty() {
                if !self.has_more(outbox, is_closing) {
                    return Ok(sent);
                }
                self.frame_left = outbox.len().min(FRAME_BYTES_MAX);
                self.put_frames_before(self.frame_left, &mut with.before);
                if is_closing && self.frame_left == 0 {
                    with.before.extend_from_slice(&close_frame(self.close_code));
                    self.is_closed = true;
                }
            }
            let mut slices = [IoSlice::new(&[]); SLICES_MAX + 1];
            let [before, places @ ..] = &mut slices;
            *before = IoSlice::new(&with.before);
            let (count, body) = outbox.slices(self.frame_left, places);
            let offered = with.before.len() + body;
            let slices = slices.get(..=count).unwrap_or_default();
            let now = write_once(socket, slices)?;
            sent += now;
            let of_body = now.saturating_sub(with.before.len());
            self.wire.clear();
            self.wire_written = 0;
            if let Some(rest) = with.before.get(now..) {
                self.wire.extend_from_slice(rest);
            }
            self.frame_left -= of_body;
            outbox.take(of_body, pool);
            if now < offered || offered == 0 {
                return Ok(sent);
            }
        }
    }

    /// The pong that is due and the header of a frame of `len` bytes.
    fn put_frames_before(&mut self, len: usize, before: &mut Vec<u8>) {
        let Some(websocket) = &mut self.websocket else {
            return;
        };
        if let Some(ping) = websocket.take_unanswered_ping() {
            before.extend_from_slice(FrameHeader::new(Opcode::Pong, ping.len()).as_slice());
            before.extend_from_slice(&ping);
        }
        if len > 0 {
            before.extend_from_slice(FrameHeader::new(Opcode::Binary, len).as_slice());
        }
    }

    fn has_more(&self, outbox: &Outbox, is_closing: bool) -> bool {
        !self.is_closed && (is_closing || !outbox.is_empty() || self.has_answers())
    }

    /// What the socket did not take before.
    fn write_wire(&mut self, socket: &mut impl Write, pool: &mut BufferPool) -> io::Result<usize> {
        let mut sent = 0;
        while let Some(rest) = self.wire.get(self.wire_written..)
            && !rest.is_empty()
        {
            let count = write_once(socket, &[IoSlice::new(rest)])?;
            self.wire_written += count;
            sent += count;
            if count == 0 {
                return Ok(sent);
            }
        }
        pool.give(std::mem::take(&mut self.wire));
        self.wire_written = 0;
        Ok(sent)
    }

    /// Some of the outbox in full records, in one frame if in frames.
    fn write_records(
        &mut self,
        socket: &mut impl Write,
        outbox: &mut Outbox,
        is_closing: bool,
        with: &mut LayerBuffers,
        pool: &mut BufferPool,
    ) -> io::Result<usize> {
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let (count, moved) = outbox.slices(BATCH_BYTES_MAX, &mut slices);
        let is_last = is_closing && moved == outbox.len();
        with.plain.clear();
        self.put_frames_before(moved, &mut with.plain);
        let plain = match slices.get(..count).unwrap_or_default() {
            [plain] if with.plain.is_empty() && !is_last => plain,
            slices => {
                for slice in slices {
                    with.plain.extend_from_slice(slice);
                }
                if is_last && self.websocket.is_some() {
                    with.plain.extend_from_slice(&close_frame(self.close_code));
                }
                with.plain.as_slice()
            }
        };
        let out = &mut with.outgoing;
        out.clear();
        if let Some(tls) = &mut self.tls {
            tls.write(plain, out).map_err(io::Error::other)?;
            if is_last {
                tls.close(out).map_err(io::Error::other)?;
            }
        }
        self.is_closed = is_last;
        outbox.take(moved, pool);
        let sent = write_once(socket, &[IoSlice::new(out.as_slice())])?;
        if let Some(rest) = out.as_slice().get(sent..).filter(|rest| !rest.is_empty()) {
            self.wire = pool.take();
            self.wire.extend_from_slice(rest);
        }
        out.clear();
        Ok(sent)
    }
}

fn unframe(websocket: Option<&mut Decoder>, bytes: &[u8], plain: &mut Plain<'_>) {
    match websocket {
        Some(websocket) => websocket.decode(bytes, &mut |bytes| plain.put(bytes)),
        None => plain.put(Masked::unmasked(bytes)),
    }
}

/// How much the socket takes, possibly nothing.
fn write_once(socket: &mut impl Write, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    if slices.iter().all(|slice| slice.is_empty()) {
        return Ok(0);
    }
    loop {
        match socket.write_vectored(slices) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(0),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}
