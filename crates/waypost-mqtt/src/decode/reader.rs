//! A place in a packet, from which fields are taken one after another.

use std::str;

use super::properties;
use crate::error::DecodeError;
use crate::property::Properties;
use crate::property::table::Place;
use crate::protocol::{PacketId, PacketType, ProtocolVersion, Role};
use crate::reason::ReasonCode;
use crate::rules::{self, Rule};
use crate::topic;

/// What is left of a packet.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
    /// Bytes of the whole packet, so that offsets count from its first byte.
    packet_len: usize,
    pub packet: PacketType,
    /// Nothing while a CONNECT has not said it yet.
    pub version: Option<ProtocolVersion>,
    pub sender: Role,
}

impl<'a> Reader<'a> {
    /// A reader of the whole packet behind its fixed header.
    #[inline]
    pub(super) fn new(
        body: &'a [u8],
        header_len: usize,
        packet: PacketType,
        version: Option<ProtocolVersion>,
        sender: Role,
    ) -> Self {
        Self {
            rest: body,
            packet_len: header_len + body.len(),
            packet,
            version,
            sender,
        }
    }

    /// Offset of the next field.
    #[inline]
    pub(super) fn offset(&self) -> usize {
        self.packet_len - self.rest.len()
    }

    #[inline]
    pub(super) fn is_v5(&self) -> bool {
        self.version == Some(ProtocolVersion::V5)
    }

    #[inline]
    pub(super) fn is_v31(&self) -> bool {
        self.version == Some(ProtocolVersion::V31)
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// What is left, without taking it.
    #[inline]
    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The breach of a rule by the field at `offset`.
    #[cold]
    pub(super) fn error(&self, offset: usize, field: &'static str, rule: &Rule) -> DecodeError {
        DecodeError::new(offset, Some(self.packet), field, rule, self.version)
    }

    /// That the next field is not all there.
    #[cold]
    pub(super) fn truncated(&self, field: &'static str) -> DecodeError {
        self.error(self.offset(), field, &rules::TRUNCATED)
    }

    /// A reader of the next `len` bytes alone, which are taken.
    #[inline]
    pub(super) fn split(&mut self, len: usize, field: &'static str) -> Result<Self, DecodeError> {
        let offset = self.offset();
        let Some((part, rest)) = self.rest.split_at_checked(len) else {
            return Err(self.truncated(field));
        };
        self.rest = rest;
        Ok(Self {
            rest: part,
            packet_len: offset + len,
            ..*self
        })
    }

    #[inline]
    pub(super) fn bytes(
        &mut self,
        len: usize,
        field: &'static str,
    ) -> Result<&'a [u8], DecodeError> {
        self.split(len, field).map(|part| part.rest)
    }

    #[inline]
    pub(super) fn byte(&mut self, field: &'static str) -> Result<u8, DecodeError> {
        let Some((&byte, rest)) = self.rest.split_first() else {
            return Err(self.truncated(field));
        };
        self.rest = rest;
        Ok(byte)
    }

    #[inline]
    pub(super) fn two_bytes(&mut self, field: &'static str) -> Result<u16, DecodeError> {
        let Some((bytes, rest)) = self.rest.split_first_chunk() else {
            return Err(self.truncated(field));
        };
        self.rest = rest;
        Ok(u16::from_be_bytes(*bytes))
    }

    /// Binary Data, or the bytes of a string. On error nothing is taken, so that the offset is that
    /// of the length before it.
    #[inline]
    pub(super) fn binary(&mut self, field: &'static str) -> Result<&'a [u8], DecodeError> {
        let Some((len, rest)) = self.rest.split_first_chunk() else {
            return Err(self.truncated(field));
        };
        let Some((bytes, rest)) = rest.split_at_checked(usize::from(u16::from_be_bytes(*len)))
        else {
            return Err(self.truncated(field));
        };
        self.rest = rest;
        Ok(bytes)
    }

    /// A UTF-8 Encoded String.
    #[inline]
    pub(super) fn text(&mut self, field: &'static str) -> Result<&'a str, DecodeError> {
        let offset = self.offset();
        let text = self.utf8(field)?;
        if text.as_bytes().contains(&0) {
            return Err(self.error(offset, field, &rules::UTF8_NULL));
        }
        Ok(text)
    }

    /// A Topic Name, or an empty string.
    #[inline]
    pub(super) fn topic_name(&mut self, field: &'static str) -> Result<&'a str, DecodeError> {
        let offset = self.offset();
        let text = self.utf8(field)?;
        if topic::is_plain(text.as_bytes()) {
            return Ok(text);
        }
        let rule = if text.contains('\0') {
            &rules::UTF8_NULL
        } else {
            &rules::TOPIC_WILDCARD
        };
        Err(self.error(offset, field, rule))
    }

    #[inline]
    fn utf8(&mut self, field: &'static str) -> Result<&'a str, DecodeError> {
        let offset = self.offset();
        let bytes = self.binary(field)?;
        // UTF-8 as Rust knows it has no surrogates and no overlong forms.
        str::from_utf8(bytes).map_err(|_| self.error(offset, field, &rules::UTF8))
    }

    #[inline]
    pub(super) fn packet_id(&mut self) -> Result<PacketId, DecodeError> {
        const FIELD: &str = "Packet Identifier";
        let offset = self.offset();
        let value = self.two_bytes(FIELD)?;
        PacketId::new(value).ok_or_else(|| {
            let rule = match self.packet {
                PacketType::Publish if self.sender == Role::Server => &rules::SERVER_PACKET_ID_ZERO,
                PacketType::Publish | PacketType::Subscribe | PacketType::Unsubscribe => {
                    &rules::CLIENT_PACKET_ID_ZERO
                }
                PacketType::SubAck | PacketType::UnsubAck => &rules::SUBACK_PACKET_ID_ZERO,
                _ => &rules::ACK_PACKET_ID_ZERO,
            };
            self.error(offset, FIELD, rule)
        })
    }

    /// The properties with their length; none in version 3.
    #[inline]
    pub(super) fn properties(&mut self, place: Place) -> Result<Properties<'a>, DecodeError> {
        if !self.is_v5() {
            return Ok(Properties::EMPTY);
        }
        if let Some((0, rest)) = self.rest.split_first() {
            self.rest = rest;
            return Ok(Properties::EMPTY);
        }
        properties::decode(self, place)
    }

    /// The properties with their length, or none when nothing is left.
    pub(super) fn properties_or_end(
        &mut self,
        place: Place,
    ) -> Result<Properties<'a>, DecodeError> {
        if self.is_empty() {
            return Ok(Properties::EMPTY);
        }
        self.properties(place)
    }

    /// A Reason Code that this packet may have from this sender; `unlisted` is broken otherwise.
    pub(super) fn reason(
        &mut self,
        field: &'static str,
        unlisted: &Rule,
    ) -> Result<ReasonCode, DecodeError> {
        let offset = self.offset();
        let byte = self.byte(field)?;
        ReasonCode::try_from(byte)
            .ok()
            .filter(|reason| reason.is_valid_in(self.packet, self.sender))
            .ok_or_else(|| self.error(offset, field, unlisted))
    }

    /// That nothing is left.
    #[inline]
    pub(super) fn finish(&self) -> Result<(), DecodeError> {
        if self.is_empty() {
            return Ok(());
        }
        Err(self.error(self.offset(), "contents", &rules::TRAILING))
    }
}
