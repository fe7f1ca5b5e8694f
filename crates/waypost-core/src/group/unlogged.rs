//! What groups are owed and the shards where it was published have not written down, and groups that end meanwhile.

use std::collections::VecDeque;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use crate::effects::ShardId;
use crate::journal::{MessageId, QueueId};

/// A group that ended while the store had more for it than was in memory: that is read, to be told of, before its queue
/// ends.
#[derive(Debug)]
pub(super) struct Ending {
    pub filter: Box<str>,
    /// Of what it was owed, not written down yet: the reading waits for it.
    pub unlogged: usize,
    pub has_more: bool,
    pub after: u64,
}

/// What groups are owed and the shards where it was published have not written down, in the order it came from each.
#[derive(Debug, Default)]
pub(super) struct Unlogged {
    by_shard: Vec<VecDeque<(MessageId, QueueId)>>,
    /// Whether the group has done with it.
    done: HashMap<(QueueId, MessageId), bool, FixedState>,
    /// Groups that ended and whose queues have yet to.
    pub ending: HashMap<QueueId, Ending, FixedState>,
}

impl Unlogged {
    pub fn push(&mut self, publisher: ShardId, id: MessageId, queue: QueueId) {
        let at = usize::from(publisher.0);
        if self.by_shard.len() <= at {
            self.by_shard.resize_with(at + 1, VecDeque::new);
        }
        if let Some(unlogged) = self.by_shard.get_mut(at) {
            unlogged.push_back((id, queue));
            self.done.insert((queue, id), false);
        }
    }

    /// Takes out the next debt of a shard's messages up to this one, and whether its group has done with it.
    pub fn pop(
        &mut self,
        publisher: ShardId,
        upto: MessageId,
    ) -> Option<(MessageId, QueueId, bool)> {
        let unlogged = self.by_shard.get_mut(usize::from(publisher.0))?;
        let (id, queue) = unlogged.pop_front_if(|(id, _)| *id <= upto)?;
        let is_done = self.done.remove(&(queue, id)).unwrap_or_default();
        Some((id, queue, is_done))
    }

    /// A group has done with a message. `false`: it is written down.
    pub fn finish(&mut self, queue: QueueId, id: MessageId) -> bool {
        let is_done = self.done.get_mut(&(queue, id));
        is_done.map(|is_done| *is_done = true).is_some()
    }

    /// Whether it has yet to be written down that a group is owed a message.
    pub fn is_unlogged(&self, queue: QueueId, id: MessageId) -> bool {
        self.done.contains_key(&(queue, id))
    }

    pub fn of(&self, queue: QueueId) -> usize {
        self.done.keys().filter(|(of, _)| *of == queue).count()
    }

    /// A debt of a group that ended is written down. `None`: it did not end; else whether it was the last.
    pub fn count_ended(&mut self, queue: QueueId) -> Option<bool> {
        let ending = self.ending.get_mut(&queue)?;
        ending.unlogged -= 1;
        Some(ending.unlogged == 0)
    }

    pub fn traces(&self) -> usize {
        self.done.len() + self.ending.len()
    }
}
