//! Messages sealed from end to end: COSE envelopes (RFC 9052), as docs/sealing-format.md describes them.
//!
//! [`seal`] writes one, [`open`] reads it; [`check_sealed`] needs no key. Deliberately not here: which message goes where, and
//! whose keys are whose.

mod aead;
mod block;
mod cbor;
mod header;
mod open;
mod recipient;
mod repeat;
mod seal;
mod sign;
mod structure;
#[cfg(test)]
mod tests;

pub use aead::CCM_SHORT_BYTES_MAX;
pub use open::{Opened, OpeningError, Sender, open};
pub use repeat::{REMEMBERED_IDS, REMEMBERED_SENDERS, RepeatGuard, Repeated};
pub use seal::{Recipient, Sealing, SealingError, seal};
pub use structure::{HEADER_LABELS_MAX, NotSealed, RECIPIENTS_MAX, check_sealed};

pub(crate) use aead::{Aead, ReadyAead};
pub(crate) use block::{BlockCipher, ReadyBlock};

/// What tells a message from every other: 16 random bytes, under the seal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageId(pub [u8; 16]);

impl std::fmt::Display for MessageId {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0
            .iter()
            .try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}
