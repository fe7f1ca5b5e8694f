//! What keeps names and contents out of the views' file when the store is encrypted.
//!
//! A value is sealed under a key of its own, made from the views' key and sixteen random bytes that stand before it: a
//! value is written so often that numbers used once could not be promised across crashes, and random nonces of one key
//! would run out. Keys of rows are replaced by their HMAC, and stand in the sealed value. In the clear stay numbers of our
//! own: of messages, queues, segments and tables.

use std::borrow::Cow;

use waypost_encrypt::{
    AtRest, Encrypt, Key, MasterKey, NONCE_BYTES, Nonce, SALT_BYTES, TAG_BYTES, Tag,
    default_strategy,
};

use super::number::{Numbers, Unreadable, put};

/// Random bytes before a sealed value.
const OWN_SALT: usize = 16;

/// Bytes that stand for a row's key.
const HIDDEN: usize = 16;

const SEALED: Unreadable = Unreadable("sealed value");

/// A row's own key and value.
type KeyAndValue<'a> = (Cow<'a, [u8]>, Cow<'a, [u8]>);

/// How values and keys are written.
#[derive(Default)]
pub(super) enum Cloak {
    /// As they are.
    #[default]
    None,
    /// Sealed and hidden.
    Sealed {
        names: Key,
        values: Key,
        strategy: &'static AtRest,
    },
}

impl Cloak {
    /// What says in the views themselves how they are written: nothing, or the salt and what stands for the key.
    pub(super) fn note(key: Option<&MasterKey>) -> Result<Vec<u8>, Unreadable> {
        let Some(key) = key else {
            return Ok(Vec::new());
        };
        let mut salt = [0; SALT_BYTES];
        getrandom::fill(&mut salt).map_err(|_| Unreadable("source of randomness"))?;
        Ok([salt.as_slice(), key.id().0.as_slice()].concat())
    }

    /// What is written as a note says; `None` if that takes another key, or none.
    pub(super) fn of_note(note: &[u8], key: Option<&MasterKey>) -> Option<Self> {
        match (key, note.split_first_chunk::<SALT_BYTES>()) {
            (None, None) => note.is_empty().then_some(Self::None),
            (Some(key), Some((salt, id))) => (key.id().0 == *id).then(|| Self::new(key, salt)),
            _ => None,
        }
    }

    /// With keys of their own for these views.
    pub(super) fn new(master: &MasterKey, salt: &[u8; SALT_BYTES]) -> Self {
        Self::Sealed {
            names: master.derive(salt, "waypost views: names"),
            values: master.derive(salt, "waypost views: values"),
            strategy: default_strategy(),
        }
    }

    /// A row's key as it stands in its table. The number of the core's table stays before it.
    pub(super) fn key<'a>(&self, key: &'a [u8]) -> Cow<'a, [u8]> {
        match self {
            Self::None => Cow::Borrowed(key),
            Self::Sealed { names, .. } => {
                let hidden = names.hash(key);
                let table = key.iter().take(1);
                Cow::Owned(table.chain(hidden.iter().take(HIDDEN)).copied().collect())
            }
        }
    }

    /// A row's value as it stands in its table.
    pub(super) fn seal_row<'a>(
        &self,
        key: &[u8],
        value: &'a [u8],
    ) -> Result<Cow<'a, [u8]>, Unreadable> {
        match self {
            Self::None => Ok(Cow::Borrowed(value)),
            Self::Sealed { .. } => {
                let mut both = Vec::with_capacity(key.len() + value.len() + 4);
                put(&mut both, key.len() as u64);
                both.extend_from_slice(key);
                both.extend_from_slice(value);
                self.seal(&both)
                    .map(|sealed| Cow::Owned(sealed.into_owned()))
            }
        }
    }

    /// The key and the value of a row from what stands in its table.
    pub(super) fn open_row<'a>(
        &self,
        key: &'a [u8],
        value: &'a [u8],
    ) -> Result<KeyAndValue<'a>, Unreadable> {
        match self {
            Self::None => Ok((Cow::Borrowed(key), Cow::Borrowed(value))),
            Self::Sealed { .. } => {
                let both = self.open(value)?;
                let mut numbers = Numbers::new(&both, "sealed row");
                let own = numbers.bytes()?;
                if self.key(own).as_ref() != key {
                    return Err(SEALED);
                }
                Ok((
                    Cow::Owned(own.to_vec()),
                    Cow::Owned(numbers.rest().to_vec()),
                ))
            }
        }
    }

    /// A value as it stands in its table.
    pub(super) fn seal<'a>(&self, value: &'a [u8]) -> Result<Cow<'a, [u8]>, Unreadable> {
        let Self::Sealed {
            values, strategy, ..
        } = self
        else {
            return Ok(Cow::Borrowed(value));
        };
        let mut salt = [0; OWN_SALT];
        getrandom::fill(&mut salt).map_err(|_| Unreadable("source of randomness"))?;
        let mut sealed = Vec::with_capacity(OWN_SALT + value.len() + TAG_BYTES);
        sealed.extend_from_slice(&salt);
        sealed.extend_from_slice(value);
        let text = sealed.get_mut(OWN_SALT..).unwrap_or_default();
        let tag = of_one(values, strategy, &salt)
            .seal_in_place(ONCE, &[], text)
            .map_err(|_| Unreadable("value short enough to be sealed"))?;
        sealed.extend_from_slice(&tag.0);
        Ok(Cow::Owned(sealed))
    }

    /// What [`Cloak::seal`] sealed.
    pub(super) fn open<'a>(&self, value: &'a [u8]) -> Result<Cow<'a, [u8]>, Unreadable> {
        let Self::Sealed {
            values, strategy, ..
        } = self
        else {
            return Ok(Cow::Borrowed(value));
        };
        let (salt, rest) = value.split_at_checked(OWN_SALT).ok_or(SEALED)?;
        let (text, tag) = rest.split_last_chunk::<TAG_BYTES>().ok_or(SEALED)?;
        let mut text = text.to_vec();
        of_one(values, strategy, salt)
            .open_in_place(ONCE, &[], &mut text, &Tag(*tag))
            .map_err(|_| SEALED)?;
        Ok(Cow::Owned(text))
    }
}

/// A value's key seals nothing else.
const ONCE: Nonce = Nonce([0; NONCE_BYTES]);

fn of_one(values: &Key, strategy: &AtRest, salt: &[u8]) -> Box<dyn Encrypt> {
    (strategy.new)(&Key::new(values.hash(salt)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed() -> Cloak {
        Cloak::new(&MasterKey::new([7; 32]), &[9; SALT_BYTES])
    }

    fn contains(bytes: &[u8], what: &[u8]) -> bool {
        bytes.windows(what.len()).any(|window| window == what)
    }

    #[test]
    fn rows_come_back_and_show_neither_name_nor_value() {
        for (cloak, is_sealed) in [(Cloak::None, false), (sealed(), true)] {
            let (key, value) = (b"\x05client-1".as_slice(), b"secret value".as_slice());
            let stored = cloak.key(key).into_owned();
            let row = cloak.seal_row(key, value).unwrap().into_owned();
            assert_eq!(stored[0], 5);
            assert_eq!(contains(&stored, b"client"), !is_sealed);
            assert_eq!(contains(&row, b"secret"), !is_sealed);
            let (own, opened) = cloak.open_row(&stored, &row).unwrap();
            assert_eq!((own.as_ref(), opened.as_ref()), (key, value));
        }
    }

    #[test]
    fn one_value_twice_is_sealed_differently_and_a_changed_one_does_not_open() {
        let cloak = sealed();
        let one = cloak.seal(b"value").unwrap().into_owned();
        assert_ne!(one, cloak.seal(b"value").unwrap().into_owned());
        for index in 0..one.len() {
            let mut changed = one.clone();
            changed[index] ^= 1;
            assert!(cloak.open(&changed).is_err());
            assert!(cloak.open(&one[..index]).is_err());
        }
    }

    #[test]
    fn a_row_under_another_key_does_not_open() {
        let cloak = sealed();
        let row = cloak.seal_row(b"\x01a", b"value").unwrap().into_owned();
        let other = cloak.key(b"\x01b").into_owned();
        assert!(cloak.open_row(&other, &row).is_err());
    }
}
