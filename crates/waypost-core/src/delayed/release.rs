//! The time of a delayed message comes.

use waypost_mqtt::{Properties, ReasonCode};

use super::{AHEAD_MS, Deleting, Entry};
use crate::broker::Broker;
use crate::effects::{Effects, Message, Now, Payload};
use crate::journal::{MessageId, Until};
use crate::keep::By;
use crate::mail::Origin;
use crate::permit::{Action, Verdict, Who};
use crate::rows::DelayedHead;
use crate::rows::message::KeptMessage;
use crate::seal::Said;

impl Broker {
    /// Publishes what is due, as far as it was read, and reads what is due soon.
    pub(super) fn release_delayed(&mut self, now: Now, out: &mut impl Effects) {
        if now.monotonic_ms < self.delayed.resume_ms {
            self.arm_delayed(now);
            return;
        }
        if self.delayed.restored.is_some() {
            self.read_delayed(now, out);
            return;
        }
        for by in std::mem::take(&mut self.delayed.undeleted) {
            self.delete_replaced(by, out);
        }
        let date_ms = self.calendar.date(now.monotonic_ms);
        while let Some(ready) = self.delayed.pending.pop(date_ms) {
            self.numbers.end_delayed();
            let content = ready.body.as_deref().and_then(DelayedHead::decode_content);
            if let Some((head, kept)) = content {
                self.publish_delayed(ready.entry, head, kept, ready.is_again, now, out);
            } else {
                self.delayed.pending.forget_name(ready.entry.due);
                self.counters.delayed_unreadable += 1;
                self.drop_delayed(ready.entry, out);
            }
        }
        self.read_delayed(now, out);
    }

    /// Reads what is due soon.
    pub(super) fn read_delayed(&mut self, now: Now, out: &mut impl Effects) {
        let until_ms = self.calendar.date(now.monotonic_ms + AHEAD_MS);
        for id in self.delayed.pending.read_ahead(until_ms) {
            out.journal().read_message(id);
        }
        self.arm_delayed(now);
    }

    /// A content was read.
    pub(crate) fn delayed_read(
        &mut self,
        id: MessageId,
        body: Option<&[u8]>,
        now: Now,
        out: &mut impl Effects,
    ) {
        if self.delayed.pending.take_content(id, body) {
            self.release_delayed(now, out);
        }
    }

    /// It is not to be published.
    fn drop_delayed(&mut self, entry: Entry, out: &mut impl Effects) {
        let ticket = self.delete_delayed(&[entry.due], Until::Whenever, out);
        let deleting = Deleting::Dropped(entry);
        self.delayed.deleting.push_back((ticket, deleting));
    }

    /// If the permit still allows it.
    fn publish_delayed(
        &mut self,
        entry: Entry,
        head: DelayedHead<'_>,
        kept: KeptMessage<'_>,
        is_again: bool,
        now: Now,
        out: &mut impl Effects,
    ) {
        if let Some(delay_id) = head.delay_id {
            let mark = self.delayed.mark(kept.topic, delay_id);
            self.delayed.pending.too_late(mark, entry.due);
        }
        let who = Who {
            client_id: head.client_id,
            user: head.user,
            address: head.address,
            ticket: None,
        };
        let action = if head.retain {
            Action::PublishRetained
        } else {
            Action::Publish
        };
        if !is_again && self.permit.check(&who, action, kept.topic) != Verdict::Allow {
            self.counters.delayed_denied += 1;
            self.drop_delayed(entry, out);
            let reason = ReasonCode::NotAuthorized;
            self.announce_refused(head.client_id, head.user, head.address, reason, now, out);
            return;
        }
        let said = Said::Perhaps(Properties::from_validated(kept.properties));
        if !is_again && let Some((reason, why)) = self.refuses_seal(kept.topic, kept.payload, said)
        {
            self.drop_delayed(entry, out);
            let why = why.text(&self.policies).into_owned();
            let (client_id, user, address) = (head.client_id, head.user, head.address);
            self.announce_refused_for(client_id, user, address, reason, &why, now, out);
            return;
        }
        self.counters.delayed_released += u64::from(!is_again);
        let message = Message {
            topic: kept.topic,
            payload: Payload {
                bytes: kept.payload,
                shared: None,
            },
            properties: kept.properties,
            // It begins now.
            expiry_s: kept.expiry_s(),
            verbatim: None,
        };
        let origin = Origin {
            qos: kept.qos,
            retain: head.retain,
            publisher: kept.publisher,
            stamp: 0,
            connection: None,
            kept: None,
            is_again,
        };
        self.route(&message, origin, By::Delayed(entry), now, out);
    }

    /// The store did not take note that one was published: it is published again to those it would owe it to.
    pub(crate) fn delayed_not_published(&mut self, entry: Entry, now: Now) {
        self.numbers.begin_delayed(u64::MAX);
        self.delayed.pending.refused(entry);
        self.delayed.resume_ms = now.monotonic_ms + super::RETRY_MS;
        self.arm_delayed(now);
    }
}
