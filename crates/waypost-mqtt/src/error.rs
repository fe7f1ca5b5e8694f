//! What a decoder says about bytes that are no packet.

use std::fmt;

use crate::protocol::{PacketType, ProtocolVersion};
use crate::reason::ReasonCode;
use crate::rules::Rule;

/// The kind of a [`DecodeError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DecodeErrorKind {
    /// The packet cannot be parsed (Malformed Packet, 5 §1.2).
    Malformed,
    /// It can be parsed and says what the protocol does not allow (Protocol Error, 5 §1.2).
    Protocol,
    /// A CONNECT for a protocol or a version that this crate does not speak.
    Unsupported,
}

/// Why bytes are no packet: where, in which field, against which statement, and what to answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct DecodeError {
    /// Offset of the field in the packet, its first byte being 0.
    pub offset: usize,
    /// The type of the packet; nothing for the reserved type 0.
    pub packet: Option<PacketType>,
    /// The field, in the standard's words.
    pub field: &'static str,
    /// What is wrong with it: a phrase that follows the field's name.
    pub problem: &'static str,
    /// The broken statement with its version, as in `5 [MQTT-1.5.4-1]`, or a section where the
    /// standard gave it no number.
    pub rule: &'static str,
    /// What a DISCONNECT or CONNACK of version 5 says about it.
    pub reason: ReasonCode,
    /// What kind of error it is.
    pub kind: DecodeErrorKind,
    /// For a broken CONNECT: the version in whose form a CONNACK with `reason` may be sent before
    /// the connection closes. Nothing when the standard wants it closed without a word, and for
    /// every other packet.
    pub connack: Option<ProtocolVersion>,
}

impl DecodeError {
    /// A breach of `rule`; `version` is nothing while it is not known.
    #[cold]
    pub(crate) fn new(
        offset: usize,
        packet: Option<PacketType>,
        field: &'static str,
        rule: &Rule,
        version: Option<ProtocolVersion>,
    ) -> Self {
        let is_v5 = version == Some(ProtocolVersion::V5);
        let text = match version {
            _ if rule.v3.is_empty() => rule.v5,
            Some(ProtocolVersion::V31 | ProtocolVersion::V311) => rule.v3,
            _ => rule.v5,
        };
        Self {
            offset,
            packet,
            field,
            problem: rule.problem,
            rule: text,
            reason: rule.reason,
            kind: rule.kind,
            // 5 §3.1.4: a CONNACK may precede the close; 3.1.1 [MQTT-3.1.4-1]: it must not.
            connack: (is_v5 && packet == Some(PacketType::Connect)).then_some(ProtocolVersion::V5),
        }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let packet = self.packet.map_or("packet", PacketType::name);
        write!(
            f,
            "{packet}: {} at offset {} {} ({})",
            self.field, self.offset, self.problem, self.rule
        )
    }
}
