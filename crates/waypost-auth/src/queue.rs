//! Who waits for a password to be checked, and who comes next.
//!
//! Hashing is slow on purpose, so those who ask wait in line: each address has its turn, and addresses that guessed
//! wrong come after all others. A wrong answer is held back the longer, the more of them an address got; it holds its
//! place meanwhile, and an address that failed has two. Nothing here knows a password: what is to be done is the
//! caller's, of type `J`.

use core::net::{IpAddr, Ipv6Addr};
use std::collections::{BTreeMap, VecDeque};

/// Places of an address that failed.
const FAILED_WAITING_MAX: usize = 2;
/// Places of any other address, when there is no room for all.
const CROWDED_WAITING_MAX: usize = 2;
/// How long the first wrong answer is held back; each further one twice as long.
const DELAY_FIRST_MS: u64 = 250;
/// No answer is held back longer: CONNECT has its own deadline.
const DELAY_MAX_MS: u64 = 4_000;
/// An address that failed is like any other after this long.
const FAILURE_FORGOTTEN_MS: u64 = 600_000;
/// Addresses that failed and are remembered; beyond it, the one that failed first is forgotten.
const FAILED_ADDRESSES_MAX: usize = 10_000;

/// Whom the delays are for: an IPv4 address, an IPv6 network of 64 bits, or all that has no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin(Option<IpAddr>);

impl Origin {
    /// Where an address is from.
    pub fn of(address: Option<IpAddr>) -> Self {
        Self(address.map(|address| match address.to_canonical() {
            IpAddr::V6(address) => {
                let network = address.to_bits() >> 64 << 64;
                IpAddr::V6(Ipv6Addr::from_bits(network))
            }
            address @ IpAddr::V4(_) => address,
        }))
    }
}

/// Those who wait, by whatever names them.
pub struct Queue<K, J> {
    waiting_max: usize,
    /// Places taken: in line, being checked, or with an answer held back.
    waiting: usize,
    origins: BTreeMap<Origin, Line<K, J>>,
    /// Whose turn it is, among those with somebody in line.
    turns: VecDeque<Origin>,
    /// The same for those that failed.
    failed_turns: VecDeque<Origin>,
    /// Where those in line are.
    places: BTreeMap<K, Origin>,
    /// Answers held back, by when they may go.
    held: BTreeMap<(u64, u64), (K, Origin)>,
    held_count: u64,
}

struct Line<K, J> {
    waiting: VecDeque<(K, J)>,
    /// Being checked, or with an answer held back.
    elsewhere: usize,
    failures: u32,
    failed_ms: u64,
}

/// What became of one that wants to wait.
#[derive(Debug, PartialEq, Eq)]
pub enum Joined<K> {
    /// It waits.
    Waits,
    /// It waits in the place of another, which is to be sent away.
    InsteadOf(K),
    /// There is no place for it.
    Refused,
}

impl<K: Copy + Ord, J> Queue<K, J> {
    /// Nobody waits; at most `waiting_max` will.
    pub fn new(waiting_max: usize) -> Self {
        Self {
            waiting_max,
            waiting: 0,
            origins: BTreeMap::new(),
            turns: VecDeque::new(),
            failed_turns: VecDeque::new(),
            places: BTreeMap::new(),
            held: BTreeMap::new(),
            held_count: 0,
        }
    }

    /// Places taken.
    pub fn len(&self) -> usize {
        self.waiting
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    /// Somebody wants a password checked.
    pub fn join(&mut self, key: K, origin: Origin, job: J, now_ms: u64) -> Joined<K> {
        let (places, has_failed) = self.origins.get(&origin).map_or((0, false), |line| {
            (line.waiting.len() + line.elsewhere, line.has_failed(now_ms))
        });
        if has_failed && places >= FAILED_WAITING_MAX {
            return Joined::Refused;
        }
        let mut joined = Joined::Waits;
        if self.waiting >= self.waiting_max {
            match self
                .longest_line()
                .filter(|(_, length)| *length > CROWDED_WAITING_MAX && places < CROWDED_WAITING_MAX)
            {
                Some((crowd, _)) => match self.send_last_away(crowd) {
                    Some(other) => joined = Joined::InsteadOf(other),
                    None => return Joined::Refused,
                },
                None => return Joined::Refused,
            }
        }
        let line = self.origins.entry(origin).or_default();
        if line.waiting.is_empty() {
            if line.has_failed(now_ms) {
                self.failed_turns.push_back(origin);
            } else {
                self.turns.push_back(origin);
            }
        }
        line.waiting.push_back((key, job));
        self.places.insert(key, origin);
        self.waiting += 1;
        joined
    }

    /// Takes the next out of the line, to be checked; [`Self::right`] or [`Self::wrong`] follows.
    pub fn next(&mut self, now_ms: u64) -> Option<(K, Origin, J)> {
        loop {
            let (origin, came_as_failed) = match self.turns.pop_front() {
                Some(origin) => (origin, false),
                None => (self.failed_turns.pop_front()?, true),
            };
            let Some(line) = self.origins.get_mut(&origin) else {
                continue;
            };
            let has_failed = line.has_failed(now_ms);
            if has_failed && !came_as_failed {
                // It failed since it came: after all others, then.
                self.failed_turns.push_back(origin);
                continue;
            }
            let Some((key, job)) = line.waiting.pop_front() else {
                continue;
            };
            line.elsewhere += 1;
            if !line.waiting.is_empty() {
                let turns = if has_failed {
                    &mut self.failed_turns
                } else {
                    &mut self.turns
                };
                turns.push_back(origin);
            }
            self.places.remove(&key);
            return Some((key, origin, job));
        }
    }

    /// The password was right, or it does not matter any more: the place is free.
    pub fn right(&mut self, origin: Origin, now_ms: u64) {
        self.leave(origin, now_ms);
    }

    /// The password was wrong: when [`Self::due`] gives the answer back.
    pub fn wrong(&mut self, key: K, origin: Origin, now_ms: u64) -> u64 {
        self.forget_failures(now_ms);
        let line = self.origins.entry(origin).or_default();
        line.failures = if line.has_failed(now_ms) {
            line.failures.saturating_add(1)
        } else {
            1
        };
        line.failed_ms = now_ms;
        let doublings = (line.failures - 1).min(16);
        let due_ms = now_ms + (DELAY_FIRST_MS << doublings).min(DELAY_MAX_MS);
        self.held_count += 1;
        self.held.insert((due_ms, self.held_count), (key, origin));
        due_ms
    }

    /// An answer that was held back long enough.
    pub fn due(&mut self, now_ms: u64) -> Option<K> {
        let first = self
            .held
            .first_entry()
            .filter(|entry| entry.key().0 <= now_ms)?;
        let (key, origin) = first.remove();
        self.leave(origin, now_ms);
        Some(key)
    }

    /// When the next answer may go.
    pub fn next_due_ms(&self) -> Option<u64> {
        self.held.keys().next().map(|(due_ms, _)| *due_ms)
    }

    /// Nobody waits for this answer any more. One that is held back holds its place all the same: hanging up gives no
    /// further guess. Whether it was in line, and is no more.
    pub fn forget(&mut self, key: K, now_ms: u64) -> bool {
        let Some(origin) = self.places.remove(&key) else {
            return false;
        };
        if let Some(line) = self.origins.get_mut(&origin) {
            line.waiting.retain(|(other, _)| *other != key);
            if line.waiting.is_empty() {
                self.turns.retain(|other| *other != origin);
                self.failed_turns.retain(|other| *other != origin);
            }
            line.elsewhere += 1;
        }
        self.leave(origin, now_ms);
        true
    }

    fn leave(&mut self, origin: Origin, now_ms: u64) {
        self.waiting = self.waiting.saturating_sub(1);
        if let Some(line) = self.origins.get_mut(&origin) {
            line.elsewhere = line.elsewhere.saturating_sub(1);
            if line.is_idle() && !line.has_failed(now_ms) {
                self.origins.remove(&origin);
            }
        }
    }

    fn longest_line(&self) -> Option<(Origin, usize)> {
        let lines = self.origins.iter();
        lines
            .map(|(origin, line)| (*origin, line.waiting.len()))
            .max_by_key(|(_, length)| *length)
    }

    fn send_last_away(&mut self, origin: Origin) -> Option<K> {
        let (key, _) = self.origins.get_mut(&origin)?.waiting.pop_back()?;
        self.places.remove(&key);
        self.waiting -= 1;
        Some(key)
    }

    /// Keeps the addresses that failed within their bound.
    fn forget_failures(&mut self, now_ms: u64) {
        if self.origins.len() < FAILED_ADDRESSES_MAX + self.waiting {
            return;
        }
        self.origins
            .retain(|_, line| !line.is_idle() || line.has_failed(now_ms));
        if self.origins.len() < FAILED_ADDRESSES_MAX + self.waiting {
            return;
        }
        let idle = self.origins.iter().filter(|(_, line)| line.is_idle());
        if let Some(oldest) = idle
            .min_by_key(|(_, line)| line.failed_ms)
            .map(|(origin, _)| *origin)
        {
            self.origins.remove(&oldest);
        }
    }
}

impl<K, J> Default for Line<K, J> {
    fn default() -> Self {
        Self {
            waiting: VecDeque::new(),
            elsewhere: 0,
            failures: 0,
            failed_ms: 0,
        }
    }
}

impl<K, J> Line<K, J> {
    fn has_failed(&self, now_ms: u64) -> bool {
        self.failures > 0 && now_ms < self.failed_ms + FAILURE_FORGOTTEN_MS
    }

    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.elsewhere == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Origin {
        Origin::of(Some(text.parse().unwrap()))
    }

    fn queue(waiting_max: usize) -> Queue<u32, ()> {
        Queue::new(waiting_max)
    }

    /// Lets everybody through in the order of their turns.
    fn order(queue: &mut Queue<u32, ()>, now_ms: u64) -> Vec<u32> {
        let mut keys = Vec::new();
        while let Some((key, origin, ())) = queue.next(now_ms) {
            queue.right(origin, now_ms);
            keys.push(key);
        }
        keys
    }

    fn fail(queue: &mut Queue<u32, ()>, key: u32, origin: Origin, now_ms: u64) -> u64 {
        assert_eq!(queue.join(key, origin, (), now_ms), Joined::Waits);
        let (next, origin, ()) = queue.next(now_ms).unwrap();
        assert_eq!(next, key);
        queue.wrong(key, origin, now_ms)
    }

    #[test]
    fn an_ipv6_network_and_a_mapped_address_are_one_origin() {
        assert_eq!(at("2001:db8:1:2::1"), at("2001:db8:1:2:ffff::9"));
        assert_ne!(at("2001:db8:1:2::1"), at("2001:db8:1:3::1"));
        assert_eq!(at("::ffff:10.0.0.1"), at("10.0.0.1"));
        assert_ne!(at("10.0.0.1"), at("10.0.0.2"));
        assert_ne!(Origin::of(None), at("10.0.0.1"));
    }

    #[test]
    fn addresses_take_turns() {
        let mut queue = queue(100);
        for (key, origin) in [
            (1, "10.0.0.1"),
            (2, "10.0.0.1"),
            (3, "10.0.0.1"),
            (4, "10.0.0.2"),
            (5, "10.0.0.3"),
        ] {
            assert_eq!(queue.join(key, at(origin), (), 0), Joined::Waits);
        }
        assert_eq!(order(&mut queue, 0), [1, 4, 5, 2, 3]);
        assert!(queue.is_empty() && queue.origins.is_empty() && queue.places.is_empty());
    }

    #[test]
    fn those_that_failed_come_last_and_have_two_places() {
        let mut queue = queue(100);
        let bad = at("10.0.0.1");
        let due_ms = fail(&mut queue, 1, bad, 0);
        assert_eq!(queue.due(due_ms - 1), None);
        assert_eq!(queue.due(due_ms), Some(1));
        assert_eq!(queue.join(2, bad, (), due_ms), Joined::Waits);
        assert_eq!(queue.join(3, bad, (), due_ms), Joined::Waits);
        assert_eq!(queue.join(4, bad, (), due_ms), Joined::Refused);
        assert_eq!(queue.join(5, at("10.0.0.2"), (), due_ms), Joined::Waits);
        assert_eq!(order(&mut queue, due_ms), [5, 2, 3]);
        // One that fails while others of its address wait already.
        let mixed = at("10.0.0.9");
        for (key, origin) in [(6, mixed), (7, mixed), (8, at("10.0.0.8"))] {
            queue.join(key, origin, (), due_ms);
        }
        assert_eq!(queue.next(due_ms).unwrap().0, 6);
        queue.wrong(6, mixed, due_ms);
        assert_eq!(order(&mut queue, due_ms), [8, 7]);
        // After a while it is like any other.
        let later = due_ms + FAILURE_FORGOTTEN_MS;
        while queue.due(later).is_some() {}
        for key in 10..14 {
            assert_eq!(queue.join(key, bad, (), later), Joined::Waits);
        }
    }

    #[test]
    fn wrong_answers_take_longer_and_longer() {
        let mut queue = queue(100);
        let (bad, mut now_ms) = (at("10.0.0.1"), 0);
        let mut delays = Vec::new();
        for key in 0..8 {
            let due_ms = fail(&mut queue, key, bad, now_ms);
            delays.push(due_ms - now_ms);
            assert_eq!(queue.next_due_ms(), Some(due_ms));
            now_ms = due_ms;
            assert_eq!(queue.due(now_ms), Some(key));
        }
        assert_eq!(delays, [250, 500, 1_000, 2_000, 4_000, 4_000, 4_000, 4_000]);
    }

    #[test]
    fn hanging_up_gives_no_further_guess() {
        let mut queue = queue(100);
        let bad = at("10.0.0.1");
        fail(&mut queue, 1, bad, 0);
        assert_eq!(queue.join(2, bad, (), 1), Joined::Waits);
        assert!(!queue.forget(1, 1));
        assert_eq!(queue.join(3, bad, (), 1), Joined::Refused);
        // One that only waits in line gives its place back.
        assert!(queue.forget(2, 1));
        assert_eq!(queue.join(4, bad, (), 1), Joined::Waits);
        assert_eq!(queue.len(), 2);
        assert_eq!(order(&mut queue, 1), [4]);
    }

    #[test]
    fn at_most_so_many_wait_and_a_crowd_makes_room() {
        let mut queue = queue(8);
        let (crowd, other) = (at("10.0.0.1"), at("10.0.0.2"));
        for key in 0..8 {
            assert_eq!(queue.join(key, crowd, (), 0), Joined::Waits);
        }
        assert_eq!(queue.join(8, crowd, (), 0), Joined::Refused);
        assert_eq!(queue.join(9, other, (), 0), Joined::InsteadOf(7));
        assert_eq!(queue.join(10, other, (), 0), Joined::InsteadOf(6));
        assert_eq!(queue.join(11, other, (), 0), Joined::Refused);
        for (key, expect) in [
            (12, Joined::InsteadOf(5)),
            (13, Joined::InsteadOf(4)),
            (14, Joined::InsteadOf(3)),
            (15, Joined::InsteadOf(2)),
            (16, Joined::Refused),
        ] {
            let origin = at(&format!("10.0.1.{key}"));
            assert_eq!(queue.join(key, origin, (), 0), expect, "{key}");
        }
        assert_eq!(queue.len(), 8);
        assert_eq!(order(&mut queue, 0).len(), 8);
        assert_eq!(queue.join(20, crowd, (), 0), Joined::Waits);
    }

    #[test]
    fn addresses_that_failed_are_remembered_up_to_a_bound() {
        for (failed, expect) in [
            (FAILED_ADDRESSES_MAX, FAILED_ADDRESSES_MAX),
            (FAILED_ADDRESSES_MAX + 1, FAILED_ADDRESSES_MAX),
        ] {
            let mut queue = queue(100);
            for number in 0..u32::try_from(failed).unwrap() {
                let origin = Origin::of(Some(IpAddr::from(number.to_be_bytes())));
                fail(&mut queue, number, origin, 0);
                queue.due(DELAY_FIRST_MS);
            }
            assert_eq!(queue.origins.len(), expect);
        }
    }
}
