//! Passwords as argon2id hashes (RFC 9106), in the form `$argon2id$v=19$m=…,t=…,p=…$salt$hash`.

use std::fmt;

use argon2::password_hash::PasswordHasher;
use argon2::password_hash::phc::{self, Output, Salt};
use argon2::{Algorithm, Argon2, Block, Params, Version};

/// More memory than this is a mistake in the file: 1 GiB, in KiB.
const MEMORY_KIB_MAX: u32 = 1 << 20;
/// More passes than this likewise.
const PASSES_MAX: u32 = 1_000;

/// Bytes of salt in a new hash.
pub const SALT_BYTES: usize = Salt::RECOMMENDED_LENGTH;

/// The hash of a password, with everything that is needed to check one.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash {
    text: Box<str>,
    params: Params,
    version: Version,
    salt: Salt,
    output: Output,
}

/// The whole hash is as good as the password for whoever has time.
impl fmt::Debug for PasswordHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("PasswordHash(…)")
    }
}

/// Why a text is no password hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PasswordHashError {
    /// It does not have the form.
    #[error(
        "is not an argon2id hash ($argon2id$v=19$m=…,t=…,p=…$salt$hash); `waypost users passwd NAME` writes one"
    )]
    Form,
    /// It is a hash of another kind.
    #[error("is a hash of another kind than argon2id; `waypost users passwd NAME` writes one")]
    Kind,
    /// It would cost too much to check.
    #[error("asks for more than 1 GiB of memory or 1000 passes")]
    Cost,
}

/// Memory to hash in, kept between two hashes.
#[derive(Default)]
pub struct HashMemory(Vec<Block>);

impl PasswordHash {
    /// Reads a hash.
    pub fn parse(text: &str) -> Result<Self, PasswordHashError> {
        let hash = phc::PasswordHash::new(text).map_err(|_| PasswordHashError::Form)?;
        if hash.algorithm != Algorithm::Argon2id.ident() {
            return Err(PasswordHashError::Kind);
        }
        let params = Params::try_from(&hash).map_err(|_| PasswordHashError::Form)?;
        if params.m_cost() > MEMORY_KIB_MAX || params.t_cost() > PASSES_MAX {
            return Err(PasswordHashError::Cost);
        }
        let version = hash
            .version
            .map_or(Ok(Version::default()), Version::try_from);
        Ok(Self {
            text: text.into(),
            params,
            version: version.map_err(|_| PasswordHashError::Form)?,
            salt: hash.salt.ok_or(PasswordHashError::Form)?,
            output: hash.hash.ok_or(PasswordHashError::Form)?,
        })
    }

    /// Hashes a password with the parameters OWASP recommends: 19 MiB, two passes, one lane. `None` if the system has no
    /// memory for it.
    pub fn new(password: &[u8], salt: [u8; SALT_BYTES]) -> Option<Self> {
        Self::with_params(password, salt, Params::DEFAULT)
    }

    fn with_params(password: &[u8], salt: [u8; SALT_BYTES], params: Params) -> Option<Self> {
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::default(), params);
        let hash = argon2.hash_password_with_salt(password, &salt).ok()?;
        Self::parse(&hash.to_string()).ok()
    }

    /// Whether it is the hash of that password. Takes tens of milliseconds, and the memory it names.
    pub fn verify(&self, password: &[u8], memory: &mut HashMemory) -> bool {
        let blocks = self.params.block_count();
        if memory.0.len() < blocks {
            memory.0.resize(blocks, Block::default());
        }
        let Some(blocks) = memory.0.get_mut(..blocks) else {
            return false;
        };
        let mut buffer = [0; Output::MAX_LENGTH];
        let Some(bytes) = buffer.get_mut(..self.output.len()) else {
            return false;
        };
        let argon2 = Argon2::new(Algorithm::Argon2id, self.version, self.params.clone());
        let hashed = argon2.hash_password_into_with_memory(password, &self.salt, bytes, blocks);
        // `Output` compares in constant time.
        hashed.is_ok() && Output::new(bytes).is_ok_and(|output| output == self.output)
    }

    /// As it stands in the file.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// For tests: a hash that costs next to nothing.
#[cfg(test)]
pub(crate) fn cheap(password: &str) -> PasswordHash {
    let params = Params::new(8, 1, 1, None).unwrap();
    PasswordHash::with_params(password.as_bytes(), [7; SALT_BYTES], params).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_right_password_is_right() {
        let hash = cheap("secret");
        let mut memory = HashMemory::default();
        assert!(hash.verify(b"secret", &mut memory));
        for wrong in ["", "Secret", "secret ", "secre"] {
            assert!(!hash.verify(wrong.as_bytes(), &mut memory), "{wrong}");
        }
        // With memory that a larger hash left behind.
        let large = PasswordHash::new(b"other", [1; SALT_BYTES]).unwrap();
        assert!(large.verify(b"other", &mut memory));
        assert!(hash.verify(b"secret", &mut memory));
        assert!(!hash.verify(b"other", &mut memory));
    }

    #[test]
    fn a_new_hash_has_the_recommended_parameters() {
        let hash = PasswordHash::new(b"secret", [7; SALT_BYTES]).unwrap();
        assert!(
            hash.as_str().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"),
            "{}",
            hash.as_str()
        );
        assert_eq!(format!("{hash:?}"), "PasswordHash(…)");
    }

    /// RFC 9106 has no test without a secret key; this one is the reference implementation's (test.c), salt "somesalt".
    #[test]
    fn a_hash_of_the_reference_implementation_is_read() {
        let text = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
        let hash = PasswordHash::parse(text).unwrap();
        assert!(hash.verify(b"password", &mut HashMemory::default()));
    }

    #[test]
    fn other_hashes_are_refused() {
        use PasswordHashError::{Cost, Form, Kind};
        for (text, expect) in [
            ("", Form),
            ("secret", Form),
            ("$argon2id$v=19$m=19456,t=2,p=1", Form),
            ("$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHQ", Form),
            (
                "$argon2i$v=19$m=4096,t=3,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
                Kind,
            ),
            (
                "$argon2id$v=19$m=4194304,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
                Cost,
            ),
            (
                "$argon2id$v=19$m=64,t=9999,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
                Cost,
            ),
            (
                "$argon2id$v=19$m=1,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
                Form,
            ),
        ] {
            assert_eq!(PasswordHash::parse(text).unwrap_err(), expect, "{text}");
        }
    }
}
