//! The shard's side of the core's `Effects`: packets are encoded into outboxes here, mail is
//! collected per shard, and what must happen at the end of the tick is remembered.

use std::io;
use std::rc::Rc;

use slab::Slab;
use waypost_core::{ConnectionId, DeliveryFlags, Effects, MailBatch, Message, ShardId, Target};
use waypost_mqtt::{Packet, ProtocolVersion, PublishHead, QoS, encode, encode_publish_head};

use super::connection::{Connection, ConnectionState};
use super::journal::ShardJournal;
use super::layers::{LayerBuffers, Layers};
use super::outbox::BufferPool;
use super::readers::Readers;
use super::{READ_BUFFER_BYTES, ShellLimits};
use crate::metrics::ShellCounters;
use crate::transcode::Coder;

/// From this size on a payload that several connections get is referred to instead of copied.
const SHARED_PAYLOAD_BYTES_MIN: usize = 4 * 1024;

/// Everything the core can act on while it handles one input.
pub(super) struct Outlets {
    pub(super) connections: Slab<Connection>,
    pub(super) pool: BufferPool,
    /// Connections to flush at the end of the tick.
    pub(super) dirty: Vec<usize>,
    /// Connections to read in the next tick without waiting for an event.
    pub(super) ready: Vec<usize>,
    /// Connections the core closed in this tick.
    pub(super) closed: Vec<usize>,
    /// Mail to each shard, sent at the end of the tick; the own shard's stays empty.
    pub(super) mail: Vec<MailBatch>,
    pub(super) counters: ShellCounters,
    pub(super) layer_buffers: LayerBuffers,
    pub(super) journal: ShardJournal,
    /// Bytes that wait in all outboxes, those that are made into frames and records included.
    pub(super) outbox_bytes: usize,
    pub(super) bounds: OutboxBounds,
    pub(super) coder: Coder,
    pub(super) readers: Readers,
    /// The publish being delivered, encoded once per form that its targets ask for.
    encoded: Encoded,
}

/// How much may wait for one client, and for all of them.
#[derive(Clone, Copy, Debug)]
pub(super) struct OutboxBounds {
    each_bytes_max: usize,
    all_bytes_max: usize,
}

/// What each client may have waiting while all outboxes together are beyond their bound.
const SHORT_OUTBOX_BYTES_MAX: usize = 64 * 1024;

impl OutboxBounds {
    pub(super) fn of(limits: &ShellLimits) -> Self {
        Self {
            each_bytes_max: limits.outbox_bytes_max,
            all_bytes_max: limits.outboxes_bytes_max,
        }
    }

    /// The bound of one outbox while `all_bytes` wait in all of them.
    pub(super) fn each(self, all_bytes: usize) -> usize {
        if all_bytes > self.all_bytes_max {
            self.each_bytes_max.min(SHORT_OUTBOX_BYTES_MAX)
        } else {
            self.each_bytes_max
        }
    }
}

/// A PUBLISH encoded for one set of flags, reused while the targets ask for the same.
#[derive(Default)]
struct Encoded {
    /// The packet up to its payload.
    head: Vec<u8>,
    /// Where the Packet Identifier is in it; 0 = nowhere.
    packet_id_at: usize,
}

impl Outlets {
    pub(super) fn new(
        shards: usize,
        journal: ShardJournal,
        bounds: OutboxBounds,
        pool_bytes_max: usize,
        coder: Coder,
    ) -> Self {
        Self {
            journal,
            connections: Slab::new(),
            pool: BufferPool::new(pool_bytes_max),
            dirty: Vec::new(),
            ready: Vec::new(),
            closed: Vec::new(),
            mail: (0..shards).map(|_| MailBatch::default()).collect(),
            counters: ShellCounters::default(),
            layer_buffers: LayerBuffers::new(READ_BUFFER_BYTES),
            outbox_bytes: 0,
            bounds,
            coder,
            readers: Readers::default(),
            encoded: Encoded::default(),
        }
    }

    /// Puts a connection on the list to flush, once per tick.
    pub(super) fn mark_dirty(&mut self, index: usize) {
        if let Some(connection) = self.connections.get_mut(index)
            && !connection.in_dirty
        {
            connection.in_dirty = true;
            self.dirty.push(index);
        }
    }

    /// Puts a connection on the list to read, once.
    pub(super) fn mark_ready(&mut self, index: usize) {
        if let Some(connection) = self.connections.get_mut(index)
            && !connection.in_ready
        {
            connection.in_ready = true;
            self.ready.push(index);
        }
    }

    /// Writes what waits for a connection, as much as its socket takes.
    pub(super) fn write(&mut self, index: usize) -> io::Result<()> {
        let Some(connection) = self.connections.get_mut(index) else {
            return Ok(());
        };
        let waiting = connection.waiting_len();
        let Some(layers) = &mut connection.layers else {
            let written = connection
                .outbox
                .write_to(&mut connection.socket, &mut self.pool);
            let left = connection.outbox_len();
            connection.blocked = !connection.outbox.is_empty() && written.is_ok();
            self.outbox_bytes -= waiting - left;
            self.counters.bytes_sent += (waiting - left) as u64;
            return written;
        };
        let written = layers.write(
            &mut connection.socket,
            &mut connection.outbox,
            connection.state != ConnectionState::Open && connection.later.is_none(),
            &mut self.layer_buffers,
            &mut self.pool,
        );
        let left = connection.waiting_len();
        let later = connection.outbox_len() - connection.outbox.len();
        connection.blocked = left > later && written.is_ok();
        // Frames and records are longer than what is in them.
        self.outbox_bytes = self.outbox_bytes + left - waiting;
        self.counters.bytes_sent += *written.as_ref().unwrap_or(&0) as u64;
        written.map(drop)
    }

    /// Forgets what waits for a connection that will not read it, unless a frame has announced it.
    pub(super) fn release_outbox(&mut self, index: usize) {
        let is_promised = |layers: &Layers| layers.promised_len() > 0;
        if let Some(connection) = self.connections.get_mut(index)
            && !connection.layers.as_deref().is_some_and(is_promised)
        {
            self.outbox_bytes -= connection.outbox_len();
            connection.later = None;
            connection.outbox.release(&mut self.pool);
        }
    }

    /// Makes room for a QoS 0 message in a full outbox: it is written before its time, and if the
    /// client does not read, the oldest go. False: there is no room.
    fn make_room(&mut self, index: usize) -> bool {
        let is_blocked = |connection: &Connection| connection.blocked;
        if !self.connections.get(index).is_some_and(is_blocked) {
            // The flush at the end of the tick meets the same error and ends the connection.
            let _ = self.write(index);
        }
        let bytes_max = self.bounds.each(self.outbox_bytes);
        let Some(connection) = self.connections.get_mut(index) else {
            return false;
        };
        let before = connection.outbox_len();
        if before <= bytes_max {
            return true;
        }
        if connection.only_owed {
            return false;
        }
        let layers = connection.layers.as_ref();
        let promised = layers.map_or(0, |layers| layers.promised_len());
        // What comes later stays: what it waits for is about to come.
        let stays = before - connection.outbox.len();
        let dropped = connection.outbox.drop_oldest_qos0(
            (bytes_max / 4 * 3).saturating_sub(stays),
            promised,
            connection.version,
        );
        let left = connection.outbox_len();
        connection.only_owed = left > bytes_max;
        self.outbox_bytes -= before - left;
        self.count_dropped(index, dropped);
        left <= bytes_max
    }

    pub(super) fn count_dropped(&mut self, index: usize, count: usize) {
        self.counters.dropped_qos0_outbox += count as u64;
        if let Some(connection) = self.connections.get_mut(index) {
            let count = u32::try_from(count).unwrap_or(u32::MAX);
            connection.qos0_dropped = connection.qos0_dropped.saturating_add(count);
        }
    }
}

impl Encoded {
    fn fill(&mut self, message: &Message<'_>, target: &Target, identifiers: &[u32]) {
        self.head.clear();
        let flags = target.flags;
        let known = flags.has(DeliveryFlags::TOPIC_KNOWN);
        let version = if flags.has(DeliveryFlags::V5) {
            ProtocolVersion::V5
        } else {
            ProtocolVersion::V311
        };
        self.packet_id_at = encode_publish_head(
            &PublishHead {
                version,
                dup: flags.has(DeliveryFlags::DUP),
                qos: flags.qos(),
                retain: flags.has(DeliveryFlags::RETAIN),
                topic: if known { "" } else { message.topic },
                packet_id: target.packet_id,
                topic_alias: (target.alias != 0).then_some(target.alias),
                message_expiry_interval: message.expiry_s,
                subscription_identifiers: target.identifiers.of(identifiers),
                properties: message.properties,
                payload_len: message.payload.bytes.len(),
            },
            &mut self.head,
        );
    }
}

/// Where `part` lies in `whole`, if it does.
fn offset_in(whole: &[u8], part: &[u8]) -> Option<usize> {
    let offset = part.as_ptr().addr().checked_sub(whole.as_ptr().addr())?;
    (offset + part.len() <= whole.len()).then_some(offset)
}

impl Outlets {
    /// Puts a message, in this one form, in the outboxes of its targets.
    pub(super) fn deliver(
        &mut self,
        message: &Message<'_>,
        targets: &[Target],
        identifiers: &[u32],
    ) {
        let payload = message.payload.bytes;
        // A payload worth sharing is put in one allocation, unless it is in one already.
        let shared = (payload.len() >= SHARED_PAYLOAD_BYTES_MIN
            && (targets.len() > 1 || message.payload.shared.is_some()))
        .then(|| {
            message
                .payload
                .shared
                .and_then(|all| Some((Rc::clone(all), offset_in(all, payload)?)))
                .unwrap_or_else(|| (Rc::new(payload.to_vec()), 0))
        });
        let verbatim = message.verbatim.filter(|_| shared.is_none());
        let mut encoded = std::mem::take(&mut self.encoded);
        let mut encoded_for = None;
        for target in targets {
            let index = target.connection.0 as usize;
            let flags = target.flags;
            let droppable = is_droppable(target);
            let Some(connection) = self.connections.get_mut(index) else {
                continue;
            };
            let full = connection.outbox_len() > self.bounds.each(self.outbox_bytes);
            if full && droppable && !self.make_room(index) {
                self.count_dropped(index, 1);
                continue;
            }
            let Some(connection) = self.connections.get_mut(index) else {
                continue;
            };
            let outbox = connection.tail();
            let run = outbox.run(&mut self.pool);
            let before = run.len();
            if let (Some(packet), 0) = (verbatim, flags.bits()) {
                run.extend_from_slice(packet);
            } else {
                let own = target.alias != 0 || target.identifiers.len > 0;
                if own || encoded_for != Some(flags) {
                    encoded.fill(message, target, identifiers);
                    encoded_for = (!own).then_some(flags);
                }
                run.extend_from_slice(&encoded.head);
                if let Some(place) =
                    run.get_mut(before + encoded.packet_id_at..before + encoded.packet_id_at + 2)
                    && encoded.packet_id_at > 0
                {
                    place.copy_from_slice(&target.packet_id.to_be_bytes());
                }
                if shared.is_none() {
                    run.extend_from_slice(payload);
                }
            }
            let mut bytes = run.len() - before;
            if let Some((data, start)) = &shared {
                outbox.push_shared(data, *start, payload.len());
                bytes += payload.len();
            }
            connection.grow(bytes);
            connection.only_owed &= !droppable;
            self.outbox_bytes += bytes;
            self.counters.packets_sent += 1;
            self.counters.publish_bytes_sent += payload.len() as u64;
            if !connection.in_dirty {
                connection.in_dirty = true;
                self.dirty.push(index);
            }
        }
        self.encoded = encoded;
    }
}

/// Whether a delivery may be dropped where there is no room: nothing that follows leans on it.
#[inline]
pub(super) fn is_droppable(target: &Target) -> bool {
    let flags = target.flags;
    flags.qos() == QoS::AtMostOnce && (target.alias == 0 || flags.has(DeliveryFlags::TOPIC_KNOWN))
}

impl Effects for Outlets {
    fn journal(&mut self) -> &mut dyn waypost_core::journal::Journal {
        &mut self.journal
    }

    fn send(&mut self, connection: ConnectionId, packet: &Packet<'_>) {
        let index = connection.0 as usize;
        let Some(connection) = self.connections.get_mut(index) else {
            return;
        };
        let version = connection.version;
        let run = connection.tail().run(&mut self.pool);
        let before = run.len();
        encode(packet, version, run);
        let bytes = run.len() - before;
        connection.grow(bytes);
        self.outbox_bytes += bytes;
        self.counters.packets_sent += 1;
        self.mark_dirty(index);
    }

    fn deliver_many(&mut self, message: &Message<'_>, targets: &[Target], identifiers: &[u32]) {
        if self.coder.is_at_work() {
            self.deliver_coded(message, targets, identifiers);
        } else {
            self.deliver(message, targets, identifiers);
        }
    }

    #[inline]
    fn published(&mut self, by: ConnectionId, message: &Message<'_>) {
        if self.coder.learns()
            && let Some(connection) = self.connections.get(by.0 as usize)
        {
            self.coder.learn(connection.publisher, message);
        }
    }

    fn outbox_bytes(&self, connection: ConnectionId) -> usize {
        let Some(connection) = self.connections.get(connection.0 as usize) else {
            return 0;
        };
        let mut len = connection.outbox_len();
        // Beyond the shard's bound an outbox counts as full as soon as it has its short share.
        if len > self.bounds.each(self.outbox_bytes) {
            len = len.max(self.bounds.each_bytes_max);
        }
        // Whoever hears this waits for `handle_writable`, whatever the bounds are by then.
        if len > self.bounds.each_bytes_max / 2 {
            connection.congested.set(true);
        }
        len
    }

    fn tell_when_written(&mut self, connection: ConnectionId) {
        if let Some(connection) = self.connections.get(connection.0 as usize) {
            connection.congested.set(true);
        }
    }

    fn close(&mut self, connection: ConnectionId) {
        let index = connection.0 as usize;
        if let Some(connection) = self.connections.get_mut(index)
            && connection.state == ConnectionState::Open
        {
            connection.state = ConnectionState::Flushing;
            self.closed.push(index);
            self.mark_dirty(index);
        }
    }

    fn read(&mut self, connection: ConnectionId, on: bool) {
        let index = connection.0 as usize;
        if let Some(connection) = self.connections.get_mut(index) {
            connection.parked = !on;
            if on {
                self.mark_ready(index);
            }
        }
    }

    #[expect(clippy::indexing_slicing, reason = "just made long enough")]
    fn mailbox(&mut self, to: ShardId) -> &mut MailBatch {
        let index = usize::from(to.0);
        if index >= self.mail.len() {
            self.mail.resize_with(index + 1, MailBatch::default);
        }
        &mut self.mail[index]
    }
}
