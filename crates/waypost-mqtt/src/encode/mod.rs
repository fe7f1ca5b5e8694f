//! From packets to bytes.

mod publish;

pub use publish::{PublishHead, encode_publish_head, publish_len};

use crate::packet::Packet;
use crate::protocol::ProtocolVersion;

/// Appends `packet` to `out` as `version` writes it.
///
/// A version 3 encoder leaves out what its version cannot say: properties, reasons of
/// acknowledgements, Subscription Options but the QoS. It writes nothing at all for an AUTH, for a
/// DISCONNECT of a server (any DISCONNECT whose reason is an error) and for a CONNACK whose reason
/// has no return code; a failure in a SUBACK becomes 0x80. CONNECT is written in its own version.
pub fn encode(_packet: &Packet<'_>, _version: ProtocolVersion, _out: &mut Vec<u8>) {}
