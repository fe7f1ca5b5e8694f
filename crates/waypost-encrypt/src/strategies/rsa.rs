//! RSA with OAEP and SHA-256: it wraps the content's key for each recipient (`sealing/recipient.rs`). For owners of RSA keys:
//! nothing else speaks for it, and whoever gets the private key later reads everything that was ever sealed to it.

use crate::{Strategy, Use};

pub(super) const STRATEGY: Strategy = Strategy {
    name: "rsa",
    aliases: &["rsa-oaep", "rsa-oaep-256", "rivest-shamir-adleman"],
    uses: &[Use::KeyAgreement],
    summary: "RSA-OAEP-256 wraps a content key for each recipient: for who has RSA keys already",
    source: "RFC 8017, RFC 8230; by AWS-LC",
    at_rest: None,
};
