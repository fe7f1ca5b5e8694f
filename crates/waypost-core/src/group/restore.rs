//! The rows of groups that are owed messages by the store, and what becomes of them at a start.

use super::debtor::Debtor;
use super::{Groups, home_of};
use crate::broker::Broker;
use crate::effects::{Effects, Now};
use crate::index::SubscriberId;
use crate::journal::{QueueId, Table, Ticket, Until};
use crate::queue::queued_overhead;
use crate::rows::RowError;
use crate::rows::group::{decode_group, encode_group};

impl Broker {
    /// Writes down that a group is owed messages in its queue.
    pub(super) fn put_group(&mut self, queue: QueueId, out: &mut impl Effects) {
        let slot = self.groups.by_number.get(&queue);
        let Some(group) = slot.and_then(|slot| self.groups.get(*slot)) else {
            return;
        };
        let mut value = Vec::new();
        encode_group(queue, &mut value);
        out.journal()
            .put(Table::GROUPS, group.filter.as_bytes(), &value);
        let ticket = self.end(Until::Whenever, out);
        self.groups.rows.push_back((ticket, queue));
    }

    /// Transactions up to here are on disk: rows that were refused before are tried again.
    pub(crate) fn group_rows_stored(&mut self, durable: Ticket, out: &mut impl Effects) {
        let rows = &mut self.groups.rows;
        while rows
            .pop_front_if(|(ticket, _)| *ticket <= durable)
            .is_some()
        {}
        for queue in std::mem::take(&mut self.groups.rows_refused) {
            self.put_group(queue, out);
        }
    }

    /// Transactions from the first to the last are not kept.
    pub(crate) fn group_rows_refused(&mut self, first: Ticket, last: Ticket) {
        let Groups {
            rows, rows_refused, ..
        } = &mut self.groups;
        rows.retain(|(ticket, queue)| {
            let is_refused = (first..=last).contains(ticket);
            if is_refused {
                rows_refused.push(*queue);
            }
            !is_refused
        });
    }

    /// At a start: a row of groups. Each shard takes those that have their home here; their members are still to come.
    pub(crate) fn restore_group(
        &mut self,
        filter: &[u8],
        value: &[u8],
        out: &mut impl Effects,
    ) -> Result<(), RowError> {
        let number = decode_group(value)?;
        let filter = core::str::from_utf8(filter).map_err(|_| RowError::Malformed)?;
        if home_of(filter, self.shards) != self.shard {
            return Ok(());
        }
        // A member may have come before.
        let slot = match self.groups.find(filter) {
            Some(slot) => slot,
            None => self.begin_group(filter, out).ok_or(RowError::Malformed)?,
        };
        let group = self.groups.all.get_mut(slot as usize);
        let Some(group) = group.and_then(Option::as_mut) else {
            return Ok(());
        };
        let filter_id = group.filter_id;
        group.debtor = Some(Debtor::restored(number));
        self.groups.by_number.insert(number, slot);
        self.fresh.forget(SubscriberId::of_group(slot).0);
        self.interest_lasts(filter_id, true, out);
        self.groups.count_waiting(slot);
        Ok(())
    }

    /// At a start: what the queue of a group holds.
    pub(crate) fn restore_group_queue(&mut self, queue: QueueId, count: usize, bytes: usize) {
        let Some(slot) = self.groups.by_number.get(&queue).copied() else {
            return;
        };
        let group = self.groups.get_mut(slot);
        if let Some(debtor) = group.and_then(|group| group.debtor.as_mut()) {
            debtor.restore(count, queued_overhead(count) + bytes);
        }
        self.groups.count_waiting(slot);
    }

    /// All rows have come. When the others have read theirs too, all members have joined.
    pub(crate) fn await_members(&mut self, now: Now, out: &mut impl Effects) {
        self.groups.is_restoring = false;
        if self.shards > 1 && !self.groups.by_number.is_empty() {
            self.groups.restored = Some(self.ask_round(out));
        }
        for slot in self.groups.slots() {
            self.keep_group_if_needed(slot, out);
        }
        if self.groups.restored.is_none() {
            self.end_restored_groups(now, out);
        }
    }

    /// Other shards have confirmed a round.
    pub(crate) fn end_orphans(&mut self, now: Now, out: &mut impl Effects) {
        let all = self.fresh.confirmed_by_all();
        if self
            .groups
            .restored
            .take_if(|round| *round <= all)
            .is_some()
        {
            self.end_restored_groups(now, out);
        }
    }

    /// After the start: all members have joined. Groups without any end.
    fn end_restored_groups(&mut self, now: Now, out: &mut impl Effects) {
        for slot in self.groups.slots() {
            self.end_group_if_empty(slot, now, out);
            self.keep_group_if_needed(slot, out);
        }
    }
}
