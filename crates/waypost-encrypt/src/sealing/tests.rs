//! Every envelope, sealed and opened, and each promise of docs/sealing-format.md broken once.

mod examples;
mod vectors;

use coset::{
    CborSerializable as _, CoseEncrypt, CoseEncrypt0, CoseMac0, TaggedCborSerializable as _,
};

use super::*;
use crate::{
    Agreement, Content, Jwk, KeyKind, KeySet, KeyUse, LEGACY_BLOCKS_MAX, MESSAGES_MAX,
    NoRandomness, PrivateKey, PublicKey, Random, Suite, SymmetricKey, SystemRandom,
};

const TOPIC: &str = "orders/7/placed";

/// Bytes that follow from a seed: a test is a replay.
pub(crate) struct Counted(pub(crate) u8);

impl Random for Counted {
    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), NoRandomness> {
        for byte in bytes {
            self.0 = self.0.wrapping_mul(5).wrapping_add(17);
            *byte = self.0;
        }
        Ok(())
    }
}

struct NoneLeft;

impl Random for NoneLeft {
    fn fill(&mut self, _: &mut [u8]) -> Result<(), NoRandomness> {
        Err(NoRandomness)
    }
}

fn shared() -> SymmetricKey {
    SymmetricKey::new(&[0x5a; 32]).unwrap()
}

fn pair(kind: KeyKind, byte: u8) -> PrivateKey {
    PrivateKey::of_scalar(kind, &[byte; 32]).unwrap()
}

/// An RSA pair for all tests: drawing one takes a second.
fn rsa() -> PrivateKey {
    static TEXT: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    let text = TEXT.get_or_init(|| {
        let key = PrivateKey::generate(KeyKind::Rsa, &mut SystemRandom).unwrap();
        key.to_jwk().as_str().to_owned()
    });
    match Jwk::decode(text.as_bytes()).unwrap() {
        Jwk::Private(key) => key,
        other => panic!("{other:?}"),
    }
}

/// The receivers of each agreement, as pairs.
fn receivers(agreement: Agreement) -> Vec<PrivateKey> {
    match agreement {
        Agreement::Shared => Vec::new(),
        Agreement::Ecc => vec![pair(KeyKind::P256, 3)],
        Agreement::Rsa => vec![rsa()],
        Agreement::Hybrid => vec![pair(KeyKind::X25519, 4), rsa(), pair(KeyKind::P256, 3)],
    }
}

fn sealed(suite: Suite, text: &[u8], signer: Option<&PrivateKey>) -> (Vec<u8>, MessageId) {
    let key = shared();
    let pairs = receivers(suite.agreement());
    let mut recipients: Vec<_> = pairs
        .iter()
        .map(|pair| Recipient::Public(pair.public()))
        .collect();
    if recipients.is_empty() {
        recipients.push(Recipient::Shared(&key));
    }
    let sealing = Sealing {
        suite,
        topic: TOPIC,
        recipients: &recipients,
        signer,
        content_encoding: Some("zstd"),
    };
    let mut payload = Vec::new();
    let id = seal(text, &sealing, &mut Counted(1), &mut payload).unwrap();
    (payload, id)
}

fn ring_of(pairs: Vec<PrivateKey>) -> KeySet {
    let mut ring = KeySet::default().with_legacy();
    ring.insert(Jwk::Symmetric(shared()));
    for pair in pairs {
        ring.insert(Jwk::Private(pair));
    }
    ring
}

fn trusting(mut ring: KeySet, sender: &PublicKey) -> KeySet {
    ring.insert(Jwk::Public(sender.clone()));
    ring
}

#[test]
fn every_suite_opens_for_each_of_its_receivers() {
    for suite in Suite::all() {
        let text = b"2 pizzas, no anchovies";
        let (payload, id) = sealed(suite, text, None);
        assert_eq!(check_sealed(&payload), Ok(()), "{suite}");
        let count = receivers(suite.agreement()).len().max(1);
        for receiver in 0..count {
            let ours = receivers(suite.agreement())
                .into_iter()
                .skip(receiver)
                .take(1);
            let opened = open(&payload, TOPIC, &ring_of(ours.collect())).unwrap();
            let expect = Opened {
                plaintext: text.to_vec(),
                sender: Sender::Unknown,
                message_id: id,
                content_encoding: Some("zstd".into()),
                suite,
            };
            assert_eq!(opened, expect, "{suite}");
        }
    }
}

#[test]
fn both_keys_that_sign_are_recognised_under_every_suite() {
    for suite in Suite::all() {
        for kind in [KeyKind::P256, KeyKind::Ed25519] {
            let signer = pair(kind, 9);
            let (payload, _) = sealed(suite, b"text", Some(&signer));
            let ring = ring_of(receivers(suite.agreement()));
            let key_id = signer.id();
            assert_eq!(
                open(&payload, TOPIC, &ring),
                Err(OpeningError::UnknownSigner { key_id })
            );
            let opened = open(&payload, TOPIC, &trusting(ring, signer.public())).unwrap();
            assert_eq!(opened.sender, Sender::Signed { key_id }, "{suite}");
            assert_eq!(opened.plaintext, b"text");
        }
    }
}

#[test]
fn every_changed_byte_and_every_truncation_is_refused() {
    let signer = pair(KeyKind::Ed25519, 9);
    for name in [
        "aes-gcm",
        "aes-ccm",
        "chacha20-poly1305",
        "aes",
        "des",
        "ecc",
    ] {
        let suite = Suite::parse_legacy(name).unwrap();
        let (payload, id) = sealed(suite, b"text", Some(&signer));
        let ring = trusting(ring_of(receivers(suite.agreement())), signer.public());
        for at in 0..payload.len() {
            assert!(open(&payload[..at], TOPIC, &ring).is_err());
            let mut changed = payload.clone();
            changed[at] ^= 1;
            // A changed key id of the other kind of recipient label opens nothing; nothing else may open either.
            let opened = open(&changed, TOPIC, &ring);
            assert!(opened.is_err(), "{suite}: byte {at} of {id}");
        }
    }
}

#[test]
fn a_message_of_another_topic_is_refused() {
    for suite in Suite::all() {
        let (payload, _) = sealed(suite, b"text", None);
        let ring = ring_of(receivers(suite.agreement()));
        let expect = OpeningError::Topic {
            sealed_for: TOPIC.into(),
        };
        assert_eq!(open(&payload, "orders/8/placed", &ring), Err(expect));
    }
}

#[test]
fn who_has_no_key_is_told_whose_it_would_take() {
    for suite in Suite::all() {
        let (payload, _) = sealed(suite, b"text", None);
        let expect: Vec<_> = match suite.agreement() {
            Agreement::Shared => vec![shared().id()],
            agreement => receivers(agreement).iter().map(PrivateKey::id).collect(),
        };
        let opened = open(&payload, TOPIC, &KeySet::default().with_legacy());
        assert_eq!(opened, Err(OpeningError::NoKey { key_ids: expect }));
    }
}

/// Goal: a receiver cannot pass a signed message on to others in the sender's name. Method: he opens it, and seals the signed
/// text anew to a third with the header as it was.
#[test]
fn a_signed_text_is_for_its_receivers_only() {
    let (signer, second, third) = (
        pair(KeyKind::Ed25519, 9),
        pair(KeyKind::P256, 3),
        pair(KeyKind::P256, 4),
    );
    let stated = header::Stated {
        algorithm: 3,
        topic: TOPIC,
        message_id: MessageId([1; 16]),
        content_encoding: None,
        signer: Some(signer.id()),
    };
    let for_second = sign::signed(b"text", &signer, &stated, &[second.id()]).unwrap();
    for (topic, id, to, is_right) in [
        (TOPIC, 1, &second, true),
        (TOPIC, 1, &third, false),
        (TOPIC, 2, &second, false),
        ("orders/8/placed", 1, &second, false),
    ] {
        let forged = header::Stated {
            topic,
            message_id: MessageId([id; 16]),
            ..stated.clone()
        };
        let header = forged.encoded();
        let mut recipients = Vec::new();
        cbor::array(&mut recipients, 1);
        let key = recipient::write_direct(to.public(), 3, &mut Counted(1), &mut recipients);
        let Ok(key) = key else { panic!("no key") };
        let ready = ReadyAead::new(Aead::AesGcm, &key).unwrap();
        let associated = header::associated(header::ENCRYPT, &header, header::NO_EXTERNAL);
        let mut payload = vec![0xd8, 96, 0x84];
        cbor::bytes(&mut payload, &header);
        payload.extend([0xa1, 5, 0x4c]);
        payload.extend([7; 12]);
        let mut sealed = for_second.clone();
        let tag = ready.seal(&[7; 12], &associated, &mut sealed).unwrap();
        sealed.extend(tag);
        cbor::bytes(&mut payload, &sealed);
        payload.extend(&recipients);
        let mut ring = trusting(KeySet::default(), signer.public());
        let scalar = if to.id() == second.id() { 3 } else { 4 };
        ring.insert(Jwk::Private(pair(KeyKind::P256, scalar)));
        let opened = open(&payload, topic, &ring);
        let key_id = signer.id();
        match opened {
            Ok(opened) => assert!(is_right && opened.sender == Sender::Signed { key_id }),
            Err(error) => assert!(!is_right && error == OpeningError::Signature { key_id }),
        }
    }
}

#[test]
fn an_unsigned_text_that_looks_signed_stays_unsigned() {
    let signer = pair(KeyKind::Ed25519, 9);
    let stated = header::Stated {
        algorithm: 3,
        topic: TOPIC,
        message_id: MessageId([1; 16]),
        content_encoding: None,
        signer: None,
    };
    let text = sign::signed(b"text", &signer, &stated, &[shared().id()]).unwrap();
    let suite = Suite::parse("aes-gcm").unwrap();
    let (payload, _) = sealed(suite, &text, None);
    let ring = trusting(ring_of(Vec::new()), signer.public());
    let opened = open(&payload, TOPIC, &ring).unwrap();
    assert_eq!((opened.sender, opened.plaintext), (Sender::Unknown, text));
}

#[test]
fn what_is_written_is_what_coset_would_write() {
    for suite in Suite::all() {
        let (payload, _) = sealed(suite, b"text", None);
        let again = match payload.first() {
            Some(0xd0) => CoseEncrypt0::from_tagged_slice(&payload)
                .unwrap()
                .to_tagged_vec(),
            Some(0xd1) => {
                let whole = CoseMac0::from_tagged_slice(&payload).unwrap();
                let inner = whole.payload.clone().unwrap();
                let again = CoseEncrypt0::from_slice(&inner).unwrap().to_vec().unwrap();
                assert_eq!(again, inner, "{suite}");
                whole.to_tagged_vec()
            }
            _ => CoseEncrypt::from_tagged_slice(&payload)
                .unwrap()
                .to_tagged_vec(),
        };
        assert_eq!(again.unwrap(), payload, "{suite}");
    }
}

#[test]
fn ccm_has_two_forms_by_length() {
    for name in ["aes-ccm", "ecc+aes-ccm"] {
        let suite = Suite::parse(name).unwrap();
        for (length, algorithm, tag) in [
            (CCM_SHORT_BYTES_MAX, 31, 0xd0),
            (CCM_SHORT_BYTES_MAX + 1, 33, 0xd8),
            (2 * CCM_SHORT_BYTES_MAX, 33, 0xd8),
        ] {
            let text = vec![7; length];
            let (payload, _) = sealed(suite, &text, None);
            let is_shared = suite.agreement() == Agreement::Shared;
            assert!(!is_shared || payload[0] == tag, "{name}, {length}");
            let (at, _) = payload
                .windows(4)
                .enumerate()
                .find(|(_, bytes)| bytes[..3] == [0xa4, 0x01, 0x18])
                .unwrap();
            assert_eq!(payload[at + 3], algorithm, "{name}, {length}");
            let opened = open(&payload, TOPIC, &ring_of(receivers(suite.agreement())));
            assert!(opened.unwrap().plaintext == text);
        }
    }
}

#[test]
fn a_shared_key_seals_so_many_messages_and_no_more() {
    let suite = Suite::parse("aes-gcm").unwrap();
    for (before, is_sealed) in [
        (MESSAGES_MAX - 1, true),
        (MESSAGES_MAX, false),
        (2 * MESSAGES_MAX, false),
    ] {
        let key = shared().with_sealed(before);
        let result = seal_with(suite, &key, b"text");
        assert_eq!(result.is_ok(), is_sealed, "{before}");
        assert_eq!(key.sealed(), before + u64::from(is_sealed));
        if let Err(error) = result {
            assert!(error.to_string().ends_with("rotate it"), "{error}");
        }
    }
}

#[test]
fn des_seals_so_many_blocks_and_no_more() {
    let suite = Suite::parse_legacy("des").unwrap();
    // 15 bytes are two blocks.
    for (before, is_sealed) in [
        (LEGACY_BLOCKS_MAX - 2, true),
        (LEGACY_BLOCKS_MAX - 1, false),
        (2 * LEGACY_BLOCKS_MAX, false),
    ] {
        let key = shared().with_legacy_blocks(before);
        let result = seal_with(suite, &key, &[1; 15]);
        assert_eq!(result.is_ok(), is_sealed, "{before}");
        assert_eq!(key.legacy_blocks(), before + 2 * u64::from(is_sealed));
    }
}

#[test]
fn des_is_not_opened_by_who_does_not_say_legacy() {
    let suite = Suite::parse_legacy("des").unwrap();
    let (payload, _) = sealed(suite, b"text", None);
    let mut ring = KeySet::default();
    ring.insert(Jwk::Symmetric(shared()));
    assert_eq!(open(&payload, TOPIC, &ring), Err(OpeningError::Legacy));
}

fn seal_with(suite: Suite, key: &SymmetricKey, text: &[u8]) -> Result<MessageId, SealingError> {
    let sealing = Sealing {
        suite,
        topic: TOPIC,
        recipients: &[Recipient::Shared(key)],
        signer: None,
        content_encoding: None,
    };
    seal(text, &sealing, &mut Counted(1), &mut Vec::new())
}

#[test]
fn recipients_that_do_not_fit_the_suite_are_refused() {
    let (key, curve, rsa) = (shared(), pair(KeyKind::P256, 3), rsa());
    let signing = pair(KeyKind::P256, 5).for_use(KeyUse::Sign).unwrap();
    let shared = Recipient::Shared(&key);
    let [curve, rsa, signing] =
        [&curve, &rsa, &signing].map(|pair| Recipient::Public(pair.public()));
    let many = vec![curve; RECIPIENTS_MAX + 1];
    for (suite, recipients, expect) in [
        ("aes-gcm", &[][..], "exactly one shared key"),
        ("aes-gcm", &[shared, shared], "exactly one shared key"),
        ("aes-gcm", &[curve], "exactly one shared key"),
        ("ecc", &[shared], "public keys"),
        ("ecc", &[], "no recipient"),
        ("ecc", &[rsa], "rsa or hybrid"),
        ("ecc", &[curve, curve], "hybrid seals to several"),
        ("rsa", &[curve], "ecc or hybrid"),
        ("hybrid", &[signing], "use is \"sig\""),
        ("hybrid", &many, "at most 128"),
    ] {
        let sealing = Sealing {
            suite: Suite::parse(suite).unwrap(),
            topic: TOPIC,
            recipients,
            signer: None,
            content_encoding: None,
        };
        let mut into = b"before".to_vec();
        let error = seal(b"text", &sealing, &mut Counted(1), &mut into).unwrap_err();
        assert!(error.to_string().contains(expect), "{suite}: {error}");
        assert_eq!(into, b"before");
    }
}

#[test]
fn a_key_for_sealing_does_not_sign() {
    let key = shared();
    for signer in [
        pair(KeyKind::X25519, 1),
        pair(KeyKind::P256, 1).for_use(KeyUse::Seal).unwrap(),
    ] {
        let sealing = Sealing {
            suite: Suite::parse("aes-gcm").unwrap(),
            topic: TOPIC,
            recipients: &[Recipient::Shared(&key)],
            signer: Some(&signer),
            content_encoding: None,
        };
        let result = seal(b"text", &sealing, &mut Counted(1), &mut Vec::new());
        assert_eq!(result, Err(SealingError::NotForSigning(signer.id())));
    }
}

#[test]
fn nothing_is_sealed_without_randomness() {
    let (key, curve) = (shared(), pair(KeyKind::P256, 3));
    for (suite, recipient) in [
        ("aes-gcm", Recipient::Shared(&key)),
        ("ecc", Recipient::Public(curve.public())),
    ] {
        let sealing = Sealing {
            suite: Suite::parse(suite).unwrap(),
            topic: TOPIC,
            recipients: &[recipient],
            signer: None,
            content_encoding: None,
        };
        let result = seal(b"text", &sealing, &mut NoneLeft, &mut Vec::new());
        assert_eq!(result, Err(SealingError::NoRandomness(NoRandomness)));
    }
}

#[test]
fn what_is_packed_as_identity_says_nothing_of_it() {
    let key = shared();
    let sealing = Sealing {
        suite: Suite::new(Agreement::Shared, Content::AesGcm).unwrap(),
        topic: TOPIC,
        recipients: &[Recipient::Shared(&key)],
        signer: None,
        content_encoding: Some("Identity"),
    };
    let mut payload = Vec::new();
    seal(b"text", &sealing, &mut Counted(1), &mut payload).unwrap();
    let opened = open(&payload, TOPIC, &ring_of(Vec::new())).unwrap();
    assert_eq!(opened.content_encoding, None);
}
