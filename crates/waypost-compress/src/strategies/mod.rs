//! The strategies, one file each.

mod identity;
mod lz4;
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
        lz4::STRATEGY,
        zstandard::STRATEGY,
        zstd_dict::STRATEGY,
    ]
}

/// The strategy with this number; none if a later version wrote it.
pub fn by_number(number: u8) -> Option<&'static Strategy> {
    registry().iter().find(|strategy| strategy.number == number)
}
