//! `ChaCha20` and `Poly1305`: encryption and authentication of additions, rotations and exclusive ors alone. Where a processor has
//! no instructions for AES it is several times faster, and as safe against who measures time.

use aws_lc_rs::aead;

use super::aes_gcm::OfAwsLc;
use crate::{AtRest, Strategy, Use};

pub(super) const STRATEGY: Strategy = Strategy {
    name: "chacha20-poly1305",
    aliases: &["chacha20", "chachapoly", "chacha", "c20p"],
    uses: &[Use::AtRest, Use::Sealing],
    summary: "ChaCha20-Poly1305: as strong, and faster where the processor has no AES",
    source: "RFC 8439, by AWS-LC",
    at_rest: Some(&AT_REST),
};

pub(super) const AT_REST: AtRest = AtRest {
    name: "chacha20-poly1305",
    number: 2,
    new: |key| Box::new(OfAwsLc::new(&aead::CHACHA20_POLY1305, key)),
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Key, Nonce};

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len() / 2)
            .map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap())
            .collect()
    }

    /// RFC 8439, 2.8.2.
    #[test]
    fn the_published_case_holds() {
        let key: Vec<u8> = (0x80..=0x9f).collect();
        let strategy = (AT_REST.new)(&Key::new(key.try_into().unwrap()));
        let nonce = Nonce(bytes("070000004041424344454647").try_into().unwrap());
        let text = b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen would be it.";
        let mut buffer = text.to_vec();
        let tag = strategy
            .seal_in_place(nonce, &bytes("50515253c0c1c2c3c4c5c6c7"), &mut buffer)
            .unwrap();
        assert_eq!(buffer[..8], bytes("d31a8d34648e60db"));
        assert_eq!(tag.0[..], bytes("1ae10b594f09e26a7e902ecbd0600691"));
    }
}
