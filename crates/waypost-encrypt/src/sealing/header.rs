//! The protected header of this profile, and what of it is authenticated beside the content.

use coset::iana::EnumI64 as _;
use coset::{Algorithm, CborSerializable as _, Header, Label, RegisteredLabelWithPrivate};

use super::MessageId;
use super::cbor;
use super::structure::Parts;
use crate::KeyId;

/// Private labels of this profile (RFC 9052, 11.1: below -65536).
pub(super) const TOPIC: i64 = -65_537;
pub(super) const MESSAGE_ID: i64 = -65_538;
pub(super) const CONTENT_ENCODING: i64 = -65_539;
pub(super) const SIGNER: i64 = -65_540;
pub(super) const RECIPIENTS: i64 = -65_541;

/// Labels of RFC 9052.
pub(super) const ALGORITHM: i64 = 1;
pub(super) const KEY_ID: i64 = 4;
pub(super) const IV: i64 = 5;

/// The two headers of a structure, read.
pub(super) struct Headers<'a> {
    pub(super) protected: Header,
    /// The protected one as it stands there: what is authenticated.
    pub(super) encoded: &'a [u8],
    pub(super) unprotected: Header,
}

impl<'a> Headers<'a> {
    pub(super) fn of(parts: &Parts<'a>) -> Option<Self> {
        let protected = match parts.protected {
            [] => Header::default(),
            encoded => Header::from_slice(encoded).ok()?,
        };
        Some(Self {
            protected,
            encoded: parts.protected,
            unprotected: Header::from_slice(parts.unprotected).ok()?,
        })
    }

    /// Whether both have nothing critical but what is understood here, and that where it is protected.
    pub(super) fn are_understood(&self) -> bool {
        understands(&self.protected) && self.unprotected.crit.is_empty()
    }
}

/// What the outermost protected header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stated<'a> {
    pub(super) algorithm: i64,
    pub(super) topic: &'a str,
    pub(super) message_id: MessageId,
    pub(super) content_encoding: Option<&'a str>,
    pub(super) signer: Option<KeyId>,
}

impl Stated<'_> {
    /// The header, deterministically encoded.
    pub(super) fn encoded(&self) -> Vec<u8> {
        let encoding = self.content_encoding.unwrap_or_default();
        let mut header = Vec::with_capacity(64 + self.topic.len() + encoding.len());
        let optional = usize::from(self.content_encoding.is_some());
        let count = 3 + optional + usize::from(self.signer.is_some());
        cbor::map(&mut header, count);
        cbor::int(&mut header, ALGORITHM);
        cbor::int(&mut header, self.algorithm);
        cbor::int(&mut header, TOPIC);
        cbor::text(&mut header, self.topic);
        cbor::int(&mut header, MESSAGE_ID);
        cbor::bytes(&mut header, &self.message_id.0);
        if let Some(encoding) = self.content_encoding {
            cbor::int(&mut header, CONTENT_ENCODING);
            cbor::text(&mut header, encoding);
        }
        if let Some(signer) = self.signer {
            cbor::int(&mut header, SIGNER);
            cbor::bytes(&mut header, &signer.0);
        }
        header
    }

    /// What a protected header says; `None` if it lacks a label of this profile, or has one of another type.
    pub(super) fn of(header: &Header) -> Option<Stated<'_>> {
        Some(Stated {
            algorithm: algorithm(header)?,
            topic: value(header, TOPIC)?.as_text()?,
            message_id: MessageId(value(header, MESSAGE_ID)?.as_bytes()?[..].try_into().ok()?),
            content_encoding: match value(header, CONTENT_ENCODING) {
                None => None,
                Some(value) => Some(value.as_text()?),
            },
            signer: match value(header, SIGNER) {
                None => None,
                Some(value) => Some(key_id(value.as_bytes()?)?),
            },
        })
    }
}

/// `alg` of a header, whoever registered it.
pub(super) fn algorithm(header: &Header) -> Option<i64> {
    match header.alg.as_ref()? {
        Algorithm::Assigned(assigned) => Some(assigned.to_i64()),
        Algorithm::PrivateUse(number) => Some(*number),
        Algorithm::Text(_) => None,
    }
}

/// The value of a label that RFC 9052 does not know.
pub(super) fn value(header: &Header, label: i64) -> Option<&coset::cbor::Value> {
    let mut rest = header.rest.iter();
    rest.find(|(found, _)| *found == Label::Int(label))
        .map(|(_, value)| value)
}

pub(super) fn key_id(bytes: &[u8]) -> Option<KeyId> {
    bytes.try_into().ok().map(KeyId)
}

/// Whether `crit` names only what is understood here (RFC 9052, 3.1): the labels of this profile.
pub(super) fn understands(header: &Header) -> bool {
    header.crit.iter().all(|label| match label {
        RegisteredLabelWithPrivate::PrivateUse(number) => (RECIPIENTS..=TOPIC).contains(number),
        RegisteredLabelWithPrivate::Assigned(assigned) => (1..=6).contains(&assigned.to_i64()),
        RegisteredLabelWithPrivate::Text(_) => false,
    })
}

/// Data that both ends have and that is authenticated though not sent (`external_aad`): the profile has none, its protected
/// headers say all.
pub(super) const NO_EXTERNAL: &[u8] = b"";

/// What is authenticated beside the content: `Enc_structure` of RFC 9052, 5.3.
pub(super) fn associated(context: &str, protected: &[u8], external: &[u8]) -> Vec<u8> {
    let mut structure = Vec::with_capacity(protected.len() + context.len() + 8);
    cbor::array(&mut structure, 3);
    cbor::text(&mut structure, context);
    cbor::bytes(&mut structure, protected);
    cbor::bytes(&mut structure, external);
    structure
}

/// The contexts of [`associated`].
pub(super) const ENCRYPT0: &str = "Encrypt0";
pub(super) const ENCRYPT: &str = "Encrypt";
