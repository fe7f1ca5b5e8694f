//! A client refuses a `QoS` 2 message of a group that is its session's for good.
//!
//! The group's queue owes it no more, the session's does, and what was sent is in the store only. So it is read there, and
//! buried by the session's shard: its dead letter and the end of the session's debt are one transaction. After a crash
//! nobody knows that it came by a group but the message itself, which then goes by its topic's policy.

use std::rc::Rc;
use std::sync::Arc;

use waypost_mqtt::{Filter, PacketId};

use crate::broker::Broker;
use crate::dead::{Cause, DeadLetter};
use crate::effects::Effects;
use crate::group::{Tag, group_of};
use crate::journal::{MessageId, QueueId};
use crate::rows::message::decode_message;
use crate::timers::NEVER;
use crate::unsettled::Settled;

/// A message that was refused and is read.
#[derive(Debug)]
pub(crate) struct Refused {
    settled: Settled,
    /// Where it goes, if that is known.
    topic: Option<Arc<str>>,
}

impl Refused {
    pub fn settled(&self) -> Settled {
        self.settled
    }
}

impl Broker {
    /// A client refused what its session's queue is owed. `true`: if it came by a group whose policy says so, it is
    /// buried, and the queue owes it until then.
    pub(crate) fn refuse_for_good(
        &mut self,
        slot: u32,
        (id, packet_id): (MessageId, PacketId),
        tag: Option<Tag>,
        out: &mut impl Effects,
    ) -> bool {
        if !self.policies.has_dead_letters() {
            return false;
        }
        let topic = match tag {
            Some(tag) => {
                let topic = self.dead_letter_of_group(slot, tag);
                if topic.is_none() {
                    return false;
                }
                topic
            }
            None => None,
        };
        let Some(session) = self.sessions.get_mut(slot) else {
            return false;
        };
        let Some(queue) = session.number() else {
            return false;
        };
        if !session.delivery().cursor.settle(id) {
            // It is settled when it is written down. What was taken for good is.
            return true;
        }
        let settled = Settled {
            queue,
            id,
            packet_id: Some(packet_id),
        };
        let refused = Refused { settled, topic };
        self.dead.refused_now.insert((id, queue), refused);
        out.journal().read_message(id);
        true
    }

    fn dead_letter_of_group(&mut self, slot: u32, tag: Tag) -> Option<Arc<str>> {
        let filter = Arc::clone(&self.membership(slot, tag.membership)?.filter);
        let (_, inner) = group_of(Filter::parse(&filter).ok()?)?.ok()?;
        self.policies.for_filter(inner).dead_letter
    }

    /// What was refused was read. `false`: it was asked for by somebody else.
    pub(crate) fn hear_refused(
        &mut self,
        id: MessageId,
        body: Option<&[u8]>,
        out: &mut impl Effects,
    ) -> bool {
        // Each answer is for one of those who asked, whichever.
        let mut asked = self.dead.refused_now.range((id, QueueId(0))..);
        let asked = asked.next().map(|(key, _)| *key);
        let refused = asked
            .filter(|(of, _)| *of == id)
            .and_then(|key| self.dead.refused_now.remove(&key));
        let Some(Refused { settled, topic }) = refused else {
            return false;
        };
        // Nobody but the server itself publishes what is a session's for good.
        let kept = body.and_then(decode_message);
        let kept = kept.filter(|kept| topic.is_some() || kept.publisher == 0);
        let letter = kept.and_then(|kept| {
            Some(DeadLetter {
                topic: topic.or_else(|| self.policies.dead_letter_of(kept.topic))?,
                message: Rc::new(kept.to_stored(NEVER)),
                qos: kept.qos,
                cause: Cause::Refused,
                deliveries: 1,
            })
        });
        let Self {
            dead,
            limits,
            counters,
            ..
        } = self;
        let is_buried =
            letter.is_some_and(|letter| dead.add(letter, Some((settled, true)), limits, counters));
        if !is_buried {
            self.settle_alone(settled, out);
        }
        true
    }
}
