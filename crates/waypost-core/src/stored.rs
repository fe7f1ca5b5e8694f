//! What the store has to say.

use std::sync::Arc;

use crate::broker::Broker;
use crate::debts::Debts;
use crate::effects::{Effects, Now, ShardId};
use crate::journal::{MessageId, QueueId, QueueRead, Refusal, Stored, Ticket};

impl Broker {
    /// Transactions came as far as this.
    pub fn handle_stored(&mut self, _: Stored, _: Now, _: &mut impl Effects) {}

    /// Transactions from the first to the last are not kept.
    pub fn handle_not_stored(
        &mut self,
        _: Ticket,
        _: Ticket,
        _: Refusal,
        _: Now,
        _: &mut impl Effects,
    ) {
    }

    /// What a queue is owed was read.
    pub fn handle_queue_read(&mut self, _: QueueId, _: QueueRead, _: Now, _: &mut impl Effects) {}

    /// A message's content was read; `None`: it is damaged.
    pub fn handle_message_read(
        &mut self,
        _: MessageId,
        _: Option<Arc<[u8]>>,
        _: Now,
        _: &mut impl Effects,
    ) {
    }

    /// Another shard says who is owed a message of this one.
    pub(crate) fn hear_owes(&mut self, _: ShardId, _: &Debts, _: Now, _: &mut impl Effects) {}

    /// What a shard published up to this message, and is owed here, is written down.
    pub(crate) fn logged(&mut self, _: ShardId, _: MessageId, _: Now, _: &mut impl Effects) {}

    /// What a shard published could not be written down: nobody is owed it.
    pub(crate) fn unlogged(&mut self, _: ShardId, _: &[MessageId], _: Now, _: &mut impl Effects) {}
}
