//! The first and the last bytes of a segment, and its name.

use waypost_encrypt::{KeyId, SALT_BYTES};

/// The version of the format that is written here. Newer versions read older ones; magic, version and checksum of a
/// header stay where they are in all versions.
pub const FORMAT: u32 = 1;

/// Bytes of a segment's header.
pub(crate) const HEADER: usize = 128;

/// Bytes of a seal.
pub(crate) const SEAL: usize = 56 + HEADER;

const MAGIC: [u8; 8] = *b"WAYPOST\n";
const SEAL_MAGIC: [u8; 8] = *b"WAYSEAL\n";

/// What a segment is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentKind {
    /// A part of the log.
    Log,
    /// What outlived its part of the log.
    Kept,
}

impl SegmentKind {
    fn extension(self) -> &'static str {
        match self {
            Self::Log => ".log",
            Self::Kept => ".kept",
        }
    }
}

/// What a kept segment's name ends with until it is whole.
pub(crate) const UNFINISHED: &str = ".new";

pub(crate) fn file_name(kind: SegmentKind, number: u32) -> String {
    format!("{number:08}{}", kind.extension())
}

/// The segment that a file is, by its name.
pub(crate) fn of_file_name(name: &str) -> Option<(SegmentKind, u32)> {
    [SegmentKind::Log, SegmentKind::Kept]
        .into_iter()
        .find_map(|kind| {
            let number = name.strip_suffix(kind.extension())?.parse().ok()?;
            (file_name(kind, number) == name).then_some((kind, number))
        })
}

/// What a segment says of itself before its blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub kind: SegmentKind,
    pub number: u32,
    /// The segment of the log before it and the length it is to be read to.
    pub predecessor: Option<(u32, u64)>,
    pub wall_ms: u64,
    pub salt: [u8; SALT_BYTES],
    /// The strategy's number, 0 without encryption.
    pub encrypt: u8,
    pub key: KeyId,
}

/// What says how the blocks of a file are sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sealing {
    /// The file's number, which stands in each of its blocks.
    pub number: u32,
    pub salt: [u8; SALT_BYTES],
    /// The strategy's number, 0 without encryption.
    pub encrypt: u8,
    pub key: KeyId,
}

/// Why a header is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoHeader {
    Damaged,
    Newer(u32),
}

impl Header {
    /// How its blocks are sealed.
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
        let (predecessor, predecessor_len) = self.predecessor.unwrap_or_default();
        let kind = match self.kind {
            SegmentKind::Log => 1,
            SegmentKind::Kept => 2,
        };
        fill(
            &mut bytes,
            &[
                &MAGIC,
                &FORMAT.to_le_bytes(),
                &[kind, self.encrypt, 0, 0],
                &self.number.to_le_bytes(),
                &predecessor.to_le_bytes(),
                &predecessor_len.to_le_bytes(),
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
        let [kind, encrypt, ..] = fields.array::<4>();
        let kind = match kind {
            1 => SegmentKind::Log,
            2 => SegmentKind::Kept,
            _ => return Err(NoHeader::Damaged),
        };
        let number = fields.u32();
        let predecessor = (fields.u32(), fields.u64());
        Ok(Self {
            kind,
            number,
            predecessor: (predecessor.0 != 0).then_some(predecessor),
            wall_ms: fields.u64(),
            salt: fields.array(),
            encrypt,
            key: KeyId(fields.array()),
        })
    }
}

/// What stands after the last block of a segment that was ended in good order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seal {
    /// The header once more, should the first one be damaged.
    pub header: Header,
    /// Where the blocks end.
    pub len: u64,
    pub blocks: u32,
    pub transactions: u64,
    /// Bytes of records before compression.
    pub record_bytes: u64,
    /// The stamp of the last block.
    pub last_wall_ms: u64,
}

impl Seal {
    pub fn encode(&self) -> [u8; SEAL] {
        let mut bytes = [0; SEAL];
        fill(
            &mut bytes,
            &[
                &SEAL_MAGIC,
                &self.len.to_le_bytes(),
                &self.blocks.to_le_bytes(),
                &self.transactions.to_le_bytes(),
                &self.record_bytes.to_le_bytes(),
                &self.last_wall_ms.to_le_bytes(),
                &self.header.encode(),
            ],
        );
        checked(&mut bytes);
        bytes
    }

    pub fn read(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields::checked(bytes, SEAL, SEAL_MAGIC)?;
        Some(Self {
            len: fields.u64(),
            blocks: fields.u32(),
            transactions: fields.u64(),
            record_bytes: fields.u64(),
            last_wall_ms: fields.u64(),
            header: Header::read(fields.bytes.get(..HEADER)?).ok()?,
        })
    }
}

/// The segments that were never sealed and the lengths they are to be read to, as a chain block has them.
pub(crate) fn encode_chain(unsealed: &[(u32, u64)]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(12 * unsealed.len());
    for (number, len) in unsealed {
        bytes.extend_from_slice(&number.to_le_bytes());
        bytes.extend_from_slice(&len.to_le_bytes());
    }
    bytes
}

pub(crate) fn decode_chain(bytes: &[u8]) -> impl Iterator<Item = (u32, u64)> {
    bytes.chunks_exact(12).map(|bytes| {
        let mut fields = Fields { bytes };
        (fields.u32(), fields.u64())
    })
}

pub(crate) fn fill(bytes: &mut [u8], fields: &[&[u8]]) {
    let fields = fields.iter().copied().flatten();
    for (byte, field) in bytes.iter_mut().zip(fields) {
        *byte = *field;
    }
}

/// Puts the checksum of everything before them into the last four bytes.
pub(crate) fn checked(bytes: &mut [u8]) {
    if let Some((content, sum)) = bytes.split_last_chunk_mut::<4>() {
        *sum = crc32c::crc32c(content).to_le_bytes();
    }
}

/// Numbers of a fixed length, one after the other; zeros where there are none.
pub(crate) struct Fields<'a> {
    pub bytes: &'a [u8],
}

impl<'a> Fields<'a> {
    /// What is between the magic and the checksum, if both are right.
    pub(crate) fn checked(bytes: &'a [u8], len: usize, magic: [u8; 8]) -> Option<Self> {
        let (content, sum) = bytes.get(..len)?.split_last_chunk::<4>()?;
        let bytes = content.strip_prefix(&magic)?;
        (crc32c::crc32c(content) == u32::from_le_bytes(*sum)).then_some(Self { bytes })
    }

    pub fn array<const N: usize>(&mut self) -> [u8; N] {
        match self.bytes.split_first_chunk() {
            Some((array, rest)) => {
                self.bytes = rest;
                *array
            }
            None => [0; N],
        }
    }

    pub fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }

    pub fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }
}
