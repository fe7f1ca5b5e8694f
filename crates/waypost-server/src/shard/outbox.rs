//! What waits to be written to one connection, and the pool its memory comes from.
//!
//! An outbox is a run of encoded packets. Small payloads are copied into the run; a payload that
//! has an allocation of its own is referred to, not copied, and gathered when the outbox is
//! written. An idle connection owns no buffer: the memory goes back to the shard's pool as soon
//! as everything is written.
//!
//! Deliberately not here: when to write (the shard's tick) and what to encode (`outlets`).

use std::collections::VecDeque;
use std::io::{self, IoSlice, Write};
use std::rc::Rc;

use waypost_mqtt::{Properties, ProtocolVersion, decode_header};

/// A payload with an allocation of its own, standing in the run before the byte `at`.
struct SharedPiece {
    at: usize,
    start: usize,
    len: usize,
    /// `None` once it is written, so that the payload is not kept longer than it is needed.
    data: Option<Rc<Vec<u8>>>,
}

impl SharedPiece {
    fn bytes(&self) -> &[u8] {
        self.data
            .as_deref()
            .and_then(|data| data.get(self.start..self.start + self.len))
            .unwrap_or_default()
    }
}

/// Slices of the run and the pieces that stand in it, up to `bytes_max` bytes. Returns how many
/// slices and bytes.
fn gather<'a>(
    run: &'a [u8],
    mut from: usize,
    shared: &'a SharedRun,
    bytes_max: usize,
    places: &mut [IoSlice<'a>],
) -> (usize, usize) {
    let mut places = places.iter_mut();
    let mut skip = shared.first_written;
    let (mut count, mut bytes) = (0, 0);
    // False: there is no room for more.
    let mut put = |slice: &'a [u8]| {
        let now = slice.get(..bytes_max - bytes).unwrap_or(slice);
        if !now.is_empty() {
            let Some(place) = places.next() else {
                return false;
            };
            *place = IoSlice::new(now);
            count += 1;
            bytes += now.len();
        }
        now.len() == slice.len()
    };
    for piece in shared.pieces.iter().skip(shared.first) {
        let between = run.get(from..piece.at).unwrap_or_default();
        from = from.max(piece.at);
        if !put(between) || !put(piece.bytes().get(skip..).unwrap_or_default()) {
            return (count, bytes);
        }
        skip = 0;
    }
    put(run.get(from..).unwrap_or_default());
    (count, bytes)
}

/// The largest number of slices given to one gathering write (Linux takes 1,024).
pub(super) const SLICES_MAX: usize = 64;

/// The encoded packets that wait for one connection's socket.
#[derive(Default)]
pub(super) struct Outbox {
    /// Whole packets, but for the payloads that are in `shared`.
    run: Vec<u8>,
    /// How much of `run` is written.
    run_written: usize,
    /// Payloads referred to, in order; `None` in the common case costs eight bytes.
    shared: Option<Box<SharedRun>>,
}

#[derive(Default)]
struct SharedRun {
    pieces: VecDeque<SharedPiece>,
    /// The first piece that is not wholly written, and how much of it is.
    first: usize,
    first_written: usize,
    /// The bytes of all pieces that are not written yet.
    bytes: usize,
}

/// Written bytes are cut off the front of a run that does not become empty from this size on.
const COMPACT_BYTES_MIN: usize = 64 * 1024;

/// One packet of an outbox, as `Outbox::packet_at` finds it.
struct PacketSpan {
    /// Its bytes in the run end here; a piece, if it has one, comes after them.
    inline_end: usize,
    has_piece: bool,
    total_len: usize,
}

impl Outbox {
    /// Bytes that wait to be written.
    pub(super) fn len(&self) -> usize {
        self.run.len() - self.run_written + self.shared.as_ref().map_or(0, |shared| shared.bytes)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The run to append encoded packets to, with memory from `pool` if it has none.
    pub(super) fn run(&mut self, pool: &mut BufferPool) -> &mut Vec<u8> {
        if self.run.capacity() == 0 {
            self.run = pool.take();
        }
        &mut self.run
    }

    /// Appends `len` bytes of `data` from `start` without copying them.
    pub(super) fn push_shared(&mut self, data: &Rc<Vec<u8>>, start: usize, len: usize) {
        if len == 0 {
            return;
        }
        let shared = self.shared.get_or_insert_default();
        shared.bytes += len;
        shared.pieces.push_back(SharedPiece {
            at: self.run.len(),
            start,
            len,
            data: Some(Rc::clone(data)),
        });
    }

    /// Appends all of another outbox that nothing was written of; its memory goes to the pool.
    pub(super) fn append(&mut self, mut other: Self, pool: &mut BufferPool) {
        let at = self.run.len();
        if at == 0 && self.shared.is_none() {
            self.release(pool);
            *self = other;
            return;
        }
        self.run(pool).extend_from_slice(&other.run);
        if let Some(pieces) = other.shared.take() {
            let shared = self.shared.get_or_insert_default();
            shared.bytes += pieces.bytes;
            shared
                .pieces
                .extend(pieces.pieces.into_iter().map(|piece| SharedPiece {
                    at: at + piece.at,
                    ..piece
                }));
        }
        other.release(pool);
    }

    /// Writes as much as the socket takes; when everything is written the memory goes back to
    /// the pool.
    pub(super) fn write_to(
        &mut self,
        socket: &mut impl Write,
        pool: &mut BufferPool,
    ) -> io::Result<()> {
        while !self.is_empty() {
            let (written, offered) = match self.write_once(socket) {
                Ok((0, _)) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.compact();
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            self.advance(written, pool);
            if written < offered {
                // The socket is full; its next writable edge comes when it is not.
                self.compact();
                return Ok(());
            }
        }
        self.release(pool);
        Ok(())
    }

    /// One write. Returns how many bytes went, and how many were offered.
    fn write_once(&self, socket: &mut impl Write) -> io::Result<(usize, usize)> {
        let Some(shared) = self.shared.as_ref().filter(|shared| shared.bytes > 0) else {
            let rest = self.run.get(self.run_written..).unwrap_or_default();
            return Ok((socket.write(rest)?, rest.len()));
        };
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let (count, offered) = gather(&self.run, self.run_written, shared, usize::MAX, &mut slices);
        let slices = slices.get(..count).unwrap_or_default();
        Ok((socket.write_vectored(slices)?, offered))
    }

    /// What waits, from its beginning: at most `bytes_max` bytes and as many slices as there are
    /// places. Returns how many slices and bytes that is.
    pub(super) fn slices<'a>(
        &'a self,
        bytes_max: usize,
        places: &mut [IoSlice<'a>],
    ) -> (usize, usize) {
        if let Some(shared) = &self.shared {
            return gather(&self.run, self.run_written, shared, bytes_max, places);
        }
        let rest = self.run.get(self.run_written..).unwrap_or_default();
        let rest = rest.get(..bytes_max).unwrap_or(rest);
        let Some(place) = places.first_mut().filter(|_| !rest.is_empty()) else {
            return (0, 0);
        };
        *place = IoSlice::new(rest);
        (1, rest.len())
    }

    /// Forgets the first `count` bytes: they are on their way. Memory that is not needed any more
    /// goes back to the pool.
    pub(super) fn take(&mut self, count: usize, pool: &mut BufferPool) {
        self.advance(count, pool);
        if self.is_empty() {
            self.release(pool);
        } else {
            self.compact();
        }
    }

    fn advance(&mut self, mut written: usize, pool: &mut BufferPool) {
        if let Some(shared) = &mut self.shared {
            while let Some(piece) = shared.pieces.get_mut(shared.first) {
                let before = piece.at - self.run_written;
                if written < before {
                    break;
                }
                written -= before;
                self.run_written = piece.at;
                let rest = piece.len - shared.first_written;
                let taken = rest.min(written);
                written -= taken;
                shared.bytes -= taken;
                if taken < rest {
                    shared.first_written += taken;
                    return;
                }
                if let Some(data) = piece.data.take() {
                    pool.give_large(data);
                }
                shared.first += 1;
                shared.first_written = 0;
            }
        }
        self.run_written += written;
    }

    /// Forgets everything and gives the memory back.
    pub(super) fn release(&mut self, pool: &mut BufferPool) {
        pool.give(std::mem::take(&mut self.run));
        self.run_written = 0;
        self.shared = None;
    }

    /// Drops whole QoS 0 PUBLISH packets no byte of which is written, or among the first `promised`,
    /// oldest first, until at most `bytes_max` bytes wait. Returns how many went. The cost is linear in the outbox, so callers
    /// ask for a good part of it at once.
    pub(super) fn drop_oldest_qos0(
        &mut self,
        bytes_max: usize,
        promised: usize,
        version: ProtocolVersion,
    ) -> usize {
        self.rebuild(self.len().saturating_sub(bytes_max), promised, version)
    }

    fn compact(&mut self) {
        if self.run_written >= COMPACT_BYTES_MIN && self.run_written >= self.run.len() / 2 {
            self.rebuild(0, 0, ProtocolVersion::V311);
        }
    }

    /// Copies what is not wholly written to a new run, but for the oldest QoS 0 PUBLISH packets,
    /// untouched and behind the first `promised` bytes, that together make up `surplus` bytes.
    fn rebuild(&mut self, mut surplus: usize, promised: usize, version: ProtocolVersion) -> usize {
        let mut kept = Outbox {
            run: Vec::with_capacity(self.run.len() - self.run_written),
            ..Outbox::default()
        };
        let mut pieces = self.shared.take().unwrap_or_default();
        let mut dropped = 0;
        let mut at = 0;
        let mut piece_index = 0;
        while let Some(span) = self.packet_at(at, pieces.pieces.get(piece_index)) {
            let inline = self.run.get(at..span.inline_end).unwrap_or_default();
            let written = span.inline_end <= self.run_written
                && (!span.has_piece || piece_index < pieces.first);
            let untouched = at >= self.run_written;
            let is_free = untouched && kept.len() >= promised;
            if is_free && surplus > 0 && is_droppable(inline, version) {
                surplus = surplus.saturating_sub(span.total_len);
                dropped += 1;
            } else if !written {
                if !untouched {
                    kept.run_written = self.run_written - at;
                }
                kept.run.extend_from_slice(inline);
                if span.has_piece
                    && let Some(piece) = pieces.pieces.get_mut(piece_index)
                    && let Some(data) = piece.data.take()
                {
                    kept.push_shared(&data, piece.start, piece.len);
                    if piece_index == pieces.first
                        && let Some(shared) = &mut kept.shared
                    {
                        shared.first_written = pieces.first_written;
                        shared.bytes -= pieces.first_written;
                    }
                }
            }
            piece_index += usize::from(span.has_piece);
            at = span.inline_end;
        }
        *self = kept;
        dropped
    }

    /// The packet that begins at `at`; `piece` is the next one of the run's pieces.
    fn packet_at(&self, at: usize, piece: Option<&SharedPiece>) -> Option<PacketSpan> {
        let rest = self.run.get(at..).filter(|rest| !rest.is_empty())?;
        let header = decode_header(rest).ok().flatten()?;
        let total_len = header.total_len();
        let piece_len = piece
            .filter(|piece| piece.at + piece.len == at + total_len)
            .map(|piece| piece.len);
        Some(PacketSpan {
            inline_end: at + total_len - piece_len.unwrap_or(0),
            has_piece: piece_len.is_some(),
            total_len,
        })
    }
}

/// PUBLISH (type 3) with both QoS bits clear, unless it teaches a Topic Alias that later packets
/// lean on.
fn is_droppable(packet: &[u8], version: ProtocolVersion) -> bool {
    let Some(header) = decode_header(packet).ok().flatten() else {
        return false;
    };
    if header.first_byte >> 4 != 3 || header.first_byte & 0b0110 != 0 {
        return false;
    }
    if version != ProtocolVersion::V5 {
        return true;
    }
    let body = packet.get(header.header_len..).unwrap_or_default();
    !publish_teaches_alias(body)
}

/// Whether the body of a QoS 0 PUBLISH of MQTT 5 has both a Topic Name and a Topic Alias.
fn publish_teaches_alias(body: &[u8]) -> bool {
    let Some((topic_len, rest)) = body.split_first_chunk::<2>() else {
        return false;
    };
    let topic_len = usize::from(u16::from_be_bytes(*topic_len));
    let rest = rest.get(topic_len..).unwrap_or_default();
    // The property length: a Variable Byte Integer of our own encoder.
    let len_bytes = 1 + rest.iter().take_while(|&&byte| byte & 0x80 != 0).count();
    let len = rest
        .iter()
        .take(len_bytes)
        .rev()
        .fold(0, |len, &byte| len << 7 | usize::from(byte & 0x7F));
    let properties = rest.get(len_bytes..len_bytes + len).unwrap_or_default();
    topic_len > 0
        && Properties::from_validated(properties)
            .topic_alias()
            .is_some()
}

/// Buffers that outboxes borrow while something waits in them, and those of large packets. At most
/// `bytes_max` of either are kept.
pub(super) struct BufferPool {
    free: Vec<Vec<u8>>,
    bytes: usize,
    bytes_max: usize,
    /// Large packets that are done with, their bytes still in them: a buffer used again need not be
    /// filled with zeros, and its pages are there.
    large: Vec<Vec<u8>>,
    large_bytes: usize,
}

/// A buffer that grew beyond this is given back to the allocator, not to the pool.
const POOLED_BUFFER_BYTES_MAX: usize = 256 * 1024;

/// Smaller packets come from the allocator's own free lists without page faults.
const LARGE_BUFFER_BYTES_MIN: usize = 64 * 1024;

impl BufferPool {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            free: Vec::new(),
            bytes: 0,
            bytes_max,
            large: Vec::new(),
            large_bytes: 0,
        }
    }

    /// A buffer of exactly `len` bytes, whatever they are.
    pub(super) fn take_large(&mut self, len: usize) -> Vec<u8> {
        // At most half of it would be wasted.
        let fits = |buffer: &Vec<u8>| (len..=2 * len).contains(&buffer.capacity());
        let Some(at) = self.large.iter().position(fits) else {
            return vec![0; len];
        };
        let mut buffer = self.large.swap_remove(at);
        self.large_bytes -= buffer.capacity();
        buffer.resize(len, 0);
        buffer
    }

    #[cfg(test)]
    pub(super) fn large_buffers(&self) -> usize {
        self.large.len()
    }

    /// Takes a large packet back if nobody else holds it.
    pub(super) fn give_large(&mut self, packet: Rc<Vec<u8>>) {
        if packet.capacity() < LARGE_BUFFER_BYTES_MIN
            || self.large_bytes + packet.capacity() > self.bytes_max
        {
            return;
        }
        if let Some(buffer) = Rc::into_inner(packet) {
            self.large_bytes += buffer.capacity();
            self.large.push(buffer);
        }
    }

    pub(super) fn take(&mut self) -> Vec<u8> {
        let Some(buffer) = self.free.pop() else {
            return Vec::with_capacity(512);
        };
        self.bytes -= buffer.capacity();
        buffer
    }

    pub(super) fn give(&mut self, mut buffer: Vec<u8>) {
        let capacity = buffer.capacity();
        if capacity == 0
            || capacity > POOLED_BUFFER_BYTES_MAX
            || self.bytes + capacity > self.bytes_max
        {
            return;
        }
        buffer.clear();
        self.bytes += capacity;
        self.free.push(buffer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use waypost_mqtt::{PublishHead, QoS, encode_publish_head};

    /// A socket that takes `room` bytes and then would block.
    struct Socket {
        taken: Vec<u8>,
        room: usize,
    }

    impl Write for Socket {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.write_vectored(&[IoSlice::new(bytes)])
        }

        fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
            if self.room == 0 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            let before = self.taken.len();
            for slice in slices {
                let count = slice.len().min(self.room);
                self.taken.extend_from_slice(&slice[..count]);
                self.room -= count;
            }
            Ok(self.taken.len() - before)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn head(qos: QoS, topic: &str, alias: Option<u16>, payload_len: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode_publish_head(
            &PublishHead {
                version: if alias.is_some() {
                    ProtocolVersion::V5
                } else {
                    ProtocolVersion::V311
                },
                dup: false,
                qos,
                retain: false,
                topic,
                packet_id: u16::from(qos != QoS::AtMostOnce),
                topic_alias: alias,
                message_expiry_interval: None,
                subscription_identifiers: &[],
                properties: &[],
                payload_len,
            },
            &mut bytes,
        );
        bytes
    }

    /// An outbox with `packets` of (QoS, payload, shared or not), and all their bytes.
    fn filled(packets: &[(QoS, &[u8], bool)], pool: &mut BufferPool) -> (Outbox, Vec<Vec<u8>>) {
        let mut outbox = Outbox::default();
        let mut all = Vec::new();
        for &(qos, payload, shared) in packets {
            let mut packet = head(qos, "t", None, payload.len());
            outbox.run(pool).extend_from_slice(&packet);
            if shared {
                outbox.push_shared(&Rc::new(payload.to_vec()), 0, payload.len());
            } else {
                outbox.run(pool).extend_from_slice(payload);
            }
            packet.extend_from_slice(payload);
            all.push(packet);
        }
        (outbox, all)
    }

    const QOS0: QoS = QoS::AtMostOnce;
    const QOS1: QoS = QoS::AtLeastOnce;

    fn mixed<'a>() -> Vec<(QoS, &'a [u8], bool)> {
        vec![
            (QOS0, b"one", false),
            (QOS0, b"two, shared", true),
            (QOS1, b"three", false),
            (QOS1, b"four, shared", true),
            (QOS0, b"five, shared", true),
            (QOS0, b"six", false),
        ]
    }

    #[test]
    fn every_way_to_cut_the_writes_gives_the_same_bytes() {
        let mut pool = BufferPool::new(1 << 20);
        for step in 1..80 {
            let (mut outbox, all) = filled(&mixed(), &mut pool);
            let mut socket = Socket {
                taken: Vec::new(),
                room: 0,
            };
            while !outbox.is_empty() {
                socket.room = step;
                outbox.write_to(&mut socket, &mut pool).unwrap();
            }
            assert_eq!(socket.taken, all.concat(), "{step} bytes at a time");
            assert_eq!(outbox.run.capacity(), 0, "an empty outbox owns no memory");
        }
    }

    #[test]
    fn dropping_leaves_whole_packets_whatever_is_written_already() {
        let mut pool = BufferPool::new(1 << 20);
        let (_, all) = filled(&mixed(), &mut pool);
        let total: usize = all.iter().map(Vec::len).sum();
        for written in 0..total {
            for bytes_max in [0, 20, 40, total] {
                let (mut outbox, _) = filled(&mixed(), &mut pool);
                let mut socket = Socket {
                    taken: Vec::new(),
                    room: written,
                };
                outbox.write_to(&mut socket, &mut pool).unwrap();
                let dropped = outbox.drop_oldest_qos0(bytes_max, 0, ProtocolVersion::V311);
                let left = outbox.len();
                socket.room = usize::MAX;
                outbox.write_to(&mut socket, &mut pool).unwrap();
                assert_eq!(socket.taken.len(), written + left);
                // What arrives is the packets in order, some of the QoS 0 ones missing.
                let mut arrived = socket.taken.as_slice();
                let mut missing = 0;
                for packet in &all {
                    if let Some(rest) = arrived.strip_prefix(packet.as_slice()) {
                        arrived = rest;
                    } else {
                        let droppable = is_droppable(packet, ProtocolVersion::V311);
                        assert!(droppable, "QoS 1 was dropped");
                        missing += 1;
                    }
                }
                assert!(arrived.is_empty(), "{written} written, {bytes_max} at most");
                assert_eq!(missing, dropped);
                if bytes_max == total {
                    assert_eq!(dropped, 0);
                }
            }
        }
    }

    #[test]
    fn what_is_promised_is_not_dropped() {
        let mut pool = BufferPool::new(1 << 20);
        let (_, all) = filled(&mixed(), &mut pool);
        let total: usize = all.iter().map(Vec::len).sum();
        for written in 0..total {
            for promised in 0..=total - written {
                let (mut outbox, _) = filled(&mixed(), &mut pool);
                let mut socket = Socket {
                    taken: Vec::new(),
                    room: written,
                };
                outbox.write_to(&mut socket, &mut pool).unwrap();
                outbox.drop_oldest_qos0(0, promised, ProtocolVersion::V311);
                socket.room = usize::MAX;
                outbox.write_to(&mut socket, &mut pool).unwrap();
                let promised = written + promised;
                assert_eq!(socket.taken[..promised], all.concat()[..promised]);
            }
        }
    }

    #[test]
    fn the_oldest_goes_first() {
        let mut pool = BufferPool::new(1 << 20);
        let (mut outbox, all) = filled(&[(QOS0, b"old", false), (QOS0, b"new", false)], &mut pool);
        assert_eq!(
            outbox.drop_oldest_qos0(all[1].len(), 0, ProtocolVersion::V311),
            1
        );
        let mut socket = Socket {
            taken: Vec::new(),
            room: usize::MAX,
        };
        outbox.write_to(&mut socket, &mut pool).unwrap();
        assert_eq!(socket.taken, all[1]);
    }

    #[test]
    fn a_packet_that_teaches_an_alias_is_kept() {
        let teaches = head(QOS0, "topic", Some(7), 0);
        let uses = head(QOS0, "", Some(7), 0);
        assert!(!is_droppable(&teaches, ProtocolVersion::V5));
        assert!(is_droppable(&uses, ProtocolVersion::V5));
    }

    #[test]
    fn a_run_that_never_becomes_empty_does_not_grow() {
        let mut pool = BufferPool::new(1 << 20);
        let mut outbox = Outbox::default();
        let packet = [head(QOS0, "t", None, 1000), vec![b'x'; 1000]].concat();
        let mut socket = Socket {
            taken: Vec::new(),
            room: 0,
        };
        for _ in 0..10_000 {
            outbox.run(&mut pool).extend_from_slice(&packet);
            if outbox.len() > 10 * packet.len() {
                socket.room = packet.len();
                outbox.write_to(&mut socket, &mut pool).unwrap();
                socket.taken.clear();
            }
        }
        assert!(
            outbox.run.capacity() < 4 * COMPACT_BYTES_MIN,
            "{}",
            outbox.run.capacity()
        );
    }

    #[test]
    fn the_pool_keeps_no_more_than_its_bound() {
        let mut pool = BufferPool::new(2048);
        for _ in 0..10 {
            pool.give(Vec::with_capacity(1024));
        }
        assert_eq!(pool.free.len(), 2);
        pool.give(Vec::with_capacity(POOLED_BUFFER_BYTES_MAX + 1));
        assert_eq!(pool.free.len(), 2);
        assert!(pool.take().capacity() >= 1024);
        assert_eq!(pool.bytes, 1024);
    }
}
