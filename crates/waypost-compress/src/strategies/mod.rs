//! The strategies, one file each.

mod arithmetic;
pub mod auto;
mod brotli;
mod huffman;
mod identity;
mod lz4;
mod lz77;
mod lz78;
mod rle;
mod zstandard;
pub mod zstd_dict;

use crate::Strategy;

/// The strategy where nobody chose one: it costs next to nothing and halves what is text.
pub fn default_strategy() -> &'static Strategy {
    &lz4::STRATEGY
}

/// Every compress strategy there is.
pub fn registry() -> &'static [Strategy] {
    &[
        identity::STRATEGY,
        rle::STRATEGY,
        huffman::STRATEGY,
        arithmetic::STRATEGY,
        lz77::STRATEGY,
        lz78::STRATEGY,
        lz4::STRATEGY,
        zstandard::STRATEGY,
        zstd_dict::STRATEGY,
        brotli::STRATEGY,
        auto::STRATEGY,
    ]
}

/// The strategy with this number; none if a later version wrote it.
pub fn by_number(number: u8) -> Option<&'static Strategy> {
    registry().iter().find(|strategy| strategy.number == number)
}
