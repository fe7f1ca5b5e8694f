//! Reading the views: both layers at once.

use std::{collections::BTreeMap, sync::Arc};

use redb::{
    ReadOnlyTable, ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata,
};

use super::{
    Shared, Views, ViewsError,
    chunk::{Entry, Reader},
    cloak::Cloak,
    overlay::{MessageChange, Overlay, QueueChange},
    tables::{
        CHUNKS, Header, MESSAGES, META, MessageEntry, QUEUES, QueueState, ROWS, RowEntry, SEGMENTS,
        SegmentFigures,
    },
};
use crate::record::{MessageId, QueueId, Table};

/// A part of what a queue is owed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Page {
    pub entries: Vec<PageEntry>,
    /// There is nothing behind the last entry.
    pub is_end: bool,
}

/// One message a queue is owed.
#[derive(Clone, Debug)]
pub(crate) struct PageEntry {
    pub place: u64,
    pub id: MessageId,
    pub options: Box<[u8]>,
    /// Where its content is, if the views know.
    pub located: Option<Located>,
}

/// Where a message's content is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Located {
    pub segment: u32,
    /// The number of the file that stands for the segment.
    pub file: u32,
    pub block: u32,
    pub bytes: u32,
    pub expires_wall_ms: u64,
}

/// Both layers of one moment.
struct Layers<'a> {
    transaction: ReadTransaction,
    // Opened once: a page looks into them for every message.
    messages: ReadOnlyTable<u64, &'static [u8]>,
    segments: ReadOnlyTable<u32, &'static [u8]>,
    frozen: Option<&'a Overlay>,
    active: &'a Overlay,
}

impl<'a> Layers<'a> {
    fn of(shared: &'a Shared) -> Result<Self, ViewsError> {
        let db = shared.db.as_ref().ok_or(ViewsError::Closed)?;
        let transaction = db.begin_read()?;
        let number = match transaction.open_table(META)?.get(Header::KEY)? {
            Some(header) => Header::decode(header.value())?.number,
            None => 0,
        };
        // A commit that just ended is in the store before the overlay is dropped.
        let frozen = shared.frozen.as_deref();
        Ok(Self {
            messages: transaction.open_table(MESSAGES)?,
            segments: transaction.open_table(SEGMENTS)?,
            transaction,
            frozen: frozen.filter(|frozen| frozen.number > number),
            active: &shared.active,
        })
    }

    fn overlays(&self) -> impl Iterator<Item = &'a Overlay> {
        [Some(self.active), self.frozen].into_iter().flatten()
    }

    fn locate(&self, id: u64) -> Result<Option<Located>, ViewsError> {
        for overlay in self.overlays() {
            if let Some(MessageChange::New(new)) = overlay.messages.get(&id) {
                return Ok(Some(Located {
                    segment: new.segment,
                    file: new.segment,
                    block: new.block,
                    bytes: new.bytes,
                    expires_wall_ms: new.expires_wall_ms,
                }));
            }
        }
        let Some(entry) = self.messages.get(id)? else {
            return Ok(None);
        };
        let entry = MessageEntry::decode(entry.value())?;
        Ok(Some(Located {
            segment: entry.segment,
            file: self.file(entry.segment)?,
            block: entry.block,
            bytes: entry.bytes,
            expires_wall_ms: entry.expires_wall_ms,
        }))
    }

    fn file(&self, segment: u32) -> Result<u32, ViewsError> {
        Ok(match self.segments.get(segment)? {
            Some(figures) => SegmentFigures::decode(figures.value())?.file_of(segment),
            None => segment,
        })
    }
}

impl Views {
    /// What a queue is owed behind a place: at most `count_max` messages, no more once they exceed `bytes_max`.
    pub(crate) fn read(
        &self,
        queue: QueueId,
        after: u64,
        count_max: usize,
        bytes_max: u64,
    ) -> Result<Page, ViewsError> {
        let shared = self.shared();
        let layers = Layers::of(&shared)?;
        let mut page = Gathering {
            layers: &layers,
            page: Page::default(),
            count_max,
            bytes_max,
            bytes: 0,
            is_full: false,
        };
        page.is_full = !page.gather(queue.0, after, &shared.cloak)?;
        page.page.is_end = !page.is_full;
        Ok(page.page)
    }

    /// Where a message is.
    pub(crate) fn locate(&self, MessageId(id): MessageId) -> Result<Option<Located>, ViewsError> {
        let shared = self.shared();
        Layers::of(&shared)?.locate(id)
    }

    /// The rows of a table, as of the last commit, in no order.
    pub(crate) fn rows(&self, table: Table) -> Result<Rows, ViewsError> {
        let shared = self.shared();
        let db = shared.db.as_ref().ok_or(ViewsError::Closed)?;
        let rows = db.begin_read()?.open_table(ROWS)?;
        let from = [table.0];
        let until = table.0.checked_add(1).map(|next| [next]);
        let range = match &until {
            Some(until) => rows.range(from.as_slice()..until.as_slice())?,
            None => rows.range(from.as_slice()..)?,
        };
        Ok(Rows {
            range,
            cloak: shared.cloak.clone(),
        })
    }

    /// How many queues are owed something, as of the last commit.
    pub(crate) fn queue_count(&self) -> Result<u64, ViewsError> {
        let shared = self.shared();
        let db = shared.db.as_ref().ok_or(ViewsError::Closed)?;
        Ok(db.begin_read()?.open_table(QUEUES)?.len()?)
    }

    /// How many rows each table has, as of the last commit.
    pub(crate) fn row_counts(&self) -> Result<BTreeMap<u8, u64>, ViewsError> {
        let shared = self.shared();
        let db = shared.db.as_ref().ok_or(ViewsError::Closed)?;
        let mut counts = BTreeMap::new();
        for row in db.begin_read()?.open_table(ROWS)?.iter()? {
            let (key, value) = row?;
            if let Some(table) = key.value().first()
                && !RowEntry::decode(value.value())?.is_tombstone()
            {
                *counts.entry(*table).or_default() += 1;
            }
        }
        Ok(counts)
    }

    /// The queues that are owed something, as of the last commit, ascending.
    pub(crate) fn queues(&self) -> Result<OwedQueues, ViewsError> {
        let shared = self.shared();
        let db = shared.db.as_ref().ok_or(ViewsError::Closed)?;
        let queues = db.begin_read()?.open_table(QUEUES)?;
        Ok(OwedQueues {
            range: queues.range::<u64>(..)?,
        })
    }
}

struct Gathering<'l, 'a> {
    layers: &'l Layers<'a>,
    page: Page,
    count_max: usize,
    bytes_max: u64,
    bytes: u64,
    is_full: bool,
}

impl Gathering<'_, '_> {
    /// Goes through a queue, oldest first. Says whether it came to the end.
    fn gather(&mut self, queue: u64, after: u64, cloak: &Cloak) -> Result<bool, ViewsError> {
        let layers = self.layers;
        let frozen = layers.frozen.and_then(|overlay| overlay.queues.get(&queue));
        let active = layers.active.queues.get(&queue);
        let is_settled = |change: Option<&QueueChange>, id: u64| {
            change.is_some_and(|change| change.ended.is_some() || change.settled.contains_key(&id))
        };
        let has_ended = |change: Option<&QueueChange>| change.is_some_and(|it| it.ended.is_some());
        if !has_ended(frozen) && !has_ended(active) {
            let chunks = layers.transaction.open_table(CHUNKS)?;
            // The piece that has the place begins at it or before it.
            let begin = match chunks.range((queue, 0)..=(queue, after))?.next_back() {
                Some(chunk) => chunk?.0.value().1,
                None => 0,
            };
            for chunk in chunks.range((queue, begin)..=(queue, u64::MAX))? {
                let (key, bytes) = chunk?;
                let bytes = cloak.open(bytes.value())?;
                let mut reader = Reader::new(key.value().1, &bytes)?;
                while let Some(entry) = reader.next()? {
                    if entry.place <= after
                        || is_settled(frozen, entry.id)
                        || is_settled(active, entry.id)
                    {
                        continue;
                    }
                    if !self.take(entry)? {
                        return Ok(false);
                    }
                }
            }
        }
        let newer = [
            (layers.frozen, frozen, active),
            (Some(layers.active), active, None),
        ];
        for (overlay, change, later) in newer {
            let (Some(overlay), Some(change)) = (overlay, change) else {
                continue;
            };
            let begin = change.owed.partition_point(|owed| owed.place <= after);
            for owed in change.owed.iter().skip(begin) {
                let options = overlay.options(owed.options);
                let entry = Entry {
                    place: owed.place,
                    id: owed.id,
                    is_older: owed.is_older,
                    options,
                };
                if !is_settled(later, owed.id) && !self.take(entry)? {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Takes an entry if there is room.
    fn take(&mut self, entry: Entry<'_>) -> Result<bool, ViewsError> {
        if self.page.entries.len() >= self.count_max
            || (self.bytes > self.bytes_max && !self.page.entries.is_empty())
        {
            return Ok(false);
        }
        let located = self.layers.locate(entry.id)?;
        self.bytes += located.map_or(0, |located| u64::from(located.bytes));
        self.page.entries.push(PageEntry {
            place: entry.place,
            id: MessageId(entry.id),
            options: entry.options.into(),
            located,
        });
        Ok(true)
    }
}

/// A row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its key.
    pub key: Box<[u8]>,
    /// Its value.
    pub value: Box<[u8]>,
    /// The message that it keeps.
    pub message: Option<MessageId>,
}

/// The rows of a table.
pub struct Rows {
    range: redb::Range<'static, &'static [u8], &'static [u8]>,
    cloak: Arc<Cloak>,
}

impl Iterator for Rows {
    type Item = Result<Row, ViewsError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let row = match self.range.next()? {
                Ok((key, value)) => row(&self.cloak, key.value(), value.value()),
                Err(error) => Err(error.into()),
            };
            // Who holds nothing is no row.
            if let Some(row) = row.transpose() {
                return Some(row);
            }
        }
    }
}

fn row(cloak: &Cloak, key: &[u8], value: &[u8]) -> Result<Option<Row>, ViewsError> {
    let entry = RowEntry::decode(value)?;
    if entry.is_tombstone() {
        return Ok(None);
    }
    let (key, value) = cloak.open_row(key, entry.value)?;
    Ok(Some(Row {
        key: key.get(1..).unwrap_or_default().into(),
        value: value.as_ref().into(),
        message: entry.held().map(MessageId),
    }))
}

/// The queues that are owed something.
pub struct OwedQueues {
    range: redb::Range<'static, u64, &'static [u8]>,
}

impl Iterator for OwedQueues {
    type Item = Result<(QueueId, QueueState), ViewsError>;

    fn next(&mut self) -> Option<Self::Item> {
        let state = self.range.next()?.map_err(ViewsError::from);
        Some(state.and_then(|(queue, state)| {
            let state = QueueState::decode(state.value())?;
            Ok((QueueId(queue.value()), state))
        }))
    }
}
