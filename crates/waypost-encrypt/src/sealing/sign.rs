//! Who wrote it: the text as `COSE_Sign1` (RFC 9052, 4.2), with the topic, the message's id and all recipients under the
//! signature, so that none of them can send it on in the sender's name.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ED25519, UnparsedPublicKey};
use coset::Header;
use coset::cbor::Value;

use super::cbor;
use super::header::{self, Headers, Stated};
use super::structure::{SIGN1, signed_parts};
use crate::keys::{PrivateMaterial, PublicMaterial};
use crate::{KeyId, PrivateKey, PublicKey};

/// Numbers of COSE's table of algorithms.
pub(super) const ES256: i64 = -7;
pub(super) const EDDSA: i64 = -8;

/// The number of what a key signs with.
fn algorithm_of(key: &PublicKey) -> Option<i64> {
    match key.material() {
        PublicMaterial::P256(_) => Some(ES256),
        PublicMaterial::Ed25519(_) => Some(EDDSA),
        _ => None,
    }
}

/// `text`, signed; none if such a key does not sign.
pub(super) fn signed(
    text: &[u8],
    signer: &PrivateKey,
    stated: &Stated<'_>,
    recipients: &[KeyId],
) -> Option<Vec<u8>> {
    let mut protected = Vec::with_capacity(64 + stated.topic.len() + 9 * recipients.len());
    cbor::map(&mut protected, 5);
    cbor::int(&mut protected, header::ALGORITHM);
    cbor::int(&mut protected, algorithm_of(signer.public())?);
    cbor::int(&mut protected, header::KEY_ID);
    cbor::bytes(&mut protected, &signer.id().0);
    cbor::int(&mut protected, header::TOPIC);
    cbor::text(&mut protected, stated.topic);
    cbor::int(&mut protected, header::MESSAGE_ID);
    cbor::bytes(&mut protected, &stated.message_id.0);
    cbor::int(&mut protected, header::RECIPIENTS);
    cbor::array(&mut protected, recipients.len());
    for id in recipients {
        cbor::bytes(&mut protected, &id.0);
    }
    let to_sign = to_be_signed(&protected, header::NO_EXTERNAL, text);
    let signature = match signer.material() {
        PrivateMaterial::P256 { signing, .. } => {
            let signature = signing.sign(&SystemRandom::new(), &to_sign).ok()?;
            signature.as_ref().to_vec()
        }
        PrivateMaterial::Ed25519 { signing, .. } => {
            signing.try_sign(&to_sign).ok()?.as_ref().to_vec()
        }
        _ => return None,
    };
    let mut whole = Vec::with_capacity(protected.len() + text.len() + signature.len() + 24);
    cbor::tag(&mut whole, SIGN1);
    cbor::array(&mut whole, 4);
    cbor::bytes(&mut whole, &protected);
    cbor::map(&mut whole, 0);
    cbor::bytes(&mut whole, text);
    cbor::bytes(&mut whole, &signature);
    Some(whole)
}

/// `Sig_structure` of RFC 9052, 4.4.
fn to_be_signed(protected: &[u8], external: &[u8], text: &[u8]) -> Vec<u8> {
    let mut structure = Vec::with_capacity(protected.len() + text.len() + 32);
    cbor::array(&mut structure, 4);
    cbor::text(&mut structure, "Signature1");
    cbor::bytes(&mut structure, protected);
    cbor::bytes(&mut structure, external);
    cbor::bytes(&mut structure, text);
    structure
}

/// A signed text that was read, its signature not yet looked at.
pub(super) struct Signed<'a> {
    headers: Headers<'a>,
    text: &'a [u8],
    signature: &'a [u8],
}

impl<'a> Signed<'a> {
    pub(super) fn decoded(bytes: &'a [u8]) -> Option<Self> {
        let parts = signed_parts(bytes).ok()?;
        Some(Self {
            headers: Headers::of(&parts)?,
            text: parts.content,
            signature: parts.last,
        })
    }

    /// The text, if `sender` signed it.
    pub(super) fn verified(
        self,
        sender: &PublicKey,
        external: &[u8],
    ) -> Option<(Header, &'a [u8])> {
        let Self {
            headers,
            text,
            signature,
        } = self;
        let is_ours = header::algorithm(&headers.protected) == algorithm_of(sender);
        if !is_ours || !headers.are_understood() {
            return None;
        }
        let signed = to_be_signed(headers.encoded, external, text);
        is_right(sender, &signed, signature).then_some((headers.protected, text))
    }
}

pub(super) fn is_right(sender: &PublicKey, signed: &[u8], signature: &[u8]) -> bool {
    let verified = match sender.material() {
        PublicMaterial::P256(point) => {
            UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(signed, signature)
        }
        PublicMaterial::Ed25519(key) => {
            UnparsedPublicKey::new(&ED25519, key).verify(signed, signature)
        }
        PublicMaterial::X25519(_) | PublicMaterial::Rsa { .. } => return false,
    };
    verified.is_ok()
}

/// Whether what was signed is what the envelope says, to us.
pub(super) fn agrees(signed: &Header, outer: &Stated<'_>, opened_with: KeyId) -> bool {
    let text = |label| header::value(signed, label).and_then(Value::as_text);
    let bytes = |label| header::value(signed, label).and_then(Value::as_bytes);
    let recipients = header::value(signed, header::RECIPIENTS).and_then(Value::as_array);
    let is_for_us = recipients.is_some_and(|recipients| {
        let ours = Value::Bytes(opened_with.0.to_vec());
        recipients.contains(&ours)
    });
    is_for_us
        && text(header::TOPIC) == Some(outer.topic)
        && bytes(header::MESSAGE_ID).is_some_and(|id| id[..] == outer.message_id.0)
        && header::key_id(&signed.key_id) == outer.signer
}
