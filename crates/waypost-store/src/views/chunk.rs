//! A piece of a queue: entries in the order they were owed, as differences.
//!
//! An entry is its step in the order, shifted left by two; a bit that says whether its message is of another segment than
//! the debt, and one whether its options are others than those of the entry before; the difference of its message's number;
//! and its options, if that bit is set. With one publisher and the same options that is two bytes. Which message has how many bytes is not said here: the messages know.

use super::number::{Numbers, Unreadable, fold_sign, put, unfold_sign};

/// From this length on a piece takes no further entries.
pub(super) const CHUNK_BYTES: usize = 1024;

const WHAT: &str = "piece of a queue";

/// One entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry<'a> {
    /// Its place in the queue.
    pub place: u64,
    /// Which message.
    pub id: u64,
    /// Whether the message's content was in another segment already.
    pub is_older: bool,
    /// How the queue is owed it.
    pub options: &'a [u8],
}

/// Entries being written down.
#[derive(Debug)]
pub(super) struct Writer {
    bytes: Vec<u8>,
    first: u64,
    place: u64,
    id: u64,
    options: Vec<u8>,
}

impl Writer {
    /// An empty piece, whose entries are all at `first` or behind it.
    pub(super) fn new(first: u64, owed_wall_ms: u64) -> Self {
        let mut bytes = Vec::with_capacity(64);
        put(&mut bytes, owed_wall_ms);
        Self {
            bytes,
            first,
            place: first,
            id: 0,
            options: Vec::new(),
        }
    }

    /// A piece that is there, to go on with.
    pub(super) fn continued(first: u64, bytes: &[u8]) -> Result<Self, Unreadable> {
        let mut reader = Reader::new(first, bytes)?;
        let mut options: &[u8] = &[];
        while let Some(entry) = reader.next()? {
            options = entry.options;
        }
        Ok(Self {
            bytes: bytes.to_vec(),
            first,
            place: reader.place,
            id: reader.id,
            options: options.to_vec(),
        })
    }

    /// Adds an entry; its place is behind the last.
    pub(super) fn push(&mut self, entry: Entry<'_>) {
        let is_other = self.options != entry.options;
        let step = entry.place.saturating_sub(self.place);
        let bits = u64::from(entry.is_older) << 1 | u64::from(is_other);
        put(&mut self.bytes, step << 2 | bits);
        let difference = entry.id.wrapping_sub(self.id).cast_signed();
        put(&mut self.bytes, fold_sign(difference));
        if is_other {
            put(&mut self.bytes, entry.options.len() as u64);
            self.bytes.extend_from_slice(entry.options);
            self.options.clear();
            self.options.extend_from_slice(entry.options);
        }
        self.place = entry.place;
        self.id = entry.id;
    }

    /// Where it begins.
    pub(super) fn first(&self) -> u64 {
        self.first
    }

    pub(super) fn is_full(&self) -> bool {
        self.bytes.len() >= CHUNK_BYTES
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// Reads entries back.
#[derive(Clone, Debug)]
pub(super) struct Reader<'a> {
    numbers: Numbers<'a>,
    /// When the first of its entries was owed, or before.
    pub(super) owed_wall_ms: u64,
    place: u64,
    id: u64,
    options: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(first: u64, bytes: &'a [u8]) -> Result<Self, Unreadable> {
        let mut numbers = Numbers::new(bytes, WHAT);
        let owed_wall_ms = numbers.next()?;
        Ok(Self {
            numbers,
            owed_wall_ms,
            place: first,
            id: 0,
            options: &[],
        })
    }

    pub(super) fn next(&mut self) -> Result<Option<Entry<'a>>, Unreadable> {
        if self.numbers.is_empty() {
            return Ok(None);
        }
        let head = self.numbers.next()?;
        self.place = self.place.checked_add(head >> 2).ok_or(Unreadable(WHAT))?;
        let difference = unfold_sign(self.numbers.next()?);
        self.id = self.id.wrapping_add(difference.cast_unsigned());
        if head & 1 == 1 {
            self.options = self.numbers.bytes()?;
        }
        Ok(Some(Entry {
            place: self.place,
            id: self.id,
            is_older: head & 2 == 2,
            options: self.options,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(entries: &[(u64, u64, Vec<u8>)]) -> Writer {
        let mut writer = Writer::new(7, 1_000);
        let mut place = 7;
        for (step, id, options) in entries {
            place += step;
            writer.push(Entry {
                place,
                id: *id,
                is_older: id % 3 == 0,
                options,
            });
        }
        writer
    }

    fn read(first: u64, bytes: &[u8]) -> Result<Vec<(u64, u64, Vec<u8>)>, Unreadable> {
        let mut reader = Reader::new(first, bytes)?;
        let mut entries = Vec::new();
        while let Some(entry) = reader.next()? {
            assert_eq!(entry.is_older, entry.id % 3 == 0);
            entries.push((entry.place, entry.id, entry.options.to_vec()));
        }
        Ok(entries)
    }

    proptest! {
        #[test]
        fn entries_come_back(
            entries in prop::collection::vec((0..5u64, any::<u64>(), prop::collection::vec(any::<u8>(), 0..3)), 0..40),
            cut in 0..40usize,
        ) {
            let writer = written(&entries);
            let back = read(7, writer.bytes()).unwrap();
            prop_assert_eq!(back.len(), entries.len());
            for (entry, (_, id, options)) in back.iter().zip(&entries) {
                prop_assert_eq!(entry.1, *id);
                prop_assert_eq!(&entry.2, options);
            }
            let (before, after) = entries.split_at(cut.min(entries.len()));
            let begun = written(before);
            let mut place = 7 + before.iter().map(|entry| entry.0).sum::<u64>();
            let mut continued = Writer::continued(7, begun.bytes()).unwrap();
            for (step, id, options) in after {
                place += step;
                continued.push(Entry { place, id: *id, is_older: id % 3 == 0, options });
            }
            prop_assert_eq!(read(7, continued.bytes()).unwrap(), back);
        }

        #[test]
        fn any_bytes_are_entries_or_unreadable(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            if let Ok(mut reader) = Reader::new(u64::MAX - 3, &bytes) {
                while let Ok(Some(_)) = reader.next() {}
            }
        }
    }

    #[test]
    fn a_further_entry_of_one_publisher_takes_two_bytes() {
        let one = written(&[(0, 1_000_000, vec![1])]);
        let two = written(&[(0, 1_000_000, vec![1]), (1, 1_000_001, vec![1])]);
        assert_eq!(two.bytes().len(), one.bytes().len() + 2);
    }
}
