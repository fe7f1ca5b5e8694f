//! What the store has to say.

use crate::broker::Broker;
use crate::effects::{Effects, Now};
use crate::journal::{MessageId, Refusal, Stored, Ticket};

impl Broker {
    /// Transactions came as far as this.
    pub fn handle_stored(&mut self, stored: Stored, now: Now, out: &mut impl Effects) {
        self.release_answers(stored, now, out);
        self.sessions_stored(stored.durable, now, out);
        self.delayed_stored(stored.durable, now, out);
        self.copies_stored(stored.durable, now, out);
    }

    /// Transactions from the first to the last are not kept.
    pub fn handle_not_stored(
        &mut self,
        first: Ticket,
        last: Ticket,
        why: Refusal,
        now: Now,
        out: &mut impl Effects,
    ) {
        self.refuse_answers(first, last, why, now, out);
        self.sessions_refused(first, last, why, now, out);
        self.delayed_refused(first, last, why, now, out);
        self.copies_refused(first, last, now);
    }

    /// A message's content was read; `None`: it is damaged.
    pub fn handle_message_read(
        &mut self,
        id: MessageId,
        body: Option<&[u8]>,
        now: Now,
        out: &mut impl Effects,
    ) {
        if !self.hear_refused(id, body, out) {
            self.retained_read(id, body, now, out);
        }
        self.delayed_read(id, body, now, out);
    }
}
