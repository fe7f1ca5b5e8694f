//! AES-256 in cipher block chaining, then HMAC-SHA-256 over all of it: what peers have who have no authenticated cipher. The
//! MAC is checked first; keys for both are derived from the shared one (`sealing/block.rs`).

use crate::{Strategy, Use};

pub(super) const STRATEGY: Strategy = Strategy {
    name: "aes",
    aliases: &[
        "aes-cbc",
        "aes-256-cbc",
        "aes-cbc-hmac",
        "advanced-encryption-standard",
    ],
    uses: &[Use::Sealing],
    summary: "AES-256-CBC, then HMAC: for peers without an authenticated cipher; aes-gcm is faster and shorter",
    source: "RFC 9459, RFC 9053 (HMAC 256/256); RustCrypto and AWS-LC",
    at_rest: None,
};
