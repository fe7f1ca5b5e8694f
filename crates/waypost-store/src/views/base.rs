//! What of the embedded store is kept in memory too: how far it is, and what lives in which segment.

use std::collections::BTreeMap;

use redb::{Database, ReadableTable, WriteTransaction};

use super::{
    ViewsError,
    number::{Numbers, Unreadable, put},
    overlay::Covers,
    tables::{COVERS, Header, META, SEGMENTS, SegmentFigures},
};

/// Where in [`META`] the note of the key is.
const NOTE: &str = "key";

/// What the embedded store reflects, as far as it is kept in memory too.
#[derive(Clone, Debug, Default)]
pub(super) struct Base {
    pub header: Header,
    pub segments: BTreeMap<u32, SegmentFigures>,
    pub covers: BTreeMap<(u32, u32), Covers>,
}

impl Base {
    /// Reads it and the note of the views' key; `None` if the store is new.
    pub(super) fn read(db: &Database) -> Result<Option<(Self, Vec<u8>)>, ViewsError> {
        use redb::ReadableDatabase;
        let transaction = db.begin_read()?;
        let meta = match transaction.open_table(META) {
            Ok(meta) => meta,
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let note = match meta.get(NOTE)? {
            Some(note) => note.value().to_vec(),
            None => return Ok(None),
        };
        let Some(header) = meta.get(Header::KEY)? else {
            return Ok(Some((Self::default(), note)));
        };
        let mut base = Self {
            header: Header::decode(header.value())?,
            ..Self::default()
        };
        for row in transaction.open_table(SEGMENTS)?.iter()? {
            let (segment, figures) = row?;
            let figures = SegmentFigures::decode(figures.value())?;
            base.segments.insert(segment.value(), figures);
        }
        for row in transaction.open_table(COVERS)?.iter()? {
            let (pair, covers) = row?;
            base.covers
                .insert(pair.value(), decode_covers(covers.value())?);
        }
        Ok(Some((base, note)))
    }

    /// Writes what is not as it was before.
    pub(super) fn write(
        &self,
        transaction: &WriteTransaction,
        before: &Self,
    ) -> Result<(), ViewsError> {
        let mut meta = transaction.open_table(META)?;
        meta.insert(Header::KEY, self.header.encode().as_slice())?;
        let mut segments = transaction.open_table(SEGMENTS)?;
        for (segment, figures) in &self.segments {
            if before.segments.get(segment) != Some(figures) {
                segments.insert(segment, figures.encode().as_slice())?;
            }
        }
        for segment in before.segments.keys() {
            if !self.segments.contains_key(segment) {
                segments.remove(segment)?;
            }
        }
        let mut table = transaction.open_table(COVERS)?;
        for (pair, covers) in &self.covers {
            if before.covers.get(pair) != Some(covers) {
                table.insert(pair, encode_covers(*covers).as_slice())?;
            }
        }
        for pair in before.covers.keys() {
            if !self.covers.contains_key(pair) {
                table.remove(pair)?;
            }
        }
        Ok(())
    }
}

/// Writes the note of the views' key into a new store.
pub(super) fn begin(db: &Database, note: &[u8]) -> Result<(), ViewsError> {
    let transaction = db.begin_write()?;
    transaction.open_table(META)?.insert(NOTE, note)?;
    transaction.commit()?;
    Ok(())
}

fn encode_covers(covers: Covers) -> Vec<u8> {
    let mut bytes = Vec::new();
    put(&mut bytes, covers.entries);
    put(&mut bytes, covers.rows);
    bytes
}

fn decode_covers(bytes: &[u8]) -> Result<Covers, Unreadable> {
    let mut numbers = Numbers::new(bytes, "count of statements");
    Ok(Covers {
        entries: numbers.next()?,
        rows: numbers.next()?,
    })
}
