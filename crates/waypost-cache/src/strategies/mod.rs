//! The strategies, one file each.

mod arc;
mod auto;
mod fifo;
mod frequency;
mod lfu;
mod lru;
mod lru_lfu;
mod mfu;
mod s3_fifo;
mod sieve;
mod sketch;
#[cfg(test)]
mod testing;
mod w_tinylfu;

use crate::Strategy;

/// The strategy where nobody chose one.
pub fn default_strategy() -> &'static Strategy {
    &lru::STRATEGY
}

/// Every cache strategy there is.
pub fn registry() -> &'static [Strategy] {
    REGISTRY
}

const REGISTRY: &[Strategy] = &[
    lru::STRATEGY,
    fifo::STRATEGY,
    lfu::STRATEGY,
    mfu::STRATEGY,
    lru_lfu::STRATEGY,
    arc::STRATEGY,
    sieve::STRATEGY,
    s3_fifo::STRATEGY,
    w_tinylfu::STRATEGY,
    auto::STRATEGY,
];

/// Those that `auto` chooses among: all before it.
const OTHERS: &[Strategy] = REGISTRY.split_at(REGISTRY.len() - 1).0;
