//! A start: sessions, and what is under way to them and from them, are made again from their rows.
//!
//! Every shard is given all rows and takes those of the sessions that are its own by `hash(client id) mod shards`, so
//! that it does not matter how many shards there were. A session that was connected counts as cut off now.
//!
//! What was in flight to a session that was away has its identifiers back. Of one that was connected only the `QoS` 2
//! messages have rows; its `QoS` 1 messages are read from its queue and may have been sent before (DUP 1).

use std::collections::BTreeMap;
use std::sync::Arc;

use waypost_mqtt::{Filter, SubscriptionRequest};

use crate::broker::Broker;
use crate::calendar::Calendar;
use crate::effects::{Effects, Now};
use crate::group::group_of;
use crate::hash::shared_hash;
use crate::index::SubscriberId;
use crate::inflight::{Inflight, Slot, Waits};
use crate::journal::{MessageId, QueueId, Table, Until};
use crate::queue::queued_overhead;
use crate::rows::group::decode_group;
use crate::rows::{
    InFlight, RowError, SentRow, SessionRow, Stage, SubscriptionRow, decode_filter_key,
    decode_packet_key, decode_queue_key, decode_will_key, queue_key,
};
use crate::session::{EXPIRY_NEVER_S, Session};
use crate::timers::NEVER;

/// What is known of sessions before all their rows are.
#[derive(Debug, Default)]
pub(crate) struct Restore {
    /// What was in flight, by slot of the session.
    in_flight: BTreeMap<u32, UnderWay>,
    /// Sessions that were connected.
    cut_off: Vec<u32>,
    /// What subscriptions read first in their streams, by the keys of their rows.
    pub picked: BTreeMap<Box<[u8]>, Arc<[u64]>>,
}

#[derive(Debug, Default)]
struct UnderWay {
    /// In the order it was sent.
    sent: Vec<InFlight>,
    /// At `QoS` 2, by packet identifier.
    rows: BTreeMap<u16, SentRow>,
}

impl Broker {
    /// A start begins; `last_wall_ms` is the last date the store knows, in milliseconds since 1970. The rows of
    /// [`Table::BEFORE_QUEUES`] come next, then what the queues hold, then the rows of [`Table::AFTER_QUEUES`].
    pub fn restore_begin(&mut self, last_wall_ms: u64, now: Now) {
        self.calendar = Calendar::beginning(now, last_wall_ms);
    }

    /// A row comes; one that is another shard's is passed over.
    pub fn restore_row(
        &mut self,
        table: Table,
        key: &[u8],
        value: &[u8],
        kept: Option<MessageId>,
        now: Now,
        out: &mut impl Effects,
    ) -> Result<(), RowError> {
        self.groups.is_restoring = true;
        match table {
            Table::SESSIONS => self.restore_session(key, value, now),
            Table::SUBSCRIPTIONS => self.restore_subscription(key, value, now, out),
            Table::RECEIVED => {
                let (queue, packet_id) = decode_packet_key(key)?;
                if self.is_row_of_orphan(table, queue, key) {
                    return Ok(());
                }
                let content = value.first_chunk().map(|hash| u64::from_le_bytes(*hash));
                let slot = self.sessions.find_number(queue);
                if let Some(session) = slot.and_then(|slot| self.sessions.get_mut(slot)) {
                    session.restore_received(packet_id, content);
                }
                Ok(())
            }
            Table::SENT => {
                let (queue, packet_id) = decode_packet_key(key)?;
                let row = SentRow::decode_sent(value)?;
                if self.is_row_of_orphan(table, queue, key) {
                    return Ok(());
                }
                if let Some(slot) = self.sessions.find_number(queue) {
                    let under_way = self.restore.in_flight.entry(slot).or_default();
                    under_way.rows.insert(packet_id, row);
                }
                Ok(())
            }
            Table::WILLS => {
                let (queue, number) = decode_will_key(key)?;
                if let Some(slot) = self.sessions.find_number(queue) {
                    return self.restore_will(slot, number, value, now);
                }
                self.is_row_of_orphan(table, queue, key);
                Ok(())
            }
            Table::RETAINED => self.restore_retained(key, value, kept, now, out),
            Table::DELAYED => self.restore_delayed(key, value),
            Table::PICKED => self.restore_picked(key, value),
            Table::READERS => self.restore_reader(key, value),
            Table::GROUPS => {
                self.remember_owner(decode_group(value)?);
                self.restore_group(key, value, out)
            }
            _ => Ok(()),
        }
    }

    fn restore_session(&mut self, key: &[u8], value: &[u8], now: Now) -> Result<(), RowError> {
        let queue = decode_queue_key(key)?;
        self.remember_owner(queue);
        let row = SessionRow::decode_session(value)?;
        if self.registrar_of(row.client_id) != self.shard {
            return Ok(());
        }
        // The store may have refused to take note that one ended: the later one is the client's.
        let other = self.sessions.find(row.client_id);
        let number = other.and_then(|slot| self.sessions.get(slot)?.number());
        if let (Some(slot), Some(number)) = (other, number) {
            if number > queue {
                self.is_former(queue, key);
                return Ok(());
            }
            self.is_former(number, &queue_key(number));
            self.restore.in_flight.remove(&slot);
            self.restore.cut_off.retain(|other| *other != slot);
            self.sessions.remove(slot);
        }
        let publisher = shared_hash(row.client_id);
        let mut session = Session::new(row.client_id.into(), row.user.map(Into::into), publisher);
        session.set_number(Some(queue));
        session.expiry_s = row.expiry_s;
        session.ends_ms = match (row.expiry_s, row.away_since_ms) {
            (EXPIRY_NEVER_S, _) => NEVER,
            (expiry_s, None) => now.monotonic_ms + u64::from(expiry_s) * 1_000,
            (expiry_s, Some(since_ms)) => {
                let ends_wall_ms = since_ms.saturating_add(u64::from(expiry_s) * 1_000);
                self.calendar.time(ends_wall_ms)
            }
        };
        let is_cut_off = row.away_since_ms.is_none();
        let slot = self.sessions.insert(session);
        if is_cut_off {
            self.restore.cut_off.push(slot);
        } else if !row.in_flight.is_empty() {
            // Of one that never came to the disk, this is all that is left: its number must not become another's.
            let last = row.in_flight.iter().map(|in_flight| in_flight.id).max();
            self.numbers.skip(last.unwrap_or_default());
            self.restore.in_flight.entry(slot).or_default().sent = row.in_flight;
        }
        self.arm_session(slot);
        Ok(())
    }

    fn restore_subscription(
        &mut self,
        key: &[u8],
        value: &[u8],
        now: Now,
        out: &mut impl Effects,
    ) -> Result<(), RowError> {
        let (queue, filter) = decode_filter_key(key)?;
        let row = SubscriptionRow::decode_subscription(value)?;
        if self.is_row_of_orphan(Table::SUBSCRIPTIONS, queue, key) {
            return Ok(());
        }
        let filter = Filter::parse(filter).map_err(|_| RowError::Malformed)?;
        let Some(slot) = self.sessions.find_number(queue) else {
            return Ok(());
        };
        let subscription = row.subscription;
        if group_of(filter).is_some() {
            let request = SubscriptionRequest {
                filter,
                options: subscription.options,
            };
            let weight = row.weight.into();
            let identifier = subscription.identifier;
            let _ = self.subscribe_to_group(slot, request, identifier, weight, now, out);
            return Ok(());
        }
        let (filter_id, replaced) = self.index.insert(filter, SubscriberId(slot), subscription);
        if replaced.is_none() {
            if let Some(session) = self.sessions.get_mut(slot)
                && let Err(at) = session.subscriptions.binary_search(&filter_id)
            {
                session.subscriptions.reserve_exact(1);
                session.subscriptions.insert(at, filter_id);
            }
            self.interest_gained(filter, filter_id, true, out);
        }
        Ok(())
    }

    /// What the queue of a session holds: messages, and bytes of their contents.
    pub fn restore_queue(&mut self, queue: QueueId, count: u64, bytes: u64) {
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        let slot = self.sessions.find_number(queue);
        let Some(session) = slot.and_then(|slot| self.sessions.get_mut(slot)) else {
            self.check_queue(queue);
            self.restore_group_queue(queue, count, bytes);
            return;
        };
        if count > 0 {
            let cursor = &mut session.delivery().cursor;
            cursor.restore(count, queued_overhead(count).saturating_add(bytes));
        }
    }

    /// All rows and queues have come.
    pub fn restore_end(&mut self, now: Now, out: &mut impl Effects) {
        let Restore {
            in_flight, cut_off, ..
        } = std::mem::take(&mut self.restore);
        for (slot, under_way) in in_flight {
            let Some(session) = self.sessions.get_mut(slot) else {
                continue;
            };
            let delivery = session.delivery();
            let order = under_way.rows.values().map(|row| row.order).max();
            delivery.cursor.order = order.unwrap_or_default();
            let slots = under_way.slots();
            delivery.cursor.begun_before(slots.len());
            let last_id = slots.last().map_or(0, |slot| slot.packet_id);
            delivery.inflight = Inflight::from_slots(slots.into_iter(), last_id);
        }
        self.arm_sweep(now);
        let last = self.numbers.last_message();
        self.history.restored_upto = last;
        for slot in cut_off {
            let Some(session) = self.sessions.get_mut(slot) else {
                continue;
            };
            if let Some(delivery) = &mut session.delivery {
                delivery.cursor.again_upto = last;
            }
            if session.expiry_s != EXPIRY_NEVER_S {
                self.keep_absence(slot, now, out);
            }
        }
        self.forget_orphans(out);
        self.read_retained_rows(out);
        self.end(Until::Whenever, out);
        self.await_members(now, out);
        self.begin_delayed(now, out);
    }
}

impl UnderWay {
    /// In the order it was sent; what no row knows of at `QoS` 2 is at `QoS` 1.
    fn slots(mut self) -> Vec<Slot> {
        let mut slots = Vec::new();
        for InFlight { packet_id, id } in self.sent {
            let waits = self.rows.remove(&packet_id).map_or(Waits::PubAck, waits);
            slots.push(Slot::restored(packet_id, waits, id));
        }
        let mut rows: Vec<_> = self.rows.into_iter().collect();
        rows.sort_unstable_by_key(|(_, row)| row.order);
        let of_row = |(packet_id, row): (u16, SentRow)| {
            let id = row.id;
            Slot::restored(packet_id, waits(row), id)
        };
        slots.extend(rows.into_iter().map(of_row));
        slots
    }
}

fn waits(row: SentRow) -> Waits {
    match row.stage {
        Stage::PubRec => Waits::PubRec,
        Stage::PubComp => Waits::PubComp,
    }
}
