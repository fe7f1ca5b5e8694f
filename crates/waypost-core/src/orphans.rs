//! What a store still has of sessions and groups that have ended: it is forgotten at the next start.
//!
//! A message may be written down for a queue that ended while other shards were asked who is owed it; a session may have
//! ended, or begun, while the store refused to take note. Nobody would ever settle what is owed to such a queue, and
//! what it is owed would stay on disk for good.

use std::collections::BTreeSet;

use crate::broker::Broker;
use crate::effects::Effects;
use crate::journal::{QueueId, Table, Until};

/// Whose rows and queues a start came across.
#[derive(Debug, Default)]
pub(crate) struct Orphans {
    /// Numbers of sessions and groups, of those this shard looks after.
    owners: BTreeSet<QueueId>,
    /// Sessions of a client that has a later one.
    former: BTreeSet<QueueId>,
    /// What is to be forgotten.
    queues: BTreeSet<QueueId>,
    rows: Vec<(Table, Box<[u8]>)>,
}

impl Broker {
    /// Each number has one shard that looks whether it is somebody's.
    fn looks_after(&self, queue: QueueId) -> bool {
        queue.0 % u64::from(self.shards) == u64::from(self.shard.0)
    }

    /// There is a session or a group of this number, which is nobody else's from now on.
    pub(crate) fn remember_owner(&mut self, queue: QueueId) {
        self.numbers.skip_queue(queue);
        if self.looks_after(queue) {
            self.orphans.owners.insert(queue);
        }
    }

    /// A session's client has a later one.
    pub(crate) fn is_former(&mut self, queue: QueueId, key: &[u8]) {
        self.orphans.former.insert(queue);
        self.orphans.queues.insert(queue);
        self.orphans.rows.push((Table::SESSIONS, key.into()));
    }

    fn is_orphan(&self, queue: QueueId) -> bool {
        let Orphans { owners, former, .. } = &self.orphans;
        former.contains(&queue) || (self.looks_after(queue) && !owners.contains(&queue))
    }

    /// A queue came.
    pub(crate) fn check_queue(&mut self, queue: QueueId) {
        if self.is_orphan(queue) {
            self.orphans.queues.insert(queue);
        }
    }

    /// A row of a session came. Returns whether the session is gone.
    pub(crate) fn is_row_of_orphan(&mut self, table: Table, queue: QueueId, key: &[u8]) -> bool {
        let is_orphan = self.is_orphan(queue);
        if is_orphan {
            self.orphans.rows.push((table, key.into()));
        }
        is_orphan
    }

    /// All rows and queues have come: what is nobody's is forgotten.
    pub(crate) fn forget_orphans(&mut self, out: &mut impl Effects) {
        let Orphans { queues, rows, .. } = std::mem::take(&mut self.orphans);
        if queues.is_empty() && rows.is_empty() {
            return;
        }
        let journal = out.journal();
        for (table, key) in rows {
            journal.delete(table, &key);
        }
        for queue in queues {
            journal.end_queue(queue);
        }
        self.end(Until::Whenever, out);
    }
}
