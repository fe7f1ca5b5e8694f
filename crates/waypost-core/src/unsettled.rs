//! What was settled and the store did not take down: it must not be read as owed, and is settled once more.
//!
//! At `QoS` 1 that would only be sent again. At `QoS` 2, and of what a group has told of as dropped, nothing may come a
//! second time.

use std::collections::VecDeque;

use waypost_mqtt::PacketId;

use crate::broker::Broker;
use crate::effects::Effects;
use crate::journal::{MessageId, QueueId, Table, Ticket, Until};
use crate::rows::packet_key;

/// A queue is owed a message no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Settled {
    pub queue: QueueId,
    pub id: MessageId,
    /// Of a session: whose row goes with it.
    pub packet_id: Option<PacketId>,
}

#[derive(Debug, Default)]
pub(crate) struct Unsettled {
    /// Handed in to the store, in its order.
    written: VecDeque<(Ticket, Settled)>,
    /// The store did not take it down.
    refused: Vec<Settled>,
    /// Was refused, and is handed in again with this transaction.
    again: Option<(Ticket, Vec<Settled>)>,
}

impl Unsettled {
    pub fn write(&mut self, ticket: Ticket, settled: Settled) {
        self.written.push_back((ticket, settled));
    }

    /// Whether a queue that is owed a message according to the store is so no more.
    pub fn has(&self, queue: QueueId, id: MessageId) -> bool {
        let again = self.again.iter().flat_map(|(_, again)| again);
        let mut all = self.refused.iter().chain(again);
        all.any(|settled| (settled.queue, settled.id) == (queue, id))
    }

    /// What another shard has to know of a queue that is its from now on.
    pub fn of(&self, queue: QueueId) -> Vec<Settled> {
        let again = self.again.iter().flat_map(|(_, again)| again);
        let written = self.written.iter().map(|(_, settled)| settled);
        let all = self.refused.iter().chain(again).chain(written);
        all.filter(|settled| settled.queue == queue)
            .copied()
            .collect()
    }

    /// A queue came from another shard, where it cannot be said of these whether the store took them down.
    pub fn arrive(&mut self, settled: impl IntoIterator<Item = Settled>) {
        self.refused.extend(settled);
    }
}

impl Broker {
    /// Transactions up to here are on disk: what was refused before is tried again.
    pub(crate) fn settled_stored(&mut self, durable: Ticket, out: &mut impl Effects) {
        let unsettled = &mut self.unsettled;
        while unsettled
            .written
            .pop_front_if(|(ticket, _)| *ticket <= durable)
            .is_some()
        {}
        unsettled.again.take_if(|(ticket, _)| *ticket <= durable);
        if unsettled.refused.is_empty() || unsettled.again.is_some() {
            return;
        }
        let again = std::mem::take(&mut unsettled.refused);
        for settled in &again {
            let Settled {
                queue,
                id,
                packet_id,
            } = *settled;
            let journal = out.journal();
            journal.settle(queue, id);
            // Another message may have the identifier by now.
            let slot = self.sessions.find_number(queue);
            let session = slot.and_then(|slot| self.sessions.get(slot));
            if let Some(packet_id) = packet_id
                && let Some(session) = session
                && session.moving.is_none()
                && session.is_free(packet_id)
            {
                let key = packet_key(queue, packet_id.value());
                journal.delete(Table::SENT, &key);
            }
        }
        let ticket = self.end(Until::Whenever, out);
        self.unsettled.again = Some((ticket, again));
    }

    /// Transactions from the first to the last are not kept.
    pub(crate) fn settled_refused(&mut self, first: Ticket, last: Ticket) {
        let unsettled = &mut self.unsettled;
        let is_refused = |ticket: Ticket| (first..=last).contains(&ticket);
        let refused = unsettled
            .written
            .iter()
            .filter(|(ticket, _)| is_refused(*ticket));
        unsettled
            .refused
            .extend(refused.map(|(_, settled)| *settled));
        unsettled.written.retain(|(ticket, _)| !is_refused(*ticket));
        if let Some((_, again)) = unsettled.again.take_if(|(ticket, _)| is_refused(*ticket)) {
            unsettled.refused.extend(again);
        }
    }
}
