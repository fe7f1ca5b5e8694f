//! What stands in the embedded store, table by table.

use redb::TableDefinition;

use super::{
    Position,
    number::{Numbers, Unreadable, put},
};

/// The version of everything here. Views of another are made again from the log.
pub(super) const FORMAT: u64 = 1;

/// The few things that there is one of.
pub(super) const META: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("meta");
/// Messages that are referred to.
pub(super) const MESSAGES: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("messages");
/// Queues that are owed something.
pub(super) const QUEUES: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("queues");
/// What they are owed, in pieces, by queue and first place.
pub(super) const CHUNKS: TableDefinition<'static, (u64, u64), &[u8]> =
    TableDefinition::new("chunks");
/// Rows by table and key (or what hides the key).
pub(super) const ROWS: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("rows");
/// Rows that hold nothing, by the commit that wrote them.
pub(super) const TOMBSTONES: TableDefinition<'static, (u64, &[u8]), ()> =
    TableDefinition::new("tombstones");
/// What lives in each segment.
pub(super) const SEGMENTS: TableDefinition<'static, u32, &[u8]> = TableDefinition::new("segments");
/// What each segment says of others.
pub(super) const COVERS: TableDefinition<'static, (u32, u32), &[u8]> =
    TableDefinition::new("covers");

/// How far each stream is.
pub(super) const STREAMS: TableDefinition<'static, u32, &[u8]> = TableDefinition::new("streams");

/// Where a message is and how many refer to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MessageEntry {
    pub segment: u32,
    pub block: u32,
    pub references: u64,
    /// Of its content.
    pub bytes: u32,
    /// Of its debtors in the log.
    pub owe_bytes: u32,
    pub expires_wall_ms: u64,
}

impl MessageEntry {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(24);
        put(&mut bytes, u64::from(self.segment));
        put(&mut bytes, u64::from(self.block));
        put(&mut bytes, self.references);
        put(&mut bytes, u64::from(self.bytes));
        put(&mut bytes, u64::from(self.owe_bytes));
        put(&mut bytes, self.expires_wall_ms.wrapping_add(1));
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Unreadable> {
        let mut numbers = Numbers::new(bytes, "message");
        Ok(Self {
            segment: numbers.small()?,
            block: numbers.small()?,
            references: numbers.next()?,
            bytes: numbers.small()?,
            owe_bytes: numbers.small()?,
            expires_wall_ms: numbers.next()?.wrapping_sub(1),
        })
    }

    /// What it takes in its segment.
    pub(super) fn weight(&self) -> u64 {
        u64::from(self.bytes) + u64::from(self.owe_bytes) + 16
    }
}

/// What a queue is owed, in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueState {
    /// How many messages.
    pub count: u64,
    /// Bytes of their contents.
    pub bytes: u64,
    /// When the first of them was owed, or before; milliseconds since 1970.
    pub oldest_wall_ms: u64,
}

impl QueueState {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(16);
        put(&mut bytes, self.count);
        put(&mut bytes, self.bytes);
        put(&mut bytes, self.oldest_wall_ms);
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Unreadable> {
        let mut numbers = Numbers::new(bytes, "state of a queue");
        Ok(Self {
            count: numbers.next()?,
            bytes: numbers.next()?,
            oldest_wall_ms: numbers.next()?,
        })
    }
}

/// A row: the segment that has it, what it holds, and its value (sealed, and then with the key).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RowEntry<'a> {
    pub segment: u32,
    /// What it takes in its segment.
    pub weight: u32,
    pub hold: Option<(u64, Option<u64>)>,
    pub value: &'a [u8],
}

impl<'a> RowEntry<'a> {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.value.len() + 16);
        put(&mut bytes, u64::from(self.segment));
        put(&mut bytes, u64::from(self.weight));
        match self.hold {
            None => bytes.push(0),
            Some((version, None)) => {
                bytes.push(1);
                put(&mut bytes, version);
            }
            Some((version, Some(id))) => {
                bytes.push(2);
                put(&mut bytes, version);
                put(&mut bytes, id);
            }
        }
        bytes.extend_from_slice(self.value);
        bytes
    }

    pub(super) fn decode(bytes: &'a [u8]) -> Result<Self, Unreadable> {
        let mut numbers = Numbers::new(bytes, "row");
        let segment = numbers.small()?;
        let weight = numbers.small()?;
        let hold = match numbers.byte()? {
            0 => None,
            1 => Some((numbers.next()?, None)),
            2 => Some((numbers.next()?, Some(numbers.next()?))),
            _ => return Err(Unreadable("row")),
        };
        Ok(Self {
            segment,
            weight,
            hold,
            value: numbers.rest(),
        })
    }

    /// The message that it keeps alive.
    pub(super) fn held(&self) -> Option<u64> {
        self.hold.and_then(|(_, id)| id)
    }

    /// Whether it says only that older versions do not count.
    pub(super) fn is_tombstone(&self) -> bool {
        matches!(self.hold, Some((_, None)))
    }
}

/// What a debt takes in the log when its message is elsewhere, about.
const DEBT_BYTES: u64 = 16;

/// What lives in a segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SegmentFigures {
    /// The number of the file it was rewritten into; 0: it was not.
    pub file: u32,
    /// Bytes of all its records; of a rewritten one, those that lived then.
    pub whole_bytes: u64,
    /// Messages that somebody is owed or holds.
    pub messages: u64,
    /// Bytes of their records.
    pub message_bytes: u64,
    /// Rows that stand.
    pub rows: u64,
    /// Bytes of their records.
    pub row_bytes: u64,
    /// What is owed here of messages that are in other segments.
    pub debts: u64,
}

impl SegmentFigures {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(24);
        put(&mut bytes, u64::from(self.file));
        for number in [
            self.whole_bytes,
            self.messages,
            self.message_bytes,
            self.rows,
            self.row_bytes,
            self.debts,
        ] {
            put(&mut bytes, number);
        }
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Unreadable> {
        let mut numbers = Numbers::new(bytes, "segment");
        Ok(Self {
            file: numbers.small()?,
            whole_bytes: numbers.next()?,
            messages: numbers.next()?,
            message_bytes: numbers.next()?,
            rows: numbers.next()?,
            row_bytes: numbers.next()?,
            debts: numbers.next()?,
        })
    }

    /// The number of the file that stands for the segment with this number.
    pub fn file_of(&self, segment: u32) -> u32 {
        if self.file == 0 { segment } else { self.file }
    }

    /// Bytes that live.
    pub fn live_bytes(&self) -> u64 {
        self.message_bytes + self.row_bytes + self.debts * DEBT_BYTES
    }

    /// Whether nothing does.
    pub fn is_dead(&self) -> bool {
        self.messages == 0 && self.rows == 0 && self.debts == 0
    }
}

/// What one commit knows beside the tables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Header {
    pub format: u64,
    /// Counts commits.
    pub number: u64,
    pub position: Position,
    pub highest_message: u64,
    pub highest_queue: u64,
    pub wall_ms: u64,
}

impl Header {
    pub(super) const KEY: &'static str = "header";

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(40);
        for number in [
            self.format,
            self.number,
            u64::from(self.position.segment),
            u64::from(self.position.block),
            u64::from(self.position.ordinal),
            self.highest_message,
            self.highest_queue,
            self.wall_ms,
        ] {
            put(&mut bytes, number);
        }
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Unreadable> {
        let mut numbers = Numbers::new(bytes, "header");
        Ok(Self {
            format: numbers.next()?,
            number: numbers.next()?,
            position: Position {
                segment: numbers.small()?,
                block: numbers.small()?,
                ordinal: numbers.small()?,
            },
            highest_message: numbers.next()?,
            highest_queue: numbers.next()?,
            wall_ms: numbers.next()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn values_come_back(a in any::<u32>(), b in any::<u32>(), c in any::<u64>(), d in any::<u64>(), held in any::<Option<Option<u64>>>()) {
            let message = MessageEntry { segment: a, block: b, references: c, bytes: b, owe_bytes: a, expires_wall_ms: d };
            prop_assert_eq!(MessageEntry::decode(&message.encode()), Ok(message));
            let queue = QueueState { count: c, bytes: d, oldest_wall_ms: c };
            prop_assert_eq!(QueueState::decode(&queue.encode()), Ok(queue));
            let row = RowEntry { segment: a, weight: b, hold: held.map(|id| (c, id)), value: b"value" };
            let bytes = row.encode();
            prop_assert_eq!(RowEntry::decode(&bytes), Ok(row));
            let segment = SegmentFigures { file: a, whole_bytes: c, messages: d, message_bytes: c, rows: d, row_bytes: c, debts: d };
            prop_assert_eq!(SegmentFigures::decode(&segment.encode()), Ok(segment));
            let header = Header { format: c, number: d, position: Position { segment: a, block: b, ordinal: a }, highest_message: c, highest_queue: d, wall_ms: c };
            prop_assert_eq!(Header::decode(&header.encode()), Ok(header));
        }

        #[test]
        fn any_bytes_are_values_or_unreadable(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = (MessageEntry::decode(&bytes), QueueState::decode(&bytes), Header::decode(&bytes));
            let _ = (RowEntry::decode(&bytes).is_ok(), SegmentFigures::decode(&bytes));
        }
    }
}
