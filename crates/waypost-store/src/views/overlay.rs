//! What happened since the last commit.
//!
//! What is owed and settled in between leaves nothing here. What settles something older is kept until the commit, which
//! finds it in the embedded store. Bounds are the caller's, by [`Overlay::entries`] and [`Overlay::bytes`].

use std::collections::VecDeque;

use hashbrown::HashMap;

use super::Position;
use crate::record::{MessageId, Op, QueueId, Queues, Table};

type Hasher = foldhash::fast::RandomState;
pub(super) type Map<K, V> = HashMap<K, V, Hasher>;

/// The table that is not the core's: what a file of the log says of itself.
pub(crate) const FILES: Table = Table(u8::MAX);

/// Something a queue is owed since the last commit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owed {
    pub place: u64,
    pub id: u64,
    /// Which of [`Overlay::options`].
    pub options: u32,
    /// Whether the message's content was in another segment already.
    pub is_older: bool,
}

/// What happened to a queue.
#[derive(Debug, Default)]
pub(super) struct QueueChange {
    /// Everything older ended, in this segment.
    pub ended: Option<u32>,
    /// What it is owed since, in order.
    pub owed: VecDeque<Owed>,
    /// The lowest number of a message that was ever in `owed`: what is below it is older than the overlay.
    lowest: u64,
    /// Older entries that are settled, with the segment that says so.
    pub settled: Map<u64, u32>,
    /// When the first of `owed` was.
    pub owed_wall_ms: u64,
}

/// What happened to a message.
#[derive(Clone, Copy, Debug)]
pub(super) enum MessageChange {
    New(NewMessage),
    /// It is older; its references changed by this much.
    Known(i64),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct NewMessage {
    pub segment: u32,
    pub block: u32,
    pub bytes: u32,
    /// What its debtors take in the log.
    pub owe_bytes: u32,
    pub expires_wall_ms: u64,
    pub references: i64,
}

/// What happened to a row.
#[derive(Debug)]
pub(super) struct RowChange {
    /// The segment that says so.
    pub segment: u32,
    pub kind: RowKind,
}

#[derive(Debug)]
pub(super) enum RowKind {
    Put(Box<[u8]>),
    Delete,
    Hold {
        version: u64,
        value: Box<[u8]>,
        id: Option<u64>,
    },
}

/// How many statements of one segment are still needed because of another, older or newer, that they speak of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Covers {
    pub entries: u64,
    pub rows: u64,
}

/// The fold of some operations.
#[derive(Debug, Default)]
pub(super) struct Overlay {
    /// The commit that it becomes.
    pub number: u64,
    pub queues: Map<u64, QueueChange>,
    pub messages: Map<u64, MessageChange>,
    /// By table and key.
    pub rows: Map<Box<[u8]>, RowChange>,
    /// By the segment that says something and the one it says it of.
    pub covers: Map<(u32, u32), Covers>,
    /// Whether the views are made again from the whole log. What was settled long ago is not in the log any more, so that
    /// a message that nobody refers to may still be referred to by what comes: none is gone before the end.
    pub is_rebuild: bool,
    /// Segments that are in other files than their own.
    pub files: Map<u32, u32>,
    /// Bytes of records by segment.
    pub written: Map<u32, u64>,
    /// Options that occurred.
    pub options: Vec<Box<[u8]>>,
    option_index: Map<Box<[u8]>, u32>,
    /// How far it goes.
    pub position: Position,
    /// The highest numbers that occurred.
    pub highest_message: u64,
    pub highest_queue: u64,
    /// The latest wall time that occurred.
    pub wall_ms: u64,
    owed_count: usize,
    settled_count: usize,
    row_bytes: usize,
    /// Bytes of records folded into it.
    pub log_bytes: u64,
}

impl Overlay {
    /// One that goes on from `position`.
    pub(super) fn after(number: u64, position: Position) -> Self {
        Self {
            number,
            position,
            ..Self::default()
        }
    }

    /// One that goes on from this one.
    pub(super) fn next(&self) -> Self {
        Self {
            is_rebuild: self.is_rebuild,
            ..Self::after(self.number + 1, self.position)
        }
    }

    /// Whether nothing happened.
    pub(super) fn is_empty(&self) -> bool {
        self.log_bytes == 0
    }

    /// How many things it holds.
    pub(super) fn entries(&self) -> usize {
        self.owed_count + self.settled_count + self.messages.len() + self.rows.len()
    }

    /// About how much memory it takes.
    pub(super) fn bytes(&self) -> usize {
        self.owed_count * size_of::<Owed>()
            + self.settled_count * 24
            + self.messages.len() * (size_of::<MessageChange>() + 10)
            + self.rows.len() * 64
            + self.row_bytes
            + self.queues.len() * (size_of::<QueueChange>() + 10)
    }

    /// Folds one operation of a block.
    pub(super) fn apply(&mut self, op: Op<'_>, segment: u32, block: u32, wall_ms: u64) {
        match op {
            Op::Message {
                id: MessageId(id),
                expires_wall_ms,
                body,
            } => {
                self.highest_message = self.highest_message.max(id);
                self.messages
                    .entry(id)
                    .or_insert(MessageChange::New(NewMessage {
                        segment,
                        block,
                        bytes: u32::try_from(body.len()).unwrap_or(u32::MAX),
                        owe_bytes: 0,
                        expires_wall_ms,
                        references: 0,
                    }));
            }
            Op::Owe {
                id: MessageId(id),
                options,
                queues,
            } => self.owe(id, options, queues, segment, wall_ms),
            Op::Settle {
                queue: QueueId(queue),
                id: MessageId(id),
            } => self.settle(queue, id, segment),
            Op::EndQueue {
                queue: QueueId(queue),
            } => self.end_queue(queue, segment),
            // What a file says of itself; and what is the streams' matter.
            Op::Put { table: FILES, .. } | Op::Enter { .. } => {}
            Op::Put { table, key, value } => {
                self.row(table, key, segment, RowKind::Put(value.into()));
            }
            Op::Delete { table, key } => self.row(table, key, segment, RowKind::Delete),
            Op::Hold {
                table,
                key,
                version,
                value,
                id,
            } => {
                let id = id.map(|MessageId(id)| id);
                let value = value.into();
                self.row(table, key, segment, RowKind::Hold { version, value, id });
            }
        }
    }

    fn owe(&mut self, id: u64, options: &[u8], queues: Queues<'_>, segment: u32, wall_ms: u64) {
        self.position.ordinal += 1;
        let place = self.position.place();
        let options = self.option(options);
        let count = queues.count();
        let is_older = !matches!(self.messages.get(&id), Some(MessageChange::New(new)) if new.segment == segment);
        for QueueId(queue) in queues.iter() {
            self.highest_queue = self.highest_queue.max(queue);
            let change = self.queues.entry(queue).or_default();
            if change.owed.is_empty() {
                change.lowest = id;
                change.owed_wall_ms = wall_ms;
            }
            change.lowest = change.lowest.min(id);
            change.owed.push_back(Owed {
                place,
                id,
                options,
                is_older,
            });
        }
        self.owed_count += count;
        let references = i64::try_from(count).unwrap_or(i64::MAX);
        match self.messages.entry(id).or_insert(MessageChange::Known(0)) {
            MessageChange::New(new) => {
                new.references += references;
                let bytes = u32::try_from(count).unwrap_or(u32::MAX).saturating_add(16);
                new.owe_bytes = new.owe_bytes.saturating_add(bytes);
            }
            MessageChange::Known(change) => *change += references,
        }
        debug_assert_eq!(segment, self.position.segment);
    }

    fn settle(&mut self, queue: u64, id: u64, segment: u32) {
        let change = self.queues.entry(queue).or_default();
        let found = (!change.owed.is_empty() && change.lowest <= id)
            .then(|| change.owed.iter().position(|owed| owed.id == id))
            .flatten()
            .and_then(|index| change.owed.remove(index));
        let Some(owed) = found else {
            if change.ended.is_none() && change.settled.insert(id, segment).is_none() {
                self.settled_count += 1;
            }
            return;
        };
        self.owed_count -= 1;
        if change.owed.is_empty() && change.settled.is_empty() && change.ended.is_none() {
            self.queues.remove(&queue);
        }
        self.cover_entries(segment, owed.place, 1);
        self.refer(id, -1);
    }

    fn end_queue(&mut self, queue: u64, segment: u32) {
        let change = self.queues.entry(queue).or_default();
        let owed = std::mem::take(&mut change.owed);
        self.settled_count -= change.settled.len();
        change.settled = Map::default();
        change.ended.get_or_insert(segment);
        self.owed_count -= owed.len();
        for owed in owed {
            self.cover_entries(segment, owed.place, 1);
            self.refer(owed.id, -1);
        }
    }

    fn row(&mut self, table: Table, key: &[u8], segment: u32, kind: RowKind) {
        let mut full = Vec::with_capacity(key.len() + 1);
        full.push(table.0);
        full.extend_from_slice(key);
        let bytes = full.len() + kind.bytes();
        if let RowKind::Hold { id: Some(id), .. } = kind {
            self.refer(id, 1);
        }
        let Some(old) = self.rows.get_mut(full.as_slice()) else {
            self.row_bytes += bytes;
            let change = RowChange { segment, kind };
            self.rows.insert(full.into_boxed_slice(), change);
            return;
        };
        let (from, lost) = if old.kind.is_newer_than(&kind) {
            // It stays, and what says so must stay as long as what comes to nothing does.
            ((old.segment, segment), kind)
        } else {
            self.row_bytes = (self.row_bytes + bytes).saturating_sub(full.len() + old.kind.bytes());
            let from = (segment, old.segment);
            old.segment = segment;
            (from, std::mem::replace(&mut old.kind, kind))
        };
        if from.0 != from.1 && !matches!(lost, RowKind::Delete) {
            self.covers.entry(from).or_default().rows += 1;
        }
        if let RowKind::Hold { id: Some(id), .. } = lost {
            self.refer(id, -1);
        }
    }

    /// A statement in `segment` speaks of what is owed at `place`.
    fn cover_entries(&mut self, segment: u32, place: u64, count: u64) {
        let of = Position::segment_of(place);
        if of != segment {
            self.covers.entry((segment, of)).or_default().entries += count;
        }
    }

    /// Changes how many refer to a message. A new one that nobody refers to any more is gone.
    pub(super) fn refer(&mut self, id: u64, by: i64) {
        use hashbrown::hash_map::Entry;
        match self.messages.entry(id) {
            Entry::Occupied(mut entry) => {
                let is_gone = match entry.get_mut() {
                    MessageChange::New(new) => {
                        new.references += by;
                        new.references <= 0 && !self.is_rebuild
                    }
                    MessageChange::Known(change) => {
                        *change += by;
                        *change == 0
                    }
                };
                if is_gone {
                    entry.remove();
                }
            }
            Entry::Vacant(entry) => {
                entry.insert(MessageChange::Known(by));
            }
        }
    }

    fn option(&mut self, options: &[u8]) -> u32 {
        if let Some(&index) = self.option_index.get(options) {
            return index;
        }
        let index = u32::try_from(self.options.len()).unwrap_or(u32::MAX);
        self.options.push(options.into());
        self.option_index.insert(options.into(), index);
        self.row_bytes += 2 * (options.len() + 32);
        index
    }

    /// The options with this index.
    pub(super) fn options(&self, index: u32) -> &[u8] {
        usize::try_from(index)
            .ok()
            .and_then(|index| self.options.get(index))
            .map_or(&[], |options| options)
    }
}

impl RowKind {
    fn bytes(&self) -> usize {
        match self {
            Self::Put(value) | Self::Hold { value, .. } => value.len(),
            Self::Delete => 0,
        }
    }

    /// Whether a row that came later does not take this one's place.
    fn is_newer_than(&self, later: &Self) -> bool {
        matches!((self, later), (Self::Hold { version, .. }, Self::Hold { version: other, .. }) if version > other)
    }
}
