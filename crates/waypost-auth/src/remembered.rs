//! Credentials that were right a moment ago, so that a client that comes back costs no argon2.
//!
//! Kept as keyed hashes, under a key that lives as long as the process: nobody who reads them can guess passwords.

use std::collections::VecDeque;

use blake2::Blake2bMac;
use blake2::digest::consts::U32;
use blake2::digest::{KeyInit, Mac};
use hashbrown::HashSet;

/// How long right credentials are remembered.
const REMEMBERED_MS: u64 = 60_000;

/// Bytes of the key.
pub const KEY_BYTES: usize = 32;

/// A user name and a password as they are remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Digest([u8; 32]);

/// The credentials that were right lately. When full, the oldest are forgotten.
pub struct Remembered {
    key: [u8; KEY_BYTES],
    known: HashSet<Digest, foldhash::fast::FixedState>,
    /// In the order they are forgotten.
    order: VecDeque<(u64, Digest)>,
    entries_max: usize,
}

impl Remembered {
    /// Remembers nothing yet.
    pub fn new(key: [u8; KEY_BYTES], entries_max: usize) -> Self {
        Self {
            key,
            known: HashSet::default(),
            order: VecDeque::new(),
            entries_max,
        }
    }

    fn digest(&self, user: &str, password: &[u8]) -> Option<Digest> {
        let mut mac = Blake2bMac::<U32>::new_from_slice(&self.key).ok()?;
        mac.update(&(user.len() as u64).to_le_bytes());
        mac.update(user.as_bytes());
        mac.update(password);
        Some(Digest(mac.finalize().into_bytes().into()))
    }

    /// These were right; how many others were forgotten for them.
    pub fn remember(&mut self, user: &str, password: &[u8], now_ms: u64) -> usize {
        self.expire(now_ms);
        let Some(digest) = self.digest(user, password).filter(|_| self.entries_max > 0) else {
            return 0;
        };
        if !self.known.insert(digest) {
            return 0;
        }
        self.order.push_back((now_ms + REMEMBERED_MS, digest));
        let mut forgotten = 0;
        while self.order.len() > self.entries_max {
            if let Some((_, digest)) = self.order.pop_front() {
                self.known.remove(&digest);
                forgotten += 1;
            }
        }
        forgotten
    }

    /// Whether these were right within the last minute.
    pub fn knows(&mut self, user: &str, password: &[u8], now_ms: u64) -> bool {
        self.expire(now_ms);
        self.digest(user, password)
            .is_some_and(|digest| self.known.contains(&digest))
    }

    /// Forgets everything: users have changed.
    pub fn clear(&mut self) {
        self.known.clear();
        self.order.clear();
    }

    fn expire(&mut self, now_ms: u64) {
        while let Some((_, digest)) = self.order.pop_front_if(|(ends_ms, _)| *ends_ms <= now_ms) {
            self.known.remove(&digest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_remembered_for_a_minute() {
        let mut remembered = Remembered::new([1; KEY_BYTES], 10);
        remembered.remember("alice", b"secret", 5);
        for (user, password) in [
            ("alice", "secre"),
            ("alice", "secret "),
            ("alic", "esecret"),
            ("alices", "ecret"),
            ("bob", "secret"),
            ("", "alicesecret"),
        ] {
            assert!(
                !remembered.knows(user, password.as_bytes(), 6),
                "{user} {password}"
            );
        }
        assert!(remembered.knows("alice", b"secret", 60_004));
        // Neither asking nor logging in again makes it longer.
        remembered.remember("alice", b"secret", 60_004);
        assert!(!remembered.knows("alice", b"secret", 60_005));
        remembered.remember("alice", b"secret", 60_005);
        remembered.clear();
        assert!(!remembered.knows("alice", b"secret", 60_006));
        assert!(remembered.order.is_empty());
    }

    #[test]
    fn at_most_so_many_are_remembered() {
        for (entries_max, added, expect_forgotten) in [(8, 8, 0), (8, 9, 1), (8, 16, 8), (0, 3, 0)]
        {
            let mut remembered = Remembered::new([1; KEY_BYTES], entries_max);
            let forgotten: usize = (0..added)
                .map(|number| remembered.remember(&format!("user-{number}"), b"x", 0))
                .sum();
            assert_eq!(forgotten, expect_forgotten, "{added} of {entries_max}");
            assert_eq!(remembered.known.len(), added.min(entries_max));
            let newest = format!("user-{}", added - 1);
            assert_eq!(remembered.knows(&newest, b"x", 1), entries_max > 0);
        }
    }

    #[test]
    fn another_key_gives_other_digests() {
        let digest = |key| Remembered::new([key; KEY_BYTES], 1).digest("alice", b"secret");
        assert_eq!(digest(1), digest(1));
        assert_ne!(digest(1), digest(2));
    }
}
