//! AES-256 in Galois/counter mode: encryption and authentication in one pass, by instructions of the processor.
//!
//! Sealing two texts under one nonce and key gives away both texts and the power to forge: the caller counts.

use aws_lc_rs::aead;

use crate::{AtRest, Encrypt, Key, Nonce, OpenError, SealError, Strategy, TAG_BYTES, Tag, Use};

pub(super) const STRATEGY: Strategy = Strategy {
    name: "aes-gcm",
    aliases: &["aes-256-gcm", "a256gcm", "gcm"],
    uses: &[Use::AtRest, Use::Sealing],
    summary: "AES-256-GCM: hides and proves in one pass, in hardware",
    source: "NIST SP 800-38D, by AWS-LC",
    at_rest: Some(&AT_REST),
};

pub(super) const AT_REST: AtRest = AtRest {
    name: "aes-gcm",
    number: 1,
    new: |key| Box::new(OfAwsLc::new(&aead::AES_256_GCM, key)),
};

/// An authenticated cipher of AWS-LC.
pub(super) struct OfAwsLc(Option<aead::LessSafeKey>);

impl OfAwsLc {
    pub(super) fn new(algorithm: &'static aead::Algorithm, key: &Key) -> Self {
        // 32 bytes are what the algorithm takes: there is always a key. Without one nothing would be sealed or opened.
        let key = aead::UnboundKey::new(algorithm, key.bytes());
        Self(key.ok().map(aead::LessSafeKey::new))
    }
}

impl Encrypt for OfAwsLc {
    fn seal_in_place(
        &self,
        nonce: Nonce,
        associated: &[u8],
        text: &mut [u8],
    ) -> Result<Tag, SealError> {
        let refused = SealError { length: text.len() };
        let nonce = aead::Nonce::assume_unique_for_key(nonce.0);
        let sealed = self.0.as_ref().and_then(|key| {
            key.seal_in_place_separate_tag(nonce, aead::Aad::from(associated), text)
                .ok()
        });
        let tag: Option<[u8; TAG_BYTES]> = sealed.and_then(|tag| tag.as_ref().try_into().ok());
        tag.map(Tag).ok_or(refused)
    }

    fn open_in_place(
        &self,
        nonce: Nonce,
        associated: &[u8],
        text: &mut [u8],
        tag: &Tag,
    ) -> Result<(), OpenError> {
        let nonce = aead::Nonce::assume_unique_for_key(nonce.0);
        self.0
            .as_ref()
            .and_then(|key| {
                key.open_in_place_separate_tag(nonce, aead::Aad::from(associated), &tag.0, text)
                    .ok()
            })
            .map(|_| ())
            .ok_or(OpenError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len() / 2)
            .map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap())
            .collect()
    }

    /// The cases of the GCM specification that have a key of 256 bits and a nonce of 96.
    #[test]
    fn the_published_cases_hold() {
        let zero = "0".repeat(64);
        let key = "feffe9928665731c6d6a8f9467308308".repeat(2);
        let text = "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b391aafd255";
        let sealed = "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662898015ad";
        for (key, nonce, associated, text, sealed, tag) in [
            (
                &zero,
                "0".repeat(24),
                "",
                "",
                "",
                "530f8afbc74536b9a963b4f1c4cb738b",
            ),
            (
                &zero,
                "0".repeat(24),
                "",
                "00000000000000000000000000000000",
                "cea7403d4d606b6e074ec5d3baf39d18",
                "d0d1c8a799996bf0265b98b5d48ab919",
            ),
            (
                &key,
                "cafebabefacedbaddecaf888".into(),
                "",
                text,
                sealed,
                "b094dac5d93471bdec1a502270e3cc6c",
            ),
            (
                &key,
                "cafebabefacedbaddecaf888".into(),
                "feedfacedeadbeeffeedfacedeadbeefabaddad2",
                &text[..120],
                &sealed[..120],
                "76fc6ece0f4e1768cddf8853bb2d551b",
            ),
        ] {
            let strategy = (AT_REST.new)(&Key::new(bytes(key).try_into().unwrap()));
            let nonce = Nonce(bytes(&nonce).try_into().unwrap());
            let mut buffer = bytes(text);
            let made = strategy
                .seal_in_place(nonce, &bytes(associated), &mut buffer)
                .unwrap();
            assert_eq!((&buffer, &made.0[..]), (&bytes(sealed), &bytes(tag)[..]));
            strategy
                .open_in_place(nonce, &bytes(associated), &mut buffer, &made)
                .unwrap();
            assert_eq!(buffer, bytes(text));
        }
    }
}
