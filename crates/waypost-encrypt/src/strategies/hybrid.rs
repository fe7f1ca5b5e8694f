//! A random key for the content, wrapped for each of several recipients by what their keys can do: ECDH-ES with AES key wrap,
//! or RSA-OAEP (`sealing/recipient.rs`).

use crate::{Strategy, Use};

pub(super) const STRATEGY: Strategy = Strategy {
    name: "hybrid",
    aliases: &["hybrid-encryption", "ecies"],
    uses: &[Use::KeyAgreement],
    summary: "a random content key, wrapped for each of several recipients, P-256, X25519 and RSA mixed",
    source: "RFC 9053 (6.4: ECDH-ES+A256KW), RFC 8230; by AWS-LC",
    at_rest: None,
};
