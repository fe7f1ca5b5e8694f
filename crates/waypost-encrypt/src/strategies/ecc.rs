//! Diffie and Hellman on P-256 or Curve25519, with a fresh key for each message: what is agreed is the content's key, by way
//! of HKDF (`sealing/recipient.rs`). One recipient; several are `hybrid`.

use crate::{Strategy, Use};

pub(super) const STRATEGY: Strategy = Strategy {
    name: "ecc",
    aliases: &["ecdh", "ecdh-es", "elliptic-curve-cryptography"],
    uses: &[Use::KeyAgreement],
    summary: "ECDH-ES on P-256 or X25519, HKDF: one recipient, known by a public key",
    source: "RFC 9053 (6.3), RFC 7748; by AWS-LC",
    at_rest: None,
};
