//! Several strategies one after the other: `lz77+huffman`, in `content-encoding` `deflate, waypost-huffman`.
//!
//! The first is applied first, as HTTP lists them (RFC 9110, 8.4), and undone last. Each stage's output is the next one's
//! input, whole and framed as it would be alone.

use std::fmt;

use crate::{Compress, CompressError, DecompressError, Strategy, UnknownStrategy};

/// Stages of one packing at most: a method for repetitions, one for what is left of them, and one to spare.
pub const STAGES_MAX: usize = 3;

/// One to [`STAGES_MAX`] strategies, the first applied first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stages(Vec<&'static Strategy>);

/// Why strategies are not stages of one packing.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum StagesError {
    /// A name that no strategy has.
    #[error(transparent)]
    Unknown(#[from] UnknownStrategy),
    /// A content-encoding that no strategy has.
    #[error(
        "there is no compress strategy for content-encoding {encoding:?}; there are: {}",
        encodings().join(", ")
    )]
    UnknownEncoding {
        /// What was asked for.
        encoding: String,
    },
    /// None, or more than [`STAGES_MAX`].
    #[error("{count} stages: one to {STAGES_MAX} are combined, such as lz77+huffman")]
    Count {
        /// How many there were.
        count: usize,
    },
    /// One of them twice: what it left, it would leave again.
    #[error("{name} stands there twice; each of the stages is another, of: {}", combined().join(", "))]
    Twice {
        /// Which.
        name: &'static str,
    },
    /// One that goes with no other.
    #[error("{name} goes with no other stage; these do: {}", combined().join(", "))]
    Alone {
        /// Which.
        name: &'static str,
    },
    /// One that another must not come before: its dictionary is made of bytes as they were sent, and finds nothing in
    /// what was packed already.
    #[error("{name} is the first stage or none; behind it stand: {}", behind().join(", "))]
    NotFirst {
        /// Which.
        name: &'static str,
    },
}

/// Does nothing beside another, or chooses for itself what to do.
fn is_alone(strategy: &Strategy) -> bool {
    matches!(strategy.name, "identity" | "auto")
}

/// Works on bytes as they were sent.
fn is_first(strategy: &Strategy) -> bool {
    strategy.name == "zstd-dict"
}

fn encodings() -> Vec<&'static str> {
    crate::registry().iter().map(|row| row.encoding).collect()
}

fn combined() -> Vec<&'static str> {
    let rows = crate::registry().iter().filter(|row| !is_alone(row));
    rows.map(|row| row.name).collect()
}

fn behind() -> Vec<&'static str> {
    let rows = crate::registry().iter();
    let rows = rows.filter(|row| !is_alone(row) && !is_first(row));
    rows.map(|row| row.name).collect()
}

impl Stages {
    /// These strategies, the first applied first.
    pub fn new(strategies: Vec<&'static Strategy>) -> Result<Self, StagesError> {
        let count = strategies.len();
        if !(1..=STAGES_MAX).contains(&count) {
            return Err(StagesError::Count { count });
        }
        for (at, strategy) in strategies.iter().enumerate() {
            let name = strategy.name;
            if count > 1 && is_alone(strategy) {
                return Err(StagesError::Alone { name });
            }
            if strategies.iter().take(at).any(|before| before == strategy) {
                return Err(StagesError::Twice { name });
            }
            if at > 0 && is_first(strategy) {
                return Err(StagesError::NotFirst { name });
            }
        }
        Ok(Self(strategies))
    }

    /// Reads names with `+` between them, as configuration has them.
    pub fn parse(text: &str) -> Result<Self, StagesError> {
        let names = text.split('+').map(|name| crate::find(name.trim()));
        Self::new(names.collect::<Result<_, _>>()?)
    }

    /// Reads the value of `content-encoding`: names with commas between them, in the order in which they were applied.
    pub fn from_content_encoding(value: &str) -> Result<Self, StagesError> {
        let encodings = value.split(',').map(|encoding| {
            let encoding = encoding.trim_matches([' ', '\t']);
            crate::find_encoding(encoding).ok_or_else(|| StagesError::UnknownEncoding {
                encoding: encoding.chars().take(64).collect(),
            })
        });
        Self::new(encodings.take(STAGES_MAX + 1).collect::<Result<_, _>>()?)
    }

    /// The value of `content-encoding` that says how to undo them.
    pub fn content_encoding(&self) -> String {
        let encodings: Vec<_> = self.0.iter().map(|row| row.encoding).collect();
        encodings.join(", ")
    }

    /// The strategies, the first applied first.
    pub fn strategies(&self) -> &[&'static Strategy] {
        &self.0
    }

    /// Makes one of each, for many calls.
    pub fn at_work(&self) -> StagesAtWork {
        self.at_work_with(|strategy| (strategy.new)())
    }

    /// As [`Stages::at_work`]; `make` makes each, and may give one a dictionary.
    pub fn at_work_with(
        &self,
        make: impl FnMut(&'static Strategy) -> Box<dyn Compress>,
    ) -> StagesAtWork {
        StagesAtWork {
            stages: self.0.iter().copied().map(make).collect(),
            packed: Vec::new(),
            unpacked: Vec::new(),
        }
    }

    /// Appends `input`, packed by one stage after the other, to `into`; for one call, see [`Stages::at_work`].
    pub fn compress(&self, input: &[u8], into: &mut Vec<u8>) -> Result<(), CompressError> {
        self.at_work().compress(input, into)
    }

    /// Appends what `packed` holds to `into`, at most `limit` bytes; for one call, see [`Stages::at_work`].
    pub fn decompress(
        &self,
        packed: &[u8],
        limit: usize,
        into: &mut Vec<u8>,
    ) -> Result<(), DecompressError> {
        self.at_work().decompress(packed, limit, into)
    }
}

impl fmt::Display for Stages {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.0.iter().map(|row| row.name).collect();
        formatter.write_str(&names.join("+"))
    }
}

/// Stages at work. Between two of them the bytes wait in memory; 1 MiB of it is kept for the next call.
pub struct StagesAtWork {
    stages: Vec<Box<dyn Compress>>,
    packed: Vec<u8>,
    unpacked: Vec<u8>,
}

impl fmt::Debug for StagesAtWork {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} stages at work", self.stages.len())
    }
}

/// Memory between stages that outlives a call.
const KEPT_BYTES: usize = 1 << 20;

/// What may be between stages when `limit` bytes may come out: the worst that a strategy makes of its input is twice as
/// much (16 bits of `lz78` for each byte) and a header. A bomb that is another's payload is refused there.
fn between_max(limit: usize) -> usize {
    limit.saturating_mul(2).saturating_add(1024)
}

impl StagesAtWork {
    /// Calls `stage` for each of the stages but the last, from one buffer into the other; the last goes `into`.
    fn chain<'a, E>(
        stages: impl Iterator<Item = &'a mut Box<dyn Compress>>,
        buffers: (&mut Vec<u8>, &mut Vec<u8>),
        input: &[u8],
        into: &mut Vec<u8>,
        mut step: impl FnMut(&mut dyn Compress, &[u8], bool, &mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        let (mut from, mut to) = buffers;
        let mut stages = stages.peekable();
        let mut is_first = true;
        let mut outcome = Ok(());
        while let (Some(stage), Ok(())) = (stages.next(), &outcome) {
            let input = if is_first { input } else { from.as_slice() };
            if stages.peek().is_none() {
                outcome = step(stage.as_mut(), input, true, into);
            } else {
                to.clear();
                outcome = step(stage.as_mut(), input, false, to);
                std::mem::swap(&mut from, &mut to);
            }
            is_first = false;
        }
        for buffer in [from, to] {
            if buffer.capacity() > KEPT_BYTES {
                *buffer = Vec::new();
            }
        }
        outcome
    }
}

impl Compress for StagesAtWork {
    fn compress(&mut self, input: &[u8], into: &mut Vec<u8>) -> Result<(), CompressError> {
        Self::chain(
            self.stages.iter_mut(),
            (&mut self.packed, &mut self.unpacked),
            input,
            into,
            |stage, input, _, into| stage.compress(input, into),
        )
    }

    fn decompress(
        &mut self,
        packed: &[u8],
        limit: usize,
        into: &mut Vec<u8>,
    ) -> Result<(), DecompressError> {
        let between = between_max(limit);
        let outcome = Self::chain(
            self.stages.iter_mut().rev(),
            (&mut self.packed, &mut self.unpacked),
            packed,
            into,
            |stage, packed, is_last, into| {
                stage.decompress(packed, if is_last { limit } else { between }, into)
            },
        );
        match outcome {
            Err(DecompressError::TooLong { .. }) => Err(DecompressError::TooLong { limit }),
            outcome => outcome,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_are_read_and_named() {
        let check = |text: &str, encoding: &str| {
            let stages = Stages::parse(text).unwrap();
            assert_eq!(stages.content_encoding(), encoding);
            assert_eq!(
                Stages::from_content_encoding(encoding).as_ref(),
                Ok(&stages)
            );
            assert_eq!(Stages::parse(&stages.to_string()), Ok(stages));
        };
        check("identity", "identity");
        check("Z-Standard", "zstd");
        check("lz4 + zstd", "waypost-lz4, zstd");
        let stages = Stages::from_content_encoding("WAYPOST-lz4 ,\tZstd").unwrap();
        assert_eq!(stages.to_string(), "lz4+zstd");
    }

    #[test]
    fn what_does_not_go_together_is_refused_with_what_does() {
        let check = |text: &str, part: &str| {
            let error = Stages::parse(text).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        };
        check("", "did you mean");
        check("lz4+", "did you mean");
        check("zstd+lz4+zstd", "zstd stands there twice");
        check("lz4+none", "identity goes with no other stage; these do: ");
        let row = crate::find("lz4").unwrap();
        for count in [0, STAGES_MAX + 1, 2 * STAGES_MAX] {
            assert_eq!(
                Stages::new(vec![row; count]),
                Err(StagesError::Count { count })
            );
        }
        let error = Stages::from_content_encoding("zstd, gzip").unwrap_err();
        let said = "no compress strategy for content-encoding \"gzip\"; there are: identity, ";
        assert!(error.to_string().contains(said), "{error}");
    }

    /// Goal: a limit holds for what is between stages too. Method: a bomb inside a packet that is small, and the buffers
    /// afterwards.
    #[test]
    fn a_bomb_in_a_parcel_is_refused_before_it_takes_memory() {
        let stages = Stages::parse("lz4+zstd").unwrap();
        let limit = 1000;
        let (mut inner, mut bomb) = (Vec::new(), Vec::new());
        let lz4 = crate::find("lz4").unwrap();
        (lz4.new)()
            .compress(&vec![0; 64 << 20], &mut inner)
            .unwrap();
        let zstd = crate::find("zstd").unwrap();
        (zstd.new)().compress(&inner, &mut bomb).unwrap();
        let mut at_work = stages.at_work();
        let mut into = b"kept".to_vec();
        let outcome = at_work.decompress(&bomb, limit, &mut into);
        assert_eq!(outcome, Err(DecompressError::TooLong { limit }));
        assert_eq!(into, b"kept");
        for buffer in [&at_work.packed, &at_work.unpacked] {
            assert!(buffer.capacity() <= 2 * limit + 1024);
        }
    }

    #[test]
    fn large_buffers_do_not_outlive_a_call() {
        let mut at_work = Stages::parse("lz4+zstd").unwrap().at_work();
        let noise: Vec<u8> = (0..3_000_000_u32)
            .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
            .collect();
        let (mut packed, mut unpacked) = (Vec::new(), Vec::new());
        at_work.compress(&noise, &mut packed).unwrap();
        at_work
            .decompress(&packed, noise.len(), &mut unpacked)
            .unwrap();
        assert!(unpacked == noise);
        assert!(at_work.packed.capacity() + at_work.unpacked.capacity() <= 2 * KEPT_BYTES);
    }
}
