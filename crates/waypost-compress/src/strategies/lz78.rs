//! LZ78, as Welch's LZW: a table of phrases grows as the bytes are read, and each phrase is written as its number.
//!
//! Framing: a `.Z` file, which is what HTTP calls `compress` (RFC 9110, 8.4.1.1) and `gzip -d` opens. Three bytes: 1F 9D, then the
//! width of the widest code (16) and 0x80 for "code 256 empties the table". Then codes, the least significant bit first, at
//! first 9 bits wide. Codes below 256 are bytes; from 257 on each code but the first makes a phrase: the one before it and the first
//! byte of this one. The width grows by one bit when a number has been given that does not fit, up to the widest; then the
//! table stays as it is. Before another width, and behind code 256, the bits are filled with zeros to a multiple of eight
//! codes. Code 256 empties the table and makes codes 9 bits wide again. The end is the end of the bytes.
//!
//! Read: widest codes of 9 to 16 bits, with or without code 256. Written: 16, and code 256 when the table is full and has
//! saved less over the last 10,000 bytes than before.

use crate::unpacked::{Unpacked, unpack};
use crate::{Compress, CompressError, DecompressError, Strategy, check_length};

pub(super) const STRATEGY: Strategy = Strategy {
    name: "lz78",
    aliases: &["lzw", "compress"],
    number: 8,
    encoding: "compress",
    summary: "a table of phrases that grows as it reads; opens where nothing newer does",
    source: "Ziv and Lempel 1978, Welch 1984; the .Z format of compress",
    new: || Box::new(Lz78::default()),
};

const MAGIC: [u8; 2] = [0x1f, 0x9d];
/// What is written.
const HEADER: [u8; 3] = [MAGIC[0], MAGIC[1], HAS_CLEAR | 16];
/// In the third byte: code 256 empties the table.
const HAS_CLEAR: u8 = 0x80;
/// In the third byte: the width of the widest code.
const WIDTH: u8 = 0x1f;

const WIDTH_MIN: u32 = 9;
const WIDTH_MAX: u32 = 16;
/// Empties the table.
const CLEAR: u32 = 256;
/// Bytes from one look at what is saved to the next, once the table is full.
const LOOK_BYTES: usize = 10_000;

/// The phrases of the encoder, by the phrase before and the byte behind it; kept from call to call.
#[derive(Default)]
struct Lz78 {
    /// Generation, phrase before, byte, and the number of both: 24, 16, 8 and 16 bits.
    slots: Vec<u64>,
    /// Slots of another generation are empty, so that emptying the table is one addition.
    generation: u64,
}

const GENERATION_MAX: u64 = (1 << 24) - 1;

impl Lz78 {
    /// Makes the table empty, and large enough for what so many bytes can put there.
    fn begin(&mut self, input: usize) {
        let slots = (2 * input.min(1 << WIDTH_MAX)).next_power_of_two();
        if self.slots.len() < slots || self.generation == GENERATION_MAX {
            self.slots.clear();
            self.slots.resize(slots, 0);
            self.generation = 0;
        }
        self.generation += 1;
    }

    /// The number of `phrase` and `byte`; else the slot where it is to be put.
    fn find(&self, phrase: u32, byte: u8) -> Result<u32, usize> {
        let key = u64::from(phrase) << 8 | u64::from(byte);
        let mask = self.slots.len() - 1;
        let mut at = (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as usize & mask;
        let wanted = self.generation << 24 | key;
        loop {
            match self.slots.get(at) {
                Some(slot) if slot >> 16 == wanted => return Ok((slot & 0xffff) as u32),
                Some(slot) if slot >> 40 == self.generation => at = (at + 1) & mask,
                _ => return Err(at),
            }
        }
    }

    fn put(&mut self, at: usize, phrase: u32, byte: u8, number: u32) {
        if let Some(slot) = self.slots.get_mut(at) {
            *slot = self.generation << 40
                | u64::from(phrase) << 24
                | u64::from(byte) << 16
                | u64::from(number);
        }
    }
}

/// Codes on their way out.
struct Codes<'a> {
    into: &'a mut Vec<u8>,
    bits: u64,
    count: u32,
    width: u32,
    /// Codes of this width so far, modulo eight.
    in_group: u32,
}

impl Codes<'_> {
    fn put(&mut self, code: u32) {
        self.bits |= u64::from(code) << self.count;
        self.count += self.width;
        while self.count >= 8 {
            self.into.push((self.bits & 0xff) as u8);
            self.bits >>= 8;
            self.count -= 8;
        }
        self.in_group = (self.in_group + 1) % 8;
    }

    /// Fills up to eight codes; the next have another width.
    fn change(&mut self, width: u32) {
        while self.in_group != 0 {
            self.put(0);
        }
        self.width = width;
    }

    fn end(self) {
        if self.count > 0 {
            self.into.push((self.bits & 0xff) as u8);
        }
    }
}

impl Compress for Lz78 {
    fn compress(&mut self, input: &[u8], into: &mut Vec<u8>) -> Result<(), CompressError> {
        check_length(input)?;
        let before = into.len();
        into.extend_from_slice(&HEADER);
        let Some((&first, rest)) = input.split_first() else {
            return Ok(());
        };
        self.begin(input.len());
        let mut codes = Codes {
            into,
            bits: 0,
            count: 0,
            width: WIDTH_MIN,
            in_group: 0,
        };
        let mut phrase = u32::from(first);
        let mut next = CLEAR + 1;
        let (mut look_at, mut best) = (LOOK_BYTES, 0);
        for (at, &byte) in rest.iter().enumerate() {
            let slot = match self.find(phrase, byte) {
                Ok(longer) => {
                    phrase = longer;
                    continue;
                }
                Err(slot) => slot,
            };
            codes.put(phrase);
            if next >> codes.width != 0 && codes.width < WIDTH_MAX {
                codes.change(codes.width + 1);
            }
            let read = at + 1;
            if next >> WIDTH_MAX == 0 {
                self.put(slot, phrase, byte, next);
                next += 1;
            } else if read >= look_at {
                look_at = read + LOOK_BYTES;
                let saved = (read << 8) / (codes.into.len() - before);
                if saved >= best {
                    best = saved;
                } else {
                    best = 0;
                    codes.put(CLEAR);
                    codes.change(WIDTH_MIN);
                    self.begin(input.len());
                    next = CLEAR + 1;
                }
            }
            phrase = u32::from(byte);
        }
        codes.put(phrase);
        codes.end();
        Ok(())
    }

    fn decompress(
        &mut self,
        packed: &[u8],
        limit: usize,
        into: &mut Vec<u8>,
    ) -> Result<(), DecompressError> {
        let Some((&[first, second, kind], codes)) = packed.split_first_chunk() else {
            return Err(DecompressError::damaged(
                "shorter than the header of a .Z file",
            ));
        };
        let widest = u32::from(kind & WIDTH);
        if [first, second] != MAGIC {
            return Err(DecompressError::damaged("not a .Z file"));
        }
        if !(WIDTH_MIN..=WIDTH_MAX).contains(&widest) || kind & !(WIDTH | HAS_CLEAR) != 0 {
            return Err(DecompressError::damaged(
                "a kind of .Z file that nobody writes",
            ));
        }
        unpack(into, limit, |unpacked| {
            let reader = Reader {
                codes,
                at: 0,
                group_at: 0,
                width: WIDTH_MIN,
                widest,
            };
            reader.read_all(kind & HAS_CLEAR != 0, unpacked)
        })
    }
}

/// Codes on their way in; places are in bits.
struct Reader<'a> {
    codes: &'a [u8],
    at: usize,
    /// Where the codes of this width begin.
    group_at: usize,
    width: u32,
    widest: u32,
}

/// A phrase is where it first came out.
#[derive(Clone, Copy)]
struct Phrase {
    from: usize,
    count: usize,
}

impl Reader<'_> {
    /// The next code; none at the end.
    fn next(&mut self) -> Result<Option<u32>, DecompressError> {
        let bytes = self.codes.get(self.at / 8..).unwrap_or_default();
        let mut window = [0; 4];
        for (to, from) in window.iter_mut().zip(bytes) {
            *to = *from;
        }
        let bits = u32::from_le_bytes(window) >> (self.at % 8);
        let left = (8 * self.codes.len()).saturating_sub(self.at);
        if left < self.width as usize {
            return match left {
                0..8 if bits == 0 => Ok(None),
                _ => Err(DecompressError::damaged("it ends within a code")),
            };
        }
        self.at += self.width as usize;
        Ok(Some(bits & ((1 << self.width) - 1)))
    }

    fn change(&mut self, width: u32) {
        let group = 8 * self.width as usize;
        self.group_at += (self.at - self.group_at).next_multiple_of(group);
        self.at = self.group_at;
        self.width = width;
    }

    fn read_all(
        mut self,
        has_clear: bool,
        unpacked: &mut Unpacked<'_>,
    ) -> Result<(), DecompressError> {
        let first_number = if has_clear { CLEAR + 1 } else { CLEAR };
        let mut phrases: Vec<Phrase> = Vec::new();
        let mut last: Option<Phrase> = None;
        while let Some(code) = self.next()? {
            if has_clear && code == CLEAR {
                self.change(WIDTH_MIN);
                phrases.clear();
                last = None;
                continue;
            }
            let from = unpacked.len();
            let known = phrases.len();
            if let Ok(byte) = u8::try_from(code) {
                unpacked.push(byte)?;
            } else {
                let number = code.checked_sub(first_number).map(|it| it as usize);
                match (number, last) {
                    (Some(number), _) if number < known => {
                        let Some(phrase) = phrases.get(number) else {
                            return Err(DecompressError::damaged("a phrase that is not there"));
                        };
                        unpacked.again(phrase.from, phrase.count)?;
                    }
                    // The one that this very code makes: the last and its own first byte.
                    (Some(number), Some(last)) if number == known => {
                        unpacked.again(last.from, last.count)?;
                        let byte = unpacked.at(last.from).unwrap_or_default();
                        unpacked.push(byte)?;
                    }
                    _ => return Err(DecompressError::damaged("a phrase that is not there yet")),
                }
            }
            if let Some(last) = last
                && first_number as usize + known < 1 << self.widest
            {
                phrases.push(Phrase {
                    from: last.from,
                    count: last.count + 1,
                });
            }
            last = Some(Phrase {
                from,
                count: unpacked.len() - from,
            });
            let given = first_number as usize + phrases.len();
            if given >> self.width != 0 && self.width < self.widest {
                self.change(self.width + 1);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(plain: &[u8]) -> Vec<u8> {
        let mut into = Vec::new();
        Lz78::default().compress(plain, &mut into).unwrap();
        into
    }

    fn unpacked(packed: &[u8], limit: usize) -> Result<Vec<u8>, DecompressError> {
        let mut into = Vec::new();
        Lz78::default()
            .decompress(packed, limit, &mut into)
            .map(|()| into)
    }

    /// What `printf ababababa | compress` (ncompress 4.2.4.6) writes: a, b, then phrases 257, 259 and 98; the second of them
    /// is made by itself.
    #[test]
    fn a_file_of_compress_is_written_and_read() {
        let file = b"\x1f\x9d\x90\x61\xc4\x04\x1c\x28\x10";
        assert_eq!(packed(b"ababababa"), file);
        assert_eq!(unpacked(file, 9).unwrap(), b"ababababa");
        assert_eq!(packed(b""), b"\x1f\x9d\x90");
    }

    /// Goal: code 256 works both ways, in the middle of a group of eight. Method: a text, then noise, long enough for a full
    /// table that stops being of use.
    #[test]
    fn a_table_of_no_more_use_is_emptied() {
        let mut state = 1_u32;
        let noise = std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        });
        let mut plain = b"a text that is all too easy to pack, ".repeat(8_000);
        plain.extend((0..100_000_u32).flat_map(u32::to_le_bytes));
        plain.extend(noise.take(300_000));
        plain.extend(b"and another one ".repeat(4_000));
        let file = packed(&plain);
        let reader = || Reader {
            codes: &file[3..],
            at: 0,
            group_at: 0,
            width: WIDTH_MIN,
            widest: WIDTH_MAX,
        };
        assert_eq!(unpacked(&file, plain.len()).unwrap(), plain);
        let mut emptied = 0;
        let (mut reader, mut given, mut is_fresh) = (reader(), 257_usize, true);
        while let Some(code) = reader.next().unwrap() {
            if code == CLEAR {
                emptied += 1;
                reader.change(WIDTH_MIN);
                (given, is_fresh) = (257, true);
                continue;
            }
            given += usize::from(!is_fresh && given < 1 << WIDTH_MAX);
            is_fresh = false;
            if given >> reader.width != 0 && reader.width < WIDTH_MAX {
                reader.change(reader.width + 1);
            }
        }
        assert!(emptied > 0);
    }

    #[test]
    fn files_that_nobody_writes_are_refused() {
        let check = |file: &[u8], part: &str| {
            let error = unpacked(file, 100).unwrap_err().to_string();
            assert!(error.contains(part), "{file:?}: {error}");
        };
        check(b"\x1f\x9d", "shorter than the header");
        check(b"\x1f\x8b\x08", "not a .Z file");
        check(b"\x1f\x9d\x91", "that nobody writes");
        check(b"\x1f\x9d\x88", "that nobody writes");
        check(b"\x1f\x9d\xb0", "that nobody writes");
        check(b"\x1f\x9d\x90\x61", "within a code");
        check(b"\x1f\x9d\x90\x01\x01", "not there yet");
        check(b"\x1f\x9d\x90\x61\x04\x02", "not there yet");
    }

    /// A phrase may come again in the next, one byte longer: codes double what comes out faster than any declared length.
    #[test]
    fn a_bomb_ends_at_the_limit() {
        let file = packed(&vec![0; 16 << 20]);
        assert!(file.len() < 16 << 10, "{}", file.len());
        let mut into = Vec::new();
        let outcome = Lz78::default().decompress(&file, 70_000, &mut into);
        assert_eq!(outcome, Err(DecompressError::TooLong { limit: 70_000 }));
        assert!(into.capacity() <= 70_000);
    }
}
