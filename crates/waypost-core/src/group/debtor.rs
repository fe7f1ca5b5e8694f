//! A group that is owed messages by the store, since a member's session outlives its connection.
//!
//! What it is owed is in a queue of the store, and in memory while that is little. Beyond that the group is *behind*:
//! what comes is only counted, and read from the queue when what is in memory runs low. It is so no more when all it is
//! owed is in memory again. A message is settled when it ends at the group, whatever the reason; one that its
//! publisher's shard has not written down yet, as soon as it has. At `QoS` 2 a message is always read from the queue:
//! what a client is sent once and no more has to be written down before. It is settled when a member's session that
//! the store keeps takes it ([`super::taking`]), in the same transaction. Not here: who is owed what (`debts.rs`).

use std::rc::Rc;

use foldhash::fast::FixedState;
use hashbrown::HashSet;
use waypost_mqtt::QoS;

use super::Sender;
use super::line::Line;
use super::message::{Dropped, Given, Waiting};
use super::unlogged::Ending;
use crate::broker::Broker;
use crate::calendar::Calendar;
use crate::effects::{Effects, Now, ShardId};
use crate::journal::{MessageId, QueueId, QueueRead, ReadEntry, Table, Until};
use crate::limits::Limits;
use crate::rows::message::decode_message;
use crate::rows::options::decode_options;
use crate::unsettled::Settled;

/// What a group is to the store.
#[derive(Debug)]
pub(crate) struct Debtor {
    pub number: QueueId,
    /// What it is owed and has in memory, with a member or not, or has done with before it was written down: a read
    /// passes over these.
    held: HashSet<MessageId, FixedState>,
    /// Messages it is owed and does not have in memory.
    beyond: usize,
    /// What these are charged with.
    beyond_bytes: usize,
    /// Of what it is owed, not written down yet.
    unlogged: usize,
    /// The place in the queue up to which it was read since it fell behind.
    after: u64,
    /// There may be more behind that place than the last read saw.
    has_more: bool,
    is_reading: bool,
    /// What was settled since the read that is under way was asked for: it may see it all the same.
    settled: Vec<MessageId>,
}

impl Debtor {
    pub fn new(number: QueueId) -> Self {
        Self {
            number,
            held: HashSet::default(),
            beyond: 0,
            beyond_bytes: 0,
            unlogged: 0,
            after: 0,
            has_more: false,
            is_reading: false,
            settled: Vec::new(),
        }
    }

    /// At a start: how much the queue holds may be unknown.
    pub fn restored(number: QueueId) -> Self {
        Self {
            beyond: 1,
            has_more: true,
            ..Self::new(number)
        }
    }

    /// At a start: its queue holds this.
    pub fn restore(&mut self, count: usize, bytes: usize) {
        (self.beyond, self.beyond_bytes) = (count, bytes);
        self.has_more = count > 0;
    }

    /// Messages that are not in memory, and what they are charged with.
    pub fn beyond(&self) -> (usize, usize) {
        (self.beyond, self.beyond_bytes)
    }

    /// A message comes while these wait in memory: whether it is to wait there too.
    pub fn keeps(
        &mut self,
        id: MessageId,
        qos: QoS,
        bytes: usize,
        line: &Line,
        limits: &Limits,
    ) -> bool {
        self.unlogged += 1;
        let has_place = line.count() == 0
            || (line.count() < limits.group_window_messages_max
                && line.bytes() + bytes <= limits.group_window_bytes_max);
        if self.beyond == 0 && has_place && qos != QoS::ExactlyOnce {
            self.held.insert(id);
            return true;
        }
        if self.beyond == 0 {
            // The queue is read from its beginning.
            self.after = 0;
        }
        self.beyond += 1;
        self.beyond_bytes += bytes;
        false
    }

    /// A message is owed only until it is buried.
    pub fn owe_dead(&mut self) {
        self.unlogged += 1;
    }

    /// Whether to read on, and how many messages: what is in memory is read again and passed over.
    fn begin_read(&mut self, line: &Line, limits: &Limits) -> Option<(u64, u32)> {
        let window = limits.group_window_messages_max;
        let has_room =
            line.count() <= window / 2 && line.bytes() <= limits.group_window_bytes_max / 2;
        if self.beyond == 0 || !self.has_more || self.is_reading || !has_room {
            return None;
        }
        self.has_more = false;
        self.is_reading = true;
        let count = if self.after == 0 {
            window + self.held.len()
        } else {
            window
        };
        Some((self.after, u32::try_from(count).unwrap_or(u32::MAX)))
    }

    fn is_known(&self, id: MessageId) -> bool {
        self.held.contains(&id) || self.settled.contains(&id)
    }

    /// What was read up to this place is in memory now, or settled.
    fn end_read(&mut self, last_place: Option<u64>, is_end: bool) {
        self.is_reading = false;
        self.settled.clear();
        self.after = last_place.unwrap_or(self.after);
        self.has_more |= !is_end;
        if self.has_more {
            self.beyond = self.beyond.max(1);
        } else if self.unlogged == 0 {
            // Nothing can have been left out.
            (self.beyond, self.beyond_bytes) = (0, 0);
        }
    }

    fn read(&mut self, id: MessageId, bytes: usize) {
        self.held.insert(id);
        self.beyond = self.beyond.saturating_sub(1);
        self.beyond_bytes = self.beyond_bytes.saturating_sub(bytes);
    }

    fn settle(&mut self, id: MessageId) {
        self.held.remove(&id);
        if self.is_reading {
            self.settled.push(id);
        }
    }

    fn is_idle(&self) -> bool {
        self.beyond == 0 && self.held.is_empty() && self.unlogged == 0
    }
}

impl Broker {
    /// A group is owed a message that comes from a shard now, if the message is kept.
    pub(super) fn owe_group(
        &mut self,
        slot: u32,
        waiting: &mut Waiting,
        origin: crate::mail::Origin,
    ) {
        let Some(number) = self.groups.number_of(slot) else {
            return;
        };
        let topic = waiting.message.topic();
        waiting.debt = self.owe(topic, origin, number, waiting.retain, &[]);
        if let Some(id) = waiting.debt {
            let group = self.groups.get(slot);
            let is_buried = group.is_some_and(|group| group.dead_letter().is_some());
            self.scratch.debts.outlives |= is_buried;
            self.groups.unlogged.push(waiting.sender.shard, id, number);
        }
    }

    /// A group has done with a message that its queue owes still.
    pub(super) fn done_at_group(&mut self, slot: u32, id: MessageId) {
        let group = self.groups.all.get_mut(slot as usize);
        let debtor = group.and_then(|group| group.as_mut()?.debtor.as_mut());
        if let Some(debtor) = debtor
            && !self.groups.unlogged.finish(debtor.number, id)
        {
            debtor.settle(id);
        }
    }

    /// A dead letter of a group's queue is written down.
    pub(crate) fn group_is_rid_of(&mut self, queue: QueueId, out: &mut impl Effects) {
        if let Some(slot) = self.groups.by_number.get(&queue).copied() {
            self.keep_group_if_needed(slot, out);
        } else {
            self.go_on_ending(queue, out);
        }
    }

    /// A message came to its end at a group.
    pub(super) fn settle_for_group(
        &mut self,
        slot: u32,
        debt: Option<MessageId>,
        out: &mut impl Effects,
    ) {
        let group = self.groups.all.get_mut(slot as usize);
        let debtor = group.and_then(|group| group.as_mut()?.debtor.as_mut());
        let (Some(debtor), Some(id)) = (debtor, debt) else {
            return;
        };
        if !self.groups.unlogged.finish(debtor.number, id) {
            debtor.settle(id);
            let queue = debtor.number;
            out.journal().settle(queue, id);
            let ticket = self.end(Until::Whenever, out);
            let settled = Settled {
                queue,
                id,
                packet_id: None,
            };
            self.unsettled.write(ticket, settled);
            self.keep_group_if_needed(slot, out);
        }
    }

    /// What a shard published up to this message is written down.
    pub(crate) fn logged_for_groups(
        &mut self,
        publisher: ShardId,
        upto: MessageId,
        now: Now,
        out: &mut impl Effects,
    ) {
        let mut is_any_settled = false;
        let (mut slots, mut ended) = (Vec::new(), Vec::new());
        while let Some((id, queue, is_done)) = self.groups.unlogged.pop(publisher, upto) {
            if let Some(is_last) = self.groups.unlogged.count_ended(queue) {
                if is_done && !self.dead.logged(queue, id) {
                    out.journal().settle(queue, id);
                    is_any_settled = true;
                }
                if is_last {
                    ended.push(queue);
                }
                continue;
            }
            let Some(slot) = self.groups.by_number.get(&queue).copied() else {
                continue;
            };
            let group = self.groups.get_mut(slot);
            let Some(debtor) = group.and_then(|group| group.debtor.as_mut()) else {
                continue;
            };
            debtor.unlogged -= 1;
            debtor.has_more |= debtor.beyond > 0;
            if is_done {
                debtor.settle(id);
                if !self.dead.logged(queue, id) {
                    out.journal().settle(queue, id);
                    is_any_settled = true;
                }
            }
            if slots.last() != Some(&slot) {
                slots.push(slot);
            }
        }
        if is_any_settled {
            self.end(Until::Whenever, out);
        }
        for queue in ended {
            self.go_on_ending(queue, out);
        }
        for slot in slots {
            self.dispatch(slot, now, out);
            self.keep_group_if_needed(slot, out);
        }
    }

    /// What a shard published could not be written down: no group is owed it.
    pub(crate) fn unlogged_for_groups(&mut self, ids: &[MessageId]) {
        for slot in self.groups.by_number.values().copied() {
            let group = self.groups.all.get_mut(slot as usize);
            let Some(group) = group.and_then(Option::as_mut) else {
                continue;
            };
            for id in ids {
                let Some(debtor) = &mut group.debtor else {
                    continue;
                };
                self.dead.unlogged(debtor.number, *id);
                if debtor.held.contains(id) {
                    // Its publisher was told: whoever has it already may finish it.
                    group.line.forget(*id);
                }
            }
        }
    }

    /// A group begins to be owed messages with the first member whose session outlives its connection, and is owed none
    /// any more when the last of these has gone and nothing is left. Returns whether it began.
    pub(super) fn keep_group_if_needed(&mut self, slot: u32, out: &mut impl Effects) -> bool {
        // At a start it is not known yet whether it has a queue already.
        if !self.has_store || self.groups.is_restoring {
            return false;
        }
        // At a start members may be on their way from other shards.
        let may_end = self.groups.restored.is_none();
        let Some(group) = self.groups.get_mut(slot) else {
            return false;
        };
        let (has_durable, filter_id) = (group.seats.has_durable(), group.filter_id);
        match &group.debtor {
            None if has_durable => {
                let number = self.numbers.queue();
                group.debtor = Some(Debtor::new(number));
                self.groups.by_number.insert(number, slot);
                self.put_group(number, out);
                self.interest_lasts(filter_id, true, out);
                true
            }
            Some(debtor)
                if !has_durable
                    && may_end
                    && debtor.is_idle()
                    && !self.dead.needs(debtor.number) =>
            {
                self.end_debtor(slot, out);
                self.interest_lasts(filter_id, false, out);
                false
            }
            _ => false,
        }
    }

    /// A group is owed nothing any more.
    pub(super) fn end_debtor(&mut self, slot: u32, out: &mut impl Effects) {
        let group = self.groups.all.get_mut(slot as usize);
        let Some(group) = group.and_then(Option::as_mut) else {
            return;
        };
        let Some(debtor) = group.debtor.take() else {
            return;
        };
        let number = debtor.number;
        self.groups.by_number.remove(&number);
        // What was in memory is told of already, or a client's.
        let unlogged = &mut self.groups.unlogged;
        let journal = out.journal();
        for id in debtor
            .held
            .iter()
            .filter(|id| !unlogged.finish(number, **id) && !self.dead.has(number, **id))
        {
            journal.settle(number, *id);
        }
        let ending = Ending {
            filter: group.filter.clone(),
            unlogged: unlogged.of(number),
            has_more: debtor.beyond > 0,
            after: 0,
        };
        unlogged.ending.insert(number, ending);
        self.end(Until::Whenever, out);
        self.go_on_ending(number, out);
    }

    /// Ends a queue, once nothing more is written down for it, and all that was never in memory is told of.
    fn go_on_ending(&mut self, queue: QueueId, out: &mut impl Effects) {
        let ending = self.groups.unlogged.ending.get(&queue);
        // What died goes before its queue.
        let is_ready = |ending: &&Ending| ending.unlogged == 0 && !self.dead.needs(queue);
        let Some(ending) = ending.filter(is_ready) else {
            return;
        };
        if ending.has_more {
            let Limits {
                group_window_messages_max: count_max,
                group_window_bytes_max: bytes_max,
                ..
            } = self.limits;
            let most = |number| u32::try_from(number).unwrap_or(u32::MAX);
            let (after, journal) = (ending.after, out.journal());
            journal.read_queue(queue, after, most(count_max), most(bytes_max));
            return;
        }
        let journal = out.journal();
        journal.end_queue(queue);
        // Another group of this filter may have begun.
        let filter = &ending.filter;
        if !self
            .groups
            .find(filter)
            .is_some_and(|slot| self.groups.is_owed(slot))
        {
            journal.delete(Table::GROUPS, filter.as_bytes());
        }
        self.end(Until::Whenever, out);
        self.groups.unlogged.ending.remove(&queue);
    }

    fn hear_ending_read(
        &mut self,
        queue: QueueId,
        read: QueueRead,
        now: Now,
        out: &mut impl Effects,
    ) {
        let Some(ending) = self.groups.unlogged.ending.get_mut(&queue) else {
            return;
        };
        ending.has_more = !read.is_end;
        ending.after = read.entries.last().map_or(ending.after, |last| last.place);
        let filter = ending.filter.clone();
        for entry in read.entries {
            if self.unsettled.has(queue, entry.id) || self.dead.has(queue, entry.id) {
                continue;
            }
            let Some(waiting) = opened(entry, self.shard, self.calendar) else {
                self.counters.group_dropped_unreadable += 1;
                continue;
            };
            let dropped = Dropped {
                waiting,
                reason: Given::SessionEnded,
                client_id: None,
            };
            self.tell_of_drop(Some(&filter), &dropped, now, out);
        }
        self.go_on_ending(queue, out);
    }

    /// Looks for what expired in groups. Returns whether any is read through.
    pub(crate) fn sweep_groups(&mut self, now: Now, out: &mut impl Effects) -> bool {
        let mut is_reading = false;
        for slot in self.groups.slots() {
            let Some(group) = self.groups.get_mut(slot) else {
                continue;
            };
            let expired = group.line.take_expired(now);
            let is_any = !expired.is_empty();
            let has_beyond = group
                .debtor
                .as_ref()
                .is_some_and(|debtor| debtor.beyond > 0);
            // What is not in memory is looked at as far as that has room.
            let is_read = has_beyond && group.dead_letter().is_some();
            self.sweep.is_needed |= is_read || group.line.expires_ms().is_some();
            let news = expired.into_iter().map(|dropped| (slot, dropped));
            self.groups.news.extend(news);
            if is_any {
                self.groups.count_waiting(slot);
            }
            if is_read {
                is_reading |= self.read_on_for_group(slot, true, out);
            }
        }
        self.tell_dropped(now, out);
        is_reading
    }

    /// Reads on in a group's queue, if little is left in memory and somebody could have more, or to see what expired.
    /// Returns whether it does.
    pub(super) fn read_on_for_group(
        &mut self,
        slot: u32,
        is_for_expiry: bool,
        out: &mut impl Effects,
    ) -> bool {
        let group = self.groups.all.get_mut(slot as usize);
        let Some(group) = group.and_then(Option::as_mut) else {
            return false;
        };
        if group.seats.online().0.is_empty() && !is_for_expiry {
            return false;
        }
        if let Some(debtor) = &mut group.debtor
            && let Some((after, count_max)) = debtor.begin_read(&group.line, &self.limits)
        {
            let bytes_max = u32::try_from(self.limits.group_window_bytes_max).unwrap_or(u32::MAX);
            out.journal()
                .read_queue(debtor.number, after, count_max, bytes_max);
            return true;
        }
        false
    }

    /// What a group's queue is owed was read.
    pub(crate) fn hear_group_read(
        &mut self,
        queue: QueueId,
        read: QueueRead,
        now: Now,
        out: &mut impl Effects,
    ) {
        let Some(slot) = self.groups.by_number.get(&queue).copied() else {
            self.hear_ending_read(queue, read, now, out);
            return;
        };
        let (shard, calendar) = (self.shard, self.calendar);
        let group = self.groups.all.get_mut(slot as usize);
        let Some(group) = group.and_then(Option::as_mut) else {
            return;
        };
        let Some(debtor) = &mut group.debtor else {
            return;
        };
        let last_place = read.entries.last().map(|entry| entry.place);
        let mut unreadable = Vec::new();
        for entry in read.entries {
            let id = entry.id;
            let is_dead = self.dead.has(queue, id);
            if debtor.is_known(id) || is_dead || self.unsettled.has(queue, id) {
                continue;
            }
            let Some(waiting) = opened(entry, shard, calendar) else {
                debtor.read(id, 0);
                unreadable.push(id);
                continue;
            };
            debtor.read(id, waiting.message.queued_bytes());
            if waiting.message.is_expired(now) {
                let dropped = Dropped {
                    waiting,
                    reason: Given::Expired,
                    client_id: None,
                };
                self.groups.news.push((slot, dropped));
            } else {
                group.line.push(waiting);
            }
        }
        debtor.end_read(last_place, read.is_end);
        self.counters.group_dropped_unreadable += unreadable.len() as u64;
        for id in unreadable {
            self.settle_for_group(slot, Some(id), out);
        }
        self.dispatch(slot, now, out);
        self.tell_dropped(now, out);
    }
}

/// A message as it was read; `None`: it cannot be.
fn opened(entry: ReadEntry, shard: ShardId, calendar: Calendar) -> Option<Waiting> {
    let body = entry.body?;
    let kept = decode_message(&body)?;
    let owed_as = decode_options(&entry.options)?;
    let sender = Sender {
        publisher: kept.publisher,
        address: kept.address,
        shard,
    };
    let message = Rc::new(kept.to_stored(calendar.time(kept.expires_wall_ms)));
    let mut waiting = Waiting::new(message, owed_as.qos, owed_as.retain, sender);
    waiting.debt = Some(entry.id);
    Some(waiting)
}
