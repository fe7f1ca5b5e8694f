//! Opening. A payload's structure is checked, bounded and taken apart first; only then coset decodes its headers and recipients,
//! and keys are looked for. The text is copied once, and decrypted in its place.

use coset::cbor::Value;
use coset::{AsCborValue as _, CoseRecipient};

use super::header::{self, Headers, Stated};
use super::recipient::{A256KW, ECDH_ES_DIRECT, RSA_OAEP_256};
use super::structure::{self, Parts, inner_parts, sealed_parts};
use super::{Aead, BlockCipher, MessageId, NotSealed, ReadyAead, block, recipient, sign};
use crate::{Agreement, Content, KeyId, KeyRing, Suite};

/// Who sent a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sender {
    /// Nobody signed it: anybody who can seal to its recipients may have sent it.
    Unknown,
    /// The owner of this key, who is in the key ring, signed it for us and this topic.
    Signed {
        /// The id of the key.
        key_id: KeyId,
    },
}

/// A message that was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// What was sealed, packed as `content_encoding` says.
    pub plaintext: Vec<u8>,
    /// Who sent it.
    pub sender: Sender,
    /// What tells it from every other.
    pub message_id: MessageId,
    /// How it was packed before it was sealed, in HTTP's words.
    pub content_encoding: Option<String>,
    /// What it was sealed with.
    pub suite: Suite,
}

/// Why a payload was not opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpeningError {
    /// It is not sealed at all.
    #[error(transparent)]
    NotSealed(#[from] NotSealed),
    /// It is COSE, and not of this profile.
    #[error("sealed, but not as docs/sealing-format.md has it: {0}")]
    NotOfTheProfile(&'static str),
    /// It was sealed for another topic: somebody took it from there.
    #[error("sealed for the topic {sealed_for:?}, and came on another")]
    Topic {
        /// Which.
        sealed_for: String,
    },
    /// None of its recipients is in the key ring.
    #[error("sealed to {}, and none of these keys is here", list(key_ids))]
    NoKey {
        /// The recipients.
        key_ids: Vec<KeyId>,
    },
    /// 3DES, which is opened only by who asks for what is obsolete.
    #[error("sealed with des, which is obsolete and opened only with legacy = true")]
    Legacy,
    /// It was changed on its way, or the key is another.
    #[error("it does not open: it was changed, or sealed with another key")]
    Changed,
    /// It is signed by somebody who is not in the key ring.
    #[error("signed with the key {key_id}, and nobody here is known by it")]
    UnknownSigner {
        /// The key.
        key_id: KeyId,
    },
    /// What is signed is not what the envelope says, or not for us, or the signature is wrong.
    #[error("the signature of the key {key_id} is not right for this message, topic and receiver")]
    Signature {
        /// The key that is said to have signed.
        key_id: KeyId,
    },
}

fn list(ids: &[KeyId]) -> String {
    let ids: Vec<_> = ids.iter().map(ToString::to_string).collect();
    ids.join(", ")
}

const HEADERS: OpeningError = OpeningError::NotOfTheProfile("the protected header");
const DECODED: OpeningError = OpeningError::NotOfTheProfile("what coset reads");
const ALGORITHM: OpeningError = OpeningError::NotOfTheProfile("the algorithm");
const IV: OpeningError = OpeningError::NotOfTheProfile("the IV");

/// Opens a payload that came on `topic`, with the keys of `ring`.
pub fn open(payload: &[u8], topic: &str, ring: &dyn KeyRing) -> Result<Opened, OpeningError> {
    let parts = sealed_parts(payload)?;
    let headers = Headers::of(&parts).ok_or(DECODED)?;
    let stated = stated(&headers, topic)?;
    let decrypted = match parts.tag {
        structure::ENCRYPT0 => encrypt0(&parts, &headers, &stated, ring)?,
        structure::MAC0 => mac0(&parts, &headers, &stated, ring)?,
        _ => encrypt(&parts, &headers, &stated, ring)?,
    };
    finished(decrypted, &stated, ring)
}

/// A text that was decrypted, and which of our keys did it.
struct Decrypted {
    text: Vec<u8>,
    with: KeyId,
    suite: Suite,
}

fn stated<'a>(headers: &'a Headers<'_>, topic: &str) -> Result<Stated<'a>, OpeningError> {
    if !headers.are_understood() {
        return Err(OpeningError::NotOfTheProfile("a critical label"));
    }
    let stated = Stated::of(&headers.protected).ok_or(HEADERS)?;
    if stated.topic != topic {
        return Err(OpeningError::Topic {
            sealed_for: stated.topic.into(),
        });
    }
    Ok(stated)
}

fn encrypt0(
    parts: &Parts<'_>,
    headers: &Headers<'_>,
    stated: &Stated<'_>,
    ring: &dyn KeyRing,
) -> Result<Decrypted, OpeningError> {
    let aead = Aead::of(stated.algorithm).filter(|aead| *aead != Aead::CcmLong);
    let aead = aead.ok_or(ALGORITHM)?;
    let with = header::key_id(&headers.unprotected.key_id).ok_or_else(|| no_key(&[]))?;
    let key = ring.symmetric(with).ok_or_else(|| no_key(&[with]))?;
    let associated = header::associated(header::ENCRYPT0, headers.encoded, header::NO_EXTERNAL);
    let ready = key.ready(aead).ok_or(OpeningError::Changed)?;
    let iv = &headers.unprotected.iv;
    let text = decrypted(ready, aead, iv, &associated, parts.content)?;
    let suite = suite(Agreement::Shared, aead)?;
    Ok(Decrypted { text, with, suite })
}

fn mac0(
    parts: &Parts<'_>,
    headers: &Headers<'_>,
    stated: &Stated<'_>,
    ring: &dyn KeyRing,
) -> Result<Decrypted, OpeningError> {
    if stated.algorithm != block::HMAC_256 {
        return Err(ALGORITHM);
    }
    let with = header::key_id(&headers.unprotected.key_id).ok_or_else(|| no_key(&[]))?;
    let key = ring.symmetric(with).ok_or_else(|| no_key(&[with]))?;
    let inner = inner_parts(parts.content)?;
    let of_inner = Headers::of(&inner).ok_or(DECODED)?;
    let number = header::algorithm(&of_inner.unprotected);
    let cipher = number.and_then(BlockCipher::of).ok_or(ALGORITHM)?;
    if cipher == BlockCipher::TripleDes && !ring.legacy() {
        return Err(OpeningError::Legacy);
    }
    if !of_inner.protected.is_empty() {
        return Err(HEADERS);
    }
    let ready = key.ready_block(cipher);
    if !ready.is_right(headers.encoded, parts.content, parts.last) {
        return Err(OpeningError::Changed);
    }
    let text = ready.decrypt(&of_inner.unprotected.iv, inner.content.to_vec());
    let text = text.ok_or(OpeningError::Changed)?;
    let content = match cipher {
        BlockCipher::Aes => Content::Aes,
        BlockCipher::TripleDes => Content::Des,
    };
    let suite = Suite::new(Agreement::Shared, content).ok_or(ALGORITHM)?;
    Ok(Decrypted { text, with, suite })
}

/// The recipients of an envelope, as `structure` found them.
pub(super) fn recipients(encoded: &[u8]) -> Option<Vec<CoseRecipient>> {
    let Ok(Value::Array(all)) = coset::cbor::de::from_reader(encoded) else {
        return None;
    };
    let all = all.into_iter().map(CoseRecipient::from_cbor_value);
    all.collect::<Result<_, _>>().ok()
}

fn encrypt(
    parts: &Parts<'_>,
    headers: &Headers<'_>,
    stated: &Stated<'_>,
    ring: &dyn KeyRing,
) -> Result<Decrypted, OpeningError> {
    let aead = Aead::of(stated.algorithm).ok_or(ALGORITHM)?;
    let recipients = recipients(parts.last).ok_or(DECODED)?;
    let algorithms: Vec<_> = recipients.iter().map(recipient::algorithm_of).collect();
    // RFC 9052, 8.5.1 and 8.5.5: who agrees on the content key itself is alone.
    if algorithms.contains(&Some(ECDH_ES_DIRECT)) && algorithms.len() > 1 {
        return Err(OpeningError::NotOfTheProfile(
            "one recipient alone has the agreed key itself",
        ));
    }
    let agreement = match algorithms.as_slice() {
        [Some(ECDH_ES_DIRECT)] => Agreement::Ecc,
        [Some(A256KW)] => Agreement::Shared,
        several if several.iter().all(|one| *one == Some(RSA_OAEP_256)) => Agreement::Rsa,
        _ => Agreement::Hybrid,
    };
    let (with, key) = content_key(&recipients, aead, ring)?;
    let associated = header::associated(header::ENCRYPT, headers.encoded, header::NO_EXTERNAL);
    let ready = ReadyAead::new(aead, &key).ok_or(OpeningError::Changed)?;
    let iv = &headers.unprotected.iv;
    let text = decrypted(&ready, aead, iv, &associated, parts.content)?;
    let suite = suite(agreement, aead)?;
    Ok(Decrypted { text, with, suite })
}

/// The content key, by the first recipient whose key is ours.
fn content_key(
    recipients: &[CoseRecipient],
    aead: Aead,
    ring: &dyn KeyRing,
) -> Result<(KeyId, recipient::ContentKey), OpeningError> {
    let mut key_ids = Vec::new();
    let mut is_here = false;
    for one in recipients {
        let Some(id) = header::key_id(&one.unprotected.key_id) else {
            continue;
        };
        key_ids.push(id);
        if !header::understands(&one.protected.header) || !one.unprotected.crit.is_empty() {
            continue;
        }
        let key = if recipient::algorithm_of(one) == Some(A256KW) {
            ring.symmetric(id).map(|key| {
                let sealed = one.ciphertext.as_deref().unwrap_or_default();
                recipient::unwrapped(key.bytes(), sealed)
                    .filter(|_| one.protected.header.is_empty())
            })
        } else {
            ring.private(id)
                .map(|key| recipient::content_key_of(one, &key, aead.number()))
        };
        is_here |= key.is_some();
        if let Some(Some(key)) = key {
            return Ok((id, key));
        }
    }
    if is_here {
        Err(OpeningError::Changed)
    } else {
        Err(no_key(&key_ids))
    }
}

fn no_key(ids: &[KeyId]) -> OpeningError {
    OpeningError::NoKey {
        key_ids: ids.to_vec(),
    }
}

fn decrypted(
    ready: &ReadyAead,
    aead: Aead,
    iv: &[u8],
    associated: &[u8],
    sealed: &[u8],
) -> Result<Vec<u8>, OpeningError> {
    if iv.len() != aead.iv_bytes() {
        return Err(IV);
    }
    let mut text = sealed.to_vec();
    let opened = ready.open(iv, associated, &mut text);
    opened.map(|()| text).ok_or(OpeningError::Changed)
}

fn suite(agreement: Agreement, aead: Aead) -> Result<Suite, OpeningError> {
    let content = match aead {
        Aead::AesGcm => Content::AesGcm,
        Aead::ChaCha20Poly1305 => Content::ChaCha20Poly1305,
        Aead::CcmShort | Aead::CcmLong => Content::AesCcm,
    };
    Suite::new(agreement, content).ok_or(ALGORITHM)
}

/// Looks at the signature, if there is to be one.
fn finished(
    decrypted: Decrypted,
    stated: &Stated<'_>,
    ring: &dyn KeyRing,
) -> Result<Opened, OpeningError> {
    let Decrypted { text, with, suite } = decrypted;
    let opened = |plaintext, sender| Opened {
        plaintext,
        sender,
        message_id: stated.message_id,
        content_encoding: stated.content_encoding.map(ToOwned::to_owned),
        suite,
    };
    let Some(key_id) = stated.signer else {
        return Ok(opened(text, Sender::Unknown));
    };
    let sender = ring.sender(key_id);
    let sender = sender.ok_or(OpeningError::UnknownSigner { key_id })?;
    let wrong = OpeningError::Signature { key_id };
    if !sender.signs() {
        return Err(wrong);
    }
    let signed = sign::Signed::decoded(&text)
        .and_then(|signed| signed.verified(&sender, header::NO_EXTERNAL));
    match signed {
        Some((header, text)) if sign::agrees(&header, stated, with) => {
            Ok(opened(text.to_vec(), Sender::Signed { key_id }))
        }
        _ => Err(wrong),
    }
}
