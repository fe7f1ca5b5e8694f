//! Ciphers without authentication of their own, and the MAC over them: `aes` (AES-256-CBC, RFC 9459) and `des` (3DES-CBC).
//! The MAC is checked before anything is decrypted, so that padding tells nobody anything.

use aes::Aes256;
use aes::cipher::block_padding::Pkcs7;
use aes::cipher::{BlockModeDecrypt as _, BlockModeEncrypt as _, KeyIvInit as _};
use aws_lc_rs::hmac;
use des::TdesEde3;
use zeroize::Zeroizing;

use super::cbor;
use crate::key::expanded;
use crate::{KEY_BYTES, TAG_BYTES};

/// HMAC 256/256 of RFC 9053, 3.1.
pub(super) const HMAC_256: i64 = 5;

/// Bytes of its tag.
pub(super) const MAC_BYTES: usize = 32;

/// Bytes of a key of 3DES.
const TRIPLE_DES_KEY_BYTES: usize = 24;

/// A cipher that needs a MAC beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BlockCipher {
    Aes,
    TripleDes,
}

impl BlockCipher {
    /// Its number: of RFC 9459, or a private one.
    pub(crate) fn number(self) -> i64 {
        match self {
            Self::Aes => -65_529,
            Self::TripleDes => -65_550,
        }
    }

    pub(crate) fn of(number: i64) -> Option<Self> {
        [Self::Aes, Self::TripleDes]
            .into_iter()
            .find(|cipher| cipher.number() == number)
    }

    /// Bytes of a block, and of an IV.
    pub(crate) fn block_bytes(self) -> usize {
        match self {
            Self::Aes => 16,
            Self::TripleDes => 8,
        }
    }

    /// How many bytes `length` bytes of text become: they are filled up to whole blocks, by one byte at least (PKCS #7).
    pub(crate) fn padded(self, length: usize) -> usize {
        (length / self.block_bytes() + 1) * self.block_bytes()
    }

    /// Each key has its own use, and the two ciphers share none: HKDF-SHA-256 without salt.
    fn infos(self) -> (&'static [u8], &'static [u8]) {
        match self {
            Self::Aes => (b"waypost cbc", b"waypost hmac"),
            Self::TripleDes => (b"waypost des cbc", b"waypost des hmac"),
        }
    }

    /// The two keys that a shared key gives.
    pub(crate) fn ready(self, shared: &[u8; KEY_BYTES]) -> ReadyBlock {
        let (for_text, for_mac) = self.infos();
        let mac = expanded(shared, &[], for_mac);
        ReadyBlock {
            cipher: self,
            key: Box::new(expanded(shared, &[], for_text)),
            mac: hmac::Key::new(hmac::HMAC_SHA256, &*mac),
        }
    }
}

/// A cipher and a MAC with their keys.
pub(crate) struct ReadyBlock {
    cipher: BlockCipher,
    key: Box<Zeroizing<[u8; KEY_BYTES]>>,
    mac: hmac::Key,
}

impl ReadyBlock {
    /// Writes `text`, encrypted, behind what `into` has.
    pub(crate) fn encrypt(&self, iv: &[u8], text: &[u8], into: &mut Vec<u8>) -> Option<()> {
        let begin = into.len();
        into.extend_from_slice(text);
        into.resize(begin + self.cipher.padded(text.len()), 0);
        let buffer = into.get_mut(begin..)?;
        let written = match self.cipher {
            BlockCipher::Aes => cbc::Encryptor::<Aes256>::new_from_slices(&**self.key, iv)
                .ok()?
                .encrypt_padded::<Pkcs7>(buffer, text.len()),
            BlockCipher::TripleDes => {
                cbc::Encryptor::<TdesEde3>::new_from_slices(self.triple_des_key()?, iv)
                    .ok()?
                    .encrypt_padded::<Pkcs7>(buffer, text.len())
            }
        };
        written.ok().map(|_| ())
    }

    /// Decrypts what the MAC was right for.
    pub(crate) fn decrypt(&self, iv: &[u8], mut sealed: Vec<u8>) -> Option<Vec<u8>> {
        let opened = match self.cipher {
            BlockCipher::Aes => cbc::Decryptor::<Aes256>::new_from_slices(&**self.key, iv)
                .ok()?
                .decrypt_padded::<Pkcs7>(&mut sealed),
            BlockCipher::TripleDes => {
                cbc::Decryptor::<TdesEde3>::new_from_slices(self.triple_des_key()?, iv)
                    .ok()?
                    .decrypt_padded::<Pkcs7>(&mut sealed)
            }
        };
        let length = opened.ok()?.len();
        sealed.truncate(length);
        Some(sealed)
    }

    fn triple_des_key(&self) -> Option<&[u8]> {
        self.key.get(..TRIPLE_DES_KEY_BYTES)
    }

    /// The MAC over `MAC_structure` (RFC 9052, 6.3).
    pub(crate) fn tag(&self, protected: &[u8], payload: &[u8]) -> hmac::Tag {
        authenticated(&self.mac, protected, payload)
    }

    /// Whether a tag is right; it takes as long for each that is not.
    pub(crate) fn is_right(&self, protected: &[u8], payload: &[u8], tag: &[u8]) -> bool {
        let expect = self.tag(protected, payload);
        aws_lc_rs::constant_time::verify_slices_are_equal(expect.as_ref(), tag).is_ok()
    }
}

/// HMAC over `MAC_structure` of a `COSE_Mac0`, without a copy of the payload.
pub(super) fn authenticated(key: &hmac::Key, protected: &[u8], payload: &[u8]) -> hmac::Tag {
    let mut structure = Vec::with_capacity(protected.len() + 4 * TAG_BYTES);
    cbor::array(&mut structure, 4);
    cbor::text(&mut structure, "MAC0");
    cbor::bytes(&mut structure, protected);
    cbor::bytes(&mut structure, b"");
    cbor::bytes_head(&mut structure, payload.len());
    let mut context = hmac::Context::with_key(key);
    context.update(&structure);
    context.update(payload);
    context.sign()
}
