//! The core's `Permit`, answered from the rules, with the verdicts on publishing remembered.

use core::hash::BuildHasher;
use core::net::IpAddr;
use std::sync::Arc;

use hashbrown::HashTable;
use waypost_core::{Action, Permit, Verdict, Who};

use crate::rules::Rules;

/// Who asks about what may be this long to be remembered, in bytes; a longer question is judged each time.
const KEY_BYTES_MAX: usize = 512;

/// What one shard asks. Decides at once, never `Pending`.
pub struct Permissions {
    rules: Arc<Rules>,
    verdicts: Verdicts,
}

impl Permissions {
    /// Permissions by these rules, with at most `verdicts_max` remembered. `on_evicted` is told of each that was
    /// forgotten for another. The seed is to be secret: clients choose the topics.
    pub fn new(
        rules: Arc<Rules>,
        seed: u64,
        verdicts_max: usize,
        on_evicted: Box<dyn FnMut() + Send>,
    ) -> Self {
        Self {
            rules,
            verdicts: Verdicts {
                hasher: foldhash::fast::FixedState::with_seed(seed),
                table: HashTable::new(),
                entries: Vec::new(),
                entries_max: verdicts_max,
                hand: 0,
                key: Vec::with_capacity(KEY_BYTES_MAX),
                on_evicted,
            },
        }
    }
}

impl Permit for Permissions {
    fn check(&mut self, who: &Who<'_>, action: Action, topic: &str) -> Verdict {
        let Self { rules, verdicts } = self;
        if rules.is_open() {
            return Verdict::Allow;
        }
        let allowed = match action {
            Action::Publish | Action::PublishRetained => verdicts.of(rules, who, action, topic),
            // These are rare.
            Action::Subscribe | Action::Will | Action::WillFires => rules.allow(who, action, topic),
        };
        if allowed {
            Verdict::Allow
        } else {
            Verdict::Deny
        }
    }

    fn is_open(&self) -> bool {
        self.rules.is_open()
    }
}

/// The verdicts on publishing that were asked for lately. When full, one that was not asked for since the hand last came
/// by is forgotten.
struct Verdicts {
    hasher: foldhash::fast::FixedState,
    /// Indexes into the entries.
    table: HashTable<u32>,
    entries: Vec<Entry>,
    entries_max: usize,
    hand: usize,
    key: Vec<u8>,
    on_evicted: Box<dyn FnMut() + Send>,
}

struct Entry {
    /// What the verdict leans on, one after the other.
    key: Box<[u8]>,
    hash: u64,
    allowed: bool,
    is_recent: bool,
}

impl Verdicts {
    fn of(&mut self, rules: &Rules, who: &Who<'_>, action: Action, topic: &str) -> bool {
        if !self.write_key(rules, who, topic) {
            return rules.allow(who, action, topic);
        }
        let Self {
            hasher,
            table,
            entries,
            key,
            ..
        } = self;
        let hash = hasher.hash_one(&key[..]);
        let found = table.find(hash, |index| {
            entries
                .get(*index as usize)
                .is_some_and(|entry| *entry.key == key[..])
        });
        if let Some(entry) = found.and_then(|index| entries.get_mut(*index as usize)) {
            entry.is_recent = true;
            return entry.allowed;
        }
        let allowed = rules.allow(who, action, topic);
        self.remember(hash, allowed);
        allowed
    }

    /// Writes down what the verdict leans on; `false` if it is too long to be remembered.
    fn write_key(&mut self, rules: &Rules, who: &Who<'_>, topic: &str) -> bool {
        let user = who.user.unwrap_or_default();
        let client_id = if rules.asks_client_id {
            who.client_id
        } else {
            ""
        };
        self.key.clear();
        if user.len() + client_id.len() + topic.len() > KEY_BYTES_MAX {
            return false;
        }
        // Nothing of what follows contains a NUL but the names, and these say how long they are.
        for name in [user, client_id] {
            let len = u16::try_from(name.len()).unwrap_or(u16::MAX);
            self.key.extend_from_slice(&len.to_ne_bytes());
        }
        self.key.extend_from_slice(user.as_bytes());
        self.key.extend_from_slice(client_id.as_bytes());
        if rules.asks_address {
            match who.address.map(|address| address.ip().to_canonical()) {
                None => self.key.push(0),
                Some(IpAddr::V4(address)) => {
                    self.key.push(4);
                    self.key.extend_from_slice(&address.octets());
                }
                Some(IpAddr::V6(address)) => {
                    self.key.push(6);
                    self.key.extend_from_slice(&address.octets());
                }
            }
        }
        self.key.extend_from_slice(topic.as_bytes());
        true
    }

    fn remember(&mut self, hash: u64, allowed: bool) {
        let entry = Entry {
            key: self.key[..].into(),
            hash,
            allowed,
            is_recent: false,
        };
        let index = if self.entries.len() < self.entries_max {
            self.entries.push(entry);
            self.entries.len() - 1
        } else {
            let Some(index) = self.make_room() else {
                return;
            };
            if let Some(place) = self.entries.get_mut(index) {
                *place = entry;
            }
            index
        };
        let Ok(index) = u32::try_from(index) else {
            return;
        };
        let Self { table, entries, .. } = self;
        table.insert_unique(hash, index, |index| {
            entries.get(*index as usize).map_or(0, |entry| entry.hash)
        });
    }

    /// The place of an entry that was not asked for lately, out of the table.
    fn make_room(&mut self) -> Option<usize> {
        loop {
            let at = self.hand % self.entries.len().max(1);
            self.hand = at + 1;
            let entry = self.entries.get_mut(at)?;
            if std::mem::take(&mut entry.is_recent) {
                continue;
            }
            let hash = entry.hash;
            if let Ok(found) = self.table.find_entry(hash, |index| *index as usize == at) {
                found.remove();
            }
            (self.on_evicted)();
            return Some(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;

    const FILE: &str = r#"
[[user]]
name = "alice"
certificate = "cn=alice"
allow = ["a/#", "own/%u"]
[[user]]
name = "bob"
certificate = "cn=bob"
allow = "b"
[[permission]]
client_id = "x*"
publish = "x/%c"
[[permission]]
address = "10.0.0.0/8"
publish = "near"
"#;

    fn permissions(rules: &str, verdicts_max: usize) -> (Permissions, Arc<AtomicUsize>) {
        let evicted = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&evicted);
        let on_evicted = Box::new(move || {
            count.fetch_add(1, Ordering::Relaxed);
        });
        let rules = Arc::new(rules.parse().unwrap());
        (
            Permissions::new(rules, 1, verdicts_max, on_evicted),
            evicted,
        )
    }

    #[test]
    fn at_most_so_many_verdicts_are_remembered() {
        let alice = Who {
            client_id: "c",
            user: Some("alice"),
            address: None,
            ticket: None,
        };
        for (asked, expect_evicted) in [(8, 0), (9, 1), (16, 8)] {
            let (mut permissions, evicted) = permissions(FILE, 8);
            for number in 0..asked {
                let topic = format!("a/{number}");
                assert_eq!(
                    permissions.check(&alice, Action::Publish, &topic),
                    Verdict::Allow
                );
            }
            assert_eq!(permissions.verdicts.entries.len(), 8);
            assert_eq!(permissions.verdicts.table.len(), 8);
            assert_eq!(
                evicted.load(Ordering::Relaxed),
                expect_evicted,
                "{asked} asked"
            );
        }
        // None at all, and a question too long to be remembered.
        for (verdicts_max, topic) in [
            (0, "a/b".to_owned()),
            (8, format!("a/{}", "b".repeat(KEY_BYTES_MAX))),
        ] {
            let (mut permissions, _) = permissions(FILE, verdicts_max);
            for _ in 0..3 {
                assert_eq!(
                    permissions.check(&alice, Action::Publish, &topic),
                    Verdict::Allow
                );
            }
            assert!(permissions.verdicts.entries.is_empty());
        }
    }

    #[test]
    fn what_is_asked_for_again_and_again_stays() {
        let (mut permissions, _) = permissions(FILE, 8);
        let alice = Who {
            client_id: "c",
            user: Some("alice"),
            address: None,
            ticket: None,
        };
        let is_known = |permissions: &mut Permissions, topic: &str| {
            let entries = &permissions.verdicts.entries;
            entries
                .iter()
                .any(|entry| entry.key.ends_with(topic.as_bytes()))
        };
        for number in 0..100 {
            permissions.check(&alice, Action::Publish, "a/always");
            permissions.check(&alice, Action::Publish, &format!("a/{number}"));
            assert!(is_known(&mut permissions, "a/always"), "after {number}");
        }
        assert!(!is_known(&mut permissions, "a/0"));
    }

    proptest! {
        /// Goal: remembered verdicts are those of the rules. Method: many questions that differ in one thing each, over
        /// so few places that all are taken again and again.
        #[test]
        fn a_remembered_verdict_is_the_rules_verdict(
            questions in proptest::collection::vec(
                (
                    select(vec![None, Some("alice"), Some("bob"), Some("david"), Some("alic"), Some("c")]),
                    select(vec!["", "c", "x1", "x2", "ec"]),
                    select(vec!["", "10.0.0.1:1", "10.0.0.2:2", "11.0.0.1:1", "[::ffff:10.0.0.1]:1", "[::1]:1"]),
                    select(vec!["a", "a/b", "b", "own/alice", "own/bob", "x/x1", "x/x2", "near", "ear", "ca"]),
                ),
                1..200,
            ),
            verdicts_max in 0_usize..12,
        ) {
            let (mut permissions, _) = permissions(FILE, verdicts_max);
            for (user, client_id, address, topic) in questions {
                let who = Who { client_id, user, address: address.parse().ok(), ticket: None };
                let expect = permissions.rules.allow(&who, Action::Publish, topic);
                let verdict = permissions.check(&who, Action::Publish, topic);
                prop_assert_eq!(verdict == Verdict::Allow, expect, "{:?} {}", who, topic);
            }
        }
    }
}
