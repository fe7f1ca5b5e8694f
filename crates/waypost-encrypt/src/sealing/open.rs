//! Opening. A payload's structure is checked and bounded first; only then coset decodes it, and keys are looked for.

use coset::{CborSerializable as _, TaggedCborSerializable as _};
use coset::{CoseEncrypt, CoseEncrypt0, CoseMac0, Header, ProtectedHeader};

use super::header::{self, Stated};
use super::recipient::{A256KW, ECDH_ES_DIRECT, RSA_OAEP_256};
use super::structure::check_inner;
use super::{
    Aead, BlockCipher, MessageId, NotSealed, ReadyAead, block, check_sealed, recipient, sign,
};
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
    check_sealed(payload)?;
    // The tags 16 and 17 stand in one byte, unless somebody wrote them longer; coset decides in the end.
    if let Ok(whole) = CoseEncrypt0::from_tagged_slice(payload) {
        return encrypt0(whole, topic, ring);
    }
    if let Ok(whole) = CoseMac0::from_tagged_slice(payload) {
        return mac0(&whole, topic, ring);
    }
    let whole = CoseEncrypt::from_tagged_slice(payload).map_err(|_| DECODED)?;
    encrypt(whole, topic, ring)
}

/// A text that was decrypted, and which of our keys did it.
struct Decrypted {
    text: Vec<u8>,
    with: KeyId,
    suite: Suite,
}

fn stated<'a>(
    protected: &'a ProtectedHeader,
    unprotected: &Header,
    topic: &str,
) -> Result<(Stated<'a>, &'a [u8]), OpeningError> {
    let header = &protected.header;
    if !header::understands(header) || !unprotected.crit.is_empty() {
        return Err(OpeningError::NotOfTheProfile("a critical label"));
    }
    let stated = Stated::of(header).ok_or(HEADERS)?;
    if stated.topic != topic {
        return Err(OpeningError::Topic {
            sealed_for: stated.topic.into(),
        });
    }
    Ok((stated, protected.original_data.as_deref().ok_or(HEADERS)?))
}

fn encrypt0(whole: CoseEncrypt0, topic: &str, ring: &dyn KeyRing) -> Result<Opened, OpeningError> {
    let (stated, protected) = stated(&whole.protected, &whole.unprotected, topic)?;
    let aead = Aead::of(stated.algorithm).filter(|aead| *aead != Aead::CcmLong);
    let aead = aead.ok_or(ALGORITHM)?;
    let with = header::key_id(&whole.unprotected.key_id).ok_or_else(|| no_key(&[]))?;
    let key = ring.symmetric(with).ok_or_else(|| no_key(&[with]))?;
    let associated = header::associated(header::ENCRYPT0, protected);
    let ready = key.ready(aead).ok_or(OpeningError::Changed)?;
    let text = decrypted(
        ready,
        aead,
        &whole.unprotected.iv,
        &associated,
        whole.ciphertext,
    )?;
    let suite = suite(Agreement::Shared, aead)?;
    finished(Decrypted { text, with, suite }, &stated, ring)
}

fn mac0(whole: &CoseMac0, topic: &str, ring: &dyn KeyRing) -> Result<Opened, OpeningError> {
    let (stated, protected) = stated(&whole.protected, &whole.unprotected, topic)?;
    if stated.algorithm != block::HMAC_256 {
        return Err(ALGORITHM);
    }
    let with = header::key_id(&whole.unprotected.key_id).ok_or_else(|| no_key(&[]))?;
    let key = ring.symmetric(with).ok_or_else(|| no_key(&[with]))?;
    let payload = whole.payload.as_deref().unwrap_or_default();
    check_inner(payload)?;
    let inner = CoseEncrypt0::from_slice(payload).map_err(|_| DECODED)?;
    let number = header::algorithm(&inner.unprotected);
    let cipher = number.and_then(BlockCipher::of).ok_or(ALGORITHM)?;
    if cipher == BlockCipher::TripleDes && !ring.legacy() {
        return Err(OpeningError::Legacy);
    }
    if !inner.protected.is_empty() {
        return Err(HEADERS);
    }
    let ready = key.ready_block(cipher);
    if !ready.is_right(protected, payload, &whole.tag) {
        return Err(OpeningError::Changed);
    }
    let sealed = inner.ciphertext.unwrap_or_default();
    let text = ready.decrypt(&inner.unprotected.iv, sealed);
    let text = text.ok_or(OpeningError::Changed)?;
    let content = match cipher {
        BlockCipher::Aes => Content::Aes,
        BlockCipher::TripleDes => Content::Des,
    };
    let suite = Suite::new(Agreement::Shared, content).ok_or(ALGORITHM)?;
    finished(Decrypted { text, with, suite }, &stated, ring)
}

fn encrypt(whole: CoseEncrypt, topic: &str, ring: &dyn KeyRing) -> Result<Opened, OpeningError> {
    let (stated, protected) = stated(&whole.protected, &whole.unprotected, topic)?;
    let aead = Aead::of(stated.algorithm).ok_or(ALGORITHM)?;
    let algorithms: Vec<_> = whole
        .recipients
        .iter()
        .map(recipient::algorithm_of)
        .collect();
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
    let (with, key) = content_key(&whole, aead, ring)?;
    let associated = header::associated(header::ENCRYPT, protected);
    let ready = ReadyAead::new(aead, &key).ok_or(OpeningError::Changed)?;
    let text = decrypted(
        &ready,
        aead,
        &whole.unprotected.iv,
        &associated,
        whole.ciphertext,
    )?;
    let suite = suite(agreement, aead)?;
    finished(Decrypted { text, with, suite }, &stated, ring)
}

/// The content key, by the first recipient whose key is ours.
fn content_key(
    whole: &CoseEncrypt,
    aead: Aead,
    ring: &dyn KeyRing,
) -> Result<(KeyId, recipient::ContentKey), OpeningError> {
    let mut key_ids = Vec::new();
    let mut is_here = false;
    for one in &whole.recipients {
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
    sealed: Option<Vec<u8>>,
) -> Result<Vec<u8>, OpeningError> {
    if iv.len() != aead.iv_bytes() {
        return Err(IV);
    }
    let mut text = sealed.unwrap_or_default();
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
    let signed = sign::Signed::decoded(&text).and_then(|signed| signed.verified(&sender));
    match signed {
        Some((header, text)) if sign::agrees(&header, stated, with) => {
            Ok(opened(text, Sender::Signed { key_id }))
        }
        _ => Err(wrong),
    }
}
