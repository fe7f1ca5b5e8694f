//! The strategies, one file each.

mod aes_gcm;

use crate::Strategy;

/// The strategy where nobody chose one: every processor of the last decade has instructions for it.
pub fn default_strategy() -> &'static Strategy {
    &aes_gcm::STRATEGY
}

/// Every encrypt strategy there is.
pub fn registry() -> &'static [Strategy] {
    &[aes_gcm::STRATEGY]
}

/// The strategy with this number; none if a later version wrote it, or for 0, which stands for "not encrypted".
pub fn by_number(number: u8) -> Option<&'static Strategy> {
    registry().iter().find(|strategy| strategy.number == number)
}
