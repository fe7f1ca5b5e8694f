//! The bytes of a segment that are not blocks of records: its header, what it begins with, its end. And its name.
//!
//! ```text
//! segment  header · begin · block · block · … · table · topics · end
//! ```
//!
//! `begin`, `table` and `topics` are blocks as the records' are, so that names are sealed where the store is encrypted.

use waypost_encrypt::{KeyId, SALT_BYTES};

use crate::{
    log::segment::{FORMAT, Fields, NoHeader, Sealing, checked, fill},
    record::StreamId,
    views::number::{Numbers, Unreadable, put},
};

/// Bytes of the header.
pub(super) const HEADER: usize = 80;
/// Bytes of the end.
pub(super) const END: usize = 96 + HEADER;

const MAGIC: [u8; 8] = *b"WAYSTRM\n";
const END_MAGIC: [u8; 8] = *b"WAYSEND\n";

/// What a file's name ends with until it is whole.
pub(super) const UNFINISHED: &str = ".new";

/// The block after the header.
pub(super) const BEGIN: u8 = 4;
/// A block of records.
pub(super) const RECORDS: u8 = 5;
/// Where the blocks of records are.
pub(super) const TABLE: u8 = 6;
/// Which blocks have records of which topic.
pub(super) const TOPICS: u8 = 7;

pub(super) fn file_name(stream: StreamId, number: u32) -> String {
    format!("stream-{}-{number:08}.seg", stream.0)
}

/// The segment that a file is, by its name.
pub(super) fn of_file_name(name: &str) -> Option<(StreamId, u32)> {
    let numbers = name.strip_prefix("stream-")?.strip_suffix(".seg")?;
    let (stream, number) = numbers.split_once('-')?;
    let (stream, number) = (StreamId(stream.parse().ok()?), number.parse().ok()?);
    (file_name(stream, number) == name).then_some((stream, number))
}

/// A place in the log: which operation of which block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LogPosition {
    pub segment: u32,
    pub block: u32,
    /// Counts what enters streams in that block, from 1 on.
    pub ordinal: u32,
}

/// How far a stream is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Head {
    /// The offset of its next record.
    pub next: u64,
    /// When its last record entered.
    pub last_ms: u64,
    /// Where in the log that is.
    pub position: LogPosition,
    /// Records before this offset are gone.
    pub floor: u64,
}

impl Head {
    pub(crate) fn encode(&self, bytes: &mut Vec<u8>) {
        for number in [
            self.next,
            self.last_ms,
            self.position.segment.into(),
            self.position.block.into(),
            self.position.ordinal.into(),
            self.floor,
        ] {
            put(bytes, number);
        }
    }

    pub(crate) fn decode(numbers: &mut Numbers<'_>) -> Result<Self, Unreadable> {
        Ok(Self {
            next: numbers.next()?,
            last_ms: numbers.next()?,
            position: LogPosition {
                segment: numbers.small()?,
                block: numbers.small()?,
                ordinal: numbers.small()?,
            },
            floor: numbers.next()?,
        })
    }
}

/// What a segment says of itself before its blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub stream: StreamId,
    pub number: u32,
    pub wall_ms: u64,
    pub salt: [u8; SALT_BYTES],
    /// The strategy's number, 0 without encryption.
    pub encrypt: u8,
    pub key: KeyId,
}

impl Header {
    pub fn sealing(&self) -> Sealing {
        Sealing {
            number: self.number,
            salt: self.salt,
            encrypt: self.encrypt,
            key: self.key,
        }
    }

    pub fn encode(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        fill(
            &mut bytes,
            &[
                &MAGIC,
                &FORMAT.to_le_bytes(),
                &[self.encrypt, 0, 0, 0],
                &self.stream.0.to_le_bytes(),
                &self.number.to_le_bytes(),
                &self.wall_ms.to_le_bytes(),
                &self.salt,
                &self.key.0,
            ],
        );
        checked(&mut bytes);
        bytes
    }

    pub fn read(bytes: &[u8]) -> Result<Self, NoHeader> {
        let mut fields = Fields::checked(bytes, HEADER, MAGIC).ok_or(NoHeader::Damaged)?;
        let version = fields.u32();
        if version > FORMAT {
            return Err(NoHeader::Newer(version));
        }
        let [encrypt, ..] = fields.array::<4>();
        Ok(Self {
            stream: StreamId(fields.u32()),
            number: fields.u32(),
            wall_ms: fields.u64(),
            salt: fields.array(),
            encrypt,
            key: KeyId(fields.array()),
        })
    }
}

/// The stream of a segment, and how far it was when the segment was begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Begin {
    pub name: String,
    pub head: Head,
    /// The stream is no more: the file is there so that its number is not given again.
    pub is_forgotten: bool,
}

impl Begin {
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![u8::from(self.is_forgotten)];
        self.head.encode(&mut bytes);
        bytes.extend_from_slice(self.name.as_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Unreadable> {
        const WHAT: &str = "begin of a stream's segment";
        let mut numbers = Numbers::new(bytes, WHAT);
        let is_forgotten = numbers.byte()? != 0;
        let head = Head::decode(&mut numbers)?;
        let name = std::str::from_utf8(numbers.rest()).map_err(|_| Unreadable(WHAT))?;
        Ok(Self {
            name: name.to_owned(),
            head,
            is_forgotten,
        })
    }
}

/// What stands at the end of a segment that is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct End {
    /// The header once more, should the first one be damaged.
    pub header: Header,
    /// Where the table is: the end of the records' blocks.
    pub table_at: u64,
    /// Where the topics are; 0 if there were too many to be listed.
    pub topics_at: u64,
    /// The first offset that belongs to it, whether it is still there or not.
    pub first: u64,
    /// How far the stream was at its end.
    pub head: Head,
    pub first_ms: u64,
    pub records: u64,
    /// Whether some of them expire.
    pub has_expiring: bool,
}

impl End {
    pub fn encode(&self) -> [u8; END] {
        let mut bytes = [0; END];
        let position = self.head.position;
        fill(
            &mut bytes,
            &[
                &END_MAGIC,
                &self.table_at.to_le_bytes(),
                &self.topics_at.to_le_bytes(),
                &self.first.to_le_bytes(),
                &self.head.next.to_le_bytes(),
                &self.head.last_ms.to_le_bytes(),
                &self.head.floor.to_le_bytes(),
                &position.segment.to_le_bytes(),
                &position.block.to_le_bytes(),
                &position.ordinal.to_le_bytes(),
                &self.first_ms.to_le_bytes(),
                &self.records.to_le_bytes(),
                &[u8::from(self.has_expiring), 0, 0, 0],
                &self.header.encode(),
            ],
        );
        checked(&mut bytes);
        bytes
    }

    pub fn read(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields::checked(bytes, END, END_MAGIC)?;
        let (table_at, topics_at, first) = (fields.u64(), fields.u64(), fields.u64());
        let (next, last_ms, floor) = (fields.u64(), fields.u64(), fields.u64());
        let position = LogPosition {
            segment: fields.u32(),
            block: fields.u32(),
            ordinal: fields.u32(),
        };
        Some(Self {
            table_at,
            topics_at,
            first,
            head: Head {
                next,
                last_ms,
                position,
                floor,
            },
            first_ms: fields.u64(),
            records: fields.u64(),
            has_expiring: fields.array::<4>().starts_with(&[1]),
            header: Header::read(fields.bytes.get(..HEADER)?).ok()?,
        })
    }
}
