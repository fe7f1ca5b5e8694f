//! The strategies, one file each.

mod aes;
mod aes_ccm;
mod aes_gcm;
pub mod auto;
mod chacha20_poly1305;
mod des;
mod ecc;
mod hybrid;
mod rsa;

use crate::{AtRest, Strategy};

/// The strategy where nobody chose one: every processor of the last decade has instructions for it.
pub fn default_strategy() -> &'static AtRest {
    &aes_gcm::AT_REST
}

/// Every encrypt strategy there is.
pub fn registry() -> &'static [Strategy] {
    &[
        aes::STRATEGY,
        aes_gcm::STRATEGY,
        aes_ccm::STRATEGY,
        chacha20_poly1305::STRATEGY,
        rsa::STRATEGY,
        ecc::STRATEGY,
        hybrid::STRATEGY,
        des::STRATEGY,
        auto::STRATEGY,
    ]
}

/// What is at work at rest under this number; none if a later version wrote it, or for 0, which stands for "not encrypted".
pub fn by_number(number: u8) -> Option<&'static AtRest> {
    at_rest().find(|strategy| strategy.number == number)
}

/// What can be at work at rest.
pub fn at_rest() -> impl Iterator<Item = &'static AtRest> {
    registry().iter().filter_map(|strategy| strategy.at_rest)
}
