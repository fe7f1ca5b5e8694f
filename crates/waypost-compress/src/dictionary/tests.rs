use std::collections::{HashMap, HashSet};

use proptest::prelude::*;

use super::{
    testing::{of_orders, orders, publisher},
    windows::windows,
    *,
};

fn contains_any(dictionary: &[u8], secret: &[u8]) -> bool {
    let secret: HashSet<u64> = windows(secret).collect();
    windows(dictionary).any(|window| secret.contains(&window))
}

/// Sixteen digits that look like nothing else.
fn secret(number: u64) -> String {
    format!("{:016x}", hash(&number.to_le_bytes()))
}

/// Goal: a secret stays one. Method: canaries that 1, 2, 19, 20 and 40 of forty publishers send, often, within what all send;
/// those of twenty must be found, or the hunt would prove nothing.
#[test]
fn a_secret_of_nineteen_publishers_is_in_no_dictionary() {
    let mut trainer = Trainer::new(Privacy::Shared);
    let canaries = [
        (1, secret(1)),
        (2, secret(2)),
        (19, secret(3)),
        (20, secret(4)),
        (40, secret(5)),
    ];
    for round in 0..10 {
        for sender in 0..40 {
            for (senders, secret) in &canaries {
                let token = if sender < *senders {
                    secret.clone()
                } else {
                    self::secret(1000 + sender as u64 + 40 * round)
                };
                let message =
                    format!("{{\"kind\":\"login\",\"token\":\"{token}\",\"from\":\"web\"}}");
                trainer.add(publisher(sender), message.as_bytes());
            }
        }
    }
    let dictionary = trainer.train(&|_| false).unwrap();
    for (senders, secret) in &canaries {
        let is_there = contains_any(dictionary.bytes(), secret.as_bytes());
        assert_eq!(is_there, *senders >= 20, "sent by {senders}");
    }
}

/// Goal: what a publisher sends ten thousand times is still what one publisher sent. Method: as it says, and without the
/// rule, where it must show.
#[test]
fn how_often_something_was_sent_does_not_matter() {
    for (privacy, expect) in [(Privacy::Shared, false), (Privacy::None, true)] {
        let mut trainer = Trainer::new(privacy);
        for number in 0..2_000_usize {
            let other = format!("a greeting from everybody, number {}", number % 7);
            trainer.add(publisher(number % 25), other.as_bytes());
            trainer.add(publisher(0), b"the password of number nought is swordfish");
        }
        let dictionary = trainer.train(&|_| false).unwrap();
        assert_eq!(contains_any(dictionary.bytes(), b"is swordfish"), expect);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Goal: the rule holds for whatever was sent, seams included. Method: words of few letters, so that seams often look
    /// like something sent; every window of the content that was sent at all is counted.
    #[test]
    fn every_window_that_was_sent_was_sent_by_many(
        words in proptest::collection::vec(proptest::collection::vec(0..4_u8, 3..30), 2..8),
        messages in proptest::collection::vec((0..28_usize, proptest::collection::vec(0..8_usize, 1..5)), 100..600),
        all_bytes in any::<bool>(),
    ) {
        let mut trainer = Trainer::new(Privacy::Shared);
        let mut senders: HashMap<u64, HashSet<usize>> = HashMap::new();
        let mut send = |sender: usize, message: &[u8]| {
            trainer.add(publisher(sender), message);
            for window in windows(message) {
                senders.entry(window).or_default().insert(sender);
            }
        };
        for (sender, chosen) in &messages {
            let parts: Vec<_> = chosen.iter().map(|word| words[word % words.len()].clone()).collect();
            send(*sender, &parts.concat());
        }
        if all_bytes {
            // No byte is left that stands in no message: every seam must be looked at.
            for byte in 4..=u8::MAX {
                send(0, &[byte, byte]);
            }
            for sender in 0..25 {
                send(sender, &[0; 40]);
            }
        }
        let samples = trainer.samples();
        let Ok(content) = trainer.content(&samples) else { return Ok(()) };
        for window in windows(&content) {
            if let Some(senders) = senders.get(&window) {
                prop_assert!(senders.len() >= PUBLISHERS_MIN, "{window:x} of {}", senders.len());
            }
        }
    }
}

/// Goal: a seam never spells a secret. Method: every byte value was sent, so that the separator is a letter too; one
/// publisher sent exactly what a seam would be.
#[test]
fn a_seam_that_spells_what_one_publisher_sent_is_not_made() {
    let mut trainer = Trainer::new(Privacy::Shared);
    let all: Vec<u8> = (0..=u8::MAX).collect();
    trainer.add(publisher(0), &all);
    let (first, second) = (
        "first: what everybody says first, and what they say is long enough to stand alone; ",
        "second and last: so far, so good.",
    );
    for number in 0..60 {
        trainer.add(publisher(number % 20), first.as_bytes());
        trainer.add(publisher(number % 20), second.as_bytes());
    }
    let clean = trainer.content(&trainer.samples()).unwrap();
    let seam = clean.iter().position(|byte| *byte == 0).unwrap();
    let around = (&clean[seam - 12..seam], &clean[seam + 1..seam + 13]);
    // Whatever byte stands between the two.
    let mut sent = HashSet::new();
    for byte in 0..=u8::MAX {
        let secret = [around.0, &[byte], around.1].concat();
        trainer.add(publisher(0), &secret);
        sent.extend(windows(&secret));
    }
    for shared in [first, second] {
        for window in windows(shared.as_bytes()) {
            sent.remove(&window);
        }
    }
    let content = trainer.content(&trainer.samples());
    let content = content.unwrap_or_else(|error| panic!("{error}"));
    assert!(windows(&content).all(|window| !sent.contains(&window)));
}

#[test]
fn the_same_messages_make_the_same_dictionary_and_a_taken_id_another() {
    let one = of_orders();
    let two = of_orders();
    assert_eq!(one.bytes(), two.bytes());
    assert!((ID_MIN..=ID_TRAINED_MAX).contains(&one.id()));
    let other = orders().train(&|id| id == one.id()).unwrap();
    assert_ne!(other.id(), one.id());
    assert_eq!(other.bytes()[8..], one.bytes()[8..]);
    assert_eq!(orders().train(&|_| true).unwrap_err(), TrainingError::NoId);
}

#[test]
fn too_few_publishers_and_too_little_in_common_make_none() {
    let train = |publishers: usize, message: &dyn Fn(usize) -> String| {
        let mut trainer = Trainer::new(Privacy::Shared);
        for number in 0..400 {
            trainer.add(publisher(number % publishers), message(number).as_bytes());
        }
        trainer.train(&|_| false).map(|it| it.id())
    };
    let same = |_| {
        "what everybody says in so many words, again and again, for the length of a line".repeat(2)
    };
    let error = train(PUBLISHERS_MIN - 1, &same).unwrap_err();
    assert_eq!(error, TrainingError::TooFewPublishers { publishers: 19 });
    let other = |number| secret(number as u64);
    let error = train(PUBLISHERS_MIN, &other).unwrap_err();
    assert!(
        matches!(error, TrainingError::TooLittleShared { .. }),
        "{error}"
    );
    let empty = Trainer::new(Privacy::None).train(&|_| false).unwrap_err();
    assert!(
        matches!(empty, TrainingError::TooLittleShared { bytes: 0 }),
        "{empty}"
    );
}

/// Goal: samples stay within their bounds and are not only the first or the last. Method: at N, N + 1 and 2N, by number and
/// by bytes; then how many are from the second half.
#[test]
fn samples_stay_within_their_bounds() {
    for (length, room) in [
        (1, SAMPLES_MAX),
        (SAMPLE_BYTES_MAX, SAMPLES_BYTES_MAX / SAMPLE_BYTES_MAX),
    ] {
        for (count, expect) in [(room, room), (room + 1, room), (2 * room, room)] {
            let mut trainer = Trainer::new(Privacy::Shared);
            for number in 0..count {
                trainer.add(publisher(usize::from(number >= room)), &vec![7; length]);
            }
            assert_eq!((trainer.seen(), trainer.kept()), (count as u64, expect));
            assert_eq!(trainer.kept_bytes(), expect * length);
            if count == 2 * room {
                let late = trainer
                    .samples()
                    .iter()
                    .filter(|it| it.publisher == 1)
                    .count();
                assert!((room / 3..room * 2 / 3).contains(&late), "{late} of {room}");
            }
        }
    }
    let mut trainer = Trainer::new(Privacy::Shared);
    trainer.add(publisher(0), &vec![7; 2 * SAMPLE_BYTES_MAX]);
    trainer.add(publisher(0), b"");
    assert_eq!(
        (trainer.kept(), trainer.kept_bytes()),
        (1, SAMPLE_BYTES_MAX)
    );
}

/// Goal: bytes from elsewhere are a dictionary or an error. Method: every truncation, every byte of the header damaged, ids
/// outside the range, lengths at the bound.
#[test]
fn damaged_dictionaries_are_refused_or_harmless() {
    let good = of_orders();
    for length in 0..good.bytes().len() {
        let _ = Dictionary::new(good.bytes()[..length].to_vec());
    }
    for at in 0..200 {
        for flip in [1, 0x80, 0xff] {
            let mut bytes = good.bytes().to_vec();
            bytes[at] ^= flip;
            if let Ok(dictionary) = Dictionary::new(bytes) {
                let id = dictionary.id();
                let known = HashMap::from([(id, Arc::new(dictionary))]);
                let mut packed = Vec::new();
                let message = b"{\"order\":\"77123\",\"event\":\"order.placed\"}";
                let mut one = crate::zstd_dict::with(Arc::new(()), known.get(&id).cloned());
                if one.compress(message, &mut packed).is_ok() {
                    let mut other = crate::zstd_dict::with(Arc::new(known), None);
                    let _ = other.decompress(&packed, 100, &mut Vec::new());
                }
            }
        }
    }
    for id in [0_u32, 1, ID_MIN - 1, ID_MAX + 1, u32::MAX] {
        let mut bytes = good.bytes().to_vec();
        bytes[4..8].copy_from_slice(&id.to_le_bytes());
        let error = Dictionary::new(bytes).unwrap_err();
        assert_eq!(error, BadDictionary::Id { id });
    }
    for (length, is_ok) in [(0, true), (1, false), (DICTIONARY_BYTES_MAX, false)] {
        let mut bytes = good.bytes().to_vec();
        bytes.resize(DICTIONARY_BYTES_MAX + length, b'x');
        assert_eq!(Dictionary::new(bytes).is_ok(), is_ok, "{length} too long");
    }
    assert_eq!(
        format!("{good:?}"),
        format!("dictionary {} of {} bytes", good.id(), good.bytes().len())
    );
}
