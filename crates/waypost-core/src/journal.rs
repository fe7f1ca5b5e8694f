//! What the core has kept: the operations it writes down, and the numbers they speak of.
//!
//! A message that somebody is owed is written once; queues are owed it by their numbers. Everything else is rows of
//! tables under keys. What stands between two [`Journal::end`]s is one transaction: after a crash all of it is there,
//! or nothing. Whoever waits for a transaction is told by its [`Ticket`] (`Broker::handle_stored`). Not here: files,
//! and how operations become bytes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::stream::{StreamAsk, StreamId};

/// A message that is kept: unique in a data directory, ascending on each shard. The first is 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(pub u64);

/// Who is owed messages: a session that outlives its connection, or a group with such a member. Never given twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueId(pub u64);

/// A transaction of one shard, in the order they ended. The first is 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// A table of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Table(pub u8);

impl Table {
    /// Sessions that outlive their connection, by queue.
    pub const SESSIONS: Self = Self(1);
    /// Their subscriptions, by queue and filter.
    pub const SUBSCRIPTIONS: Self = Self(2);
    /// `QoS` 2 messages taken over from them and not released, by queue and packet identifier.
    pub const RECEIVED: Self = Self(3);
    /// `QoS` 2 messages sent to them and not completed, by queue and packet identifier.
    pub const SENT: Self = Self(4);
    /// Their wills, by queue.
    pub const WILLS: Self = Self(5);
    /// Retained messages, by topic.
    pub const RETAINED: Self = Self(6);
    /// Groups that are owed messages, by filter.
    pub const GROUPS: Self = Self(7);
    /// Messages that wait for their time, by that and their number.
    pub const DELAYED: Self = Self(8);
    /// Subscriptions that read a stream, and how far they have come, by queue and filter.
    pub const READERS: Self = Self(9);
    /// What some of these read first, by queue and filter.
    pub const PICKED: Self = Self(10);

    /// Tables in the order in which a start gives their rows to the core: before what the queues hold.
    pub const BEFORE_QUEUES: [Self; 2] = [Self::SESSIONS, Self::GROUPS];
    /// And after it: these rows need sessions, groups and their queues.
    pub const AFTER_QUEUES: [Self; 8] = [
        Self::SUBSCRIPTIONS,
        Self::RECEIVED,
        Self::SENT,
        Self::WILLS,
        Self::RETAINED,
        Self::DELAYED,
        Self::PICKED,
        Self::READERS,
    ];
}

/// How far a transaction has to come before somebody may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Until {
    /// Nobody waits for it: it goes with the next one that somebody waits for, or after a while.
    Whenever,
    /// With the operating system: a crash of the process loses nothing, one of the machine may.
    Written,
    /// On disk.
    Durable,
}

/// Where the core writes down what is to outlive the process. No method may call the core.
pub trait Journal {
    /// The content of a message, in the core's own encoding. It is not needed after `expires_wall_ms` (milliseconds
    /// since 1970; `u64::MAX` = it never expires).
    fn message(&mut self, id: MessageId, expires_wall_ms: u64, body: &[u8]);

    /// Queues, in ascending order, are owed a message; `options` say how, the same for all of them.
    fn owe(&mut self, id: MessageId, options: &[u8], queues: &[QueueId]);

    /// A message, whose content stands before this in the same transaction, enters streams, in ascending order.
    fn enter(&mut self, id: MessageId, streams: &[StreamId]);

    /// A queue is owed a message no more.
    fn settle(&mut self, queue: QueueId, id: MessageId);

    /// A queue ends, with all it was owed.
    fn end_queue(&mut self, queue: QueueId);

    /// Writes a row, in place of what was under its key.
    fn put(&mut self, table: Table, key: &[u8], value: &[u8]);

    /// Deletes a row, if there is one.
    fn delete(&mut self, table: Table, key: &[u8]);

    /// Writes a row that keeps a message, unless one of a higher version is there. Without a message the row says that
    /// nothing of a lower version counts.
    fn hold(&mut self, table: Table, key: &[u8], version: u64, value: &[u8], id: Option<MessageId>);

    /// Ends the transaction.
    fn end(&mut self, until: Until) -> Ticket;

    /// Asks for what a queue is owed behind place `after` (0: from the beginning): at most `count_max` messages, and
    /// no more once their contents exceed `bytes_max`. The answer (`Broker::handle_queue_read`) knows of everything
    /// this shard ended before.
    fn read_queue(&mut self, queue: QueueId, after: u64, count_max: u32, bytes_max: u32);

    /// Asks for a message's content (`Broker::handle_message_read`).
    fn read_message(&mut self, id: MessageId);

    /// Asks a stream (`Broker::handle_stream_answer`). Only what is on disk is in it; the answer knows of everything
    /// this shard ended before.
    fn read_stream(&mut self, ask: StreamAsk);
}

/// How far the transactions of a shard have come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// Everything up to here is with the operating system.
    pub written: Ticket,
    /// Everything up to here is on disk.
    pub durable: Ticket,
}

/// Why transactions are not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No room on the disk.
    Full,
    /// The disk failed.
    Failed,
}

/// One message a queue is owed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadEntry {
    /// Its place in the queue, ascending.
    pub place: u64,
    /// Which message.
    pub id: MessageId,
    /// As given to [`Journal::owe`].
    pub options: Box<[u8]>,
    /// As given to [`Journal::message`]; `None`: it is damaged or expired.
    pub body: Option<Arc<[u8]>>,
}

/// The answer to [`Journal::read_queue`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueueRead {
    /// What was asked for, in order.
    pub entries: Vec<ReadEntry>,
    /// There is nothing behind the last entry.
    pub is_end: bool,
}

/// The numbers that all shards of a server give out of: clone it into each broker's configuration.
#[derive(Clone, Debug, Default)]
pub struct Numbers(Arc<Last>);

#[derive(Debug, Default)]
struct Last {
    message: AtomicU64,
    queue: AtomicU64,
    /// Delayed messages there are, on all shards.
    delayed: AtomicU64,
}

impl Numbers {
    /// Goes on behind the last messages a data directory has, and the last queue that was ever owed one: one that never was is
    /// known by its row alone.
    pub fn after(message: MessageId, queue: QueueId) -> Self {
        Self(Arc::new(Last {
            message: AtomicU64::new(message.0),
            queue: AtomicU64::new(queue.0),
            delayed: AtomicU64::default(),
        }))
    }

    /// A message number above all before.
    pub fn message(&self) -> MessageId {
        MessageId(self.0.message.fetch_add(1, Ordering::AcqRel) + 1)
    }

    /// Gives no message a number up to this one.
    pub(crate) fn skip(&self, upto: MessageId) {
        self.0.message.fetch_max(upto.0, Ordering::AcqRel);
    }

    /// Gives no queue a number up to this one.
    pub(crate) fn skip_queue(&self, upto: QueueId) {
        self.0.queue.fetch_max(upto.0, Ordering::AcqRel);
    }

    /// The last message number that was given.
    pub(crate) fn last_message(&self) -> MessageId {
        MessageId(self.0.message.load(Ordering::Acquire))
    }

    /// There is one more delayed message, unless there are that many.
    pub(crate) fn begin_delayed(&self, max: u64) -> bool {
        let more = |count: u64| (count < max).then_some(count + 1);
        let delayed = &self.0.delayed;
        delayed
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, more)
            .is_ok()
    }

    /// There is one less.
    pub(crate) fn end_delayed(&self) {
        self.0.delayed.fetch_sub(1, Ordering::AcqRel);
    }

    /// A queue number above all before.
    pub fn queue(&self) -> QueueId {
        QueueId(self.0.queue.fetch_add(1, Ordering::AcqRel) + 1)
    }
}

/// The journal of a broker without a store ([`crate::BrokerConfig::has_store`]): nothing is ever written to it.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoJournal;

impl Journal for NoJournal {
    fn message(&mut self, _: MessageId, _: u64, _: &[u8]) {}
    fn owe(&mut self, _: MessageId, _: &[u8], _: &[QueueId]) {}
    fn enter(&mut self, _: MessageId, _: &[StreamId]) {}
    fn settle(&mut self, _: QueueId, _: MessageId) {}
    fn end_queue(&mut self, _: QueueId) {}
    fn put(&mut self, _: Table, _: &[u8], _: &[u8]) {}
    fn delete(&mut self, _: Table, _: &[u8]) {}
    fn hold(&mut self, _: Table, _: &[u8], _: u64, _: &[u8], _: Option<MessageId>) {}
    fn end(&mut self, _: Until) -> Ticket {
        Ticket::default()
    }
    fn read_queue(&mut self, _: QueueId, _: u64, _: u32, _: u32) {}
    fn read_message(&mut self, _: MessageId) {}
    fn read_stream(&mut self, _: StreamAsk) {}
}
