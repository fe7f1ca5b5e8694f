//! The thread that reads back what shards ask for.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;

use waypost_core::ShardId;
use waypost_core::journal::{MessageId, QueueId, QueueRead, ReadEntry};
use waypost_store::{Disk, Store};

use super::intake::Ask;
use crate::mailbox::{Inbound, Mailbox};
use crate::metrics::Stats;

/// How nice this thread is: whoever catches up must not slow down who is live.
pub(super) const NICENESS: i32 = 5;

pub(super) struct Reader<D: Disk> {
    pub(super) store: Arc<Store<D>>,
    pub(super) asks: Receiver<Vec<(ShardId, Ask)>>,
    pub(super) mailboxes: Arc<[Arc<Mailbox>]>,
    pub(super) stats: Arc<Stats>,
}

impl<D: Disk> Reader<D> {
    /// Reads until the indexer has ended.
    pub(super) fn run(self) {
        while let Ok(asks) = self.asks.recv() {
            for (shard, ask) in asks {
                let inbound = self.answer(ask);
                if let Some(mailbox) = self.mailboxes.get(usize::from(shard.0)) {
                    // A waker fails only when the shard is gone, and then nobody waits for it.
                    let _ = mailbox.send([inbound]);
                }
            }
        }
    }

    fn answer(&self, ask: Ask) -> Inbound {
        let stats = &self.stats.server;
        match ask {
            Ask::Queue {
                queue,
                after,
                count_max,
                bytes_max,
            } => {
                let read = self.read_queue(queue, after, count_max, bytes_max);
                stats.store_queue_reads.fetch_add(1, Ordering::Relaxed);
                let count = read.entries.len() as u64;
                stats
                    .store_messages_read
                    .fetch_add(count, Ordering::Relaxed);
                Inbound::QueueRead(queue, read)
            }
            Ask::Message(id) => {
                stats.store_messages_read.fetch_add(1, Ordering::Relaxed);
                Inbound::MessageRead(id, self.read_message(id))
            }
        }
    }
}

impl<D: Disk> Reader<D> {
    fn read_queue(&self, queue: QueueId, after: u64, count_max: u32, bytes_max: u32) -> QueueRead {
        let queue = waypost_store::QueueId(queue.0);
        match self
            .store
            .read_queue(queue, after, count_max as usize, u64::from(bytes_max))
        {
            Ok(read) => QueueRead {
                entries: read.entries.into_iter().map(entry).collect(),
                is_end: read.is_end,
            },
            Err(error) => {
                log::error!("what queue {} is owed cannot be read: {error}", queue.0);
                QueueRead::default()
            }
        }
    }

    fn read_message(&self, id: MessageId) -> Option<Arc<[u8]>> {
        self.store
            .message(waypost_store::MessageId(id.0))
            .unwrap_or_else(|error| {
                log::error!("message {} cannot be read: {error}", id.0);
                None
            })
    }
}

fn entry(entry: waypost_store::QueueEntry) -> ReadEntry {
    ReadEntry {
        place: entry.place,
        id: MessageId(entry.id.0),
        options: entry.options,
        body: entry.body,
    }
}
