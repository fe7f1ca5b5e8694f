//! Triple DES in cipher block chaining, then HMAC-SHA-256: obsolete since 2024 (NIST SP 800-131A), for peers of long ago only.
//! Its blocks have 8 bytes: a key seals 2^20 of them and no more (`sealing/block.rs`, `keys/symmetric.rs`).

use crate::{Strategy, Use};

pub(super) const STRATEGY: Strategy = Strategy {
    name: "des",
    aliases: &[
        "3des",
        "tdes",
        "triple-des",
        "des-ede3",
        "data-encryption-standard",
    ],
    uses: &[Use::Sealing],
    summary: "3DES-CBC, then HMAC: obsolete, refused unless legacy = true; 8 MiB a key at most",
    source: "NIST SP 800-67; by RustCrypto; no number of COSE's",
    at_rest: None,
};
