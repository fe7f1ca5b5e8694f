//! From bytes to packets.

use crate::error::DecodeError;
use crate::packet::Packet;
use crate::protocol::{ProtocolVersion, Role};
use crate::rules;

/// Decodes exactly one whole packet, sent by `sender`. `version` is that of the connection; it
/// does not matter to a CONNECT, which states its own.
pub fn decode(
    _packet: &[u8],
    version: ProtocolVersion,
    _sender: Role,
) -> Result<Packet<'_>, DecodeError> {
    Err(DecodeError::new(
        0,
        None,
        "type",
        &rules::TYPE_UNKNOWN,
        Some(version),
    ))
}
