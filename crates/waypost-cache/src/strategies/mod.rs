//! The strategies, one file each.

mod lru;

use crate::Strategy;

/// The strategy where nobody chose one.
pub fn default_strategy() -> &'static Strategy {
    &lru::STRATEGY
}

/// Every cache strategy there is.
pub fn registry() -> &'static [Strategy] {
    &[lru::STRATEGY]
}
