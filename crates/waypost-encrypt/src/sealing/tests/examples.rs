//! The worked examples of docs/sealing-format.md: written there by this test, so that they stay true.
//! `RENEW_DOCS=1 cargo test -p waypost-encrypt examples` writes them anew.

use std::fmt::Write as _;

use super::super::*;
use super::Counted;
use crate::{Jwk, KeyKind, KeyRing as _, KeySet, PrivateKey, Suite, SymmetricKey};

const TOPIC: &str = "orders/7/placed";
const BEGIN: &str = "<!-- examples: written by a test -->\n";
const END: &str = "<!-- end of examples -->\n";

fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for line in bytes.chunks(48) {
        for byte in line {
            let _ = write!(text, "{byte:02x}");
        }
        text.push('\n');
    }
    text
}

fn pair(kind: KeyKind, byte: u8) -> PrivateKey {
    PrivateKey::of_scalar(kind, &[byte; 32]).unwrap()
}

#[test]
fn the_examples_are_true() {
    let shared = SymmetricKey::new(&[0x5a; 32]).unwrap();
    let curve = pair(KeyKind::P256, 3);
    let x25519 = pair(KeyKind::X25519, 4);
    let signer = pair(KeyKind::Ed25519, 9);
    let mut page = String::from("\nThe keys, all of them public knowledge now:\n\n```json\n");
    for jwk in [
        shared.to_jwk(),
        curve.to_jwk(),
        x25519.to_jwk(),
        signer.to_jwk(),
    ] {
        let _ = writeln!(page, "{}", jwk.as_str());
    }
    page.push_str("```\n");
    let (for_shared, for_curve) = (
        [Recipient::Shared(&shared)],
        [Recipient::Public(curve.public())],
    );
    let for_both = [
        Recipient::Public(curve.public()),
        Recipient::Public(x25519.public()),
    ];
    let mut ring = KeySet::default().with_legacy();
    for key in [
        Jwk::Symmetric(SymmetricKey::new(&[0x5a; 32]).unwrap()),
        Jwk::Private(pair(KeyKind::P256, 3)),
        Jwk::Private(pair(KeyKind::X25519, 4)),
        Jwk::Public(signer.public().clone()),
    ] {
        ring.insert(key);
    }
    for (title, suite, recipients, signed) in [
        (
            "COSE_Encrypt0: a shared key",
            "aes-gcm",
            &for_shared[..],
            false,
        ),
        (
            "COSE_Mac0: a shared key, AES-CBC, HMAC",
            "aes",
            &for_shared,
            false,
        ),
        (
            "COSE_Encrypt, one recipient on P-256",
            "ecc",
            &for_curve,
            false,
        ),
        (
            "COSE_Encrypt, two recipients, on P-256 and Curve25519",
            "hybrid+chacha20-poly1305",
            &for_both,
            false,
        ),
        ("COSE_Encrypt, signed with Ed25519", "ecc", &for_curve, true),
    ] {
        let sealing = Sealing {
            suite: Suite::parse(suite).unwrap(),
            topic: TOPIC,
            recipients,
            signer: signed.then_some(&signer),
            content_encoding: None,
        };
        let mut payload = Vec::new();
        seal(b"2 pizzas", &sealing, &mut Counted(1), &mut payload).unwrap();
        let opened = open(&payload, TOPIC, &ring).unwrap();
        assert_eq!(opened.plaintext, b"2 pizzas");
        assert_eq!(opened.sender == Sender::Unknown, !signed);
        let _ = write!(
            page,
            "\n### {title} (`{suite}`)\n\nTopic `{TOPIC}`, text `2 pizzas`, message id `{}`:\n\n```\n{}```\n",
            opened.message_id,
            hex(&payload)
        );
    }
    assert!(ring.legacy());
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/sealing-format.md");
    let whole = std::fs::read_to_string(path).unwrap();
    let (before, rest) = whole.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    let renewed = format!("{before}{BEGIN}{page}\n{END}{after}");
    if std::env::var_os("RENEW_DOCS").is_some() {
        std::fs::write(path, &renewed).unwrap();
    }
    assert!(
        std::fs::read_to_string(path).unwrap() == renewed,
        "docs/sealing-format.md is not current: RENEW_DOCS=1 cargo test -p waypost-encrypt examples"
    );
}
