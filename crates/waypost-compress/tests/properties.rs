//! What every strategy of the registry must hold, whatever bytes it is given.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use proptest::prelude::*;
use proptest::strategy::Strategy as _;
use waypost_compress::{DecompressError, Strategy, by_number, default_strategy, registry};

fn pack(strategy: &Strategy, input: &[u8]) -> Vec<u8> {
    let mut packed = Vec::new();
    (strategy.new)().compress(input, &mut packed).unwrap();
    packed
}

fn unpack(strategy: &Strategy, packed: &[u8], limit: usize) -> Result<Vec<u8>, DecompressError> {
    let mut into = b"kept".to_vec();
    let outcome = (strategy.new)().decompress(packed, limit, &mut into);
    assert_eq!(&into[..4], b"kept", "{strategy:?}");
    let unpacked = into.split_off(4);
    assert!(
        unpacked.len() <= limit,
        "{strategy:?} exceeded {limit} bytes"
    );
    if outcome.is_err() {
        assert!(unpacked.is_empty(), "{strategy:?} left something behind");
    }
    outcome.map(|()| unpacked)
}

/// Texts, repetitions, noise and nothing.
fn inputs() -> impl proptest::strategy::Strategy<Value = Vec<u8>> {
    let noise = proptest::collection::vec(any::<u8>(), 0..2_000);
    let letters = proptest::collection::vec(b'a'..=b'd', 0..4_000);
    let repeated = (
        proptest::collection::vec(any::<u8>(), 1..40),
        0..3_000_usize,
    )
        .prop_map(|(unit, count)| unit.repeat(count));
    prop_oneof![noise, letters, repeated]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_was_packed_unpacks_to_the_same(input in inputs()) {
        for strategy in registry() {
            let packed = pack(strategy, &input);
            let unpacked = unpack(strategy, &packed, input.len());
            prop_assert_eq!(unpacked.as_ref(), Ok(&input));
            if let Some(limit) = input.len().checked_sub(1) {
                prop_assert_eq!(
                    unpack(strategy, &packed, limit),
                    Err(DecompressError::TooLong { limit })
                );
            }
        }
    }

    #[test]
    fn what_one_call_packed_shows_in_no_other(inputs in proptest::collection::vec(inputs(), 1..5)) {
        for strategy in registry() {
            let mut kept = (strategy.new)();
            for input in &inputs {
                let mut packed = b"kept".to_vec();
                kept.compress(input, &mut packed).unwrap();
                // Auto learns which strategy packs, and nothing else.
                if strategy.name != "auto" {
                    prop_assert_eq!(&packed[4..], pack(strategy, input));
                }
                // A failure in between changes nothing.
                let half = &packed[4..4 + (packed.len() - 4) / 2];
                let _ = kept.decompress(half, input.len(), &mut Vec::new());
                let mut unpacked = Vec::new();
                kept.decompress(&packed[4..], input.len(), &mut unpacked).unwrap();
                prop_assert_eq!(&unpacked, input);
            }
        }
    }

    #[test]
    fn hostile_bytes_are_an_error_or_some_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..300), limit in 0..5_000_usize) {
        for strategy in registry() {
            let _ = unpack(strategy, &bytes, limit);
        }
    }
}

const SAMPLE: &[u8] = b"{\"room\":\"lobby\",\"user\":\"anna\",\"text\":\"hello, hello, hello\"}\n{\"room\":\"lobby\",\"user\":\"ben\",\"text\":\"hello\"}\n";

#[test]
fn every_truncation_is_an_error_or_shorter() {
    for strategy in registry() {
        for input in [SAMPLE, &[7; 5_000], b"x"] {
            let packed = pack(strategy, input);
            for length in 0..packed.len() {
                match unpack(strategy, &packed[..length], input.len()) {
                    Ok(unpacked) => {
                        assert!(
                            unpacked.len() < input.len(),
                            "{strategy:?} cut to {length} gave it all"
                        );
                        assert!(
                            ["identity", "rle", "lz78", "auto"].contains(&strategy.name),
                            "{strategy:?}: only what has neither length nor end may not notice"
                        );
                    }
                    Err(error) => assert!(!error.to_string().is_empty()),
                }
            }
        }
    }
}

#[test]
fn every_corruption_of_one_byte_stays_within_the_limit() {
    for strategy in registry() {
        for input in [SAMPLE, &[7; 5_000]] {
            let packed = pack(strategy, input);
            for at in 0..packed.len() {
                let flipped = (0..8).map(|bit| packed[at] ^ 1 << bit);
                for value in flipped.chain([0, 1, 0x7f, 0xff]) {
                    let mut damaged = packed.clone();
                    damaged[at] = value;
                    let _ = unpack(strategy, &damaged, input.len());
                }
            }
        }
    }
}

#[test]
fn a_bomb_takes_no_more_than_the_limit() {
    let bomb = vec![0; 16 << 20];
    for strategy in registry() {
        let packed = pack(strategy, &bomb);
        let mut into = Vec::new();
        let limit = 1 << 16;
        let outcome = (strategy.new)().decompress(&packed, limit, &mut into);
        assert_eq!(outcome, Err(DecompressError::TooLong { limit }));
        assert!(
            into.capacity() <= limit,
            "{strategy:?} took {}",
            into.capacity()
        );
    }
}

#[test]
fn text_becomes_shorter_and_noise_hardly_longer() {
    let text = SAMPLE.repeat(600);
    let mut state = 1_u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 56) as u8
    })
    .take(1 << 16)
    .collect();
    for strategy in registry() {
        let (of_text, of_noise) = (pack(strategy, &text).len(), pack(strategy, &noise).len());
        // In hundredths of the input: the text by those who see what repeats, or how often each byte comes, or neither; the noise
        // by those who can leave it as it is, and by others.
        let (text_max, noise_max) = match strategy.name {
            "identity" | "rle" => (101, 101),
            "huffman" | "arithmetic" => (60, 102),
            "lz78" => (10, 150),
            _ => (5, 101),
        };
        for (packed, plain, most) in [(of_text, &text, text_max), (of_noise, &noise, noise_max)] {
            assert!(
                100 * packed <= most * plain.len(),
                "{strategy:?}: {packed} bytes of {}",
                plain.len()
            );
        }
    }
}

/// Goal: what is on somebody's disk or on its way stays readable. Method: numbers and encodings are written down here once
/// more.
#[test]
fn a_number_stands_for_one_strategy_for_ever() {
    let mut numbers: Vec<_> = registry()
        .iter()
        .map(|strategy| (strategy.number, strategy.name, strategy.encoding))
        .collect();
    numbers.sort_unstable();
    let for_ever = [
        (0, "identity", "identity"),
        (1, "lz4", "waypost-lz4"),
        (2, "zstd", "zstd"),
        (3, "zstd-dict", "waypost-zstd-dict"),
        (4, "rle", "waypost-rle"),
        (5, "huffman", "waypost-huffman"),
        (6, "arithmetic", "waypost-arithmetic"),
        (7, "lz77", "deflate"),
        (8, "lz78", "compress"),
        (9, "brotli", "br"),
        (10, "auto", "waypost-auto"),
    ];
    assert_eq!(numbers, for_ever);
    for strategy in registry() {
        assert_eq!(by_number(strategy.number), Some(strategy));
    }
    assert_eq!(by_number(200), None);
    assert!(registry().contains(default_strategy()));
}
