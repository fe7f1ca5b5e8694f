//! Keys: the master key an operator gives, and what is derived from it. None of them is ever printed, each is wiped from
//! memory when it goes.

use aws_lc_rs::{hkdf, hmac};
use zeroize::Zeroizing;

use crate::{AtRest, default_strategy};

/// Bytes of every key.
pub const KEY_BYTES: usize = 32;

/// Bytes of a salt.
pub const SALT_BYTES: usize = 32;

/// What stands for a key where it must be named: it tells a wrong key from damage, and gives nothing of the key away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KeyId(pub [u8; 8]);

impl std::fmt::Display for KeyId {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0
            .iter()
            .try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

/// A key for one purpose.
pub struct Key(Box<Zeroizing<[u8; KEY_BYTES]>>);

impl Key {
    /// A key of these bytes.
    pub fn new(bytes: [u8; KEY_BYTES]) -> Self {
        // On the heap from the start: what moves is a pointer, and no copy stays behind.
        Self(Box::new(Zeroizing::new(bytes)))
    }

    /// A key of these bytes, copied straight to where they are wiped.
    pub(crate) fn copied(bytes: &[u8; KEY_BYTES]) -> Self {
        let mut key = Box::new(Zeroizing::new([0; KEY_BYTES]));
        key.copy_from_slice(bytes);
        Self(key)
    }

    /// HMAC-SHA-256 of `data`: the same for the same key and data, and only for them; whoever lacks the key learns nothing.
    pub fn hash(&self, data: &[u8]) -> [u8; 32] {
        keyed_hash(self.bytes(), data)
    }

    pub(crate) fn bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Key(…)")
    }
}

/// The key an operator gives: every other is derived from it.
pub struct MasterKey {
    key: Key,
    /// What is written with it from now on; what was written says so itself.
    strategy: &'static AtRest,
}

impl MasterKey {
    /// The master key of these bytes.
    pub fn new(bytes: [u8; KEY_BYTES]) -> Self {
        Self {
            key: Key::new(bytes),
            strategy: default_strategy(),
        }
    }

    /// The same, at work with another strategy than the default.
    #[must_use]
    pub fn with_strategy(self, strategy: &'static AtRest) -> Self {
        Self { strategy, ..self }
    }

    /// What is written with it from now on.
    pub fn strategy(&self) -> &'static AtRest {
        self.strategy
    }

    /// A master key as a file, a variable or a command gives it: 64 hexadecimal digits, space around them ignored, or 32
    /// bytes as they are.
    pub fn read(given: &[u8]) -> Result<Self, KeyError> {
        let trimmed = given.trim_ascii();
        let is_hex = !trimmed.is_empty() && trimmed.iter().all(u8::is_ascii_hexdigit);
        if is_hex && trimmed.len() != 2 * KEY_BYTES {
            return Err(KeyError::Digits {
                count: trimmed.len(),
            });
        }
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        if is_hex {
            for (byte, pair) in bytes.iter_mut().zip(trimmed.chunks_exact(2)) {
                *byte = pair
                    .iter()
                    .fold(0, |value, digit| value << 4 | hex_value(*digit));
            }
        } else if let Ok(raw) = <&[u8; KEY_BYTES]>::try_from(given) {
            bytes.copy_from_slice(raw);
        } else {
            return Err(KeyError::Length { bytes: given.len() });
        }
        if bytes.iter().all(|byte| *byte == 0) {
            return Err(KeyError::Zero);
        }
        Ok(Self {
            key: Key::copied(&bytes),
            strategy: default_strategy(),
        })
    }

    /// The key for `purpose`, of which every use has its own: HKDF-SHA-256, the purpose as info.
    pub fn derive(&self, salt: &[u8; SALT_BYTES], purpose: &str) -> Key {
        Key(Box::new(expanded(
            self.key.bytes(),
            salt,
            purpose.as_bytes(),
        )))
    }

    /// What stands for this key where it must be named.
    pub fn id(&self) -> KeyId {
        let hash = self.derive(&[0; SALT_BYTES], "waypost key id").hash(b"");
        KeyId(hash.first_chunk().copied().unwrap_or_default())
    }
}

impl std::fmt::Debug for MasterKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("MasterKey(…)")
    }
}

/// Why what was given is no master key.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum KeyError {
    /// Hexadecimal, but not 64 digits.
    #[error("a key is 64 hexadecimal digits, this has {count}; `openssl rand -hex 32` makes one")]
    Digits {
        /// How many there are.
        count: usize,
    },
    /// Neither hexadecimal nor 32 bytes.
    #[error(
        "a key is 64 hexadecimal digits or 32 bytes, this has {bytes} bytes; `openssl rand -hex 32` makes one"
    )]
    Length {
        /// How many there are.
        bytes: usize,
    },
    /// Nothing but zeros: somebody forgot to fill it in.
    #[error("this key is all zeros; `openssl rand -hex 32` makes a random one")]
    Zero,
}

/// The key of a segment of the log: another for each salt.
pub fn segment_key(master: &MasterKey, salt: &[u8; SALT_BYTES]) -> Key {
    master.derive(salt, "waypost segment")
}

fn hex_value(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => digit.wrapping_sub(b'A').wrapping_add(10),
    }
}

/// HKDF-SHA-256 (RFC 5869).
pub(crate) fn expanded(secret: &[u8], salt: &[u8], info: &[u8]) -> Zeroizing<[u8; KEY_BYTES]> {
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    let info = [info];
    let filled = hkdf::Salt::new(hkdf::HKDF_SHA256, salt)
        .extract(secret)
        .expand(&info, KeyLength)
        .and_then(|material| material.fill(&mut *key));
    // HKDF gives up to 255 times this many bytes and refuses only more.
    debug_assert!(filled.is_ok());
    key
}

struct KeyLength;

impl hkdf::KeyType for KeyLength {
    fn len(&self) -> usize {
        KEY_BYTES
    }
}

fn keyed_hash(key: &[u8], data: &[u8]) -> [u8; 32] {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), data);
    tag.as_ref().try_into().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len() / 2)
            .map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap())
            .collect()
    }

    /// RFC 5869, A.1 to A.3: the first 32 bytes of each output.
    #[test]
    fn the_cases_of_rfc_5869_hold() {
        let counted = |from: u8, to: u8| (from..=to).collect::<Vec<u8>>();
        for (secret, salt, info, expect) in [
            (
                vec![0x0b; 22],
                counted(0, 0x0c),
                counted(0xf0, 0xf9),
                "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf",
            ),
            (
                counted(0, 0x4f),
                counted(0x60, 0xaf),
                counted(0xb0, 0xff),
                "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c",
            ),
            (
                vec![0x0b; 22],
                Vec::new(),
                Vec::new(),
                "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d",
            ),
        ] {
            assert_eq!(expanded(&secret, &salt, &info)[..], bytes(expect));
        }
    }

    /// RFC 4231, 4.2.
    #[test]
    fn the_keyed_hash_is_hmac_sha_256() {
        let expect = "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7";
        assert_eq!(keyed_hash(&[0x0b; 20], b"Hi There")[..], bytes(expect));
    }

    /// Goal: what is on somebody's disk stays readable. Method: the derivations are written down here once more.
    #[test]
    fn keys_are_derived_as_ever() {
        let master = MasterKey::new([7; KEY_BYTES]);
        assert_eq!(
            segment_key(&master, &[9; SALT_BYTES]).bytes()[..],
            expanded(&[7; KEY_BYTES], &[9; SALT_BYTES], b"waypost segment")[..]
        );
        assert_eq!(master.id().to_string(), "b42662233bd31bf1");
    }

    #[test]
    fn every_salt_master_and_purpose_gives_another_key() {
        let (one, two) = (MasterKey::new([1; 32]), MasterKey::new([2; 32]));
        let keys = [
            one.derive(&[1; 32], "a"),
            one.derive(&[1; 32], "b"),
            one.derive(&[2; 32], "a"),
            two.derive(&[1; 32], "a"),
        ];
        let distinct: std::collections::HashSet<_> = keys.iter().map(Key::bytes).collect();
        assert_eq!(distinct.len(), keys.len());
        assert_ne!(one.id(), two.id());
    }

    #[test]
    fn a_key_is_read_as_people_write_it() {
        let hex = "00112233445566778899aAbBcCdDeEfF00112233445566778899aabbccddeeff";
        let expect = bytes(hex);
        for given in [hex.into(), format!(" {hex}\r\n"), hex.to_uppercase()] {
            let key = MasterKey::read(given.as_bytes()).unwrap();
            assert_eq!(key.key.bytes()[..], expect, "{given:?}");
        }
        assert_eq!(MasterKey::read(&expect).unwrap().key.bytes()[..], expect);
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let digits = |count: usize| "a".repeat(count).into_bytes();
        for (given, expect) in [
            (Vec::new(), KeyError::Length { bytes: 0 }),
            (digits(63), KeyError::Digits { count: 63 }),
            (digits(65), KeyError::Digits { count: 65 }),
            // As many bytes as a key has, yet half a key.
            (digits(32), KeyError::Digits { count: 32 }),
            (vec![0xff; 31], KeyError::Length { bytes: 31 }),
            (vec![0xff; 33], KeyError::Length { bytes: 33 }),
            (vec![0; 32], KeyError::Zero),
            ("0".repeat(64).into_bytes(), KeyError::Zero),
        ] {
            assert_eq!(MasterKey::read(&given).unwrap_err(), expect);
        }
    }

    #[test]
    fn keys_are_not_printed() {
        let master = MasterKey::new([0xa5; KEY_BYTES]);
        let derived = master.derive(&[0; SALT_BYTES], "test");
        let printed = format!("{master:?} {derived:?}");
        assert_eq!(printed, "MasterKey(…) Key(…)");
    }
}
