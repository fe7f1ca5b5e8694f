//! A group's `QoS` 2 message becomes a member's for good, if the store keeps the member's session.
//!
//! Whatever happens from then on, this client is sent it and no other (5 [MQTT-4.8.2-4], [MQTT-4.8.2-5]). So in one
//! transaction the group's queue is owed it no more and the session's queue is, with the row of its Packet Identifier;
//! PUBLISH goes out once that is on disk, and what follows is what follows for any message of the session's queue
//! (`exactly_once.rs`). The session is owed a copy under a number of its own: under the same number it may be owed the
//! message itself already, by another subscription.

use std::rc::Rc;

use super::taking::{Taken, Taking};
use crate::broker::Broker;
use crate::deliver::len_to;
use crate::effects::{ConnectionId, Effects, Now};
use crate::inflight::Inflight;
use crate::journal::{MessageId, QueueId, Table, Until};
use crate::queue::StoredMessage;
use crate::rows::{SentRow, Stage, message, options, packet_key};
use crate::session::Session;

/// A session that the store keeps, with its connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owner {
    pub number: QueueId,
    pub connection: ConnectionId,
}

impl Session {
    /// Whether the store has yet to say of some group's message that it is this session's.
    pub fn is_taking(&self) -> bool {
        let inflight = self.delivery.as_ref().map(|delivery| &delivery.inflight);
        inflight.is_some_and(Inflight::is_taking)
    }
}

impl Broker {
    /// A session takes what a group's queue is owed.
    pub(super) fn take_for_good(
        &mut self,
        taking: &Taking<'_>,
        owner: Owner,
        (group, id): (QueueId, MessageId),
        now: Now,
        out: &mut impl Effects,
    ) -> Taken {
        let Some(connection) = self.connections.get(owner.connection) else {
            return Taken::No;
        };
        let identifiers = taking.identifiers();
        let len = len_to(connection, taking.message, taking.qos, identifiers);
        if len > connection.packet_bytes_max as usize {
            return Taken::TooLarge;
        }
        let Some(session) = self.sessions.get_mut(taking.slot) else {
            return Taken::No;
        };
        let stored = match taking.stored {
            Some(stored) => Rc::clone(stored),
            None => Rc::new(StoredMessage::new(taking.message, now)),
        };
        let kept = (!identifiers.is_empty()).then(|| identifiers.into());
        let copy = self.numbers.message();
        let delivery = session.delivery();
        let inflight = &mut delivery.inflight;
        let packet_id = inflight.begin(taking.qos, taking.retain, Some(stored), kept);
        inflight.tag_last(taking.tag);
        inflight.owe_last(copy);
        inflight.hold_last();
        delivery.cursor.order += 1;
        let row = SentRow {
            id: copy,
            stage: Stage::PubRec,
            order: delivery.cursor.order,
        };
        let date = self.calendar.date(now.monotonic_ms);
        let (mut body, mut owed_as, mut value) = (Vec::new(), Vec::new(), Vec::new());
        message::encode(taking.message, taking.qos, 0, None, date, &mut body);
        options::encode(taking.qos, taking.retain, identifiers, &mut owed_as);
        row.encode(&mut value);
        let journal = out.journal();
        // What is in flight does not expire.
        journal.message(copy, u64::MAX, &body);
        journal.owe(copy, &owed_as, &[owner.number]);
        let key = packet_key(owner.number, packet_id.value());
        journal.put(Table::SENT, &key, &value);
        journal.settle(group, id);
        let ticket = self.end(Until::Durable, out);
        self.held_rows.push(ticket, owner.number, packet_id);
        Taken::Yes
    }
}
