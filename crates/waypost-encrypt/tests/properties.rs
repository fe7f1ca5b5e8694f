//! What every strategy of the registry must hold.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use proptest::prelude::*;
use waypost_encrypt::{Encrypt, Key, Nonce, OpenError, Tag, at_rest, by_number, default_strategy};

struct Sealed {
    nonce: Nonce,
    associated: Vec<u8>,
    text: Vec<u8>,
    tag: Tag,
}

fn seal(strategy: &dyn Encrypt, number: u64, associated: &[u8], text: &[u8]) -> Sealed {
    let nonce = Nonce::numbered(number);
    let mut sealed = text.to_vec();
    let tag = strategy
        .seal_in_place(nonce, associated, &mut sealed)
        .unwrap();
    Sealed {
        nonce,
        associated: associated.to_vec(),
        text: sealed,
        tag,
    }
}

fn open(strategy: &dyn Encrypt, sealed: &Sealed) -> Result<Vec<u8>, OpenError> {
    let mut text = sealed.text.clone();
    strategy.open_in_place(sealed.nonce, &sealed.associated, &mut text, &sealed.tag)?;
    Ok(text)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_was_sealed_opens_to_the_same(
        key: [u8; 32],
        number: u64,
        associated in proptest::collection::vec(any::<u8>(), 0..100),
        text in proptest::collection::vec(any::<u8>(), 0..5_000),
    ) {
        for strategy in at_rest() {
            let at_work = (strategy.new)(&Key::new(key));
            let sealed = seal(&*at_work, number, &associated, &text);
            prop_assert!(text.len() < 16 || sealed.text != text);
            prop_assert_eq!(open(&*at_work, &sealed), Ok(text.clone()));
            let mut other = key;
            other[31] ^= 1;
            prop_assert_eq!(open(&*(strategy.new)(&Key::new(other)), &sealed), Err(OpenError));
        }
    }
}

/// A part of what is stored.
type BytesOf = fn(&mut Sealed) -> &mut [u8];

#[test]
fn every_change_of_one_bit_is_refused() {
    for strategy in at_rest() {
        let at_work = (strategy.new)(&Key::new([3; 32]));
        let fresh = || {
            seal(
                &*at_work,
                77,
                b"header of block 77",
                b"what only the key opens",
            )
        };
        let flips: [(&str, usize, BytesOf); 4] = [
            ("text", 23, |sealed| &mut sealed.text),
            ("associated", 18, |sealed| &mut sealed.associated),
            ("tag", 16, |sealed| &mut sealed.tag.0),
            ("nonce", 12, |sealed| &mut sealed.nonce.0),
        ];
        assert!(open(&*at_work, &fresh()).is_ok());
        for (part, length, bytes) in flips {
            assert_eq!(bytes(&mut fresh()).len(), length);
            for bit in 0..length * 8 {
                let mut sealed = fresh();
                bytes(&mut sealed)[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(
                    open(&*at_work, &sealed),
                    Err(OpenError),
                    "{strategy:?}: bit {bit} of the {part}"
                );
            }
        }
    }
}

#[test]
fn every_truncation_and_extension_is_refused() {
    for strategy in at_rest() {
        let at_work = (strategy.new)(&Key::new([3; 32]));
        let fresh = || seal(&*at_work, 1, b"associated", b"what only the key opens");
        for length in 0..fresh().text.len() {
            let mut sealed = fresh();
            sealed.text.truncate(length);
            assert_eq!(open(&*at_work, &sealed), Err(OpenError));
        }
        let mut sealed = fresh();
        sealed.text.push(0);
        assert_eq!(open(&*at_work, &sealed), Err(OpenError));
    }
}

#[test]
fn each_number_has_its_nonce() {
    for (number, expect) in [
        (0, [0; 12]),
        (1, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]),
        (0x0102_0304_0506_0708, [0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]),
        (
            u64::MAX,
            [0, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255],
        ),
    ] {
        assert_eq!(Nonce::numbered(number).0, expect);
    }
}

/// Goal: what is on somebody's disk stays readable. Method: the numbers are written down here once more.
#[test]
fn a_number_stands_for_one_strategy_for_ever() {
    let numbers: Vec<_> = at_rest()
        .map(|strategy| (strategy.number, strategy.name))
        .collect();
    assert_eq!(
        numbers,
        [(1, "aes-gcm"), (3, "aes-ccm"), (2, "chacha20-poly1305")]
    );
    for strategy in at_rest() {
        assert_eq!(by_number(strategy.number), Some(strategy));
    }
    assert_eq!(by_number(0), None, "0 stands for not encrypted");
    assert!(at_rest().any(|strategy| strategy == default_strategy()));
}
