//! From an overlay into the embedded store, in one transaction of it.
//!
//! New messages come first, then rows and queues, which say how the references of older messages change; those come last,
//! each message once. All in the order of their keys, so that a page is touched once.

use redb::{Database, ReadableTable, WriteTransaction};

use super::{
    Position, ViewsError,
    base::Base,
    chunk::{Entry, Reader, Writer},
    cloak::Cloak,
    overlay::{Covers, Map, MessageChange, Overlay, QueueChange, RowChange, RowKind},
    tables::{
        CHUNKS, FORMAT, MESSAGES, MessageEntry, QUEUES, QueueState, ROWS, RowEntry, STREAMS,
        TOMBSTONES,
    },
};

/// Changes of references that are gathered before they are written, so that the end of a long queue takes bounded memory.
const DELTAS_MAX: usize = 65_536;

/// A row that holds nothing is forgotten this many commits after its own.
const TOMBSTONE_COMMITS: u64 = 2;

/// A segment that stands in another file now.
#[derive(Debug, Default)]
pub(crate) struct Moved {
    pub segment: u32,
    pub file: u32,
    /// Messages that were written again: number, block, bytes of their debtors.
    pub messages: Vec<(u64, u32, u32)>,
    /// Messages that were not, because they expired.
    pub expired: Vec<u64>,
    /// What was said of the old file when its rewriting began: it is in none any more.
    pub covers_before: Vec<(u32, Covers)>,
}

/// What is to become of segments with a commit.
#[derive(Debug, Default)]
pub(crate) struct Segments<'a> {
    pub moved: Option<&'a Moved>,
    pub gone: &'a [u32],
    /// Messages that nobody refers to are to go.
    pub sweep: bool,
    /// How far streams are; nothing for one that is gone.
    pub streams: &'a [(u32, Vec<u8>)],
}

/// Writes it all down, durably, and says what the store reflects then.
pub(super) fn commit(
    db: &Database,
    overlay: &Overlay,
    base: &Base,
    cloak: &Cloak,
    segments: &Segments<'_>,
) -> Result<Base, ViewsError> {
    let mut transaction = db.begin_write()?;
    transaction.set_quick_repair(true);
    let base = Commit::new(&transaction, overlay, base, cloak)?.run(&transaction, segments)?;
    transaction.commit()?;
    Ok(base)
}

type Messages<'t> = redb::Table<'t, u64, &'static [u8]>;
type Chunks<'t> = redb::Table<'t, (u64, u64), &'static [u8]>;

/// How the references of an older message change, and what it weighs.
#[derive(Clone, Copy, Debug, Default)]
struct Delta {
    by: i64,
    bytes: Option<u32>,
}

struct Commit<'t, 'o> {
    overlay: &'o Overlay,
    cloak: &'o Cloak,
    messages: Messages<'t>,
    deltas: Map<u64, Delta>,
    base: Base,
}

impl<'t, 'o> Commit<'t, 'o> {
    fn new(
        transaction: &'t WriteTransaction,
        overlay: &'o Overlay,
        base: &Base,
        cloak: &'o Cloak,
    ) -> Result<Self, ViewsError> {
        Ok(Self {
            overlay,
            cloak,
            messages: transaction.open_table(MESSAGES)?,
            deltas: Map::default(),
            base: base.clone(),
        })
    }

    fn run(
        mut self,
        transaction: &'t WriteTransaction,
        segments: &Segments<'_>,
    ) -> Result<Base, ViewsError> {
        let before = self.base.clone();
        for (&segment, bytes) in &self.overlay.written {
            let figures = self.base.segments.entry(segment).or_default();
            figures.whole_bytes += bytes;
        }
        for (&segment, &file) in &self.overlay.files {
            self.base.segments.entry(segment).or_default().file = file;
        }
        for (&pair, covers) in &self.overlay.covers {
            let all = self.base.covers.entry(pair).or_default();
            all.entries += covers.entries;
            all.rows += covers.rows;
        }
        self.add_messages()?;
        self.rows(transaction)?;
        self.queues(transaction)?;
        self.apply_deltas()?;
        if segments.sweep {
            self.sweep()?;
        }
        if let Some(moved) = segments.moved {
            self.move_segment(moved)?;
        }
        for &gone in segments.gone {
            self.base.segments.remove(&gone);
            self.base
                .covers
                .retain(|&(by, of), _| by != gone && of != gone);
        }
        let mut streams = transaction.open_table(STREAMS)?;
        for (stream, state) in segments.streams {
            if state.is_empty() {
                streams.remove(stream)?;
            } else {
                streams.insert(stream, &*self.cloak.seal(state)?)?;
            }
        }
        let header = &mut self.base.header;
        header.format = FORMAT;
        header.number = self.overlay.number;
        header.position = self.overlay.position;
        header.highest_message = header.highest_message.max(self.overlay.highest_message);
        header.highest_queue = header.highest_queue.max(self.overlay.highest_queue);
        header.wall_ms = header.wall_ms.max(self.overlay.wall_ms);
        self.base.write(transaction, &before)?;
        Ok(self.base)
    }

    fn add_messages(&mut self) -> Result<(), ViewsError> {
        let mut changes: Vec<_> = self.overlay.messages.iter().collect();
        changes.sort_unstable_by_key(|(id, _)| **id);
        for (&id, change) in changes {
            match change {
                MessageChange::Known(by) => self.deltas.entry(id).or_default().by += by,
                MessageChange::New(new) => {
                    let references = u64::try_from(new.references).unwrap_or_default();
                    // Nobody's from the beginning.
                    if references == 0 && !self.overlay.is_rebuild {
                        continue;
                    }
                    let entry = MessageEntry {
                        segment: new.segment,
                        block: new.block,
                        references,
                        bytes: new.bytes,
                        owe_bytes: new.owe_bytes,
                        expires_wall_ms: new.expires_wall_ms,
                    };
                    let figures = self.base.segments.entry(new.segment).or_default();
                    figures.messages += 1;
                    figures.message_bytes += entry.weight();
                    self.messages.insert(id, entry.encode().as_slice())?;
                }
            }
        }
        Ok(())
    }

    fn rows(&mut self, transaction: &'t WriteTransaction) -> Result<(), ViewsError> {
        let mut rows = transaction.open_table(ROWS)?;
        let mut tombstones = transaction.open_table(TOMBSTONES)?;
        let mut changes: Vec<_> = self.overlay.rows.iter().collect();
        changes.sort_unstable_by_key(|(key, _)| *key);
        for (key, change) in changes {
            let stored = self.cloak.key(key);
            let old = match rows.get(stored.as_ref())? {
                Some(bytes) => {
                    let row = RowEntry::decode(bytes.value())?;
                    Some((row.segment, row.weight, row.hold))
                }
                None => None,
            };
            if let (Some((segment, _, Some((standing, _)))), RowKind::Hold { version, id, .. }) =
                (old, &change.kind)
                && standing > *version
            {
                self.cover_row(segment, change.segment);
                if let Some(id) = id {
                    self.deltas.entry(*id).or_default().by -= 1;
                }
                continue;
            }
            if let Some((segment, weight, hold)) = old {
                self.lose_row(change.segment, segment, weight, hold);
            }
            let Some(row) = self.gain_row(key, change) else {
                if old.is_some() {
                    rows.remove(stored.as_ref())?;
                }
                continue;
            };
            if row.is_tombstone() {
                tombstones.insert((self.overlay.number, stored.as_ref()), ())?;
            }
            let value = self.cloak.seal_row(key, row.value)?;
            let row = RowEntry {
                value: &value,
                ..row
            };
            rows.insert(stored.as_ref(), row.encode().as_slice())?;
        }
        let until = self.overlay.number.saturating_sub(TOMBSTONE_COMMITS - 1);
        for forgotten in tombstones.extract_from_if(..(until, [].as_slice()), |_, ()| true)? {
            let (key, _) = forgotten?;
            let (_, key) = key.value();
            let is_tombstone = match rows.get(key)? {
                Some(row) => RowEntry::decode(row.value())?.is_tombstone(),
                None => false,
            };
            if is_tombstone {
                rows.remove(key)?;
            }
        }
        Ok(())
    }

    /// The row that a change puts there, if it does not delete it.
    fn gain_row<'r>(&mut self, key: &[u8], change: &'r RowChange) -> Option<RowEntry<'r>> {
        let (hold, value): (_, &[u8]) = match &change.kind {
            RowKind::Delete => return None,
            RowKind::Put(value) => (None, value),
            RowKind::Hold { version, value, id } => (Some((*version, *id)), value),
        };
        let weight = u32::try_from(key.len() + value.len() + 8).unwrap_or(u32::MAX);
        let row = RowEntry {
            segment: change.segment,
            weight,
            hold,
            value,
        };
        if !row.is_tombstone() {
            let figures = self.base.segments.entry(change.segment).or_default();
            figures.rows += 1;
            figures.row_bytes += u64::from(weight);
        }
        Some(row)
    }

    /// A row of `segment` does not stand any more because of what `by` says.
    fn lose_row(&mut self, by: u32, segment: u32, weight: u32, hold: Option<(u64, Option<u64>)>) {
        if matches!(hold, Some((_, None))) {
            return;
        }
        if let Some(figures) = self.base.segments.get_mut(&segment) {
            figures.rows = figures.rows.saturating_sub(1);
            figures.row_bytes = figures.row_bytes.saturating_sub(u64::from(weight));
        }
        self.cover_row(by, segment);
        if let Some((_, Some(id))) = hold {
            self.deltas.entry(id).or_default().by -= 1;
        }
    }

    fn cover_row(&mut self, by: u32, of: u32) {
        if by != of {
            self.base.covers.entry((by, of)).or_default().rows += 1;
        }
    }

    fn cover_entry(&mut self, by: u32, place: u64) {
        let of = Position::segment_of(place);
        if by != of {
            self.base.covers.entry((by, of)).or_default().entries += 1;
        }
    }

    /// What is owed no more keeps its segment no more.
    fn lose_debt(&mut self, entry: &Entry<'_>) {
        let segment = Position::segment_of(entry.place);
        if let Some(figures) = self.base.segments.get_mut(&segment)
            && entry.is_older
        {
            figures.debts = figures.debts.saturating_sub(1);
        }
    }

    fn queues(&mut self, transaction: &'t WriteTransaction) -> Result<(), ViewsError> {
        let mut queues = transaction.open_table(QUEUES)?;
        let mut chunks = transaction.open_table(CHUNKS)?;
        let mut changes: Vec<_> = self
            .overlay
            .queues
            .iter()
            .filter(|(_, change)| !change.is_nothing())
            .collect();
        changes.sort_unstable_by_key(|(queue, _)| **queue);
        for (&queue, change) in changes {
            let old = match queues.get(queue)? {
                Some(state) => Some(QueueState::decode(state.value())?),
                None => None,
            };
            let mut state = old.unwrap_or_default();
            if let (Some(by), Some(_)) = (change.ended, old) {
                self.end(&mut chunks, queue, by)?;
                state = QueueState::default();
            } else if !change.settled.is_empty() && old.is_some() {
                self.settle(&mut chunks, queue, change, &mut state)?;
            }
            if !change.owed.is_empty() {
                self.append(&mut chunks, queue, change, &mut state)?;
            }
            if state.count == 0 {
                if old.is_some() {
                    queues.remove(queue)?;
                }
                continue;
            }
            if let Some(first) = chunks.range((queue, 0)..=(queue, u64::MAX))?.next() {
                let (key, bytes) = first?;
                let bytes = self.cloak.open(bytes.value())?;
                state.oldest_wall_ms = Reader::new(key.value().1, &bytes)?.owed_wall_ms;
            }
            queues.insert(queue, state.encode().as_slice())?;
        }
        Ok(())
    }

    /// Removes all a queue is owed.
    fn end(&mut self, chunks: &mut Chunks<'t>, queue: u64, by: u32) -> Result<(), ViewsError> {
        let all = (queue, 0)..=(queue, u64::MAX);
        while let Some((first, bytes)) = next_chunk(chunks, &all)? {
            let bytes = self.cloak.open(&bytes)?;
            let mut reader = Reader::new(first, &bytes)?;
            while let Some(entry) = reader.next()? {
                self.lose_debt(&entry);
                self.cover_entry(by, entry.place);
                self.deltas.entry(entry.id).or_default().by -= 1;
            }
            chunks.remove((queue, first))?;
            if self.deltas.len() > DELTAS_MAX {
                self.apply_deltas()?;
            }
        }
        Ok(())
    }

    /// Removes what is settled, wherever in the queue it is: mostly at its beginning.
    fn settle(
        &mut self,
        chunks: &mut Chunks<'t>,
        queue: u64,
        change: &QueueChange,
        state: &mut QueueState,
    ) -> Result<(), ViewsError> {
        let mut left = change.settled.len();
        let mut from = 0;
        while left > 0 {
            let Some((first, bytes)) = next_chunk(chunks, &((queue, from)..=(queue, u64::MAX)))?
            else {
                break;
            };
            let bytes = self.cloak.open(&bytes)?;
            let mut reader = Reader::new(first, &bytes)?;
            let mut kept = Writer::new(first, reader.owed_wall_ms);
            let (mut has_lost, mut has_kept) = (false, false);
            while let Some(entry) = reader.next()? {
                let Some(&by) = change.settled.get(&entry.id) else {
                    kept.push(entry);
                    has_kept = true;
                    continue;
                };
                has_lost = true;
                left = left.saturating_sub(1);
                self.lose_debt(&entry);
                self.cover_entry(by, entry.place);
                let bytes = self.content_bytes(entry.id)?;
                self.deltas.entry(entry.id).or_default().by -= 1;
                state.count = state.count.saturating_sub(1);
                state.bytes = state.bytes.saturating_sub(u64::from(bytes));
            }
            if !has_kept {
                chunks.remove((queue, first))?;
            } else if has_lost {
                let bytes = self.cloak.seal(kept.bytes())?;
                chunks.insert((queue, first), bytes.as_ref())?;
            }
            from = first + 1;
        }
        Ok(())
    }

    /// Adds what is owed at the end.
    fn append(
        &mut self,
        chunks: &mut Chunks<'t>,
        queue: u64,
        change: &QueueChange,
        state: &mut QueueState,
    ) -> Result<(), ViewsError> {
        let last = match chunks.range((queue, 0)..=(queue, u64::MAX))?.next_back() {
            Some(last) => {
                let (key, bytes) = last?;
                let bytes = self.cloak.open(bytes.value())?;
                Some(Writer::continued(key.value().1, &bytes)?)
            }
            None => None,
        };
        let mut last = last.filter(|last| !last.is_full());
        for owed in &change.owed {
            let mut writer = match last.take() {
                Some(writer) if writer.is_full() => {
                    write_chunk(chunks, self.cloak, queue, &writer)?;
                    Writer::new(owed.place, change.owed_wall_ms)
                }
                Some(writer) => writer,
                None => Writer::new(owed.place, change.owed_wall_ms),
            };
            writer.push(Entry {
                place: owed.place,
                id: owed.id,
                is_older: owed.is_older,
                options: self.overlay.options(owed.options),
            });
            if owed.is_older {
                let segment = Position::segment_of(owed.place);
                self.base.segments.entry(segment).or_default().debts += 1;
            }
            last = Some(writer);
            state.count += 1;
            state.bytes += u64::from(self.content_bytes(owed.id)?);
        }
        if let Some(writer) = last {
            write_chunk(chunks, self.cloak, queue, &writer)?;
        }
        Ok(())
    }

    /// How long a message's content is; 0 if it is not there.
    fn content_bytes(&mut self, id: u64) -> Result<u32, ViewsError> {
        if let Some(MessageChange::New(new)) = self.overlay.messages.get(&id) {
            return Ok(new.bytes);
        }
        let delta = self.deltas.entry(id).or_default();
        if let Some(bytes) = delta.bytes {
            return Ok(bytes);
        }
        let bytes = match self.messages.get(id)? {
            Some(entry) => MessageEntry::decode(entry.value())?.bytes,
            None => 0,
        };
        delta.bytes = Some(bytes);
        Ok(bytes)
    }

    fn apply_deltas(&mut self) -> Result<(), ViewsError> {
        let mut deltas: Vec<_> = std::mem::take(&mut self.deltas)
            .into_iter()
            .filter(|(_, delta)| delta.by != 0)
            .collect();
        deltas.sort_unstable_by_key(|(id, _)| *id);
        for (id, delta) in deltas {
            let Some(mut entry) = self.message(id)? else {
                continue;
            };
            entry.references = entry.references.saturating_add_signed(delta.by);
            if entry.references == 0 && !self.overlay.is_rebuild {
                self.lose_message(id, &entry)?;
            } else {
                self.messages.insert(id, entry.encode().as_slice())?;
            }
        }
        Ok(())
    }

    fn message(&self, id: u64) -> Result<Option<MessageEntry>, ViewsError> {
        let entry = self.messages.get(id)?;
        let entry = entry.map(|entry| MessageEntry::decode(entry.value()));
        Ok(entry.transpose()?)
    }

    fn lose_message(&mut self, id: u64, entry: &MessageEntry) -> Result<(), ViewsError> {
        self.messages.remove(id)?;
        if let Some(figures) = self.base.segments.get_mut(&entry.segment) {
            figures.messages = figures.messages.saturating_sub(1);
            figures.message_bytes = figures.message_bytes.saturating_sub(entry.weight());
        }
        Ok(())
    }

    /// Removes messages that nobody refers to.
    fn sweep(&mut self) -> Result<(), ViewsError> {
        let mut gone = Vec::new();
        for message in self.messages.iter()? {
            let (id, entry) = message?;
            let entry = MessageEntry::decode(entry.value())?;
            if entry.references == 0 {
                gone.push((id.value(), entry));
            }
        }
        gone.iter()
            .try_for_each(|(id, entry)| self.lose_message(*id, entry))
    }

    fn move_segment(&mut self, moved: &Moved) -> Result<(), ViewsError> {
        for &(id, block, owe_bytes) in &moved.messages {
            let Some(old) = self.message(id)? else {
                continue;
            };
            if old.segment != moved.segment {
                continue;
            }
            let new = MessageEntry {
                block,
                owe_bytes,
                ..old
            };
            if let Some(figures) = self.base.segments.get_mut(&moved.segment) {
                let rest = figures.message_bytes.saturating_sub(old.weight());
                figures.message_bytes = rest + new.weight();
            }
            self.messages.insert(id, new.encode().as_slice())?;
        }
        for &id in &moved.expired {
            if let Some(entry) = self.message(id)? {
                self.lose_message(id, &entry)?;
            }
        }
        if let Some(figures) = self.base.segments.get_mut(&moved.segment) {
            figures.file = moved.file;
            figures.whole_bytes = figures.live_bytes();
        }
        for &(by, before) in &moved.covers_before {
            if let Some(covers) = self.base.covers.get_mut(&(by, moved.segment)) {
                covers.entries = covers.entries.saturating_sub(before.entries);
                covers.rows = covers.rows.saturating_sub(before.rows);
            }
        }
        self.base
            .covers
            .retain(|_, covers| *covers != Covers::default());
        Ok(())
    }
}

/// The first piece in a range, out of its table so that the table can be changed.
fn next_chunk(
    chunks: &Chunks<'_>,
    range: &std::ops::RangeInclusive<(u64, u64)>,
) -> Result<Option<(u64, Vec<u8>)>, ViewsError> {
    Ok(match chunks.range(range.clone())?.next() {
        Some(chunk) => {
            let (key, bytes) = chunk?;
            Some((key.value().1, bytes.value().to_vec()))
        }
        None => None,
    })
}

fn write_chunk(
    chunks: &mut Chunks<'_>,
    cloak: &Cloak,
    queue: u64,
    writer: &Writer,
) -> Result<(), ViewsError> {
    let bytes = cloak.seal(writer.bytes())?;
    chunks.insert((queue, writer.first()), bytes.as_ref())?;
    Ok(())
}

impl QueueChange {
    fn is_nothing(&self) -> bool {
        self.ended.is_none() && self.owed.is_empty() && self.settled.is_empty()
    }
}
