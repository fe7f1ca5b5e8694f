//! Entries found by key and strung in lists: what every strategy keeps its keys in.
//!
//! The entries lie in one vector; a list is a chain of places in it, newest to oldest, so that an entry moves between lists
//! without being copied, and a place that is free is used again. An entry is in one list, which its strategy knows.

use hashbrown::HashMap;

use crate::Key;

/// Where an entry lies.
pub(crate) type Place = usize;

/// No place.
pub(crate) const NONE: Place = usize::MAX;

/// A key, its weight, and what the strategy marks it with.
pub(crate) struct Entry<M> {
    pub(crate) key: Key,
    pub(crate) weight: u64,
    pub(crate) mark: M,
    newer: Place,
    older: Place,
}

/// A chain of entries, and what they weigh.
#[derive(Clone, Copy, Debug)]
pub(crate) struct List {
    newest: Place,
    oldest: Place,
    weight: u64,
}

impl List {
    pub(crate) const EMPTY: Self = Self {
        newest: NONE,
        oldest: NONE,
        weight: 0,
    };

    pub(crate) fn newest(&self) -> Place {
        self.newest
    }

    pub(crate) fn oldest(&self) -> Place {
        self.oldest
    }

    pub(crate) fn weight(&self) -> u64 {
        self.weight
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.oldest == NONE
    }
}

/// All entries of a strategy, in whatever list.
pub(crate) struct Entries<M> {
    places: HashMap<Key, Place, foldhash::fast::FixedState>,
    slots: Vec<Entry<M>>,
    free: Vec<Place>,
}

impl<M> Entries<M> {
    pub(crate) fn new() -> Self {
        Self {
            places: HashMap::default(),
            slots: Vec::new(),
            free: Vec::new(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    pub(crate) fn find(&self, key: Key) -> Option<Place> {
        self.places.get(&key).copied()
    }

    pub(crate) fn at(&self, place: Place) -> Option<&Entry<M>> {
        self.slots.get(place)
    }

    pub(crate) fn at_mut(&mut self, place: Place) -> Option<&mut Entry<M>> {
        self.slots.get_mut(place)
    }

    pub(crate) fn weight_of(&self, key: Key) -> Option<u64> {
        let place = self.find(key)?;
        self.at(place).map(|entry| entry.weight)
    }

    /// The neighbour towards the newest; [`NONE`] of the newest itself.
    pub(crate) fn newer(&self, place: Place) -> Place {
        self.at(place).map_or(NONE, |entry| entry.newer)
    }

    /// Adds an entry for a key that has none, as the newest of `list`.
    pub(crate) fn add(&mut self, key: Key, weight: u64, mark: M, list: &mut List) -> Place {
        let entry = Entry {
            key,
            weight,
            mark,
            newer: NONE,
            older: NONE,
        };
        let place = self.free.pop().unwrap_or(self.slots.len());
        match self.slots.get_mut(place) {
            Some(free) => *free = entry,
            None => self.slots.push(entry),
        }
        self.places.insert(key, place);
        self.link(place, list);
        place
    }

    /// Forgets the entry at `place`, which is in `list`; what key it was.
    pub(crate) fn drop(&mut self, place: Place, list: &mut List) -> Option<Key> {
        let key = self.at(place)?.key;
        self.unlink(place, list);
        self.places.remove(&key);
        self.free.push(place);
        Some(key)
    }

    /// Makes the entry at `place`, which is in `list`, its newest.
    pub(crate) fn renew(&mut self, place: Place, list: &mut List) {
        if list.newest != place {
            self.unlink(place, list);
            self.link(place, list);
        }
    }

    /// Moves the entry at `place` from one list to another, as the newest there.
    pub(crate) fn shift(&mut self, place: Place, from: &mut List, to: &mut List) {
        self.unlink(place, from);
        self.link(place, to);
    }

    /// Visits a list, oldest first.
    pub(crate) fn each(&self, list: &List, visit: &mut dyn FnMut(Key, u64)) {
        let mut place = list.oldest;
        while let Some(entry) = self.at(place) {
            visit(entry.key, entry.weight);
            place = entry.newer;
        }
    }

    fn unlink(&mut self, place: Place, list: &mut List) {
        let Some(entry) = self.slots.get(place) else {
            return;
        };
        let (newer, older) = (entry.newer, entry.older);
        list.weight -= entry.weight;
        match self.slots.get_mut(newer) {
            Some(entry) => entry.older = older,
            None => list.newest = older,
        }
        match self.slots.get_mut(older) {
            Some(entry) => entry.newer = newer,
            None => list.oldest = newer,
        }
    }

    fn link(&mut self, place: Place, list: &mut List) {
        let older = std::mem::replace(&mut list.newest, place);
        match self.slots.get_mut(older) {
            Some(entry) => entry.newer = place,
            None => list.oldest = place,
        }
        if let Some(entry) = self.slots.get_mut(place) {
            entry.newer = NONE;
            entry.older = older;
            list.weight += entry.weight;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(entries: &Entries<()>, list: &List) -> Vec<u64> {
        let mut keys = Vec::new();
        entries.each(list, &mut |key, _| keys.push(key.0));
        keys
    }

    #[test]
    fn entries_move_within_and_between_lists() {
        let mut entries = Entries::new();
        let (mut one, mut two) = (List::EMPTY, List::EMPTY);
        let places: Vec<_> = (0..4)
            .map(|key| entries.add(Key(key), key + 1, (), &mut one))
            .collect();
        assert_eq!(keys(&entries, &one), [0, 1, 2, 3]);
        entries.renew(places[1], &mut one);
        entries.renew(places[0], &mut one);
        assert_eq!(keys(&entries, &one), [2, 3, 1, 0]);
        entries.shift(places[3], &mut one, &mut two);
        assert_eq!((one.weight(), two.weight()), (6, 4));
        assert_eq!(entries.drop(places[2], &mut one), Some(Key(2)));
        assert_eq!(keys(&entries, &one), [1, 0]);
        assert_eq!(entries.find(Key(2)), None);
        assert_eq!(entries.weight_of(Key(3)), Some(4));
        assert_eq!(entries.newer(one.oldest()), one.newest());
        assert_eq!(entries.newer(one.newest()), NONE);
        assert!(!two.is_empty() && List::EMPTY.is_empty());
    }

    /// The vector is as long as there were entries at once, not as there ever were.
    #[test]
    fn a_free_place_is_used_again() {
        let mut entries = Entries::new();
        let mut list = List::EMPTY;
        for key in 0..1_000 {
            entries.add(Key(key), 1, (), &mut list);
            if entries.len() > 10 {
                entries.drop(list.oldest(), &mut list);
            }
        }
        assert_eq!((entries.len(), entries.slots.len()), (10, 11));
        assert_eq!(list.weight(), 10);
    }
}
