//! The strategies, one file each.

mod round_robin;

use crate::Strategy;

/// Every balance strategy there is.
pub fn registry() -> &'static [Strategy] {
    &[round_robin::STRATEGY]
}
