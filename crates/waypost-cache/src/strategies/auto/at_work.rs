//! The strategy at work, and the way from one to the next.
//!
//! Who takes over has learnt all it knows by keys only: it would keep some that nobody has read, the absent, and would not
//! keep some that are here, the leftovers. Its view of things goes on unchanged: an absent key that is wanted is read and
//! from then on kept, and leftovers stay until their room is needed. So a move takes no room, throws nothing away at once,
//! and soon what is kept is what the new strategy would have kept had it been at work from the beginning.

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use crate::{
    Cache, Key,
    entries::{Entries, List},
};

/// After so many requests for each entry a move ends: what is absent then is forgotten, leftovers are the strategy's own.
const MOVE_TURNOVERS: usize = 8;

/// What is known of a key of the strategy during a move.
struct Known {
    weight: u64,
    is_absent: bool,
}

pub(super) struct AtWork {
    capacity: u64,
    cache: Box<dyn Cache>,
    /// How often the strategy would have had what was wanted, since somebody last asked.
    hits: u32,
    /// During a move: all that the strategy keeps.
    known: HashMap<Key, Known, FixedState>,
    absent: usize,
    absent_weight: u64,
    pub(super) leftovers: Entries<()>,
    leftover: List,
    /// Requests until the move ends; 0: there is none.
    pub(super) moving: usize,
    evicted: Vec<Key>,
}

impl AtWork {
    pub(super) fn new(cache: Box<dyn Cache>, capacity: u64) -> Self {
        Self {
            capacity,
            cache,
            hits: 0,
            known: HashMap::default(),
            absent: 0,
            absent_weight: 0,
            leftovers: Entries::new(),
            leftover: List::EMPTY,
            moving: 0,
            evicted: Vec::new(),
        }
    }

    /// How often the strategy would have had what was wanted, since this was last asked.
    pub(super) fn take_hits(&mut self) -> u32 {
        std::mem::take(&mut self.hits)
    }

    /// What the strategy would keep.
    pub(super) fn strategy(&self) -> &dyn Cache {
        &*self.cache
    }

    /// Lets another take over; the one that was at work until now.
    pub(super) fn hand_over(&mut self, next: Box<dyn Cache>) -> Box<dyn Cache> {
        let mut kept = Vec::with_capacity(self.len());
        self.each(&mut |key, weight| kept.push((key, weight)));
        let capacity = self.capacity;
        let last = std::mem::replace(self, Self::new(next, capacity));
        let (known, absent_weight) = (&mut self.known, &mut self.absent_weight);
        self.cache.each(&mut |key, weight| {
            *absent_weight += weight;
            let is_absent = true;
            known.insert(key, Known { weight, is_absent });
        });
        self.absent = self.known.len();
        for (key, weight) in kept {
            match self.known.get_mut(&key) {
                Some(known) if known.weight == weight => {
                    known.is_absent = false;
                    self.absent -= 1;
                    self.absent_weight -= weight;
                }
                // Kept in another size than the strategy thinks: it is read anew.
                Some(_) => {}
                None => {
                    self.leftovers.add(key, weight, (), &mut self.leftover);
                }
            }
        }
        self.moving = self.len().max(1) * MOVE_TURNOVERS;
        last.cache
    }

    fn end_move(&mut self) {
        for (key, _) in self.known.drain().filter(|(_, known)| known.is_absent) {
            self.cache.remove(key);
        }
        (self.absent, self.absent_weight, self.moving) = (0, 0, 0);
        // All that is kept fits, so nothing goes.
        let (cache, evicted) = (&mut self.cache, &mut self.evicted);
        self.leftovers.each(&self.leftover, &mut |key, weight| {
            cache.insert(key, weight, evicted);
        });
        self.evicted.clear();
        self.leftovers = Entries::new();
        self.leftover = List::EMPTY;
    }

    fn drop_leftover(&mut self, key: Key) -> Option<u64> {
        let place = self.leftovers.find(key)?;
        let weight = self.leftovers.at(place)?.weight;
        self.leftovers.drop(place, &mut self.leftover);
        Some(weight)
    }

    /// Forgets what is known of a key of the strategy; its weight if it is kept.
    fn forget(&mut self, key: Key) -> Option<u64> {
        let known = self.known.remove(&key)?;
        if known.is_absent {
            self.absent -= 1;
            self.absent_weight -= known.weight;
            return None;
        }
        Some(known.weight)
    }

    /// Gives the strategy a key during a move. What it lets go of is left over.
    fn give(&mut self, key: Key, weight: u64) {
        self.forget(key);
        let is_absent = false;
        self.known.insert(key, Known { weight, is_absent });
        self.cache.insert(key, weight, &mut self.evicted);
        let mut evicted = std::mem::take(&mut self.evicted);
        for gone in evicted.drain(..) {
            if let Some(weight) = self.forget(gone) {
                self.leftovers.add(gone, weight, (), &mut self.leftover);
            }
        }
        self.evicted = evicted;
    }
}

impl Cache for AtWork {
    fn get(&mut self, key: Key) -> bool {
        let is_hit = self.cache.get(key);
        self.hits += u32::from(is_hit);
        if self.moving == 0 {
            return is_hit;
        }
        self.moving -= 1;
        if self.moving == 0 || (self.absent == 0 && self.leftover.is_empty()) {
            self.end_move();
            return self.cache.weight_of(key).is_some();
        }
        if is_hit {
            return self.known.get(&key).is_some_and(|known| !known.is_absent);
        }
        let Some(weight) = self.drop_leftover(key) else {
            return false;
        };
        self.give(key, weight);
        true
    }

    fn insert(&mut self, key: Key, weight: u64, evicted: &mut Vec<Key>) {
        if self.moving == 0 {
            self.cache.insert(key, weight, evicted);
            return;
        }
        self.drop_leftover(key);
        if weight > self.capacity {
            self.forget(key);
            self.cache.insert(key, weight, evicted);
            return;
        }
        match self.known.get_mut(&key) {
            Some(known) if known.is_absent && known.weight == weight => {
                known.is_absent = false;
                self.absent -= 1;
                self.absent_weight -= weight;
            }
            _ => self.give(key, weight),
        }
        while self.weight() > self.capacity && !self.leftover.is_empty() {
            let oldest = self.leftover.oldest();
            evicted.extend(self.leftovers.drop(oldest, &mut self.leftover));
        }
    }

    fn remove(&mut self, key: Key) -> bool {
        let is_leftover = self.drop_leftover(key).is_some();
        let is_absent = self.moving > 0 && self.forget(key).is_none();
        (self.cache.remove(key) && !is_absent) || is_leftover
    }

    fn weight_of(&self, key: Key) -> Option<u64> {
        if self.moving == 0 {
            return self.cache.weight_of(key);
        }
        match self.known.get(&key) {
            Some(known) => (!known.is_absent).then_some(known.weight),
            None => self.leftovers.weight_of(key),
        }
    }

    fn weight(&self) -> u64 {
        self.cache.weight() - self.absent_weight + self.leftover.weight()
    }

    fn len(&self) -> usize {
        self.cache.len() - self.absent + self.leftovers.len()
    }

    fn each(&self, visit: &mut dyn FnMut(Key, u64)) {
        self.leftovers.each(&self.leftover, visit);
        self.cache.each(&mut |key, weight| {
            if !self.known.get(&key).is_some_and(|known| known.is_absent) {
                visit(key, weight);
            }
        });
    }
}
