//! What a shard's core writes down in one tick, until it is handed in to the store.

use std::sync::Arc;

use waypost_core::ShardId;
use waypost_core::journal::{Journal, MessageId, QueueId, Table, Ticket, Until};
use waypost_core::stream::{StreamAsk, StreamId};
use waypost_store::Batch;

use crate::store::{Ask, HandIn, Intake, LogAsk};

/// The core's [`Journal`]: transactions as the store records them, numbered for this shard.
pub(crate) struct ShardJournal {
    shard: ShardId,
    intake: Arc<Intake>,
    batch: Batch,
    /// The last transaction that ended.
    last: Ticket,
    /// The last that was handed in.
    handed_in: Ticket,
    is_awaited_written: bool,
    is_awaited_durable: bool,
    asks: Vec<Ask>,
}

impl ShardJournal {
    pub(crate) fn new(shard: ShardId, intake: Arc<Intake>) -> Self {
        Self {
            shard,
            intake,
            batch: Batch::new(),
            last: Ticket(0),
            handed_in: Ticket(0),
            is_awaited_written: false,
            is_awaited_durable: false,
            asks: Vec::new(),
        }
    }

    /// Hands in what was written down and asked for since the last time.
    pub(crate) fn hand_in(&mut self) {
        if self.last == self.handed_in && self.asks.is_empty() {
            return;
        }
        self.intake.hand_in(HandIn {
            shard: self.shard,
            records: self.batch.take(),
            transactions: self.last.0 - self.handed_in.0,
            first: Ticket(self.handed_in.0 + 1),
            last: self.last,
            is_awaited_written: std::mem::take(&mut self.is_awaited_written),
            is_awaited_durable: std::mem::take(&mut self.is_awaited_durable),
            asks: std::mem::take(&mut self.asks),
        });
        self.handed_in = self.last;
    }

    /// The store has more to do than it should.
    pub(crate) fn is_full(&self) -> bool {
        self.intake.is_full()
    }
}

impl Drop for ShardJournal {
    fn drop(&mut self) {
        self.hand_in();
        self.intake.shard_ended();
    }
}

fn message(id: MessageId) -> waypost_store::MessageId {
    waypost_store::MessageId(id.0)
}

fn queue(queue: QueueId) -> waypost_store::QueueId {
    waypost_store::QueueId(queue.0)
}

fn table(table: Table) -> waypost_store::Table {
    waypost_store::Table(table.0)
}

impl Journal for ShardJournal {
    fn message(&mut self, id: MessageId, expires_wall_ms: u64, body: &[u8]) {
        self.batch.message(message(id), expires_wall_ms, body);
    }

    fn owe(&mut self, id: MessageId, options: &[u8], queues: &[QueueId]) {
        self.batch
            .owe(message(id), options, queues.iter().copied().map(queue));
    }

    fn enter(&mut self, id: MessageId, streams: &[StreamId]) {
        let streams = streams.iter().map(|id| waypost_store::StreamId(id.0));
        self.batch.enter(message(id), streams);
    }

    fn settle(&mut self, from: QueueId, id: MessageId) {
        self.batch.settle(queue(from), message(id));
    }

    fn end_queue(&mut self, ended: QueueId) {
        self.batch.end_queue(queue(ended));
    }

    fn put(&mut self, into: Table, key: &[u8], value: &[u8]) {
        self.batch.put(table(into), key, value);
    }

    fn delete(&mut self, from: Table, key: &[u8]) {
        self.batch.delete(table(from), key);
    }

    fn hold(&mut self, into: Table, key: &[u8], version: u64, value: &[u8], id: Option<MessageId>) {
        self.batch
            .hold(table(into), key, version, value, id.map(message));
    }

    fn end(&mut self, until: Until) -> Ticket {
        self.batch.end();
        self.is_awaited_written |= until == Until::Written;
        self.is_awaited_durable |= until == Until::Durable;
        self.last.0 += 1;
        self.last
    }

    fn read_queue(&mut self, queue: QueueId, after: u64, count_max: u32, bytes_max: u32) {
        self.asks.push(Ask::Log(LogAsk::Queue {
            queue,
            after,
            count_max,
            bytes_max,
        }));
    }

    fn read_message(&mut self, id: MessageId) {
        self.asks.push(Ask::Log(LogAsk::Message(id)));
    }

    fn read_stream(&mut self, ask: StreamAsk) {
        self.asks.push(Ask::Stream(ask));
    }
}
