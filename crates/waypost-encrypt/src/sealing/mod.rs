//! Messages sealed from end to end: COSE envelopes (RFC 9052), as docs/sealing-format.md describes them.

mod structure;

pub use structure::{HEADER_LABELS_MAX, NotSealed, RECIPIENTS_MAX, check_sealed};
