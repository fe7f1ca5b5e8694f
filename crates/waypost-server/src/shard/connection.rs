//! One accepted socket: what is read of a packet that is not whole yet, what waits to be written.

use std::cell::Cell;
use std::io::{self, IoSliceMut, Read};
use std::rc::Rc;

use waypost_compress::dictionary::Publisher;
use waypost_mqtt::ProtocolVersion;

use super::later::Later;
use super::layers::{LayerBuffers, Layers, Plain};
use super::outbox::Outbox;
use super::readers::Readable;
use crate::door::entrance::Place;
use crate::socket::Socket;
use crate::transcode::Accepted;

/// A packet of at least this many bytes gets a buffer of its own as soon as its length is known;
/// the beginning of a smaller one is copied in front of the next read. This bounds what one-byte
/// writes can make us copy.
pub(super) const OWN_BUFFER_BYTES_MIN: usize = 2 * 1024;

/// How much is read beyond the end of a packet that is larger than the read buffer.
pub(super) const BEYOND_LARGE_BYTES: usize = 4 * 1024;

/// A packet on its way in that has a buffer of exactly its length.
pub(super) struct LargePacket {
    pub(super) bytes: Vec<u8>,
    pub(super) filled: usize,
}

/// The state of one connection in the shell. It is kept small: an idle connection costs this and
/// what the core keeps, nothing else.
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts, a byte each"
)]
pub(super) struct Connection {
    pub(super) socket: Socket,
    /// Given back when the socket closes.
    _place: Place,
    pub(super) outbox: Outbox,
    /// What comes after that, when a payload is transcoded.
    pub(super) later: Option<Box<Later>>,
    /// What lies between the socket and MQTT, if anything.
    pub(super) layers: Option<Box<Layers>>,
    /// Bytes read but not handled: the beginning of a packet, or what came while parked.
    #[expect(
        clippy::box_collection,
        reason = "8 bytes instead of 24 in every idle connection"
    )]
    pub(super) unread: Option<Box<Vec<u8>>>,
    pub(super) large: Option<Box<LargePacket>>,
    /// QoS 0 messages dropped because this client does not read.
    pub(super) qos0_dropped: u32,
    pub(super) version: ProtocolVersion,
    /// The encodings of payloads that it said it accepts.
    pub(super) accepted: Accepted,
    /// Which dictionaries it may read.
    pub(super) readable: Readable,
    /// Its user, or else its client id: dictionaries are made of what many of these sent.
    pub(super) publisher: Publisher,
    /// Its Maximum Packet Size.
    pub(super) packet_bytes_max: u32,
    /// A first packet has come; it settled the version.
    pub(super) greeted: bool,
    pub(super) state: ConnectionState,
    /// When we stop waiting for a closed connection's peer; 0 = it is not closed.
    pub(super) close_by_ms: u64,
    /// The core asked not to read: a claim or a verdict is pending.
    pub(super) parked: bool,
    /// It is in the list of connections to read in this or the next tick.
    pub(super) in_ready: bool,
    /// It is in the list of connections to flush at the end of this tick.
    pub(super) in_dirty: bool,
    /// The last write filled the socket's buffer.
    pub(super) blocked: bool,
    /// The core was told that the outbox is above half its bound, and waits to hear that it is below
    /// a quarter.
    pub(super) congested: Cell<bool>,
    /// It is not read until its outbox is below a quarter of its bound.
    pub(super) stalled: bool,
    /// Nothing that waits may be dropped to make room: the last try found nothing.
    pub(super) only_owed: bool,
    /// The peer has closed its side, or the socket failed: reading will say so.
    pub(super) hung_up: bool,
}

/// Where a connection is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ConnectionState {
    /// The core knows it.
    Open,
    /// The core has closed it; what is in the outbox is still written.
    Flushing,
    /// Everything is written and our side is shut; what the peer still sends is thrown away, since
    /// closing on unread bytes would reset the connection and lose the last packet.
    Lingering,
}

impl Connection {
    pub(super) fn new(socket: Socket, layers: Option<Box<Layers>>, place: Place) -> Self {
        Self {
            socket,
            _place: place,
            outbox: Outbox::default(),
            later: None,
            accepted: Accepted::default(),
            readable: None,
            publisher: Publisher::named(b""),
            packet_bytes_max: u32::MAX,
            layers,
            unread: None,
            large: None,
            qos0_dropped: 0,
            version: ProtocolVersion::V311,
            greeted: false,
            state: ConnectionState::Open,
            close_by_ms: 0,
            parked: false,
            in_ready: false,
            in_dirty: false,
            blocked: false,
            congested: Cell::new(false),
            stalled: false,
            only_owed: false,
            hung_up: false,
        }
    }

    /// Bytes of packets that wait, for their turn or for a payload.
    #[inline]
    pub(super) fn outbox_len(&self) -> usize {
        self.outbox.len() + self.later.as_ref().map_or(0, |later| later.len())
    }

    /// Where packets are appended; [`Self::grow`] is to be told how many bytes.
    #[inline]
    pub(super) fn tail(&mut self) -> &mut Outbox {
        match self.later.as_deref_mut().and_then(Later::tail) {
            Some(tail) => tail,
            None => &mut self.outbox,
        }
    }

    #[inline]
    pub(super) fn grow(&mut self, bytes: usize) {
        if let Some(later) = &mut self.later {
            later.grow(bytes);
        }
    }

    /// Bytes that wait to be written, in whatever shape.
    pub(super) fn waiting_len(&self) -> usize {
        self.outbox_len() + self.layers.as_ref().map_or(0, |layers| layers.wire_len())
    }

    /// Reads once: first what is missing of a large packet, then into `buffer` behind `offset`.
    pub(super) fn read_once(
        &mut self,
        buffer: &mut [u8],
        offset: usize,
        layer_buffers: &mut LayerBuffers,
    ) -> io::Result<ReadOnce> {
        let after = buffer.get_mut(offset..).unwrap_or_default();
        if self.layers.is_some() {
            return self.read_through_layers(after, layer_buffers);
        }
        let Some(large) = self.large.as_deref_mut() else {
            let room = after.len();
            let count = self.socket.read(after)?;
            return Ok(ReadOnce {
                count,
                in_buffer: count,
                answered: 0,
                filled_all: count == room,
                large: None,
            });
        };
        // What follows a very large packet is likely another one, and is better read in its place.
        let beyond = if large.bytes.len() > after.len() {
            BEYOND_LARGE_BYTES.min(after.len())
        } else {
            after.len()
        };
        let after = after.get_mut(..beyond).unwrap_or_default();
        let missing = large.bytes.get_mut(large.filled..).unwrap_or_default();
        let (missing_len, room) = (missing.len(), missing.len() + after.len());
        let count = self
            .socket
            .read_vectored(&mut [IoSliceMut::new(missing), IoSliceMut::new(after)])?;
        let of_large = count.min(missing_len);
        large.filled += of_large;
        let whole = of_large == missing_len;
        Ok(ReadOnce {
            count,
            in_buffer: count - of_large,
            answered: 0,
            filled_all: count == room,
            large: self
                .large
                .take_if(|_| whole)
                .map(|large| Rc::new(large.bytes)),
        })
    }
}

impl Connection {
    fn read_through_layers(
        &mut self,
        after: &mut [u8],
        layer_buffers: &mut LayerBuffers,
    ) -> io::Result<ReadOnce> {
        let Some(layers) = self.layers.as_deref_mut() else {
            return Ok(ReadOnce::nothing());
        };
        let missing = match self.large.as_deref_mut() {
            Some(large) => large.bytes.get_mut(large.filled..).unwrap_or_default(),
            None => &mut [],
        };
        let missing_len = missing.len();
        let mut plain = Plain::new(missing, after);
        let waiting = layers.wire_len();
        let read = layers.read(&mut self.socket, &mut plain, layer_buffers)?;
        let filled = plain.filled();
        let of_large = filled.min(missing_len);
        if let Some(large) = self.large.as_deref_mut() {
            large.filled += of_large;
        }
        Ok(ReadOnce {
            count: read.count,
            in_buffer: filled - of_large,
            answered: layers.wire_len() - waiting,
            filled_all: read.filled_all,
            large: self
                .large
                .take_if(|_| of_large == missing_len)
                .map(|large| Rc::new(large.bytes)),
        })
    }
}

/// What one read brought.
pub(super) struct ReadOnce {
    /// All bytes read; 0 means the peer closed its side.
    pub(super) count: usize,
    /// Those that went into the shard's buffer.
    pub(super) in_buffer: usize,
    /// Bytes that a layer wants written, because of what was read.
    pub(super) answered: usize,
    /// The read filled all the room there was, so there may be more.
    pub(super) filled_all: bool,
    /// The large packet, when these bytes completed it.
    pub(super) large: Option<Rc<Vec<u8>>>,
}

impl ReadOnce {
    /// The socket had nothing; what was left unread is looked at all the same.
    pub(super) fn nothing() -> Self {
        Self {
            count: 0,
            in_buffer: 0,
            answered: 0,
            filled_all: false,
            large: None,
        }
    }
}
