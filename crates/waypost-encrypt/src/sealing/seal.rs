//! Sealing. The text is copied once, to where it stands in the envelope, and encrypted there.

use std::borrow::Cow;

use super::aead::CCM_SHORT_BYTES_MAX;
use super::header::{self, Stated};
use super::recipient::{self, ContentKey, Refused};
use super::structure::{ENCRYPT, ENCRYPT0, MAC0, RECIPIENTS_MAX};
use super::{Aead, BlockCipher, MessageId, ReadyAead, block, cbor, sign};
use crate::keys::KeyUse;
use crate::{
    Agreement, Content, KeyId, KeySpent, NoRandomness, PrivateKey, PublicKey, Random, Suite,
    SymmetricKey, TAG_BYTES,
};

/// To whom a message is sealed.
#[derive(Clone, Copy, Debug)]
pub enum Recipient<'a> {
    /// Whoever has this key.
    Shared(&'a SymmetricKey),
    /// The owner of this key.
    Public(&'a PublicKey),
}

/// How a message is sealed.
#[derive(Clone, Copy, Debug)]
pub struct Sealing<'a> {
    /// With what.
    pub suite: Suite,
    /// The topic as the receiver will see it.
    pub topic: &'a str,
    /// To whom.
    pub recipients: &'a [Recipient<'a>],
    /// In whose name; nobody's: the receiver cannot tell who it was.
    pub signer: Option<&'a PrivateKey>,
    /// How the text was packed before, in HTTP's words; not at all: none.
    pub content_encoding: Option<&'a str>,
}

/// Why a message was not sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealingError {
    /// Others than the suite is for.
    #[error("{0}")]
    Recipients(&'static str),
    /// A key that does not sign.
    #[error(
        "the key {0} is not for signing: P-256 and Ed25519 keys are, unless their use is \"enc\""
    )]
    NotForSigning(KeyId),
    /// A key that nothing is sealed to.
    #[error(
        "nothing is sealed to the key {0}: P-256, X25519 and RSA keys are for that, unless their use is \"sig\""
    )]
    NotForSealing(KeyId),
    /// A key that has sealed as much as it may.
    #[error(transparent)]
    Spent(#[from] KeySpent),
    /// The system gives no random bytes.
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
    /// More than the cipher takes.
    #[error("{bytes} bytes are more than {cipher} seals in one message")]
    TooLong {
        /// How many.
        bytes: usize,
        /// Which cipher.
        cipher: &'static str,
    },
}

/// Seals `plaintext`, writes the envelope behind what `into` has, and gives the message's id. After an error `into` is as it
/// was.
pub fn seal(
    plaintext: &[u8],
    sealing: &Sealing<'_>,
    random: &mut dyn Random,
    into: &mut Vec<u8>,
) -> Result<MessageId, SealingError> {
    let begin = into.len();
    let sealed = sealed(plaintext, sealing, random, into);
    if sealed.is_err() {
        into.truncate(begin);
    }
    sealed
}

fn sealed(
    plaintext: &[u8],
    sealing: &Sealing<'_>,
    random: &mut dyn Random,
    into: &mut Vec<u8>,
) -> Result<MessageId, SealingError> {
    let to = To::of(sealing)?;
    let drawn = Drawn::new(random)?;
    let message_id = drawn.message_id;
    let mut stated = Stated {
        algorithm: 0,
        topic: sealing.topic,
        message_id,
        content_encoding: sealing
            .content_encoding
            .filter(|encoding| !encoding.eq_ignore_ascii_case("identity")),
        signer: sealing.signer.map(PrivateKey::id),
    };
    let text = match sealing.signer {
        None => Cow::Borrowed(plaintext),
        Some(signer) => {
            let whole = signer.public().signs().then(|| {
                let recipients = sealing.recipients.iter().map(Recipient::id);
                sign::signed(plaintext, signer, &stated, &recipients.collect::<Vec<_>>())
            });
            let whole = whole.flatten();
            Cow::Owned(whole.ok_or(SealingError::NotForSigning(signer.id()))?)
        }
    };
    match (&to, sealing.suite.content()) {
        (To::Shared(key), Content::Aes) => {
            block_sealed(BlockCipher::Aes, key, &text, &mut stated, &drawn, into)?;
        }
        (To::Shared(key), Content::Des) => {
            block_sealed(
                BlockCipher::TripleDes,
                key,
                &text,
                &mut stated,
                &drawn,
                into,
            )?;
        }
        (To::Shared(key), content) => {
            key.count_message()?;
            let aead = aead_for(content, text.len());
            if aead == Aead::CcmLong {
                // Its IV has 7 bytes, too few to be drawn at random under one key: each message has a key of its own.
                envelope(&to, aead, &text, &mut stated, &drawn, random, into)?;
            } else {
                shared_sealed(key, aead, &text, &mut stated, &drawn, into)?;
            }
        }
        (To::Public(_) | To::Each(_), content) => {
            let aead = aead_for(content, text.len());
            envelope(&to, aead, &text, &mut stated, &drawn, random, into)?;
        }
    }
    Ok(message_id)
}

/// The recipients, as the suite wants them.
enum To<'a> {
    Shared(&'a SymmetricKey),
    /// One whose agreement is the content key.
    Public(&'a PublicKey),
    /// Those for whom a content key is wrapped.
    Each(Vec<&'a PublicKey>),
}

impl<'a> To<'a> {
    fn of(sealing: &Sealing<'a>) -> Result<Self, SealingError> {
        let refused = |rule| Err(SealingError::Recipients(rule));
        let agreement = sealing.suite.agreement();
        if agreement == Agreement::Shared {
            return match sealing.recipients {
                [Recipient::Shared(key)] => Ok(Self::Shared(key)),
                _ => refused("a suite without key agreement takes exactly one shared key"),
            };
        }
        let mut keys = Vec::with_capacity(sealing.recipients.len());
        for recipient in sealing.recipients {
            let Recipient::Public(key) = recipient else {
                return refused("a suite with key agreement takes public keys");
            };
            if !key.seals() {
                return Err(SealingError::NotForSealing(key.id()));
            }
            let is_rsa = key.oaep().is_some();
            match agreement {
                Agreement::Ecc if is_rsa => {
                    return refused("ecc takes a P-256 or X25519 key: rsa or hybrid take RSA's");
                }
                Agreement::Rsa if !is_rsa => {
                    return refused("rsa takes RSA keys: ecc or hybrid take P-256 and X25519");
                }
                _ => keys.push(*key),
            }
        }
        match (agreement, keys.as_slice()) {
            (_, []) => refused("somebody has to be able to open it: there is no recipient"),
            (_, keys) if keys.len() > RECIPIENTS_MAX => {
                refused("a message is sealed to at most 128 recipients")
            }
            (Agreement::Ecc, [key]) => Ok(Self::Public(key)),
            (Agreement::Ecc, _) => refused("ecc seals to one recipient: hybrid seals to several"),
            _ => Ok(Self::Each(keys)),
        }
    }
}

impl Recipient<'_> {
    fn id(&self) -> KeyId {
        match self {
            Self::Shared(key) => key.id(),
            Self::Public(key) => key.id(),
        }
    }
}

fn aead_for(content: Content, length: usize) -> Aead {
    match content {
        Content::ChaCha20Poly1305 => Aead::ChaCha20Poly1305,
        Content::AesCcm if length <= CCM_SHORT_BYTES_MAX => Aead::CcmShort,
        Content::AesCcm => Aead::CcmLong,
        Content::AesGcm | Content::Aes | Content::Des => Aead::AesGcm,
    }
}

/// What of a message is drawn at random, at once: each draw from the system costs as much as sealing a short text.
struct Drawn {
    message_id: MessageId,
    iv: [u8; 16],
}

impl Drawn {
    fn new(random: &mut dyn Random) -> Result<Self, NoRandomness> {
        let mut drawn = [0; 32];
        random.fill(&mut drawn)?;
        let (id, iv) = drawn.split_at(16);
        let half = |bytes: &[u8]| bytes.first_chunk().copied().unwrap_or_default();
        Ok(Self {
            message_id: MessageId(half(id)),
            iv: half(iv),
        })
    }

    /// As much of it as a cipher takes.
    fn iv(&self, length: usize) -> &[u8] {
        self.iv.split_at(length.min(self.iv.len())).0
    }
}

/// `COSE_Encrypt0` under a shared key.
fn shared_sealed(
    key: &SymmetricKey,
    aead: Aead,
    text: &[u8],
    stated: &mut Stated<'_>,
    drawn: &Drawn,
    into: &mut Vec<u8>,
) -> Result<(), SealingError> {
    stated.algorithm = aead.number();
    let protected = stated.encoded();
    let iv = drawn.iv(aead.iv_bytes());
    into.reserve(protected.len() + text.len() + 64);
    cbor::tag(into, ENCRYPT0);
    cbor::array(into, 3);
    cbor::bytes(into, &protected);
    cbor::map(into, 2);
    cbor::int(into, header::KEY_ID);
    cbor::bytes(into, &key.id().0);
    cbor::int(into, header::IV);
    cbor::bytes(into, iv);
    let associated = header::associated(header::ENCRYPT0, &protected, header::NO_EXTERNAL);
    let ready = key.ready(aead);
    write_sealed(ready, aead, iv, &associated, text, into)
}

/// `COSE_Encrypt`: the content under a key of its own, and that key for each recipient.
fn envelope(
    to: &To<'_>,
    aead: Aead,
    text: &[u8],
    stated: &mut Stated<'_>,
    drawn: &Drawn,
    random: &mut dyn Random,
    into: &mut Vec<u8>,
) -> Result<(), SealingError> {
    stated.algorithm = aead.number();
    let protected = stated.encoded();
    let mut recipients = Vec::new();
    let key = for_recipients(to, aead, random, &mut recipients)?;
    let iv = drawn.iv(aead.iv_bytes());
    into.reserve(protected.len() + text.len() + recipients.len() + 64);
    cbor::tag(into, ENCRYPT);
    cbor::array(into, 4);
    cbor::bytes(into, &protected);
    cbor::map(into, 1);
    cbor::int(into, header::IV);
    cbor::bytes(into, iv);
    let associated = header::associated(header::ENCRYPT, &protected, header::NO_EXTERNAL);
    let ready = ReadyAead::new(aead, &key);
    write_sealed(ready.as_ref(), aead, iv, &associated, text, into)?;
    into.extend_from_slice(&recipients);
    Ok(())
}

/// Writes the recipients and gives the key that all of them get.
fn for_recipients(
    to: &To<'_>,
    aead: Aead,
    random: &mut dyn Random,
    into: &mut Vec<u8>,
) -> Result<ContentKey, SealingError> {
    let refused = |id| {
        move |refused| match refused {
            Refused::NoRandomness => SealingError::NoRandomness(NoRandomness),
            Refused::Key => SealingError::NotForSealing(id),
        }
    };
    match to {
        To::Public(key) => {
            cbor::array(into, 1);
            recipient::write_direct(key, aead.number(), random, into).map_err(refused(key.id()))
        }
        To::Shared(shared) => {
            let key = recipient::content_key(random)?;
            cbor::array(into, 1);
            recipient::write_shared(shared.id(), shared.bytes(), &key, into)
                .map_err(refused(shared.id()))?;
            Ok(key)
        }
        To::Each(keys) => {
            let key = recipient::content_key(random)?;
            cbor::array(into, keys.len());
            for to in keys {
                recipient::write_wrapped(to, &key, random, into).map_err(refused(to.id()))?;
            }
            Ok(key)
        }
    }
}

/// The text as a byte string, encrypted in its place, with its tag behind it.
fn write_sealed(
    ready: Option<&ReadyAead>,
    aead: Aead,
    iv: &[u8],
    associated: &[u8],
    text: &[u8],
    into: &mut Vec<u8>,
) -> Result<(), SealingError> {
    cbor::bytes_head(into, text.len() + TAG_BYTES);
    let begin = into.len();
    into.extend_from_slice(text);
    let tag = ready
        .zip(into.get_mut(begin..))
        .and_then(|(ready, text)| ready.seal(iv, associated, text));
    let tag = tag.ok_or(SealingError::TooLong {
        bytes: text.len(),
        cipher: match aead {
            Aead::AesGcm => "aes-gcm",
            Aead::ChaCha20Poly1305 => "chacha20-poly1305",
            Aead::CcmShort | Aead::CcmLong => "aes-ccm",
        },
    })?;
    into.extend_from_slice(&tag);
    Ok(())
}

/// `COSE_Mac0` around a `COSE_Encrypt0` that has no tag of its own, neither CBOR's nor a cipher's.
fn block_sealed(
    cipher: BlockCipher,
    key: &SymmetricKey,
    text: &[u8],
    stated: &mut Stated<'_>,
    drawn: &Drawn,
    into: &mut Vec<u8>,
) -> Result<(), SealingError> {
    let padded = cipher.padded(text.len());
    if cipher == BlockCipher::TripleDes {
        key.count_blocks((padded / cipher.block_bytes()) as u64)?;
    }
    key.count_message()?;
    stated.algorithm = block::HMAC_256;
    let protected = stated.encoded();
    let iv = drawn.iv(cipher.block_bytes());
    let mut inner = Vec::with_capacity(padded + 48);
    cbor::array(&mut inner, 3);
    // RFC 9459, 4: what does not authenticate protects no header either; the MAC around it does.
    cbor::bytes(&mut inner, b"");
    cbor::map(&mut inner, 2);
    cbor::int(&mut inner, header::ALGORITHM);
    cbor::int(&mut inner, cipher.number());
    cbor::int(&mut inner, header::IV);
    cbor::bytes(&mut inner, iv);
    cbor::bytes_head(&mut inner, padded);
    let ready = key.ready_block(cipher);
    ready
        .encrypt(iv, text, &mut inner)
        .ok_or(SealingError::TooLong {
            bytes: text.len(),
            cipher: "cbc",
        })?;
    into.reserve(protected.len() + inner.len() + block::MAC_BYTES + 48);
    cbor::tag(into, MAC0);
    cbor::array(into, 4);
    cbor::bytes(into, &protected);
    cbor::map(into, 1);
    cbor::int(into, header::KEY_ID);
    cbor::bytes(into, &key.id().0);
    cbor::bytes(into, &inner);
    cbor::bytes(into, ready.tag(&protected, &inner).as_ref());
    Ok(())
}

impl PublicKey {
    /// Whether messages are sealed to its owner.
    pub fn seals(&self) -> bool {
        self.kind().seals() && self.key_use() != Some(KeyUse::Sign)
    }

    /// Whether its owner signs with it.
    pub fn signs(&self) -> bool {
        self.kind().signs() && self.key_use() != Some(KeyUse::Seal)
    }
}
