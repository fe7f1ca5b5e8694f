//! Sealed payloads from outside, opened with fixed keys: nothing panics, what opens is sealed, and whatever is not sealed does
//! not open.

use waypost_encrypt::{Jwk, KeyRing as _, KeySet, OpeningError, check_sealed, open};

/// The receiver's, one that he shares, and a sender's: the keys of docs/sealing-format.md.
const KEYS: [&str; 4] = [
    r#"{"k":"WlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlo","kty":"oct","kid":"e8452208a4d447df","use":"enc"}"#,
    r#"{"crv":"P-256","kty":"EC","x":"WRq3ceu8_W2cuQlNEGUordGmnUTCwfYn8InsWLnGGt8","y":"n05qvw0EXAxpOjxorXyXynK-ZN70om_s0mPdmKkngPA","kid":"133634da538b61c6","d":"AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwM"}"#,
    r#"{"crv":"X25519","kty":"OKP","x":"rAGyIJ6GNU-4UyN7XeD0-rE8f8v0M6YcAZNpYX_s8Qs","kid":"49a85c76c6256ad5","use":"enc","d":"BAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQ"}"#,
    r#"{"crv":"Ed25519","kty":"OKP","x":"_RckOFqgx1tk-3jNYC-h2ZH96_drE8WO1wLqyDXp9hg","kid":"6ad651eb7b4d1b75","use":"sig"}"#,
];

/// Runs the target.
pub fn run(input: &[u8]) {
    let mut ring = KeySet::default().with_legacy();
    for text in KEYS {
        let key = Jwk::decode(text.as_bytes());
        assert!(key.is_ok(), "a key of the target is none");
        if let Ok(key) = key {
            ring.insert(key);
        }
    }
    assert!(ring.legacy());
    let is_sealed = check_sealed(input);
    match open(input, "orders/7/placed", &ring) {
        Ok(opened) => {
            assert_eq!(is_sealed, Ok(()));
            assert!(opened.plaintext.len() < input.len());
        }
        Err(OpeningError::NotSealed(error)) => assert!(error.offset <= input.len()),
        Err(error) => {
            assert_eq!(is_sealed, Ok(()));
            assert!(!error.to_string().is_empty());
        }
    }
}
