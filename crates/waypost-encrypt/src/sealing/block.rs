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

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len() / 2)
            .map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap())
            .collect()
    }

    /// The cipher with a key of its own, and whole blocks: what is filled up stands in one more.
    fn check(cipher: BlockCipher, key: &str, iv: &str, text: &str, sealed: &str) {
        let mut whole = Zeroizing::new([0; KEY_BYTES]);
        for (byte, given) in whole.iter_mut().zip(bytes(key)) {
            *byte = given;
        }
        let ready = ReadyBlock {
            cipher,
            key: Box::new(whole),
            mac: hmac::Key::new(hmac::HMAC_SHA256, b""),
        };
        let mut into = b"before".to_vec();
        ready.encrypt(&bytes(iv), &bytes(text), &mut into).unwrap();
        let made = into.split_off(6);
        assert_eq!(made.len(), cipher.padded(bytes(text).len()));
        assert_eq!(made[..made.len() - cipher.block_bytes()], bytes(sealed));
        assert_eq!(ready.decrypt(&bytes(iv), made).unwrap(), bytes(text));
    }

    /// NIST SP 800-38A, F.2.5 and F.2.6.
    #[test]
    fn cbc_with_aes_256_is_nists() {
        check(
            BlockCipher::Aes,
            "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4",
            "000102030405060708090a0b0c0d0e0f",
            "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e5130c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710",
            "f58c4c04d6e5f1ba779eabfb5f7bfbd69cfc4e967edb808d679f777bc6702c7d39f23369a9d9bacfa530e26304231461b2eb05e2c39be9fcda6c19078c6a9d1b",
        );
    }

    /// CAVP, `TCBCMMT3.rsp` (CAVS 11.1): the first cases of both directions.
    #[test]
    fn cbc_with_3des_is_nists() {
        for (key, iv, text, sealed) in [
            (
                "b5cb1504802326c73df186e3e352a20de643b0d63ee30e37",
                "43f791134c5647ba",
                "dcc153cef81d6f24",
                "92538bd8af18d3ba",
            ),
            (
                "a49d7564199e97cb529d2c9d97bf2f98d35edf57ba1f7358",
                "c2e999cb6249023c",
                "c689aee38a301bb316da75db36f110b5",
                "e9afaba5ec75ea1bbe65506655bb4ecb",
            ),
            (
                "1a5d4c0825072a15a8ad9dfdaeda8c048adffb85bc4fced0",
                "7fcfa736f7548b6f",
                "983c3edacd939406010e1bc6ff9e12320ac5008117fa8f84",
                "d84fa24f38cf451ca2c9adc960120bd8ff9871584fe31cee",
            ),
            (
                "d98aadc76d4a3716158c32866efbb9ce834af2297379a49d",
                "3c5220327c502b44",
                "6174079dda53ca723ebf00a66837f8d5ce648c08acaa5ee45ffe62210ef79d3e",
                "f5bd4d600bed77bec78409e3530ebda1d815506ed53103015b87e371ae000958",
            ),
            (
                "5eb6040d46082c7aa7d06dfd08dfeac8c18364c1548c3ba1",
                "41746c7e442d3681",
                "d4f00eb455de1034",
                "c53a7b0ec40600fe",
            ),
            (
                "5b1cce7c0dc1ec49130dfb4af45785ab9179e567f2c7d549",
                "3982bc02c3727d45",
                "edae09288e9e3bc05746d872b48e3b29",
                "6006f10adef52991fcc777a1238bbb65",
            ),
        ] {
            check(BlockCipher::TripleDes, key, iv, text, sealed);
        }
    }

    #[test]
    fn the_two_ciphers_and_the_mac_share_no_key() {
        let keys: std::collections::HashSet<_> = [BlockCipher::Aes, BlockCipher::TripleDes]
            .into_iter()
            .flat_map(|cipher| {
                let (text, mac) = cipher.infos();
                [text, mac].map(|info| *expanded(&[7; 32], &[], info))
            })
            .collect();
        assert_eq!(keys.len(), 4);
    }
}
