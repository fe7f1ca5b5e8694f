//! A store in memory: what the shards of a world wrote down, and what of it a crash would leave.

mod streams;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

pub(in crate::tests) use self::streams::MemoryStreams;
use super::disk_store::DiskStore;
use crate::journal::{
    Journal, MessageId, QueueId, QueueRead, ReadEntry, Refusal, Stored, Table, Ticket, Until,
};
use crate::stream::{ReaderId, StreamAnswer, StreamAsk, StreamId};

#[derive(Clone, Debug)]
pub(in crate::tests) enum Op {
    Message(MessageId, u64, Arc<[u8]>),
    Owe(MessageId, Box<[u8]>, Vec<QueueId>),
    Enter(MessageId, Vec<StreamId>),
    Settle(QueueId, MessageId),
    EndQueue(QueueId),
    Put(Table, Vec<u8>, Vec<u8>),
    Delete(Table, Vec<u8>),
    Hold(Table, Vec<u8>, u64, Vec<u8>, Option<MessageId>),
}

#[derive(Clone, Debug)]
enum Said {
    Transaction(Ticket, Until, Vec<Op>),
    ReadQueue(QueueId, u64, u32, u32),
    ReadMessage(MessageId),
    ReadStream(StreamAsk),
}

/// What the store has to say to a shard.
#[derive(Debug)]
pub(in crate::tests) enum Answer {
    Stored(Stored),
    Refused(Ticket, Ticket, Refusal),
    QueueRead(QueueId, QueueRead),
    MessageRead(MessageId, Option<Arc<[u8]>>),
    Stream(ReaderId, StreamAnswer),
}

/// A row: its version (0 without), its value, the message it keeps.
pub(in crate::tests) type Row = (u64, Vec<u8>, Option<MessageId>);

/// A message a queue is owed: its place, its number, how.
pub(in crate::tests) type Owed = (u64, MessageId, Box<[u8]>);

/// What is known once operations are applied.
#[derive(Clone, Debug, Default)]
pub(in crate::tests) struct Views {
    pub rows: BTreeMap<(Table, Vec<u8>), Row>,
    pub queues: BTreeMap<QueueId, Vec<Owed>>,
    pub messages: BTreeMap<MessageId, Arc<[u8]>>,
    /// Until when they are needed.
    pub needed: BTreeMap<MessageId, u64>,
    pub streams: MemoryStreams,
    /// What time it is where it is written down.
    wall_ms: u64,
    next_place: u64,
}

impl Views {
    fn apply(&mut self, op: &Op) {
        match op {
            Op::Message(id, needed_wall_ms, body) => {
                self.needed.insert(*id, *needed_wall_ms);
                self.messages.insert(*id, Arc::clone(body));
            }
            Op::Owe(id, options, queues) => {
                for queue in queues {
                    self.next_place += 1;
                    let entry = (self.next_place, *id, options.clone());
                    self.queues.entry(*queue).or_default().push(entry);
                }
            }
            Op::Enter(id, streams) => {
                for stream in streams {
                    let body = &self.messages[id];
                    self.streams.enter(*stream, self.wall_ms, body);
                }
            }
            Op::Settle(queue, id) => {
                if let Some(queue) = self.queues.get_mut(queue) {
                    queue.retain(|(_, owed, _)| owed != id);
                }
            }
            Op::EndQueue(queue) => {
                self.queues.remove(queue);
            }
            Op::Put(table, key, value) => {
                self.rows
                    .insert((*table, key.clone()), (0, value.clone(), None));
            }
            Op::Delete(table, key) => {
                self.rows.remove(&(*table, key.clone()));
            }
            Op::Hold(table, key, version, value, id) => {
                let key = (*table, key.clone());
                if self.rows.get(&key).is_none_or(|row| row.0 <= *version) {
                    self.rows.insert(key, (*version, value.clone(), *id));
                }
            }
        }
    }

    /// What another store knows must be the same, but for what it calls the places and for contents nobody needs.
    fn must_be(&self, found: &Self) {
        let rows = |views: &Self| {
            let rows = views
                .rows
                .iter()
                .filter(|(_, row)| row.0 == 0 || row.2.is_some());
            rows.map(|(key, row)| (key.clone(), (row.1.clone(), row.2)))
                .collect::<BTreeMap<_, _>>()
        };
        assert_eq!(rows(self), rows(found), "rows after a crash");
        let queues = |views: &Self| {
            let queues = views.queues.iter().filter(|(_, owed)| !owed.is_empty());
            let entries = |owed: &Vec<(u64, MessageId, Box<[u8]>)>| {
                let entries = owed.iter().map(|(_, id, options)| (*id, options.clone()));
                entries.collect::<Vec<_>>()
            };
            queues
                .map(|(queue, owed)| (*queue, entries(owed)))
                .collect::<BTreeMap<_, _>>()
        };
        assert_eq!(queues(self), queues(found), "queues after a crash");
        for owed in found.queues.values().flatten() {
            let id = owed.1;
            let content = found.messages.get(&id);
            assert_eq!(
                content,
                self.messages.get(&id),
                "the content of {id:?} after a crash"
            );
        }
    }

    /// Messages a queue is owed, in order.
    pub fn owed(&self, queue: QueueId) -> Vec<MessageId> {
        let entries = self.queues.get(&queue).into_iter().flatten();
        entries.map(|(_, id, _)| *id).collect()
    }
}

/// The store of a world.
#[derive(Debug, Default)]
pub(in crate::tests) struct MemoryStore {
    /// What would be there after a crash of the machine.
    pub durable: Views,
    /// Handed in and not durable, in the order it came, with its shard.
    waiting: VecDeque<(usize, Said)>,
    /// By shard.
    last: Vec<Ticket>,
    /// What is handed in now is refused.
    pub refuses: Option<Refusal>,
    /// Transactions that became durable.
    pub transactions: u64,
    /// Where everything goes too, and is read from.
    pub disk: Option<Box<DiskStore>>,
    /// Transactions that became durable from when this is there, and how far somebody waited for them to come.
    pub recorded: Option<Vec<(Until, Vec<Op>)>>,
    /// Questions that wait until their streams grow, with their shards.
    parked: Vec<(usize, StreamAsk)>,
    /// Questions to streams, ever.
    pub asked: Vec<StreamAsk>,
    /// Transactions that were refused since one was durable. A crash may find that some of them are there all the same.
    refused: u64,
}

impl MemoryStore {
    pub fn with_shards(shards: usize) -> Self {
        Self {
            last: vec![Ticket(0); shards],
            ..Self::default()
        }
    }

    /// The real store under it, on a simulated disk.
    pub fn on_disk(&mut self, seed: u64) {
        self.disk = Some(Box::new(DiskStore::new(seed)));
    }

    /// The power went: nothing works until [`Self::crash`].
    pub fn is_dead(&self) -> bool {
        self.disk.as_ref().is_some_and(|disk| disk.is_dead())
    }

    /// The highest number of a message that was ever given.
    pub fn highest(&self) -> MessageId {
        let last = self.durable.messages.keys().max().copied();
        let known = last.unwrap_or_default();
        self.disk.as_ref().map_or(known, |disk| disk.highest())
    }

    /// What one shard writes into.
    pub fn pen(&mut self, shard: usize) -> Pen<'_> {
        Pen {
            store: self,
            shard,
            open: Vec::new(),
        }
    }

    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Questions to streams that wait until these grow.
    pub fn parked(&self) -> usize {
        self.parked.len()
    }

    /// Nobody can ask a stream any more.
    pub fn remove_stream(&mut self, stream: StreamId) {
        self.durable.streams.remove(stream);
        self.unpark();
    }

    /// Whoever waits for a stream to grow asks again.
    fn unpark(&mut self) {
        for (shard, ask) in std::mem::take(&mut self.parked) {
            self.waiting.push_back((shard, Said::ReadStream(ask)));
        }
    }

    /// Makes the oldest thing handed in durable, and says what its shard is told, if anything.
    pub fn step(&mut self, wall_ms: u64) -> Option<(usize, Option<Answer>)> {
        if self.is_dead() {
            return None;
        }
        self.durable.wall_ms = wall_ms;
        let (shard, said) = self.waiting.pop_front()?;
        let answer = match said {
            Said::Transaction(ticket, ..) if self.refuses.is_some() => {
                Answer::Refused(ticket, ticket, self.refuses?)
            }
            Said::Transaction(ticket, until, ops) => {
                if let Some(disk) = &mut self.disk {
                    if let Err(why) = disk.write(&ops) {
                        self.refused += 1;
                        let refused = Answer::Refused(ticket, ticket, why);
                        return (!self.is_dead()).then_some((shard, Some(refused)));
                    }
                    self.refused = 0;
                }
                for op in &ops {
                    self.durable.apply(op);
                }
                self.transactions += 1;
                if ops.iter().any(|op| matches!(op, Op::Enter(..))) {
                    self.unpark();
                }
                if let Some(recorded) = &mut self.recorded {
                    recorded.push((until, ops));
                }
                Answer::Stored(Stored {
                    written: ticket,
                    durable: ticket,
                })
            }
            Said::ReadQueue(queue, after, count_max, bytes_max) => {
                Answer::QueueRead(queue, self.read(queue, after, count_max, bytes_max))
            }
            Said::ReadMessage(id) => {
                let body = match &self.disk {
                    Some(disk) => disk.message(id),
                    None => self.durable.messages.get(&id).cloned(),
                };
                Answer::MessageRead(id, body)
            }
            Said::ReadStream(ask) => {
                let Some(answer) = self.durable.streams.answer(&ask) else {
                    self.parked.push((shard, ask));
                    return Some((shard, None));
                };
                Answer::Stream(ask.reader, answer)
            }
        };
        Some((shard, Some(answer)))
    }

    /// What each shard is told once everything is with the operating system, and nothing more on disk.
    pub fn written(&self) -> Vec<Stored> {
        let told = |written: &Ticket| Stored {
            written: *written,
            durable: Ticket::default(),
        };
        self.last.iter().map(told).collect()
    }

    fn read(&self, queue: QueueId, after: u64, count_max: u32, bytes_max: u32) -> QueueRead {
        if let Some(disk) = &self.disk {
            return disk.read(queue, after, count_max, bytes_max);
        }
        let mut read = QueueRead {
            is_end: true,
            ..QueueRead::default()
        };
        let mut bytes = 0;
        let entries = self.durable.queues.get(&queue).into_iter().flatten();
        for (place, id, options) in entries.filter(|(place, ..)| *place > after) {
            if read.entries.len() >= count_max as usize || bytes > bytes_max as usize {
                read.is_end = false;
                break;
            }
            let body = self.durable.messages.get(id).cloned();
            bytes += body.as_ref().map_or(0, |body| body.len());
            read.entries.push(ReadEntry {
                place: *place,
                id: *id,
                options: options.clone(),
                body,
            });
        }
        read
    }

    /// The machine stops: what was not durable is lost.
    pub fn crash(&mut self, shards: usize) {
        self.waiting.clear();
        self.parked.clear();
        self.last = vec![Ticket(0); shards];
        if let Some(disk) = &mut self.disk {
            disk.crash();
            let found = disk.views();
            if std::mem::take(&mut self.refused) == 0 {
                self.durable.must_be(&found);
            }
            let streams = std::mem::take(&mut self.durable.streams);
            self.durable = Views { streams, ..found };
        }
    }
}

/// One shard's way into the store.
pub(in crate::tests) struct Pen<'a> {
    store: &'a mut MemoryStore,
    shard: usize,
    open: Vec<Op>,
}

impl Drop for Pen<'_> {
    fn drop(&mut self) {
        assert!(
            self.open.is_empty() || std::thread::panicking(),
            "a transaction was not ended: {:?}",
            self.open
        );
    }
}

impl Journal for Pen<'_> {
    fn message(&mut self, id: MessageId, expires_wall_ms: u64, body: &[u8]) {
        self.open
            .push(Op::Message(id, expires_wall_ms, body.into()));
    }

    fn owe(&mut self, id: MessageId, options: &[u8], queues: &[QueueId]) {
        assert!(queues.is_sorted(), "queues are given in ascending order");
        self.open.push(Op::Owe(id, options.into(), queues.to_vec()));
    }

    fn enter(&mut self, id: MessageId, streams: &[StreamId]) {
        assert!(streams.is_sorted(), "streams are given in ascending order");
        self.open.push(Op::Enter(id, streams.to_vec()));
    }

    fn settle(&mut self, queue: QueueId, id: MessageId) {
        self.open.push(Op::Settle(queue, id));
    }

    fn end_queue(&mut self, queue: QueueId) {
        self.open.push(Op::EndQueue(queue));
    }

    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) {
        self.open.push(Op::Put(table, key.into(), value.into()));
    }

    fn delete(&mut self, table: Table, key: &[u8]) {
        self.open.push(Op::Delete(table, key.into()));
    }

    fn hold(
        &mut self,
        table: Table,
        key: &[u8],
        version: u64,
        value: &[u8],
        id: Option<MessageId>,
    ) {
        self.open
            .push(Op::Hold(table, key.into(), version, value.into(), id));
    }

    fn end(&mut self, until: Until) -> Ticket {
        let last = &mut self.store.last[self.shard];
        last.0 += 1;
        let said = Said::Transaction(*last, until, std::mem::take(&mut self.open));
        self.store.waiting.push_back((self.shard, said));
        *last
    }

    fn read_queue(&mut self, queue: QueueId, after: u64, count_max: u32, bytes_max: u32) {
        let said = Said::ReadQueue(queue, after, count_max, bytes_max);
        self.store.waiting.push_back((self.shard, said));
    }

    fn read_message(&mut self, id: MessageId) {
        self.store
            .waiting
            .push_back((self.shard, Said::ReadMessage(id)));
    }

    fn read_stream(&mut self, ask: StreamAsk) {
        self.store.asked.push(ask.clone());
        self.store
            .waiting
            .push_back((self.shard, Said::ReadStream(ask)));
    }
}
