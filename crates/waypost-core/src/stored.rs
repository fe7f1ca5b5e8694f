//! What the store has to say.

use std::sync::Arc;

use crate::broker::Broker;
use crate::effects::{Effects, Now, ShardId};
use crate::journal::{MessageId, QueueId, QueueRead, Refusal, Stored, Ticket};

impl Broker {
    /// Transactions came as far as this.
    pub fn handle_stored(&mut self, stored: Stored, now: Now, out: &mut impl Effects) {
        self.release_answers(stored, now, out);
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
    }

    /// What a queue is owed was read.
    pub fn handle_queue_read(&mut self, _: QueueId, _: QueueRead, _: Now, _: &mut impl Effects) {}

    /// A message's content was read; `None`: it is damaged.
    pub fn handle_message_read(
        &mut self,
        id: MessageId,
        body: Option<Arc<[u8]>>,
        now: Now,
        out: &mut impl Effects,
    ) {
        self.retained_read(id, body, now, out);
    }

    /// What a shard published up to this message, and is owed here, is written down.
    pub(crate) fn logged(&mut self, _: ShardId, _: MessageId, _: Now, _: &mut impl Effects) {}

    /// What a shard published could not be written down: nobody is owed it.
    pub(crate) fn unlogged(&mut self, _: ShardId, _: &[MessageId], _: Now, _: &mut impl Effects) {}
}
