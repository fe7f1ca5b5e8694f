//! The thread that reads back what shards ask for.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use waypost_core::ShardId;
use waypost_core::journal::{MessageId, QueueRead, ReadEntry};
use waypost_store::{Disk, Store, StoreError};

use super::figures::add;
use super::intake::LogAsk;
use crate::mailbox::{Inbound, Mailbox};
use crate::metrics::Stats;

/// How nice this thread is: whoever catches up must not slow down who is live.
pub(super) const NICENESS: i32 = 5;

/// What could not be read is tried again after this time.
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// What is to be tried again, by the time. No more than shards ask for, which is one at a time for each session.
type Postponed = VecDeque<(Instant, ShardId, LogAsk)>;

pub(super) struct Reader<D: Disk> {
    pub(super) store: Arc<Store<D>>,
    pub(super) asks: Receiver<Vec<(ShardId, LogAsk)>>,
    pub(super) mailboxes: Arc<[Arc<Mailbox>]>,
    pub(super) stats: Arc<Stats>,
}

impl<D: Disk> Reader<D> {
    /// Reads until the indexer has ended.
    pub(super) fn run(self) {
        let mut postponed = Postponed::new();
        loop {
            let next = match postponed.front() {
                None => self.asks.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some((due, ..)) => {
                    let patience = due.saturating_duration_since(Instant::now());
                    self.asks.recv_timeout(patience)
                }
            };
            match next {
                Ok(asks) => {
                    for (shard, ask) in asks {
                        self.serve(shard, ask, &mut postponed);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    if let Some((_, shard, ask)) = postponed.pop_front() {
                        self.serve(shard, ask, &mut postponed);
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Answers; what cannot be read now is tried again later, and whoever asked waits.
    fn serve(&self, shard: ShardId, ask: LogAsk, postponed: &mut Postponed) {
        match self.answer(ask) {
            Ok(inbound) => {
                if let Some(mailbox) = self.mailboxes.get(usize::from(shard.0)) {
                    // A waker fails only when the shard is gone, and then nobody waits for it.
                    let _ = mailbox.send([inbound]);
                }
            }
            Err(error) => {
                log::error!("{ask:?} waits, because the store cannot be read: {error}");
                add(&self.stats.server.store_reads_failed, 1);
                postponed.push_back((Instant::now() + TRY_AGAIN_AFTER, shard, ask));
            }
        }
    }

    fn answer(&self, ask: LogAsk) -> Result<Inbound, StoreError> {
        let stats = &self.stats.server;
        match ask {
            LogAsk::Queue {
                queue,
                after,
                count_max,
                bytes_max,
            } => {
                let id = waypost_store::QueueId(queue.0);
                let bytes_max = u64::from(bytes_max);
                let read = self
                    .store
                    .read_queue(id, after, count_max as usize, bytes_max)?;
                add(&stats.store_queue_reads, 1);
                add(&stats.store_messages_read, read.entries.len() as u64);
                let read = QueueRead {
                    entries: read.entries.into_iter().map(entry).collect(),
                    is_end: read.is_end,
                };
                Ok(Inbound::QueueRead(queue, read))
            }
            LogAsk::Message(id) => {
                let body = self.store.message(waypost_store::MessageId(id.0))?;
                add(&stats.store_messages_read, 1);
                Ok(Inbound::MessageRead(id, body))
            }
        }
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
