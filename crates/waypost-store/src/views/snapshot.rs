//! The last commit, as retirement looks at it.

use std::{collections::VecDeque, sync::Arc};

use redb::{ReadOnlyTable, ReadableDatabase};

use super::{
    Views, ViewsError,
    chunk::Reader,
    cloak::Cloak,
    tables::{CHUNKS, MESSAGES, MessageEntry, ROWS, RowEntry},
};
use crate::record::{MessageId, QueueId, Table};

/// What the views were at one moment.
pub(crate) struct Snapshot {
    messages: ReadOnlyTable<u64, &'static [u8]>,
    chunks: ReadOnlyTable<(u64, u64), &'static [u8]>,
    rows: ReadOnlyTable<&'static [u8], &'static [u8]>,
    cloak: Arc<Cloak>,
}

impl Views {
    /// The last commit.
    pub(crate) fn snapshot(&self) -> Result<Snapshot, ViewsError> {
        let shared = self.shared();
        let db = shared.db.as_ref().ok_or(ViewsError::Closed)?;
        let transaction = db.begin_read()?;
        Ok(Snapshot {
            messages: transaction.open_table(MESSAGES)?,
            chunks: transaction.open_table(CHUNKS)?,
            rows: transaction.open_table(ROWS)?,
            cloak: shared.cloak.clone(),
        })
    }
}

impl Snapshot {
    /// Whether somebody refers to a message whose content is in this segment.
    pub(crate) fn has_message(&self, id: MessageId, segment: u32) -> Result<bool, ViewsError> {
        let Some(entry) = self.messages.get(id.0)? else {
            return Ok(false);
        };
        Ok(MessageEntry::decode(entry.value())?.segment == segment)
    }

    /// Whether somebody refers to a message that is anywhere.
    pub(crate) fn is_known(&self, id: MessageId) -> Result<bool, ViewsError> {
        Ok(self.messages.get(id.0)?.is_some())
    }

    /// Whether a row stands as this segment has it.
    pub(crate) fn stands(
        &self,
        table: Table,
        key: &[u8],
        segment: u32,
        hold: Option<(u64, Option<u64>)>,
        value: &[u8],
    ) -> Result<bool, ViewsError> {
        let full = [[table.0].as_slice(), key].concat();
        let stored = self.cloak.key(&full);
        let Some(bytes) = self.rows.get(stored.as_ref())? else {
            return Ok(false);
        };
        let row = RowEntry::decode(bytes.value())?;
        if row.segment != segment || row.hold != hold {
            return Ok(false);
        }
        let (_, standing) = self.cloak.open_row(stored.as_ref(), row.value)?;
        Ok(standing.as_ref() == value)
    }

    /// The next entries of a queue that were owed in this segment, behind a place: place and message.
    pub(crate) fn owed(
        &self,
        QueueId(queue): QueueId,
        segment: u32,
        after: u64,
    ) -> Result<VecDeque<(u64, u64)>, ViewsError> {
        let begin = u64::from(segment) << 32;
        let end = begin | u64::from(u32::MAX);
        let after = after.max(begin);
        // The piece that has the place begins at it or before it.
        let first = match self.chunks.range((queue, 0)..=(queue, after))?.next_back() {
            Some(chunk) => chunk?.0.value(),
            None => (queue, after),
        };
        let mut entries = VecDeque::new();
        for chunk in self.chunks.range(first..=(queue, end))? {
            let (key, bytes) = chunk?;
            let bytes = self.cloak.open(bytes.value())?;
            let mut reader = Reader::new(key.value().1, &bytes)?;
            while let Some(entry) = reader.next()? {
                if entry.place > after && entry.place <= end {
                    entries.push_back((entry.place, entry.id));
                }
            }
            if !entries.is_empty() {
                break;
            }
        }
        Ok(entries)
    }
}
