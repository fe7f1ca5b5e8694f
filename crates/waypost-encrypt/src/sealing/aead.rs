//! The authenticated ciphers of the profile, by their COSE numbers (RFC 9053, 4).

use aes::Aes256;
use aws_lc_rs::aead::{self, LessSafeKey, UnboundKey};
use ccm::Ccm;
use ccm::aead::array::Array;
use ccm::aead::{AeadInOut as _, KeyInit as _};
use ccm::consts::{U7, U13, U16};

use crate::{KEY_BYTES, TAG_BYTES};

/// Bytes that AES-CCM-16-128-256 seals at most: its counter has two bytes.
pub const CCM_SHORT_BYTES_MAX: usize = 65_535;

/// An authenticated cipher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Aead {
    AesGcm,
    ChaCha20Poly1305,
    CcmShort,
    CcmLong,
}

impl Aead {
    /// Its number in COSE's table of algorithms.
    pub(crate) fn number(self) -> i64 {
        match self {
            Self::AesGcm => 3,
            Self::ChaCha20Poly1305 => 24,
            Self::CcmShort => 31,
            Self::CcmLong => 33,
        }
    }

    /// The one with this number.
    pub(crate) fn of(number: i64) -> Option<Self> {
        [
            Self::AesGcm,
            Self::ChaCha20Poly1305,
            Self::CcmShort,
            Self::CcmLong,
        ]
        .into_iter()
        .find(|aead| aead.number() == number)
    }

    /// Bytes of its IV.
    pub(crate) fn iv_bytes(self) -> usize {
        match self {
            Self::AesGcm | Self::ChaCha20Poly1305 => 12,
            Self::CcmShort => 13,
            Self::CcmLong => 7,
        }
    }
}

/// A cipher with a key.
pub(crate) enum ReadyAead {
    Lc(LessSafeKey),
    CcmShort(Box<Ccm<Aes256, U16, U13>>),
    CcmLong(Box<Ccm<Aes256, U16, U7>>),
}

impl ReadyAead {
    /// 32 bytes are what each of them takes: there is always one.
    pub(crate) fn new(aead: Aead, key: &[u8; KEY_BYTES]) -> Option<Self> {
        let of_lc = |algorithm| UnboundKey::new(algorithm, key).ok().map(LessSafeKey::new);
        match aead {
            Aead::AesGcm => of_lc(&aead::AES_256_GCM).map(Self::Lc),
            Aead::ChaCha20Poly1305 => of_lc(&aead::CHACHA20_POLY1305).map(Self::Lc),
            Aead::CcmShort => {
                let cipher = Aes256::new_from_slice(key).ok()?;
                Some(Self::CcmShort(Box::new(Ccm::from(cipher))))
            }
            Aead::CcmLong => {
                let cipher = Aes256::new_from_slice(key).ok()?;
                Some(Self::CcmLong(Box::new(Ccm::from(cipher))))
            }
        }
    }

    /// Turns `text` into what only the key opens, and gives its tag.
    pub(crate) fn seal(
        &self,
        iv: &[u8],
        associated: &[u8],
        text: &mut [u8],
    ) -> Option<[u8; TAG_BYTES]> {
        match self {
            Self::Lc(key) => {
                let iv = aead::Nonce::try_assume_unique_for_key(iv).ok()?;
                let associated = aead::Aad::from(associated);
                let tag = key.seal_in_place_separate_tag(iv, associated, text).ok()?;
                tag.as_ref().try_into().ok()
            }
            Self::CcmShort(key) => {
                let iv = Array(iv.try_into().ok()?);
                let tag = key.encrypt_inout_detached(&iv, associated, text.into());
                tag.ok().map(|tag| tag.0)
            }
            Self::CcmLong(key) => {
                let iv = Array(iv.try_into().ok()?);
                let tag = key.encrypt_inout_detached(&iv, associated, text.into());
                tag.ok().map(|tag| tag.0)
            }
        }
    }

    /// Turns a text with its tag behind it back, and takes the tag away. After a refusal its bytes mean nothing.
    pub(crate) fn open(&self, iv: &[u8], associated: &[u8], sealed: &mut Vec<u8>) -> Option<()> {
        let length = sealed.len().checked_sub(TAG_BYTES)?;
        let (text, tag) = sealed.split_at_mut(length);
        match self {
            Self::Lc(key) => {
                let iv = aead::Nonce::try_assume_unique_for_key(iv).ok()?;
                let associated = aead::Aad::from(associated);
                key.open_in_place_separate_tag(iv, associated, tag, text)
                    .ok()?;
            }
            Self::CcmShort(key) => {
                let (iv, tag) = (Array(iv.try_into().ok()?), Array((&*tag).try_into().ok()?));
                key.decrypt_inout_detached(&iv, associated, text.into(), &tag)
                    .ok()?;
            }
            Self::CcmLong(key) => {
                let (iv, tag) = (Array(iv.try_into().ok()?), Array((&*tag).try_into().ok()?));
                key.decrypt_inout_detached(&iv, associated, text.into(), &tag)
                    .ok()?;
            }
        }
        sealed.truncate(length);
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use aes::Aes128;
    use ccm::aead::KeyInit as _;
    use ccm::consts::{U4, U6, U8, U12};

    use super::*;

    /// NIST SP 800-38C, examples 1 to 3. They have a key of 128 bits and shorter tags: they show the primitive.
    #[test]
    fn ccm_is_nists() {
        macro_rules! check {
            ($tag:ty, $nonce:ty, $nonce_bytes:expr, $associated:expr, $text:expr, $expect:expr) => {{
                let key: Vec<u8> = (0x40..0x50).collect();
                let ccm: Ccm<Aes128, $tag, $nonce> = Ccm::new_from_slice(&key).unwrap();
                let nonce = $nonce_bytes.collect::<Vec<u8>>();
                let nonce = Array::try_from(&nonce[..]).unwrap();
                let associated: Vec<u8> = (0..$associated).collect();
                let mut text: Vec<u8> = (0x20..0x20 + $text).collect();
                let tag = ccm
                    .encrypt_inout_detached(&nonce, &associated, text.as_mut_slice().into())
                    .unwrap();
                text.extend_from_slice(&tag);
                let hex: String = text.iter().map(|byte| format!("{byte:02x}")).collect();
                assert_eq!(hex, $expect);
            }};
        }
        check!(U4, U7, (0x10..0x17), 8, 4, "7162015b4dac255d");
        check!(
            U6,
            U8,
            (0x10..0x18),
            16,
            16,
            "d2a1f0e051ea5f62081a7792073d593d1fc64fbfaccd"
        );
        check!(
            U8,
            U12,
            (0x10..0x1c),
            20,
            24,
            "e3b201a9f5b71a7a9b1ceaeccd97e70b6176aad9a4428aa5484392fbc1b09951"
        );
    }
}
