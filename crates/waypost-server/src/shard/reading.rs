//! From the socket to the core: framing, and what is kept of packets that are not whole.

use std::io::{self, Read};
use std::rc::Rc;

use waypost_core::{ConnectionId, Effects, Frame};
use waypost_mqtt::{DecodeError, DecodeErrorKind, Packet, ReasonCode, Role, decode, decode_header};

use super::connection::{Connection, ConnectionState, LargePacket, OWN_BUFFER_BYTES_MIN, ReadOnce};
use super::layers::{End, Plain};
use super::{NEWCOMERS_PER_TICK, Shard};
use crate::transcode::accepted_by;
use waypost_mqtt::websocket::{CloseCode, Masked};

/// Packets sent in one tick, over all connections, after which nothing more is read in it: what one
/// client's bytes set off must not keep the others waiting for long.
const SENT_PER_TICK_MAX: u64 = 64 * 1024;

/// A client that has not said CONNECT may not make us keep more than this.
const CONNECT_BYTES_MAX: usize = 256 * 1024;

/// How the handling of the bytes of one read ended.
enum Handled {
    /// All whole packets are handled; the beginning of another stands here.
    Whole(usize),
    /// The connection is parked, or the tick has done enough; packets from here on wait.
    UpTo(usize),
    /// The connection is closed, and its bytes with it.
    Closed,
}

impl Shard {
    /// Reads each ready connection once. Those that are left when the tick has sent enough come
    /// first in the next.
    pub(super) fn read_ready(&mut self) {
        self.sent_max = self.outlets.counters.packets_sent + SENT_PER_TICK_MAX;
        std::mem::swap(&mut self.reading, &mut self.outlets.ready);
        let mut reading = std::mem::take(&mut self.reading);
        let mut turns = reading.drain(..);
        let mut newcomers = 0;
        while !self.has_sent_enough()
            && let Some(index) = turns.next()
        {
            if self.comes_or_goes(index) {
                newcomers += 1;
                if newcomers > NEWCOMERS_PER_TICK {
                    // It keeps its place in the list, which is the next tick's.
                    self.outlets.ready.push(index);
                    continue;
                }
            }
            self.read(index);
        }
        drop(self.outlets.ready.splice(..0, turns));
        self.reading = reading;
    }

    /// Whether reading it is to greet it, or to let it go.
    fn comes_or_goes(&self, index: usize) -> bool {
        let connection = self.outlets.connections.get(index);
        connection.is_some_and(|connection| !connection.greeted || connection.hung_up)
    }

    fn has_sent_enough(&self) -> bool {
        self.outlets.counters.packets_sent >= self.sent_max
    }

    fn read(&mut self, index: usize) {
        let outbox_bytes_max = self.outlets.bounds.each(self.outlets.outbox_bytes);
        let Some(connection) = self.outlets.connections.get_mut(index) else {
            return;
        };
        connection.in_ready = false;
        if connection.state != ConnectionState::Open {
            self.discard(index);
            return;
        }
        if connection.parked {
            return;
        }
        // Answers would only add to an outbox that is full already: its flush says when to go on.
        if connection.outbox_len() > outbox_bytes_max {
            connection.stalled = true;
            self.outlets.counters.reads_paused += 1;
            return;
        }
        // What was left unread stands before what is read now. More than the beginning of a packet
        // was left only by parking or a tick's end: that is handled before more is read.
        let mut offset = 0;
        if let Some(unread) = connection.unread.as_deref() {
            offset = unread.len();
            if let Some(place) = self.read_buffer.get_mut(..offset) {
                place.copy_from_slice(unread);
            }
        }
        if offset >= OWN_BUFFER_BYTES_MIN {
            self.outlets.mark_ready(index);
            self.handle_bytes(index, offset);
            return;
        }
        let read = connection.read_once(
            &mut self.read_buffer,
            offset,
            &mut self.outlets.layer_buffers,
        );
        let read = match read {
            Ok(read) if read.count == 0 => {
                // Whole packets that parking left still count; what is not whole never will be.
                if offset == 0 || self.handle_bytes(index, offset) {
                    self.ended(index);
                }
                return;
            }
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => ReadOnce::nothing(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                self.outlets.mark_ready(index);
                return;
            }
            Err(_) => {
                self.outlets.counters.read_errors += 1;
                self.lost(index);
                return;
            }
        };
        let has_ended = connection.hung_up
            || connection
                .layers
                .as_ref()
                .is_some_and(|layers| layers.end().is_some());
        if read.filled_all || (has_ended && read.count > 0) {
            self.outlets.mark_ready(index);
        }
        self.outlets.counters.bytes_received += read.count as u64;
        self.outlets.outbox_bytes += read.answered;
        self.mark_answers(index);
        if let Some(packet) = read.large
            && !self.handle_large(index, packet)
        {
            return;
        }
        let end = offset + read.in_buffer;
        if end > 0 {
            self.handle_bytes(index, end);
        }
    }

    /// Throws away what a closed connection still sends, until the peer closes too and has got what
    /// is left for it.
    fn discard(&mut self, index: usize) {
        self.forget_unread(index);
        let Some(connection) = self.outlets.connections.get_mut(index) else {
            return;
        };
        match connection.socket.read(&mut self.read_buffer) {
            Ok(1..) => self.outlets.mark_ready(index),
            Ok(_) if connection.state == ConnectionState::Flushing => {}
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) => {}
            Ok(_) | Err(_) => self.remove(index),
        }
    }

    /// Handles a packet that had a buffer of its own. False: the connection is closed.
    fn handle_large(&mut self, index: usize, packet: Rc<Vec<u8>>) -> bool {
        self.receive_bytes = self.receive_bytes.saturating_sub(packet.len());
        let is_open = self.handle_packet(index, &packet, Some(&packet));
        self.outlets.pool.give_large(packet);
        is_open
    }

    /// Handles the first `end` bytes of the read buffer and keeps what is not a whole packet. True:
    /// that is the beginning of one, and all packets before it are handled.
    fn handle_bytes(&mut self, index: usize, end: usize) -> bool {
        let buffer = std::mem::take(&mut self.read_buffer);
        let bytes = buffer.get(..end).unwrap_or_default();
        let handled = self.handle_packets(index, bytes);
        match handled {
            Handled::Whole(at) => self.keep_beginning(index, bytes.get(at..).unwrap_or_default()),
            Handled::UpTo(at) => self.keep_unread(index, bytes.get(at..).unwrap_or_default()),
            Handled::Closed => {}
        }
        self.read_buffer = buffer;
        matches!(handled, Handled::Whole(_))
    }

    fn handle_packets(&mut self, index: usize, bytes: &[u8]) -> Handled {
        let mut at = 0;
        loop {
            let rest = bytes.get(at..).unwrap_or_default();
            if rest.is_empty() {
                return Handled::Whole(at);
            }
            if self.is_parked(index) {
                return Handled::UpTo(at);
            }
            if self.has_sent_enough() {
                self.outlets.mark_ready(index);
                return Handled::UpTo(at);
            }
            let header = match decode_header(rest) {
                Ok(Some(header)) => header,
                Ok(None) => return Handled::Whole(at),
                Err(error) => {
                    self.malformed(index, &error);
                    return Handled::Closed;
                }
            };
            let len = header.total_len();
            if len > self.packet_bytes_max(index) {
                self.outlets.counters.packets_over_limit += 1;
                self.malformed(index, &too_large());
                return Handled::Closed;
            }
            let Some(packet) = rest.get(..len) else {
                return Handled::Whole(at);
            };
            if !self.handle_packet(index, packet, None) {
                return Handled::Closed;
            }
            at += len;
        }
    }

    /// One whole packet. False: the connection is closed.
    fn handle_packet(&mut self, index: usize, bytes: &[u8], shared: Option<&Rc<Vec<u8>>>) -> bool {
        let Some(connection) = self.outlets.connections.get_mut(index) else {
            return false;
        };
        self.outlets.counters.packets_received += 1;
        let packet = match decode(bytes, connection.version, Role::Client) {
            Ok(packet) => packet,
            Err(error) => {
                self.malformed(index, &error);
                return false;
            }
        };
        if let Packet::Publish(publish) = &packet {
            self.outlets.counters.publish_bytes_received += publish.payload.len() as u64;
        }
        if !connection.greeted {
            connection.greeted = true;
            if let Packet::Connect(connect) = &packet {
                connection.version = connect.version;
                let publisher = connect.user_name.unwrap_or(connect.client_id);
                connection.publisher =
                    waypost_compress::dictionary::Publisher::named(publisher.as_bytes());
                if !connect.properties.is_empty() {
                    connection.accepted = accepted_by(connect.properties);
                    let packet_bytes_max = connect.properties.maximum_packet_size();
                    connection.packet_bytes_max = packet_bytes_max.unwrap_or(u32::MAX);
                }
            }
        }
        self.broker.handle_packet(
            connection_id(index),
            &packet,
            Frame { bytes, shared },
            self.now,
            &mut self.outlets,
        );
        self.is_open(index)
    }

    fn is_open(&self, index: usize) -> bool {
        self.outlets
            .connections
            .get(index)
            .is_some_and(|connection| connection.state == ConnectionState::Open)
    }

    fn is_parked(&self, index: usize) -> bool {
        self.outlets
            .connections
            .get(index)
            .is_some_and(|connection| connection.parked)
    }

    /// The largest packet this client may send now.
    fn packet_bytes_max(&self, index: usize) -> usize {
        let all = self.limits.packet_bytes_max;
        match self.outlets.connections.get(index) {
            Some(connection) if connection.greeted => all,
            _ => all.min(CONNECT_BYTES_MAX),
        }
    }

    fn malformed(&mut self, index: usize, error: &DecodeError) {
        if let Some(connection) = self.outlets.connections.get_mut(index)
            && !connection.greeted
            && let Some(version) = error.connack
        {
            connection.version = version;
        }
        if let Some(connection) = self.outlets.connections.get_mut(index)
            && let Some(layers) = &mut connection.layers
        {
            layers.close_with(match error.reason {
                ReasonCode::PacketTooLarge => CloseCode::TOO_LARGE,
                _ => CloseCode::PROTOCOL_ERROR,
            });
        }
        self.broker
            .handle_malformed(connection_id(index), error, self.now, &mut self.outlets);
        self.forget_unread(index);
    }

    /// Keeps the beginning of a packet until the rest comes: a large one in a buffer of its own.
    fn keep_beginning(&mut self, index: usize, rest: &[u8]) {
        let header = decode_header(rest).ok().flatten();
        let large = header
            .map(|header| header.total_len())
            .filter(|&len| len >= OWN_BUFFER_BYTES_MIN);
        let Some(len) = large else {
            self.keep_unread(index, rest);
            return;
        };
        if self.receive_bytes + len > self.limits.receive_bytes_max {
            self.outlets.counters.receive_bytes_exceeded += 1;
            self.malformed(index, &out_of_memory());
            return;
        }
        let Some(connection) = self.outlets.connections.get_mut(index) else {
            return;
        };
        self.receive_bytes += len;
        let mut bytes = self.outlets.pool.take_large(len);
        if let Some(place) = bytes.get_mut(..rest.len()) {
            place.copy_from_slice(rest);
        }
        connection.unread = None;
        connection.large = Some(Box::new(LargePacket {
            bytes,
            filled: rest.len(),
        }));
    }

    /// Keeps bytes as they are, at most as many as the read buffer holds.
    fn keep_unread(&mut self, index: usize, rest: &[u8]) {
        if let Some(connection) = self.outlets.connections.get_mut(index) {
            connection.unread = (!rest.is_empty()).then(|| Box::new(rest.to_vec()));
        }
    }

    /// Gives back what a connection holds of packets that will never be handled.
    pub(super) fn forget_unread(&mut self, index: usize) {
        if let Some(connection) = self.outlets.connections.get_mut(index) {
            connection.unread = None;
            if let Some(large) = connection.large.take() {
                self.receive_bytes = self.receive_bytes.saturating_sub(large.bytes.len());
            }
        }
    }

    /// Takes what was read of a connection before it came here.
    pub(super) fn take_unread(&mut self, index: usize, bytes: &[u8]) {
        let Some(connection) = self.outlets.connections.get_mut(index) else {
            return;
        };
        let mut plain = Plain::new(&mut [], &mut self.read_buffer);
        if let Some(layers) = &mut connection.layers {
            layers.adopt(bytes, &mut plain, &mut self.outlets.layer_buffers);
            self.outlets.outbox_bytes += layers.wire_len();
        } else {
            plain.put(Masked::unmasked(bytes));
        }
        let filled = plain.filled();
        let unread = self.read_buffer.get(..filled).unwrap_or_default();
        connection.unread = (filled > 0).then(|| Box::new(unread.to_vec()));
        self.mark_answers(index);
    }

    /// Sees to it that what a layer has to answer is written.
    fn mark_answers(&mut self, index: usize) {
        let has_answers = |connection: &Connection| {
            let layers = connection.layers.as_ref();
            layers.is_some_and(|layers| layers.has_answers())
        };
        if self.outlets.connections.get(index).is_some_and(has_answers) {
            self.outlets.mark_dirty(index);
        }
    }

    /// Nothing more will come: the peer closed its side, said that it does, or broke a layer's rule.
    fn ended(&mut self, index: usize) {
        let connection = self.outlets.connections.get(index);
        let end = connection.and_then(|connection| connection.layers.as_ref()?.end());
        match end {
            None => {
                self.lost(index);
                return;
            }
            Some(End::Closed) => {}
            Some(End::Tls) => self.outlets.counters.tls_errors += 1,
            Some(End::WebSocket) => self.outlets.counters.websocket_errors += 1,
        }
        if self.is_open(index) {
            self.broker
                .handle_closed(connection_id(index), self.now, &mut self.outlets);
        }
        // It reads no more messages, but it is told why, or that we are closed too.
        self.outlets.release_outbox(index);
        self.outlets.close(connection_id(index));
    }

    /// The peer closed without DISCONNECT, or the network failed.
    pub(super) fn lost(&mut self, index: usize) {
        if self.is_open(index) {
            self.broker
                .handle_closed(connection_id(index), self.now, &mut self.outlets);
        }
        self.remove(index);
    }
}

/// The core's name for a place in the slab; `adopt` refuses places that do not fit.
pub(super) fn connection_id(index: usize) -> ConnectionId {
    ConnectionId(u32::try_from(index).unwrap_or(u32::MAX))
}

/// 5 §3.2.2.3.6: a packet beyond the Maximum Packet Size we announced.
fn too_large() -> DecodeError {
    DecodeError {
        offset: 1,
        packet: None,
        field: "Remaining Length",
        problem: "is more than this server accepts (limits.packet_bytes_max)",
        rule: "5 [MQTT-3.2.2-15]",
        reason: ReasonCode::PacketTooLarge,
        kind: DecodeErrorKind::Protocol,
        connack: None,
    }
}

/// All large packets on their way in together would take more than the shard may spend.
fn out_of_memory() -> DecodeError {
    DecodeError {
        problem: "is more than this server has room for now (limits.receive_bytes_max)",
        rule: "5 §4.13.1",
        reason: ReasonCode::QuotaExceeded,
        ..too_large()
    }
}
