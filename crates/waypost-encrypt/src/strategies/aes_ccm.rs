//! AES-256 in counter mode with a CBC-MAC: two passes, nothing but AES encryption. For peers whose radio chip has it and
//! nothing else; everywhere else aes-gcm is several times faster.
//!
//! At rest there are two forms by length, as in messages: to 65,535 bytes the nonce as it is, beyond a key of its own, derived
//! from the nonce, with a nonce of zeros and a counter of eight bytes.

use aes::Aes256;
use ccm::Ccm;
use ccm::aead::array::Array;
use ccm::aead::{AeadInOut as _, KeyInit as _};
use ccm::consts::{U7, U12, U16};

use crate::key::expanded;
use crate::{
    AtRest, CCM_SHORT_BYTES_MAX, Encrypt, Key, NONCE_BYTES, Nonce, OpenError, SealError, Strategy,
    TAG_BYTES, Tag, Use,
};

pub(super) const STRATEGY: Strategy = Strategy {
    name: "aes-ccm",
    aliases: &["aes-256-ccm", "ccm", "counter-with-cbc-mac"],
    uses: &[Use::AtRest, Use::Sealing],
    summary: "AES-256-CCM: two passes of AES alone, for peers whose chip has nothing else",
    source: "NIST SP 800-38C, RFC 3610; by RustCrypto",
    at_rest: Some(&AT_REST),
};

const AT_REST: AtRest = AtRest {
    name: "aes-ccm",
    number: 3,
    new: |key| Box::new(AesCcm::new(key)),
};

struct AesCcm {
    short: Ccm<Aes256, U16, U12>,
    key: Key,
}

impl AesCcm {
    fn new(key: &Key) -> Self {
        Self {
            short: Ccm::from(Aes256::new(key.bytes().into())),
            key: Key::copied(key.bytes()),
        }
    }

    /// The cipher for one long text.
    fn long(&self, nonce: Nonce) -> Ccm<Aes256, U16, U7> {
        let key = expanded(self.key.bytes(), &nonce.0, b"waypost ccm long");
        Ccm::from(Aes256::new((&*key).into()))
    }
}

impl Encrypt for AesCcm {
    fn seal_in_place(
        &self,
        nonce: Nonce,
        associated: &[u8],
        text: &mut [u8],
    ) -> Result<Tag, SealError> {
        let refused = SealError { length: text.len() };
        let tag = if text.len() <= CCM_SHORT_BYTES_MAX {
            let nonce = Array::<u8, U12>(nonce.0);
            self.short
                .encrypt_inout_detached(&nonce, associated, text.into())
        } else {
            self.long(nonce)
                .encrypt_inout_detached(&LONG_NONCE, associated, text.into())
        };
        tag.map(|tag| Tag(tag.0)).map_err(|_| refused)
    }

    fn open_in_place(
        &self,
        nonce: Nonce,
        associated: &[u8],
        text: &mut [u8],
        tag: &Tag,
    ) -> Result<(), OpenError> {
        let tag = Array::<u8, U16>(tag.0);
        let opened = if text.len() <= CCM_SHORT_BYTES_MAX {
            let nonce = Array::<u8, U12>(nonce.0);
            self.short
                .decrypt_inout_detached(&nonce, associated, text.into(), &tag)
        } else {
            self.long(nonce)
                .decrypt_inout_detached(&LONG_NONCE, associated, text.into(), &tag)
        };
        opened.map_err(|_| OpenError)
    }
}

const LONG_NONCE: Array<u8, U7> = Array([0; 7]);

const _: () = assert!(NONCE_BYTES == 12 && TAG_BYTES == 16);

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the two forms meet without a gap. Method: one byte around the border, opened and changed.
    #[test]
    fn the_form_changes_with_the_length() {
        let strategy = AesCcm::new(&Key::new([3; 32]));
        for length in [CCM_SHORT_BYTES_MAX, CCM_SHORT_BYTES_MAX + 1] {
            let nonce = Nonce::numbered(7);
            let mut text = vec![5; length];
            let tag = strategy.seal_in_place(nonce, b"a", &mut text).unwrap();
            let other = strategy.open_in_place(Nonce::numbered(8), b"a", &mut text.clone(), &tag);
            assert_eq!(other, Err(OpenError));
            strategy
                .open_in_place(nonce, b"a", &mut text, &tag)
                .unwrap();
            assert!(text.iter().all(|byte| *byte == 5));
        }
    }
}
