//! ARC: two lists, what was wanted once lately and what was wanted more often, and behind each the keys that went from it.
//! A wish for a key behind one list says that this list should have had more room, and gives it.
//!
//! Megiddo, Modha: ARC: A Self-Tuning, Low Overhead Replacement Cache, FAST 2003, figure 4. With weights, one step of the
//! paper (a page) is the weight of what is wanted, and what must go goes until that fits; where all weigh one it is the
//! paper's algorithm, with its quotients rounded down.

use crate::{
    Cache, Key, Strategy,
    entries::{Entries, List, Place},
};

pub(super) const STRATEGY: Strategy = Strategy {
    name: "arc",
    aliases: &["adaptive-replacement-cache"],
    summary: "shares the room between what is new and what is wanted often, by what it missed",
    source: "Megiddo and Modha 2003 (FAST)",
    new: |capacity| Box::new(Arc::new(capacity)),
};

/// The list an entry is in, as the paper calls it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    /// Kept, wanted once lately.
    T1,
    /// Kept, wanted more often.
    T2,
    /// The key only, gone from `T1`.
    B1,
    /// The key only, gone from `T2`.
    B2,
}

struct Arc {
    capacity: u64,
    entries: Entries<Side>,
    t1: List,
    t2: List,
    b1: List,
    b2: List,
    /// What `T1` should weigh; the paper's p.
    target: u64,
    ghosts: usize,
}

impl Arc {
    fn new(capacity: u64) -> Self {
        Self {
            capacity,
            entries: Entries::new(),
            t1: List::EMPTY,
            t2: List::EMPTY,
            b1: List::EMPTY,
            b2: List::EMPTY,
            target: 0,
            ghosts: 0,
        }
    }

    fn side(&self, place: Place) -> Option<Side> {
        self.entries.at(place).map(|entry| entry.mark)
    }

    fn drop(&mut self, place: Place) -> Option<Key> {
        let list = match self.side(place)? {
            Side::T1 => &mut self.t1,
            Side::T2 => &mut self.t2,
            Side::B1 => {
                self.ghosts -= 1;
                &mut self.b1
            }
            Side::B2 => {
                self.ghosts -= 1;
                &mut self.b2
            }
        };
        self.entries.drop(place, list)
    }

    /// The paper's REPLACE: one goes, and leaves its key behind.
    fn replace(&mut self, is_in_b2: bool, evicted: &mut Vec<Key>) {
        let t1 = self.t1.weight();
        let is_t1 = t1 > self.target || (is_in_b2 && t1 == self.target);
        let is_t1 = (is_t1 && !self.t1.is_empty()) || self.t2.is_empty();
        let (side, from, to) = if is_t1 {
            (Side::B1, &mut self.t1, &mut self.b1)
        } else {
            (Side::B2, &mut self.t2, &mut self.b2)
        };
        let place = from.oldest();
        let Some(entry) = self.entries.at_mut(place) else {
            return;
        };
        evicted.push(entry.key);
        // What weighs nothing would never make a ghost go.
        if entry.weight == 0 {
            self.entries.drop(place, from);
        } else {
            entry.mark = side;
            self.entries.shift(place, from, to);
            self.ghosts += 1;
        }
    }

    fn make_room(&mut self, weight: u64, is_in_b2: bool, evicted: &mut Vec<Key>) {
        while self.weight() > self.capacity - weight {
            self.replace(is_in_b2, evicted);
        }
    }

    /// Case IV of the paper: the key is in none of the lists.
    fn make_room_for_new(&mut self, weight: u64, evicted: &mut Vec<Key>) {
        while self.t1.weight() + self.b1.weight() > self.capacity - weight {
            if self.b1.is_empty() {
                evicted.extend(self.drop(self.t1.oldest()));
            } else {
                self.drop(self.b1.oldest());
            }
        }
        self.forget_beyond(weight);
        self.make_room(weight, false, evicted);
    }

    /// All four lists together weigh at most twice the capacity.
    fn forget_beyond(&mut self, weight: u64) {
        let limit = (self.capacity - weight).saturating_add(self.capacity);
        while !self.b2.is_empty() && self.weight() + self.b1.weight() + self.b2.weight() > limit {
            self.drop(self.b2.oldest());
        }
    }

    /// By how much the target moves for a wish behind `near`.
    fn step(weight: u64, near: u64, far: u64) -> u64 {
        let step = u128::from(weight) * u128::from(far) / u128::from(near.max(1));
        u64::try_from(step).unwrap_or(u64::MAX).max(weight)
    }
}

impl Cache for Arc {
    fn get(&mut self, key: Key) -> bool {
        let Some(place) = self.entries.find(key) else {
            return false;
        };
        let Some(entry) = self.entries.at_mut(place) else {
            return false;
        };
        match entry.mark {
            Side::T1 => {
                entry.mark = Side::T2;
                self.entries.shift(place, &mut self.t1, &mut self.t2);
                true
            }
            Side::T2 => {
                self.entries.renew(place, &mut self.t2);
                true
            }
            Side::B1 | Side::B2 => false,
        }
    }

    fn insert(&mut self, key: Key, weight: u64, evicted: &mut Vec<Key>) {
        let place = self.entries.find(key);
        let side = place.and_then(|place| self.side(place));
        let (b1, b2) = (self.b1.weight(), self.b2.weight());
        if let Some(place) = place {
            self.drop(place);
        }
        if weight > self.capacity {
            evicted.push(key);
            return;
        }
        let side = match side {
            Some(Side::B1) => {
                let step = Self::step(weight, b1, b2);
                self.target = self.target.saturating_add(step).min(self.capacity);
                self.make_room(weight, false, evicted);
                Side::T2
            }
            Some(Side::B2) => {
                self.target = self.target.saturating_sub(Self::step(weight, b2, b1));
                self.make_room(weight, true, evicted);
                Side::T2
            }
            Some(Side::T2) => {
                self.make_room(weight, false, evicted);
                Side::T2
            }
            Some(Side::T1) | None => {
                self.make_room_for_new(weight, evicted);
                Side::T1
            }
        };
        let list = if side == Side::T1 {
            &mut self.t1
        } else {
            &mut self.t2
        };
        self.entries.add(key, weight, side, list);
        self.forget_beyond(0);
    }

    fn remove(&mut self, key: Key) -> bool {
        let Some(place) = self.entries.find(key) else {
            return false;
        };
        let is_kept = matches!(self.side(place), Some(Side::T1 | Side::T2));
        self.drop(place);
        is_kept
    }

    fn weight_of(&self, key: Key) -> Option<u64> {
        let entry = self.entries.at(self.entries.find(key)?)?;
        matches!(entry.mark, Side::T1 | Side::T2).then_some(entry.weight)
    }

    fn weight(&self) -> u64 {
        self.t1.weight() + self.t2.weight()
    }

    fn len(&self) -> usize {
        self.entries.len() - self.ghosts
    }

    fn each(&self, visit: &mut dyn FnMut(Key, u64)) {
        self.entries.each(&self.t1, visit);
        self.entries.each(&self.t2, visit);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::evictions;

    /// A scan passes through T1; what was wanted twice is in T2 and stays.
    #[test]
    fn a_scan_does_not_wash_away_what_is_wanted_often() {
        let scan = [1, 2, 1, 2, 10, 11, 12, 13, 14, 1, 2];
        assert_eq!(evictions("arc", 4, &scan), [10, 11, 12]);
        assert_eq!(evictions("lru", 4, &scan).len(), 5);
    }

    /// 10 went from T1 and is wanted again: T1 should have had room for one more, so what goes for 13 is from T2.
    #[test]
    fn a_wish_for_what_went_gives_its_list_room() {
        let trace = [1, 2, 1, 2, 10, 11, 12, 10, 13];
        assert_eq!(evictions("arc", 4, &trace), [10, 11, 1]);
    }
}
