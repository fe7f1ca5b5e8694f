//! Blocks: transactions, compressed and encrypted, with a header and checksums.
//!
//! Both checksums begin with the segment's salt, which nobody outside knows: nothing that a client sends can look like a
//! block to a reader that searches damaged bytes for the next one.

use std::sync::{Arc, Mutex, PoisonError};

use waypost_compress::Compress;
use waypost_encrypt::{Encrypt, KeyId, MasterKey, Nonce, TAG_BYTES, Tag, segment_key};

use super::{
    LogError,
    segment::{Fields, Sealing},
};
use crate::record::TRANSACTION_BYTES_MAX;

/// Bytes of a block's header.
pub(crate) const BLOCK_HEADER: usize = 40;

/// The most bytes of records in a block: a transaction, and as much again as other transactions before it.
const BLOCK_BYTES_MAX: usize = 2 * TRANSACTION_BYTES_MAX;

/// A block of transactions.
pub(crate) const RECORDS: u8 = 1;
/// The block that says how far older segments are to be read.
pub(crate) const CHAIN: u8 = 2;
/// Where damage was: nothing of what follows the header is looked at.
pub(crate) const HOLE: u8 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlockHeader {
    /// The checksum of what is stored.
    pub sum: u32,
    /// How many bytes are stored after the header.
    pub stored: u32,
    /// How many bytes they come to.
    pub plain: u32,
    /// Ascending in a segment, never twice in one: the nonce.
    pub number: u32,
    pub segment: u32,
    /// How much of this segment was synced when the block was written: what is damaged before was not merely unfinished.
    pub durable: u32,
    pub wall_ms: u64,
    pub kind: u8,
    /// The strategy's number.
    pub compress: u8,
}

impl BlockHeader {
    /// The header of a block to be; the rest is filled in when it is sealed.
    pub fn of(kind: u8, number: u32, durable: u32, wall_ms: u64) -> Self {
        Self {
            sum: 0,
            stored: 0,
            plain: 0,
            number,
            segment: 0,
            durable,
            wall_ms,
            kind,
            compress: 0,
        }
    }

    /// How long the block is.
    pub fn len(&self) -> u64 {
        BLOCK_HEADER as u64 + u64::from(self.stored)
    }

    /// What encryption protects beside the content: all fields but the checksums.
    fn fields(&self) -> [u8; BLOCK_HEADER - 8] {
        let mut bytes = [0; BLOCK_HEADER - 8];
        let fields = [
            self.stored,
            self.plain,
            self.number,
            self.segment,
            self.durable,
        ];
        let numbers = fields.into_iter().flat_map(u32::to_le_bytes);
        let all = numbers
            .chain(self.wall_ms.to_le_bytes())
            .chain([self.kind, self.compress]);
        for (byte, field) in bytes.iter_mut().zip(all) {
            *byte = field;
        }
        bytes
    }
}

/// What blocks of one segment are sealed and opened with.
pub(crate) struct Cipher {
    segment: u32,
    header_seed: u32,
    content_seed: u32,
    encrypt: Option<Box<dyn Encrypt>>,
}

impl std::fmt::Debug for Cipher {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Cipher(…)")
    }
}

impl Cipher {
    /// The one that a segment's header asks for.
    pub fn new<'k>(
        sealing: &Sealing,
        file: &str,
        keys: impl IntoIterator<Item = &'k Arc<MasterKey>>,
    ) -> Result<Self, LogError> {
        let encrypt = match sealing.encrypt {
            0 => None,
            number => {
                let no_key = || LogError::NoKey {
                    file: file.to_owned(),
                    key: sealing.key,
                };
                let mut keys = keys.into_iter();
                let key = keys
                    .find(|key| key.id() == sealing.key)
                    .ok_or_else(no_key)?;
                let strategy = waypost_encrypt::by_number(number).ok_or_else(no_key)?;
                Some((strategy.new)(&segment_key(key, &sealing.salt)))
            }
        };
        let (for_headers, for_content) = sealing.salt.split_at(sealing.salt.len() / 2);
        Ok(Self {
            segment: sealing.number,
            header_seed: crc32c::crc32c(for_headers),
            content_seed: crc32c::crc32c(for_content),
            encrypt,
        })
    }

    /// The header that these bytes are, if they are one of this segment.
    pub fn header(&self, bytes: &[u8]) -> Option<BlockHeader> {
        let bytes = bytes.get(..BLOCK_HEADER)?;
        // Cheap, and enough to pass over almost everything that is none.
        if bytes.get(20..24)? != self.segment.to_le_bytes() {
            return None;
        }
        let (own_sum, summed) = bytes.split_first_chunk()?;
        if crc32c::crc32c_append(self.header_seed, summed) != u32::from_le_bytes(*own_sum) {
            return None;
        }
        let mut fields = Fields { bytes: summed };
        Some(BlockHeader {
            sum: fields.u32(),
            stored: fields.u32(),
            plain: fields.u32(),
            number: fields.u32(),
            segment: fields.u32(),
            durable: fields.u32(),
            wall_ms: fields.u64(),
            kind: fields.array::<1>()[0],
            compress: fields.array::<1>()[0],
        })
    }

    /// A header with its checksum, as [`Self::header`] reads it.
    fn encode(&self, header: &BlockHeader) -> [u8; BLOCK_HEADER] {
        let mut summed = [0; BLOCK_HEADER - 4];
        let fields = header.sum.to_le_bytes().into_iter().chain(header.fields());
        for (byte, field) in summed.iter_mut().zip(fields) {
            *byte = field;
        }
        let own_sum = crc32c::crc32c_append(self.header_seed, &summed);
        let mut bytes = [0; BLOCK_HEADER];
        let all = own_sum.to_le_bytes().into_iter().chain(summed);
        for (byte, field) in bytes.iter_mut().zip(all) {
            *byte = field;
        }
        bytes
    }

    /// The header of a hole of so many bytes, itself included; none if a header does not fit.
    pub fn hole(&self, bytes: usize) -> Option<[u8; BLOCK_HEADER]> {
        let mut header = BlockHeader::of(HOLE, 0, 0, 0);
        header.stored = bytes.checked_sub(BLOCK_HEADER)?.try_into().ok()?;
        header.segment = self.segment;
        Some(self.encode(&header))
    }

    /// Whether what is stored is what was written.
    pub fn is_whole(&self, header: &BlockHeader, stored: &[u8]) -> bool {
        header.kind == HOLE || crc32c::crc32c_append(self.content_seed, stored) == header.sum
    }

    /// What a block holds. `stored` is what follows its header.
    pub fn open(
        &self,
        header: &BlockHeader,
        stored: &mut [u8],
        packers: &Packers,
    ) -> Result<Vec<u8>, &'static str> {
        if !self.is_whole(header, stored) {
            return Err("the checksum of a block is wrong");
        }
        let mut packed = stored;
        if let Some(encrypt) = &self.encrypt {
            let (text, tag) = packed
                .split_last_chunk_mut::<TAG_BYTES>()
                .ok_or("an encrypted block has no tag")?;
            encrypt
                .open_in_place(
                    Nonce::numbered(header.number.into()),
                    &header.fields(),
                    text,
                    &Tag(*tag),
                )
                .map_err(|_| "a block does not open with its key")?;
            packed = text;
        }
        let limit = header.plain as usize;
        if limit > BLOCK_BYTES_MAX {
            return Err("a block is longer than any may be");
        }
        let mut plain = Vec::new();
        packers
            .with(header.compress, |packer| {
                packer.decompress(packed, limit, &mut plain)
            })
            .ok_or("no strategy that this version knows compressed a block")?
            .map_err(|_| "a block cannot be decompressed")?;
        if plain.len() != limit {
            return Err("a block is shorter than it says");
        }
        Ok(plain)
    }

    /// Appends a block to `out`, with the header that [`BlockHeader::of`] made.
    pub fn seal(
        &self,
        mut header: BlockHeader,
        plain: &[u8],
        compress: u8,
        packers: &Packers,
        out: &mut Vec<u8>,
    ) -> Result<(), LogError> {
        let begin = out.len();
        let content = begin + BLOCK_HEADER;
        out.resize(content, 0);
        header.compress = compress;
        let packed = packers.with(compress, |packer| packer.compress(plain, out));
        let is_smaller =
            packed.is_some_and(|packed| packed.is_ok()) && out.len() - content < plain.len();
        if !is_smaller {
            out.truncate(content);
            out.extend_from_slice(plain);
            header.compress = 0;
        }
        let tag = if self.encrypt.is_some() { TAG_BYTES } else { 0 };
        let too_long = |_| LogError::TooLong { bytes: plain.len() };
        header.stored = u32::try_from(out.len() - content + tag).map_err(too_long)?;
        header.plain = u32::try_from(plain.len()).map_err(too_long)?;
        header.segment = self.segment;
        if let Some(encrypt) = &self.encrypt {
            let text = out.get_mut(content..).unwrap_or_default();
            let nonce = Nonce::numbered(header.number.into());
            let tag = encrypt.seal_in_place(nonce, &header.fields(), text);
            let tag = tag.map_err(|error| LogError::NotPacked(error.to_string()))?;
            out.extend_from_slice(&tag.0);
        }
        let stored = out.get(content..).unwrap_or_default();
        header.sum = crc32c::crc32c_append(self.content_seed, stored);
        let bytes = self.encode(&header);
        for (byte, field) in out.iter_mut().skip(begin).zip(bytes) {
            *byte = field;
        }
        Ok(())
    }
}

/// Compressors at rest, for whoever needs one next.
#[derive(Default)]
pub(crate) struct Packers(Mutex<Vec<(u8, Box<dyn Compress>)>>);

/// How many compressors wait at most; more threads than these do not read at once.
const PACKERS_MAX: usize = 4;

impl std::fmt::Debug for Packers {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Packers(…)")
    }
}

impl Packers {
    /// Lends a compressor of this number; none if there is no such strategy.
    fn with<R>(&self, number: u8, work: impl FnOnce(&mut dyn Compress) -> R) -> Option<R> {
        let mut packer = {
            let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            match idle.iter().position(|(has, _)| *has == number) {
                Some(at) => idle.swap_remove(at).1,
                None => (waypost_compress::by_number(number)?.new)(),
            }
        };
        let result = work(packer.as_mut());
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < PACKERS_MAX {
            idle.push((number, packer));
        }
        Some(result)
    }
}

/// What names the encryption of new segments in their headers.
pub(crate) fn encryption(key: Option<&Arc<MasterKey>>) -> (u8, KeyId) {
    match key {
        Some(key) => (key.strategy().number, key.id()),
        None => (0, KeyId([0; 8])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cipher(key: Option<&Arc<MasterKey>>) -> Cipher {
        let (encrypt, key_id) = encryption(key);
        let sealing = Sealing {
            number: 3,
            salt: [5; 32],
            encrypt,
            key: key_id,
        };
        Cipher::new(&sealing, "file", key).unwrap()
    }

    /// Goal: a block that unpacks to more than it says, or says more than any may hold, is refused within the memory of
    /// what it says. Method: for every strategy a block of zeros whose header is written anew, checksums and tag included,
    /// as only damage nobody can detect, or whoever has the key, could.
    #[test]
    fn a_bomb_in_a_block_is_refused_for_every_strategy() {
        let packers = Packers::default();
        let mut keys: Vec<_> = waypost_encrypt::at_rest()
            .map(|strategy| Some(Arc::new(MasterKey::new([7; 32]).with_strategy(strategy))))
            .collect();
        keys.push(None);
        let plain = vec![0; 128 << 10];
        for key in &keys {
            let cipher = cipher(key.as_ref());
            for strategy in waypost_compress::registry() {
                for claimed in [1000, BLOCK_BYTES_MAX + 1, plain.len()] {
                    let mut packed = Vec::new();
                    (strategy.new)().compress(&plain, &mut packed).unwrap();
                    let mut header = BlockHeader::of(RECORDS, 9, 0, 0);
                    header.segment = 3;
                    header.compress = strategy.number;
                    header.plain = u32::try_from(claimed).unwrap();
                    let tag = if key.is_some() { TAG_BYTES } else { 0 };
                    header.stored = u32::try_from(packed.len() + tag).unwrap();
                    if let Some(encrypt) = &cipher.encrypt {
                        let tag = encrypt
                            .seal_in_place(Nonce::numbered(9), &header.fields(), &mut packed)
                            .unwrap();
                        packed.extend_from_slice(&tag.0);
                    }
                    header.sum = crc32c::crc32c_append(cipher.content_seed, &packed);
                    let opened = cipher.open(&header, &mut packed, &packers);
                    let name = strategy.name;
                    if claimed == plain.len() {
                        assert!(opened.unwrap() == plain, "{name}");
                    } else {
                        assert!(opened.is_err(), "{name} as {claimed}");
                    }
                }
            }
        }
    }
}
